"""Checks what `sandbox cp` fetched from a guest before it is moved into place: an untrusted tree in a private
directory.

Judged where it ends up, together with what is there already: git, editors and shells obey files by their names and
places, and two harmless copies can make one repository (docs/explanation/threat-model.md).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from git_sandbox.errors import SandboxError, StateError
from git_sandbox.git.repo import discover
from git_sandbox.integrate import content
from git_sandbox.integrate.leads import Leads, leads
from git_sandbox.integrate.obeyed import runs_by_itself
from git_sandbox.later import dataclass
from git_sandbox.settings import environment
from git_sandbox.text import one_line

MAX_DEPTH = 200  # directories in directories
MAX_ENTRIES = 2_000_000  # files and directories of one copy
NAMED = 5  # names in a message


@dataclass(frozen=True)
class Arrival:
    """`skipped`: what was not copied, with the reason. `risky`: what some program obeys. Both safe to print."""

    skipped: tuple[str, ...] = ()
    risky: tuple[str, ...] = ()


def inspect(arrived: Path, final: Path, limit: int) -> Arrival:
    """Take away what cannot be copied, and say what is left, of `arrived` that is to become `final`, in a directory by
    its real path.

    Raises StateError when it holds a repository, alone or together with what is at `final`; when more than `limit`
    bytes are in it, sparse or not; when a part of it cannot be read; when it is too deep or has too many files.
    """
    skipped, total, entries = [], 0, 0
    for path, mode, size in _walk(arrived):
        entries, total = entries + 1, total + size
        if total > limit or entries > MAX_ENTRIES:
            raise too_much(limit)
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            path.unlink()
            skipped.append(f"{_shown(path, arrived)}: not a file")
        elif stat.S_ISLNK(mode) and not _stays_inside(path, arrived, final):
            path.unlink()
            skipped.append(f"{_shown(path, arrived)}: a symbolic link out of the copy")
    if os.path.lexists(arrived):
        _refuse_repositories(arrived, final)
    return Arrival(_few(skipped), _few(_risky(arrived, final)))


def too_much(limit: int) -> StateError:
    return StateError(
        f"more than {limit >> 20} MiB came, or more than {MAX_ENTRIES} files: the copy was stopped",
        hint="`--limit SIZE` allows more; a file in the guest may be endless",
    )


def _walk(top: Path) -> Iterator[tuple[Path, int, int]]:
    """Every entry below and including `top` with mode and size; its owner may read all of it afterwards."""
    todo = [(top, 0)]
    while todo:
        path, depth = todo.pop()
        try:
            status = path.lstat()
            mode = status.st_mode
            if stat.S_ISDIR(mode):
                path.chmod(stat.S_IMODE(mode) & 0o777 | stat.S_IRWXU)
                if depth >= MAX_DEPTH:
                    raise StateError(f"directories are nested deeper than {MAX_DEPTH}: not copied")
                todo += [(child, depth + 1) for child in sorted(path.iterdir())]
            elif stat.S_ISREG(mode):
                path.chmod(stat.S_IMODE(mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            where = _shown(path, top)
            raise StateError(f"cannot read {where}: not copied", cause=error.strerror or "") from error
        yield path, mode, status.st_size if stat.S_ISREG(mode) else 0


def _stays_inside(link: Path, arrived: Path, final: Path) -> bool:
    """Whether every step of a link's way is something that was copied with it. What a link already at `final` leads to
    is not: a directory of the copy is merged into one that is there.
    """
    if link == arrived or link.readlink().is_absolute():
        return False
    place, todo, steps = link.parent, list(link.readlink().parts), 0
    while todo:
        steps += 1
        part = todo.pop(0)
        place = place.parent if part == ".." else place / part
        if steps > MAX_DEPTH or not place.is_relative_to(arrived):
            return False
        at_final = final / place.relative_to(arrived)
        if place.is_symlink():
            if place.readlink().is_absolute():
                return False
            place, todo = place.parent, [*place.readlink().parts, *todo]
        elif at_final.is_symlink():
            return False
    return True


def _refuse_repositories(arrived: Path, final: Path) -> None:
    """Git takes any directory for a repository that has a `HEAD` beside `objects` and `refs`, or beside `commondir`
    (setup.c, is_git_directory); what a `.git` is or leads to it follows. Compared without case: some file systems do.
    """
    around = [path.name.casefold() for path in final.parents] + [final.name.casefold()]
    if ".git" in around or any(map(_git_directory, final.parents)):
        raise _repository(final.name)
    places = [(final.parent, {final.name.casefold()} | _names(final.parent))]
    if arrived.is_dir() and not arrived.is_symlink():
        for directory, _, _ in os.walk(arrived):
            where = final / Path(directory).relative_to(arrived)
            new = _names(Path(directory))
            if ".git" in new:
                raise _repository(os.path.relpath(directory, arrived))
            places.append((where, new | _names(where)))
    for where, names in places:
        if "head" in names and ({"objects", "refs"} <= names or "commondir" in names):
            raise _repository(os.path.relpath(where, final.parent))


def _git_directory(place: Path) -> bool:
    """Whether git may take `place` itself for a repository: hooks and configuration are below it then."""
    there = [os.path.lexists(place / name) for name in ("HEAD", "objects", "refs", "commondir")]
    return there[0] and (all(there[1:3]) or there[3])


def _names(directory: Path) -> set[str]:
    try:
        return {entry.name.casefold() for entry in directory.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise StateError(
            f"cannot read {one_line(os.fspath(directory))}: not copied", cause=error.strerror or ""
        ) from error


def _repository(where: str) -> StateError:
    return StateError(
        f"there is a git repository in it, or it becomes one where it would be, at {one_line(where)}: not copied",
        cause="git would run commands from its configuration and hooks",
        hint="commits come home at the end or with `sandbox sync`; copy the other files one by one",
    )


def _risky(arrived: Path, final: Path) -> Iterator[str]:
    """Paths that a program obeys by itself in their place: known ones, every other dot file, what the git of a checkout
    around it leads to, programs on the user's PATH, and what counts by its content.
    """
    top = next((parent for parent in final.parents if os.path.lexists(parent / ".git")), final.parent)
    leads = _leads(top)
    searched = {os.path.realpath(place or ".") for place in environment().get("PATH", "").split(os.pathsep)}
    for path in _files(arrived):
        whole = final / path.relative_to(arrived)
        place = os.fsencode(whole.relative_to(top))
        why = leads.reason(place) or runs_by_itself(place) or _content(path, whole)
        if not why and os.fspath(whole.parent) in searched:
            why = "is on your PATH"
        if why:
            yield f"{one_line(place)} {why}"


def _leads(top: Path) -> Leads:
    """What the user's git leads to below `top`; nothing where there is no repository that git takes."""
    if os.path.lexists(top / ".git"):
        with contextlib.suppress(SandboxError):
            return leads(discover(top).git)
    return Leads()


def _content(new: Path, old: Path) -> str | None:
    """Why `new` in the place of `old` is risky, where its content decides."""
    if not content.judged(os.fsencode(old)):
        return None
    before = _text(old) if os.path.lexists(old) else b""
    return content.risk(os.fsencode(old), before, _text(new))


def _text(path: Path) -> bytes | None:
    """None for what is no file, or too long to be judged."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    with path.open("rb") as file:
        text = file.read(content.MAX_SIZE + 1)
    return text if len(text) <= content.MAX_SIZE else None


def _files(top: Path) -> Iterator[Path]:
    if top.is_symlink() or not top.is_dir():
        if os.path.lexists(top):
            yield top
        return
    for directory, names, files in os.walk(top):
        links = [name for name in names if (Path(directory) / name).is_symlink()]
        yield from (Path(directory) / name for name in (*files, *links))


def _few(texts: Iterator[str] | list[str]) -> tuple[str, ...]:
    rows = list(texts)
    return (*rows[:NAMED], f"and {len(rows) - NAMED} more") if len(rows) > NAMED else tuple(rows)


def _shown(path: Path, top: Path) -> str:
    return one_line(os.path.relpath(path, top.parent))


def put(arrived: Path, target: Path) -> None:
    """Move `arrived` to `target`, into a directory that is there already, over a file, never through a link."""
    for check in (True, False):  # first whether it can be done, so that nothing is half copied
        _put(arrived, target, (lambda _old, _new: None) if check else os.replace)


def _put(arrived: Path, target: Path, move: Callable[[Path, Path], None]) -> None:
    mode = _mode(target)
    if not stat.S_ISDIR(arrived.lstat().st_mode):
        if mode is not None and stat.S_ISDIR(mode):
            raise StateError(f"cannot replace the directory {target} with a file")
        move(arrived, target)
    elif mode is None:
        move(arrived, target)
    elif stat.S_ISDIR(mode):
        for path in sorted(arrived.iterdir()):
            _put(path, target / path.name, move)
    else:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
        raise StateError(f"{target} is {kind}, and a directory of that name was to be copied", hint="move it away")


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None
