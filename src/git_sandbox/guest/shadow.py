"""A git directory rebuilt around what is left of a damaged one, so that the rest of the export works as usual.

Nothing of the user's is changed. It refers to his objects and reflogs, the refs that `salvage`
could read, and what of the configuration is sound. Without any git directory it is an empty repository: the files come
home all the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from git_sandbox.guest import protocol, salvage, soundconfig, waiting
from git_sandbox.guest.repository import ExportError, Repo, environment, mend
from git_sandbox.guest.salvage import Salvaged, contents
from git_sandbox.guest.scratch import Scratch

LINKED = ("logs", "worktrees")  # directories that are only read
WITHOUT_INDEX = b"[core]\n\tmultiPackIndex = false\n"  # git ends at one that is damaged; each pack has its own
COPIED = ("info/exclude", "info/attributes", "info/sparse-checkout", "index")
T = TypeVar("T")


def open_repo(path: str, git_dir: str | None, scratch: Scratch, why: str, *, object_format: str = "") -> Repo:
    """The repository of the worktree `path`, as far as it can be read; `why`: what is wrong with it.

    `object_format`: of the objects to make, whatever the damaged one had.
    """
    real = Path(git_dir or os.path.join(path, ".git"))  # noqa: PTH118
    real = pointed(real)
    salvaged = salvage.read(real)
    if object_format and object_format != salvaged.object_format:
        salvaged = Salvaged(object_format=object_format, symref=salvaged.symref, damaged=other_format(salvaged))
        real = Path(os.devnull)
    place = scratch.directory("git")
    _lay_out(place, real, salvaged)
    repo = Repo(path, os.fspath(place), refs=True, sound=True)
    repo.real_dir = real if real.is_dir() else place
    if store := _store(real):
        repo.mended |= mend(repo, store)
    repo.set_aside |= salvaged.damaged
    repo.warn(f"the repository is damaged ({why}): its readable part is exported")
    return repo


def unless_whole(work: Callable[[str], T], whole: Callable[[T], bool] = lambda _result: True) -> T:
    """What `work` returns for the repository as it is. Where that fails or is not `whole`, for one of our own around
    what can be read of it: git does nothing when it does not understand a single value of a configuration.

    `work` hears why it is done again, "" the first time. Raises what it raised then.
    """
    first: list[T] = []
    failure = None
    try:
        first.append(work(""))
        if whole(first[0]):
            return first[0]
    except Exception as error:  # noqa: BLE001 - whatever it was
        failure = error
    try:
        return work(f"{failure}" if failure else "parts of it cannot be read")
    except Exception:  # noqa: BLE001 - the first one says more
        if failure is None:
            return first[0]
        raise failure from None


def other_format(salvaged: Salvaged) -> dict[str, str]:
    return dict.fromkeys(("HEAD", *salvaged.refs), f"its history is in {salvaged.object_format}")


def pointed(dot_git: Path) -> Path:
    """Where a `.git` file leads, if it is one."""
    if dot_git.is_dir():
        return dot_git
    raw = contents(dot_git, protocol.MAX_POINTER)
    if raw.startswith(b"gitdir: ") and b"\0" not in raw:
        return dot_git.parent / os.fsdecode(raw.removeprefix(b"gitdir: ").rstrip(b"\r\n"))
    return dot_git


def _lay_out(place: Path, real: Path, salvaged: Salvaged) -> None:
    (place / "refs").mkdir()
    (place / "objects/info").mkdir(parents=True)
    store = _store(real)
    if store:
        _borrow(store, place / "objects")
    (place / "HEAD").write_text(
        f"ref: {salvaged.symref}\n" if salvaged.symref else f"{salvaged.head}\n", errors="surrogateescape"
    )
    rows = "".join(f"{oid} {name}\n" for name, oid in sorted(salvaged.refs.items()))
    (place / "packed-refs").write_text(rows, errors="surrogateescape")
    every = [*soundconfig.files(environment()), real / "config"]
    (place / "config").write_bytes(
        minimal(salvaged.object_format).encode() + WITHOUT_INDEX + soundconfig.sound(every, environment())
    )
    shallow = [row for row in contents(real / "shallow").split() if salvage.OID.fullmatch(row)]
    if shallow:
        (place / "shallow").write_bytes(b"".join(row + b"\n" for row in shallow))
    (place / "info").mkdir()
    for name in COPIED:
        if (real / name).is_file():
            shutil.copy2(real / name, place / name)
    for name in LINKED:
        if (real / name).is_dir():
            (place / name).symlink_to(real / name)


def _borrow(store: Path, objects: Path) -> None:
    """Have git read the objects of `store`; without its list of alternates where that is none."""
    listed = store / "info/alternates"
    if os.path.lexists(listed) and not listed.is_file():
        own = objects.with_name("borrowed")
        own.mkdir()
        for path in store.iterdir():
            if path.name != "info":
                (own / path.name).symlink_to(path)
        store = own
    (objects / "info/alternates").write_bytes(_quoted(os.fsencode(store)) + b"\n")


def _store(real: Path) -> Path | None:
    """The objects of the repository. (A linked worktree's are those of the repository that it belongs to.)"""
    common = contents(real / "commondir", protocol.MAX_POINTER).strip()
    store = (real / os.fsdecode(common) if common and b"\0" not in common else real) / "objects"
    return Path(os.path.realpath(store)) if store.is_dir() else None


def _quoted(path: bytes) -> bytes:
    """As gitrepository-layout(5) has it: a path that could be taken for something else stands in quotes."""
    if not path.startswith(b'"') and b"\n" not in path:
        return path
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def minimal(object_format: str) -> str:
    """A configuration with what git must know of the format."""
    version, extension = (0, "")
    if object_format != "sha1":
        version, extension = 1, f"[extensions]\n\tobjectFormat = {object_format}\n"
    return f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = false\n{extension}"


def readable(config: Path) -> bool:
    words = ["git", "config", "--file", os.fspath(config), "--list", "-z"]
    done = waiting.run(words, env=environment())
    return done.returncode == 0


def check(repo: Repo) -> None:
    """Raises ExportError when git reads this repository's refs only in part."""
    done = repo.listed(keep=True)
    if done.returncode or b"broken" in done.stderr or b"bad ref" in done.stderr:
        raise ExportError("its refs cannot be read")
    if b"* refs/" not in done.stdout and _lost(repo):
        raise ExportError("the name of the current branch is lost")


def _lost(repo: Repo) -> bool:
    """HEAD names a branch that is not there, but has a reflog, which git removes with a branch; or it was truncated."""
    raw = contents(repo.git_dir / "HEAD", salvage.MAX_LINE)
    match = salvage.SYMREF.fullmatch(raw)
    name = os.fsdecode(match[1]) if match else ""
    if raw.endswith(b"\n") and (not name or salvage.last_of_log(repo.git_dir, name) is None):
        return False
    return repo.line("rev-parse", "-q", "--verify", "HEAD") is None
