"""Fetches Git LFS objects after the commits whose pointers name them: the host requests exactly what it lacks."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

import msgspec

from git_sandbox import jsontext
from git_sandbox.errors import CollectError, SandboxError
from git_sandbox.git import lfs
from git_sandbox.git.lfs import Pointer, Store
from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, replace
from git_sandbox.protocol import stream
from git_sandbox.store import NestedRecord, Record
from git_sandbox.text import one_line

MAX_OBJECTS = 10_000  # in one answer, as in guest/lfs.py
MAX_OBJECT = 8 << 30  # bytes
LIMITS = replace(stream.DEFAULT_LIMITS, total=64 << 30, header=4 << 20)
_OURS = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/")


@dataclass(frozen=True)
class LfsRetrieval:
    """`stored`: how many objects came into the user's store. `missing`: which did not and why, safe to print. `size`:
    bytes that the guest sent, or began to send.
    """

    stored: int = 0
    missing: tuple[str, ...] = ()
    size: int = 0


NOTHING = LfsRetrieval()


class _Sent(msgspec.Struct, frozen=True):
    oid: str
    size: int


class _Header(msgspec.Struct, frozen=True):
    objects: list[_Sent] = []
    error: str = ""


def went_in(record: Record | NestedRecord | None) -> list[str]:
    """What the sandbox started from: pointers in there are none of its work."""
    if record is None:
        return []
    named = (record.base, *record.refs.values(), *record.stash)
    return list(dict.fromkeys(oid for oid in named if oid))


def lacking(
    repo: Repository, refs: Mapping[RefName, Oid], record: Record | NestedRecord | None, name: SandboxRefs
) -> dict[Pointer, str]:
    """Pointers in the work of a sandbox whose content is not in the user's store, each with a path.

    `refs`: those of the sandbox in `repo`. Raises SandboxError where there is too much to look at.
    """
    known = went_in(record) + [value for ref, value in refs.items() if ref == name.base]
    tips = {value for ref, value in refs.items() if not ref.startswith(_OURS)}.difference(known)
    return lfs.missing(repo, lfs.pointers(repo, tips, known)) if tips else {}


def bring_home(
    repo: Repository,
    refs: SandboxRefs,
    record: Record | NestedRecord | None,
    channel: socket.socket,
    *,
    there: Mapping[RefName, Oid] | None = None,
    place: Mapping[str, object] | None = None,
) -> LfsRetrieval:
    """Ask for what `lacking` names and store it. Never raises for what does not come: it is in `missing`.

    `there`: the sandbox's refs in `repo`, which git says unless they are given. `place`: which repository inside the
    worktree is meant, as the request has it.
    """
    try:
        pointers = lacking(repo, repo.refs(*refs.patterns) if there is None else there, record, refs)
        if not pointers:
            return NOTHING
        few, reasons = _few_enough(repo, pointers)
        stored = _fetched(repo, few, channel, dict(place or {}))
    except (SandboxError, OSError) as error:
        return LfsRetrieval(missing=(one_line(f"new commits: {_why(error)}", limit=500),))
    size = sum(pointer.size for pointer in stored)
    reasons |= {pointer: "the sandbox's store has no such object" for pointer in few if pointer not in stored}
    reasons |= {pointer: why for pointer, why in stored.items() if why}
    lines = [
        one_line(f"{pointers[pointer]} ({pointer.oid[:12]}): {why}", limit=500)
        for pointer, why in sorted(reasons.items())
    ]
    return LfsRetrieval(sum(not why for why in stored.values()), tuple(lines), size)


def left(repo: Repository, refs: Mapping[RefName, Oid], record: Record, name: SandboxRefs) -> LfsRetrieval:
    """What is not here of the content that came, where nobody can be asked for it. `refs` as in `lacking`."""
    try:
        pointers = lacking(repo, refs, record, name)
    except (SandboxError, OSError) as error:
        return LfsRetrieval(missing=(one_line(f"new commits: {_why(error)}", limit=500),))
    lines = (
        f"{path} ({pointer.oid[:12]}): it is not part of a job's result" for pointer, path in sorted(pointers.items())
    )
    return LfsRetrieval(missing=tuple(one_line(line, limit=500) for line in lines))


def _why(error: SandboxError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{error.message}: {error.cause}" if error.cause else error.message


def _few_enough(repo: Repository, pointers: Iterable[Pointer]) -> tuple[list[Pointer], dict[Pointer, str]]:
    """What is asked for, the smallest first, and why the others are not."""
    left, chosen, reasons = Store.of(repo).room(), list[Pointer](), dict[Pointer, str]()
    for pointer in sorted(pointers, key=lambda it: it.size):
        left -= pointer.size
        if pointer.size > MAX_OBJECT:
            reasons[pointer] = f"it has {pointer.size} bytes, the limit is {MAX_OBJECT}"
        elif left < 0:
            reasons[pointer] = "this host's disk is full"
        elif len(chosen) == MAX_OBJECTS:
            reasons[pointer] = f"more than {MAX_OBJECTS} objects at once: `sandbox sync` or `sandbox recover` gets more"
        else:
            chosen.append(pointer)
    return chosen, reasons


def _fetched(
    repo: Repository, pointers: list[Pointer], channel: socket.socket, place: dict[str, object]
) -> dict[Pointer, str]:
    """What the guest sent: nothing for an object that is stored now, or what is wrong with it."""
    asked = [{"oid": pointer.oid, "size": pointer.size} for pointer in pointers]
    reply = stream.request(channel, protocol.LFS, extra={**place, "objects": asked}, limits=LIMITS)
    objects = _announced(reply.header, set(pointers))
    problems: dict[Pointer, str] = {}
    try:
        for pointer, sound in lfs.receive(Store.of(repo), objects, reply.chunks):
            problems[pointer] = "" if sound else "the sandbox's content does not match the object's name"
        if next(reply.chunks, None) is not None:
            raise CollectError("the guest's reply is incomplete", cause="it sent more than it announced")
    except (SandboxError, OSError) as error:
        problems |= {pointer: _why(error) for pointer in objects if pointer not in problems}
    return problems


def _announced(header: bytes, pointers: set[Pointer]) -> list[Pointer]:
    try:
        announced = jsontext.decode(header, _Header)
    except ValueError as error:
        raise CollectError("the guest's list of Git LFS objects was refused", cause=one_line(str(error))) from None
    if announced.error:
        raise CollectError("the guest could not list its Git LFS objects", cause=one_line(announced.error))
    objects = [Pointer(sent.oid, sent.size) for sent in announced.objects]
    if len(set(objects)) != len(objects) or not pointers.issuperset(objects):
        raise CollectError(
            "the guest's list of Git LFS objects was refused", cause="it names objects that were not requested"
        )
    return objects
