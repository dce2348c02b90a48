"""The objects and refs of a sandbox that leave a repository with it, and come back with it.

What is not reachable from what the user had when the sandbox began, and still has, goes along: a branch that the work
was merged into can be deleted, and everything be pruned, without a loss.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from git_sandbox import files
from git_sandbox.errors import HostResourceError, SandboxError, StateError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, is_oid
from git_sandbox.later import dataclass, field
from git_sandbox.process import Completed
from git_sandbox.text import printable
from git_sandbox.trash.note import Part

SMALL = 64 << 10  # bytes of a pack whose objects come back loose
MOST_LOGS = 100  # values of one ref's reflog that are kept
_FULL = ("No space left", "write error", "quota exceeded", "File too large")  # git's and the C library's words
_USERS = ("--not", "--branches", "--tags", "--remotes")
_NOTHING: Mapping[RefName, Oid] = {}


@dataclass(frozen=True)
class Holder:
    """A repository with refs of a sandbox's. `start`: commits it had when the sandbox began. `key`: as in `Part`."""

    git: Git
    common: Path
    refs: Mapping[RefName, Oid] = field(default_factory=lambda: _NOTHING)
    start: Sequence[str] = ()
    key: str = ""


def part(holder: Holder, pack: Path) -> Part:
    """Write the pack, and say what it holds. Raises HostResourceError when it cannot be written."""
    logs = {str(name): log for name in holder.refs if (log := _log(holder, name))}
    tips = list(dict.fromkeys([*holder.refs.values(), *(value for log in logs.values() for value in log)]))
    start = [f"{commit}^{{commit}}" for commit in holder.start]
    *there, head = _resolved(holder.git, [*tips, *start, "HEAD^{commit}"])
    known = [tip for tip, oid in zip(tips, there, strict=False) if oid]
    excluded = _excluded(holder, [oid for oid in there[len(tips) :] if oid], head)
    packed = _packed(holder, known, excluded, pack)
    return Part(
        holder.key, os.fspath(holder.common), {str(name): str(value) for name, value in holder.refs.items()}, logs,
        pack.name if pack.exists() else None,
        tuple(str(name) for name, value in holder.refs.items() if value not in packed),
    )  # fmt: skip


def _packed(holder: Holder, tips: list[str], excluded: Sequence[str], pack: Path) -> set[str]:
    """Those of `tips` whose objects are in the pack now, or need not be."""
    if _pack(holder.git, tips, excluded, pack):
        return set(tips)
    sound = [tip for tip in tips if _complete(holder.git, [tip], excluded)]
    if not _pack(holder.git, sound, excluded, pack):
        raise StateError(f"objects of the sandbox cannot be read from {holder.common}", hint="look at it with git fsck")
    return set(sound)


def _log(holder: Holder, name: RefName) -> list[str]:
    """What a ref pointed at before, oldest first: the file is git's own (gitrepository-layout(5)), written by us."""
    try:
        rows = (holder.common / "logs" / name).read_bytes().splitlines()[-MOST_LOGS:]
    except OSError:
        return []
    values = [row.split(b" ", 2)[1].decode("ascii", "replace") for row in rows if row.count(b" ") > 1]
    return [value for value in values if is_oid(value) and value.strip("0")]


def _resolved(git: Git, names: Iterable[str]) -> list[str]:
    """The object each name stands for, empty for one that is not there."""
    asked = "".join(f"{name}\n" for name in names).encode()
    rows = git.run("cat-file", "--batch-check=%(objectname)", input=asked).decode().splitlines() if asked else []
    return [row if is_oid(row) else "" for row in rows]


def _excluded(holder: Holder, commits: Iterable[str], head: str) -> list[str]:
    """What was there when the sandbox began and is still the user's: commits behind which nothing need be packed.

    `commits`: commits of `holder.start` that are there. `head`: the commit of HEAD, if there is one.
    """
    start = list(dict.fromkeys(commits))
    if not start:
        return []
    asked = "".join(f"{oid}\n" for oid in start).encode()
    git = holder.git.within(PATIENT).without_broken_refs()
    done = git.try_run("rev-list", "--boundary", "--stdin", *_USERS, *(["HEAD"] if head else []), input=asked)
    rows = done.text.split()
    if done.returncode != 0:
        return []
    return [*(oid for oid in start if oid not in set(rows)), *(row[1:] for row in rows if row.startswith("-"))]


def _pack(git: Git, tips: Sequence[str], excluded: Sequence[str], target: Path) -> bool:
    """False, and no file, when something of it is missing or damaged. Raises HostResourceError for a full disk."""
    if not tips:
        return True
    asked = _range(tips, excluded)
    try:
        with files.opened(target, "wb") as out:
            done = git.try_run("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", input=asked, to=out)
            os.fsync(out.fileno())
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise HostResourceError(f"cannot write {target}", cause=error.strerror or str(error)) from error
        raise
    if done.returncode == 0:
        return True
    target.unlink(missing_ok=True)
    _refuse_full(done, "the objects of the sandbox cannot be written to the trash")
    return False


def _refuse_full(done: Completed, message: str) -> None:
    if done.returncode < 0 or any(word in done.complaint for word in _FULL):
        raise HostResourceError(message, cause=printable(done.complaint, limit=1000), hint="free some space")


def _range(tips: Iterable[str], excluded: Iterable[str]) -> bytes:
    return "".join([*(f"{tip}\n" for tip in tips), *(f"^{tip}\n" for tip in excluded)]).encode()


def _complete(git: Git, tips: Iterable[str], excluded: Iterable[str] = ()) -> bool:
    """Whether everything `tips` lead to is there, as far as the user's own refs do not lead to it as well.

    Where something of the user's is damaged gno answer of the tips: they are then asked about alone.
    """
    words = ("rev-list", "--objects", "--quiet", "--exclude-promisor-objects", "--stdin")
    git, asked = git.within(PATIENT).without_broken_refs(), _range(tips, excluded)
    return any(git.try_run(*words, *but, input=asked).returncode == 0 for but in (_USERS, ()))


def _sound(git: Git, tips: Collection[str]) -> set[str]:
    return set(tips) if _complete(git, tips) else {tip for tip in tips if _complete(git, [tip])}


def forget(git: Git, refs: Mapping[RefName, Oid] | Mapping[str, str]) -> None:
    """Delete `refs` in one transaction, each only while it still points where it is believed to."""
    lines = "".join(f"delete {name} {value}\n" for name, value in sorted(refs.items()))
    if lines:
        git.run("update-ref", "--stdin", input=lines.encode("utf-8", "surrogateescape"))


def sweep(holder: Holder, part: Part, meta: RefName) -> None:
    """Remove the tags with the record, which nobody but the sandbox's own ref ever led to, once the trash has it: git
    itself would keep it for two weeks. What others point at, or have packed, stays.
    """
    if not part.pack or meta not in part.refs or meta in part.unpacked:
        return
    for oid in {part.refs[meta], *part.logs.get(meta, ())}:
        loose = holder.common / "objects" / oid[:2] / oid[2:]
        with contextlib.suppress(OSError, SandboxError):
            if loose.is_file() and not holder.git.run("for-each-ref", "--count=1", f"--points-at={oid}"):
                loose.unlink()
                loose.parent.rmdir()


def bring_back(git: Git, part: Part, packs: Path) -> dict[str, str]:
    """Put the objects, the refs and what these pointed at before into the repository. Refs that cannot be had again,
    because objects are missing, are left out and returned. Raises HostResourceError when the disk is full.
    """
    if part.pack and (packs / part.pack).is_file():
        small = (packs / part.pack).stat().st_size < SMALL  # git's own way with few objects: no pack for each of them
        words = ("unpack-objects", "-q") if small else ("index-pack", "--stdin")
        with (packs / part.pack).open("rb") as pack:
            done = git.try_run(*words, feed=iter(lambda: pack.read(1 << 20), b""))
        _refuse_full(done, "the objects of the sandbox cannot be written to the repository")
    values = dict.fromkeys([*part.refs.values(), *(value for log in part.logs.values() for value in log)])
    sound = _sound(git, values)
    refs = {name: value for name, value in part.refs.items() if value in sound}
    _set(git, {name: _steps(log for log in (*part.logs.get(name, ()), value) if log in sound)
               for name, value in refs.items()}, "sandbox restore")  # fmt: skip
    return {name: value for name, value in part.refs.items() if name not in refs}


def sound(pack: Path, object_format: str) -> bool:
    """Whether a pack is byte for byte as git wrote it: at its end is the checksum of all before (gitformat-pack(5))."""
    try:
        with pack.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - hashlib.new(object_format, usedforsecurity=False).digest_size
            digest = hashlib.new(object_format, usedforsecurity=False)
            while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
            return left == 0 and file.read() == digest.digest()
    except OSError:
        return False


def rename(holder: Holder, names: Mapping[RefName, RefName], there: Mapping[RefName, Oid]) -> None:
    """Give the holder's refs other names, by `names`, with what they pointed at before. `there`: refs that have such a
    name already, which are what a process that was killed on the way has made: it is done once more.
    """
    git, taken = holder.git, set(names.values())
    forget(git, {name: value for name, value in there.items() if name in taken})
    logs = {name: _log(holder, name) for name in holder.refs}
    past = list(dict.fromkeys(value for log in logs.values() for value in log))
    known = {value for value, there in zip(past, _resolved(git, past), strict=True) if there}
    values = {
        str(names[name]): _steps((*(old for old in logs[name] if old in known), value))
        for name, value in holder.refs.items()
    }
    _set(git, values, "sandbox rename")
    forget(git, holder.refs)


def _set(git: Git, values: Mapping[str, Sequence[str]], why: str) -> None:
    """Each ref takes the values it had one after the other, so that its reflog has them again."""
    lines: list[str] = []
    for step in range(max(map(len, values.values()), default=0)):
        now = {name: steps[step] for name, steps in sorted(values.items()) if step < len(steps)}
        lines += ["start", *(f"update {name} {value}" for name, value in now.items()), "prepare", "commit"]
    if lines:
        script = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        git.run("update-ref", "--create-reflog", "-m", why, "--stdin", input=script)


def _steps(values: Iterable[str]) -> list[str]:
    """None twice in a row."""
    lines: list[str] = []
    for value in values:
        if not lines or lines[-1] != value:
            lines.append(value)
    return lines
