"""The table of `docs/explanation/places.md`, held against what is there, and another user who tries all of it."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from git_sandbox import paths

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "places.md"
OTHER = 4321  # a user that no host has


@dataclass(frozen=True)
class Row:
    place: str  # STATE/*/lock
    mode: int | None  # None: as the umask has it, below a directory that is closed


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            found += [Row(place.strip("` "), _mode(cells[1])) for place in cells[0].split(",")]
    return found


def _mode(cell: str) -> int | None:
    return int(cell, 8) if cell.isdigit() else None


def check(*, state: Path | None = None, cache: Path | None = None, runtime: Path | None = None) -> set[str]:
    """Every path that exists below our places is in the table, has its mode, and is nothing to another user. Rows that
    were met.
    """
    roots = {
        "STATE": state or paths.state_root(), "CACHE": cache or paths.cache_root(),
        "RUNTIME": runtime or paths.runtime_root(),
    }  # fmt: skip
    table, met, everything = rows(), set(), []
    for name, root in roots.items():
        for path in _walk(root):
            known = name if path == root else f"{name}/{path.relative_to(root)}"
            row = next((each for each in table if _covers(each.place, known)), None)
            assert row is not None, f"{known} is not in {PAGE.name}"
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert row.mode is None or mode == row.mode, f"{known} has the mode {mode:o}"
            met.add(row.place)
            everything.append(str(path))
    if os.getuid() == 0:
        assert as_other(TRY, *everything) == 0, "another user reached something"
    return met


def _covers(place: str, path: str) -> bool:
    if place.endswith("/**"):
        return _covers(place.removesuffix("/**"), "/".join(path.split("/")[: place.count("/")]))
    return place.count("/") == path.count("/") and all(map(fnmatchcase, path.split("/"), place.split("/")))


def _walk(root: Path) -> Iterator[Path]:
    if root.exists():
        yield root
        for directory, folders, files in os.walk(root):
            yield from (Path(directory, each) for each in (*folders, *files))


TRY = """
import os, socket, sys
tops = [each for each in argv if os.path.dirname(each) not in argv]
for each in argv:
    for attempt in (
        lambda: os.listdir(each), lambda: open(each, 'rb').read(1), lambda: open(each, 'ab'), lambda: os.lstat(each),
        lambda: os.mkdir(each + '/planted'), lambda: os.rename(each, each + '-away'),
        lambda: socket.socket(socket.AF_UNIX).connect(each),
    ):
        try:
            attempt()
        except OSError:
            continue
        if 'lstat' in attempt.__code__.co_names and each in tops:
            continue
        print('reached', each, attempt.__code__.co_names, file=sys.stderr)
        sys.exit(1)
"""


def as_other(code: str, *words: str) -> int:
    """How Python code ends that another user runs: 0, 1 for its own `sys.exit(1)`, 2 for an error of its own.

    In a fork: he may not be able to read our interpreter.
    """
    child = os.fork()
    if child == 0:
        try:
            os.chdir("/")
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            exec(compile(code, "other", "exec"), {"argv": words})  # noqa: S102 - ours
            os._exit(0)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        except BaseException:  # noqa: BLE001 - of a fork
            traceback.print_exc()
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
