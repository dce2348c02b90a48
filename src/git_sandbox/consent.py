"""What the user agreed to: the words of a project file, and the content and real path of every file it names.

Read once: what the digest was made of is what is used afterwards (`NamedFile.content`), or is compared once more with
what was used (`tree`). A file that something changes meanwhile is never used as if it had been agreed to.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext
from git_sandbox.errors import HostResourceError
from git_sandbox.later import dataclass, field
from git_sandbox.text import whole

SCHEMA = 1
FILE, TREE = "file", "tree"
# What a setting names: one file, or a directory with all below it. A new setting that names something gets a row here;
# then its content is agreed to, and a merge that touches it is asked about.
NAMES = {"image": FILE, "env_file": FILE, "setup": FILE, "mount": TREE, "ca": FILE}
WORDS = {"ca": ("none", "host")}  # values that name nothing
MOST_FILE = 8 << 20  # bytes
MOST_TREE = 64 << 20  # bytes of all files below a directory
MOST_ENTRIES = 20_000  # below a directory
SHOWN = 12  # digits of a digest
MOST_DIFF = 1000  # lines of an agreement that are compared in their order, which takes their square
MISSING, TOO_LARGE = "missing", "too large to be agreed to"


@dataclass(frozen=True)
class NamedFile:
    """`text`: as the project file has it. `state`: a digest of the content, or why there is none. `real`: where it is,
    without links. `content`: of a file.
    """

    setting: str
    text: str
    place: Path
    real: Path
    state: str
    content: bytes | None = field(default=None, repr=False)

    @property
    def too_large(self) -> bool:
        return self.state == TOO_LARGE


class Agreement(msgspec.Struct, frozen=True):
    """`lines`: what `digest` is made of, for somebody who wants to see what changed; safe to print."""

    repository: str
    digest: str
    lines: tuple[str, ...]
    schema: int = SCHEMA

    def changes(self, now: Agreement) -> list[str]:
        """What is different `now`, as a diff; nothing when it is the same, and never nothing when it is not."""
        rows = self._differences(now)
        if not rows and self.digest != now.digest:
            return ["only invisible characters differ, such as spaces and control characters"]
        return rows

    def _differences(self, now: Agreement) -> list[str]:
        if max(len(self.lines), len(now.lines)) > MOST_DIFF:
            before, after = Counter(self.lines), Counter(now.lines)
            return [f"-{row}" for row in (before - after).elements()] + [
                f"+{row}" for row in (after - before).elements()
            ]
        import difflib  # late: `ls` does without

        rows = difflib.unified_diff(self.lines, now.lines, "agreed", "now", n=0, lineterm="")
        return [row for row in rows if not row.startswith("@@")]


def agreement(repository: str, path: Path, values: Mapping[str, object], named: tuple[NamedFile, ...]) -> Agreement:
    """What a user agrees to who agrees now."""
    rows = [(file.setting, file.text, _shown(path.parent, file.real), file.state) for file in named]
    agreed = json.dumps([SCHEMA, path.name, values, rows], sort_keys=True, default=str).encode("ascii")
    lines = [line for name in sorted(values) for line in _value_lines(name, values[name])]
    lines += [_file_line(text, real, state) for _, text, real, state in rows]
    return Agreement(repository, hashlib.sha256(agreed).hexdigest(), tuple(lines))


def _file_line(text: str, real: str, state: str) -> str:
    """`real` is shown where a link leads elsewhere, above all out of the repository."""
    digits = hashlib.sha256().digest_size * 2
    way = "" if os.path.normpath(text) == real else f" -> {real}"
    return whole(f"file {text}{way} ({state[:SHOWN] if len(state) == digits else state})")


def load(path: Path) -> Agreement | None:
    """None where nothing, or nothing that can be read, was agreed to."""
    try:
        return jsontext.load(path, Agreement, 1 << 20)
    except (OSError, ValueError):
        return None


def save(path: Path, agreed: Agreement) -> None:
    """Raises HostResourceError."""
    fresh = path.with_suffix(".new")
    try:
        files.write(fresh, jsontext.encode(agreed, indent=2))
        fresh.replace(path)
    except OSError as error:
        raise HostResourceError(f"cannot write {path}", cause=files.why(error)) from error


def look(setting: str, text: str, place: Path) -> NamedFile:
    """Read what a setting names."""
    real = Path(os.path.realpath(place))
    try:
        if NAMES[setting] == TREE:
            return NamedFile(setting, text, place, real, tree(real))
        content = files.content(place, MOST_FILE)
        return NamedFile(setting, text, place, content.real, hashlib.sha256(content.data).hexdigest(), content.data)
    except FileNotFoundError:
        return NamedFile(setting, text, place, real, MISSING)
    except (OSError, ValueError) as error:
        return NamedFile(setting, text, place, real, files.why(error))


def tree(root: Path) -> str:
    """A digest of a directory by names, kinds, modes, targets of links, sizes and content; `TOO_LARGE` beyond limits.

    Links are not followed. Raises OSError for what cannot be read.
    """
    digest, left = hashlib.sha256(), MOST_TREE
    for number, (path, seen) in enumerate(_entries(root)):
        left -= seen.st_size if stat.S_ISREG(seen.st_mode) else 0
        if left < 0 or number > MOST_ENTRIES:
            return TOO_LARGE
        row: list[object] = [os.fsencode(path.relative_to(root)).hex(), seen.st_mode, seen.st_rdev]
        if stat.S_ISLNK(seen.st_mode):
            row.append(os.fsencode(path.readlink()).hex())
        elif stat.S_ISREG(seen.st_mode):
            try:
                row.append(hashlib.sha256(files.read(path, MOST_TREE, follow=False)).hexdigest())
            except ValueError:  # it grows, or became something else
                return TOO_LARGE
        digest.update(json.dumps(row).encode("ascii"))
    return digest.hexdigest()


def _entries(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    waiting = [root]
    yield root, root.lstat()
    while waiting:
        with os.scandir(waiting.pop()) as rows:
            entries = sorted(
                ((Path(row.path), row.stat(follow_symlinks=False)) for row in rows), key=lambda entry: entry[0]
            )
        for path, seen in entries:
            yield path, seen
            if stat.S_ISDIR(seen.st_mode):
                waiting.append(path)


def _shown(root: Path, real: Path) -> str:
    """Relative to the repository for what is in it: that may move."""
    top = Path(os.path.realpath(root))
    return os.fspath(real.relative_to(top) if real.is_relative_to(top) else real)


def _value_lines(name: str, value: object) -> Iterator[str]:
    """A line for each value, whole: it is what somebody agrees to. Of a variable only a digest, as its value may be a
    secret; a value of several lines is several variables.
    """
    for text in map(str, value if isinstance(value, list) else [value]):
        for word in text.split("\n") if name == "env" else [text]:
            yield whole(f"{name.replace('_', '-')} = {_hidden(word) if name == 'env' else word}")


def _hidden(text: str) -> str:
    variable, given, secret = text.partition("=")
    return (
        f"{variable}=({hashlib.sha256(secret.encode(errors='surrogatepass')).hexdigest()[:SHOWN]})" if given else text
    )
