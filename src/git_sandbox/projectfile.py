"""Settings in a repository: `sandbox.toml` at its top, or `[tool.sandbox]` in its `pyproject.toml`.

The repository may be anybody's, so this is hostile text until the user has agreed to it (`trust`). What he agreed to is
remembered by a digest, of what it says and of what that names (`consent`): another content needs another consent.
Which settings work without it says `settings.ROWS`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from git_sandbox import consent, files, paths, tomltext, transports
from git_sandbox.consent import Agreement, NamedFile
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass

OWN, SHARED = "sandbox.toml", "pyproject.toml"
MOST_SHARED = 1 << 20  # bytes of a pyproject.toml that is looked through for our table
IMAGE = "image"
_MENTIONED = re.compile(rb"tool[\"' \t]*\.[\"' \t]*sandbox\b")


@dataclass(frozen=True)
class Consent:
    """Where the user's is remembered: a directory of the repository's, which `claim` makes when there is none.

    `identity`: of the repository it is given for; empty while it has none.
    """

    find: Callable[[], Path | None]
    claim: Callable[[], Path]
    identity: Callable[[], str]


@dataclass(frozen=True)
class ProjectFile:
    """`values` by setting, with underscores. What they name is read when somebody has agreed, or wants to."""

    path: Path
    values: Mapping[str, object]
    consent: Consent

    @property
    def root(self) -> Path:
        return self.path.parent

    @cached_property
    def named(self) -> tuple[NamedFile, ...]:
        """What the values name, as it is at the first look: that is what the digest is of, and what is used."""
        return tuple(
            consent.look(setting, text, self.place(setting, text))
            for setting in sorted(consent.NAMES.keys() & self.values.keys())
            for text in names_in(setting, self.values[setting])
        )

    def place(self, setting: str, text: str) -> Path:
        """The file that somebody who trusts this one means by `text`."""
        with contextlib.suppress(RuntimeError, ValueError):
            return self.root / Path(bare(setting, text)).expanduser()
        return self.root / bare(setting, text)

    @cached_property
    def agreed(self) -> Agreement | None:
        """What the user agreed to last."""
        place = self.consent.find()
        return consent.load(place / paths.CONSENT) if place else None

    @cached_property
    def now(self) -> Agreement:
        """What he would agree to now."""
        return consent.agreement(self.consent.identity(), self.path, self.values, self.named)

    @property
    def trusted(self) -> bool:
        return bool(self.agreed and self.agreed.repository and self.agreed == self.now)

    @property
    def changes(self) -> list[str]:
        """What is different from what the user agreed to; nothing where he agreed to nothing, or to all of it."""
        return self.agreed.changes(self.now) if self.agreed else []

    def trust(self) -> None:
        """Remember that the user agrees to all of it as it was read, and to what it names."""
        place = self.consent.claim() / paths.CONSENT
        self._forget()  # the repository may have its identity only now
        consent.save(place, self.now)
        self.__dict__.pop("agreed", None)

    def distrust(self) -> None:
        place = self.consent.find()
        if place is not None:
            (place / paths.CONSENT).unlink(missing_ok=True)
        self._forget()

    def _forget(self) -> None:
        for name in ("agreed", "now"):
            self.__dict__.pop(name, None)

    @cached_property
    def setup(self) -> NamedFile | None:
        """The setup script, as it was at the first look, where it is a file of the repository: None when it is outside,
        behind a link, or git's own.
        """
        text = str(self.values.get("setup", "")).strip()
        place = self.root / text
        with contextlib.suppress(OSError, ValueError):
            file = consent.look("setup", text, place)
            own = file.real.relative_to(self.root.resolve(strict=True))
            git = ".git" in (part.casefold() for part in own.parts)
            return file if file.content is not None and not git and not place.is_symlink() else None
        return None


def texts(value: object) -> list[str]:
    """Each thing that a value names."""
    return [line for item in (value if isinstance(value, list) else [value]) for line in str(item).split("\n") if line]


def names_in(setting: str, value: object) -> list[str]:
    """The same without the words that name nothing, and images that are no file of the repository's to agree to."""
    words = consent.WORDS.get(setting, ())
    named = [text for text in texts(value) if text.strip() not in words]
    return [text for text in named if not (setting == IMAGE and transports.named(text.strip()))]


def bare(setting: str, text: str) -> str:
    """The path alone: `mount` says how as well."""
    text = text.strip()
    return text[:-3] if setting == "mount" and text.endswith((":ro", ":rw")) else text


def names(worktree: Path) -> dict[str, str]:
    """Paths below the worktree that its project file names, whether trusted or not, by setting; lexically."""
    with contextlib.suppress(UsageError):
        file = read(worktree, Consent(lambda: None, lambda: worktree, lambda: ""))
        return below(file.root, file.values) if file else {}
    return {}


def below(root: Path, values: Mapping[str, object]) -> dict[str, str]:
    """What `values` name below `root`, relative to it, by setting. Lexical."""
    names = {}
    for setting in consent.NAMES.keys() & values.keys():
        for text in names_in(setting, values[setting]):
            path = os.path.relpath(os.path.normpath(root / bare(setting, text)), root)
            if path != ".." and not path.startswith("../"):
                names[path] = setting
    return names


def read(worktree: Path, given: Consent) -> ProjectFile | None:
    """The project file of a repository, None when it has none. Raises UsageError for one that cannot be read."""
    raw = _content(worktree / OWN)
    if raw is not None:
        return _made(worktree / OWN, _decoded(worktree / OWN, raw), given)
    raw = _content(worktree / SHARED)
    if raw is None or b"sandbox" not in raw:
        return None
    tool = _decoded(worktree / SHARED, raw).get("tool")
    table = tool.get("sandbox") if isinstance(tool, dict) else None
    return _made(worktree / SHARED, table, given) if isinstance(table, dict) else None


def _made(path: Path, table: Mapping[str, object], given: Consent) -> ProjectFile:
    return ProjectFile(path, {name.replace("-", "_"): value for name, value in table.items()}, given)


def _content(path: Path) -> bytes | None:
    """What a regular file holds; a link, a FIFO or anything else of the repository's is as good as nothing."""
    most = MOST_SHARED if path.name == SHARED else files.WRITTEN
    try:
        seen = path.lstat()
        return files.read(path, most, follow=False) if stat.S_ISREG(seen.st_mode) else None
    except OSError:
        return None
    except ValueError as error:
        if path.name == SHARED:
            return None
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error


def _decoded(path: Path, raw: bytes) -> dict[str, object]:
    others = path.name == SHARED and not _MENTIONED.search(raw)  # then it is somebody else's, and so are its mistakes
    try:
        return tomltext.decode(raw)
    except ValueError as error:
        if others:
            return {}
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error
