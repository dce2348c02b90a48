"""Repairs git's own files after a crash, before the next session on the same disk.

A killed machine leaves locks that nobody holds, and files of zeros, which stop git altogether. Nobody else runs yet.
What is replaced stays beside: `index.damaged-<seconds since 1970>`, refs below `refs-damaged-<seconds>`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from git_sandbox.guest import damage, nested, protocol, salvage, shadow, waiting
from git_sandbox.guest.repository import ExportError, Repo, environment, mend, object_store
from git_sandbox.guest.salvage import OID, PACKED, Salvaged, contents
from git_sandbox.guest.stage import whole_index

LOCKED = ("HEAD", "ORIG_HEAD", "FETCH_HEAD", "index", "config", "packed-refs", "shallow")


def repair_all(worktree: str) -> list[str]:
    """The repository of the worktree and those inside: what was done, a line each. Run as their owner. Raises OSError.

    The outer one first: what is inside is found by it. One that cannot be mended holds up no other.
    """
    top = Path(worktree)
    notes = repair(worktree, top / ".git")
    for where, checkout in _inside(top).items():
        try:
            done = _pointer(top, where) if checkout is None else []
            done += repair(os.fspath(top / (checkout or where)), top / where)
        except (ExportError, OSError) as error:
            done = [f"it cannot be repaired: {error}"]
        notes += [f"{checkout or where}: {note}" for note in done]
    return notes


def _inside(top: Path) -> dict[str, str | None]:
    """Git directories inside the worktree, and where each is checked out; the outermost first."""
    commands: dict[str, str | None] = {}
    for checkout in nested.checkouts(None, top):
        with contextlib.suppress(OSError):
            target = nested.pointed(top / checkout / ".git")
            where = nested.inside(top, target) if target else None
            if where and nested.is_git_dir(top / where):
                commands.setdefault(where, checkout)
    for outer in (".git", *commands):
        with contextlib.suppress(OSError):
            for module in nested.modules(top / outer):
                commands.setdefault(os.fspath(module.relative_to(top)), None)
    return dict(list(commands.items())[: protocol.MAX_NESTED])


def _pointer(top: Path, where: str) -> list[str]:
    """The `.git` file that leads to the submodule at `where`, where it was lost: `core.worktree` says where it was."""
    words = ["git", "config", "--file", os.fspath(top / where / "config"), "core.worktree"]
    answer = waiting.run(words, env=environment()).stdout.removesuffix(b"\n")
    checkout = nested.inside(top, top / where / os.fsdecode(answer)) if answer and b"\0" not in answer else None
    dot_git = top / (checkout or where) / ".git"
    if checkout in (None, ".") or not dot_git.is_file() or contents(dot_git).strip(b"\0"):
        return []
    place = dot_git.with_name(f".git.repaired-{int(time.time())}")
    _write(place, b"gitdir: " + os.fsencode(os.path.relpath(top / where, dot_git.parent)) + b"\n")
    place.replace(dot_git)  # at once: where there is no `.git` at all, nobody would look again
    return [f"{checkout}/.git was empty"]


def repair(worktree: str, git_dir: Path) -> list[str]:
    """What was done, a line each. Run as the owner of the repository. Raises OSError."""
    if not git_dir.is_dir():
        return []
    now = int(time.time())
    notes = [f"{name}.lock was left by a killed git process" for name in _unlock(git_dir)]
    salvaged = salvage.read(git_dir)
    for name, content in _sound(git_dir, salvaged).items():
        _replace(git_dir, name, content, now)
        notes.append(f"{name} was damaged: {salvaged.damaged.get(name, 'its readable part is kept')}")
    notes += _refs(git_dir, salvaged, now)
    if (git_dir / "index").is_file() and not whole_index(git_dir / "index"):
        _replace(git_dir, "index", None, now)
        Repo(worktree, _named(worktree, git_dir)).ask("read-tree", "HEAD")
        notes.append("the index was damaged: nothing is staged")
    repo = Repo(worktree, _named(worktree, git_dir))
    mend(repo, object_store(repo))
    damage.derived(repo)
    return [*notes, *repo.warnings]


def _named(worktree: str, git_dir: Path) -> str | None:
    """How `Repo` is told which one: git finds that of the worktree by itself."""
    return None if git_dir == Path(worktree, ".git") else os.fspath(git_dir)


def _unlock(git_dir: Path) -> list[str]:
    locks = [name for name in LOCKED if (git_dir / f"{name}.lock").is_file()]
    locks += [name.removesuffix(".lock") for name in salvage.files(git_dir, "refs") if name.endswith(".lock")]
    for name in locks:
        (git_dir / f"{name}.lock").unlink()
    return locks


def _sound(git_dir: Path, salvaged: Salvaged) -> dict[str, bytes]:
    """The files that git cannot read, as it could."""
    files: dict[str, bytes] = {}
    if "HEAD" in salvaged.damaged:
        files["HEAD"] = b"ref: " + os.fsencode(salvaged.symref or "refs/heads/main") + b"\n"
    if "packed-refs" in salvaged.damaged:
        files["packed-refs"] = _kept(git_dir / "packed-refs", lambda row: bool(PACKED.fullmatch(row)))
    shallow = contents(git_dir / "shallow")
    if shallow and not all(OID.fullmatch(row) for row in shallow.splitlines()):
        files["shallow"] = _kept(git_dir / "shallow", lambda row: bool(OID.fullmatch(row)))
    config = git_dir / "config"
    if not contents(config).strip(b"\0 \n") or not shadow.readable(config):
        files["config"] = shadow.minimal(salvaged.object_format).encode()
    return files


def _kept(path: Path, sound: Callable[[bytes], bool]) -> bytes:
    return b"".join(row + b"\n" for row in contents(path).splitlines() if sound(row))


def _refs(git_dir: Path, salvaged: Salvaged, now: int) -> list[str]:
    notes = []
    for name in [name for name in salvaged.damaged if name.startswith("refs/")]:
        aside = git_dir / f"refs-damaged-{now}" / name.removeprefix("refs/")
        if os.path.lexists(git_dir / name):
            aside.parent.mkdir(parents=True, exist_ok=True)
            (git_dir / name).rename(aside)
        if name in salvaged.refs:
            (git_dir / name).parent.mkdir(parents=True, exist_ok=True)
            _write(git_dir / name, f"{salvaged.refs[name]}\n".encode())
        notes.append(f"{name} was damaged: {salvaged.damaged[name]}")
    return notes


def _replace(git_dir: Path, name: str, content: bytes | None, now: int) -> None:
    path = git_dir / name
    if os.path.lexists(path):
        path.rename(path.with_name(f"{path.name}.damaged-{now}"))
    if content is not None:
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
