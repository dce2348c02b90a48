"""The record of each sandbox, and who may change it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, locks
from git_sandbox.errors import HostResourceError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, oid
from git_sandbox.guest.protocol import WORKSPACE
from git_sandbox.protocol.changes import Changes
from git_sandbox.sandbox_dir import SandboxDir

SCHEMA = 1
MANY_REFS = 1000


class NestedRecord(msgspec.Struct, frozen=True):
    """A repository inside the worktree, as it went in. Paths of the guest's are relative to the worktree."""

    git_dir: str
    path: str | None  # where it is checked out, None for a submodule that is not
    host: str  # its git directory here
    host_worktree: str | None
    state: str | None  # digest of all that is committed, None with uncommitted work
    base: str | None
    refs: dict[str, str] = {}
    stash: tuple[str, ...] = ()
    snapshot: str | None = None  # trees of worktree and index where these differ from `base`
    index_tree: str | None = None
    apart: tuple[str, ...] = ()  # large files in no tree (`git/large.py`), relative to `path`
    broken: str = ""  # why git could not use it when it went in


class Record(msgspec.Struct, frozen=True):
    """`record.json`. Written by us only; a guest never sees it."""

    id: str
    worktree: str
    git_dir: str
    common_dir: str
    object_format: str
    created: float  # seconds since the epoch
    base: str | None  # commit HEAD was at, None when unborn
    base_symref: str | None  # branch HEAD was on, None when detached
    snapshot: str  # tree W0: what the worktree held
    index_tree: str | None  # what was staged, None while paths were unmerged
    backend: str
    image: str  # key of the guest image: kernel and tools, and the root file system where `root` is empty
    cpus: int
    memory: int  # MiB
    net: str
    refs: dict[str, str] = {}  # when it was taken, but for those of remotes and the like
    refs_apart: bool = False  # there are too many for this file: `complete` reads them from theirs
    stash: tuple[str, ...] = ()
    nested: tuple[NestedRecord, ...] = ()
    pid: int = 0  # who supervises the machine; only meaningful while the lock is held
    brought_home: float | None = None  # when everything on the disk was last collected, seconds since the epoch
    exit_code: int | None = None
    partly: tuple[str, ...] = ()  # what of it did not come home, a name and a reason each; safe to print
    changes: Changes | None = None  # what differed from the start when it last came home; None: nobody has looked
    origin: str | None = None  # the sandbox whose disk this one began with
    command: tuple[str, ...] = ()
    agent: str = ""  # name of the agent that was started in it
    terminal: bool = False  # its command has a terminal that others can attach to
    workdir: str = WORKSPACE  # where in the guest sessions begin: the top of the worktree, by one of its two paths
    home: dict[str, str] = {}  # refs of this sandbox as they were last set here: what of them vanishes is put back
    inner: dict[str, dict[str, str]] = {}  # the same in the user's repositories inside, by `NestedRecord.git_dir`
    virtualization: bool = False  # its guest may run machines of its own
    root: str = ""  # key of the root image over which its system is laid
    schema: int = SCHEMA


class Activity(msgspec.Struct, frozen=True):
    """`activity.json`: what a guest says of itself. It may say what it likes: `state` is one of `protocol.STATES`,
    `message` safe to print and short. `since`: seconds since the epoch.
    """

    state: str
    message: str = ""
    since: float = 0.0


def activity(directory: SandboxDir) -> Activity | None:
    """What its guest said last."""
    try:
        return jsontext.load(directory.activity, Activity, files.WRITTEN)
    except (OSError, ValueError):
        return None


def note_activity(directory: SandboxDir, activity: Activity) -> None:
    """Raises OSError. Not synced: it says how things are now."""
    fresh = directory.activity.with_suffix(".new")
    files.write(fresh, jsontext.encode(activity))
    fresh.replace(directory.activity)


def slim(record: Record) -> Record:
    """The same without its refs when there are many: every `ls` reads the record, and git keeps a copy of it."""
    return msgspec.structs.replace(record, refs={}, refs_apart=True) if len(record.refs) > MANY_REFS else record


def complete(directory: SandboxDir, record: Record) -> Record:
    """The same with all of its refs. Where their file is lost there are none, as if all were new."""
    if not record.refs_apart or record.refs:
        return record
    try:
        refs = jsontext.load(directory.start_refs, dict[str, str])
        for value in refs.values():
            oid(value)
    except (OSError, ValueError):
        return record
    return msgspec.structs.replace(record, refs=refs)


def tag(git: Git, record: Record, base: Oid) -> Oid:
    """The copy of a record that is in the repository: a tag object whose message it is."""
    message = jsontext.encode(slim(record), indent=2).decode("ascii")
    head = (
        f"object {base}\ntype commit\ntag sandbox-{record.id}\ntagger git-sandbox <git-sandbox@localhost> 0 +0000\n\n"
    )
    return oid(git.line("mktag", input=f"{head}{message}\n".encode()))


def load(directory: SandboxDir) -> Record | None:
    """The record in a directory, None when there is none or it is damaged."""
    try:
        return decode(files.read(directory.record, files.RECORD))
    except (OSError, ValueError):
        return None


def decode(encoded: bytes) -> Record | None:
    """A record from its JSON, None when it is damaged.

    Object names are checked: the copy in the repository may be anybody's, and git would take `--output=` for an option.
    """
    try:
        record = jsontext.decode(encoded, Record)
        oids = (*record.refs.values(), *record.stash, *record.home.values())
        oids += tuple(value for refs in record.inner.values() for value in refs.values())
        for value in (record.base, record.snapshot, record.index_tree, *oids):
            if value is not None:
                oid(value)
    except ValueError:
        return None
    return record


@contextlib.contextmanager
def changing(directory: SandboxDir) -> Iterator[None]:
    """One process at a time changes the record: a supervisor, a sync, a merge, or somebody who only looks."""
    try:
        handle = os.open(directory.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        locks.awaited(handle, within=locks.BRIEFLY, what="changes this sandbox's record")
        yield
    finally:
        os.close(handle)


def write(directory: SandboxDir, record: Record) -> None:
    """Durably, all or nothing."""
    brief = slim(record)
    try:
        if brief is not record and not directory.start_refs.exists():  # they never change
            replace(directory.start_refs, jsontext.encode(record.refs))
        replace(directory.record, jsontext.encode(brief, indent=2))
    except OSError as error:
        raise _unwritable(directory, error) from error


def replace(path: Path, content: bytes) -> None:
    """Put a file of ours in the place of what is there: durably, all or nothing. Raises OSError."""
    fresh = path.with_suffix(".new")
    with files.opened(fresh, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def save(directory: SandboxDir, record: Record, refs: Mapping[RefName, Oid]) -> Record:
    """Write the record, with all that ever came home: what it knew, what another process noted, `refs` as they are."""
    with changing(directory):
        before = load(directory)
        now = {str(name): str(value) for name, value in refs.items()}
        home, inner = (before.home, before.inner) if before else ({}, {})
        changed = msgspec.structs.replace(record, home=home | record.home | now, inner=inner | record.inner)
        write(directory, changed)
    return changed


def remember(
    directory: SandboxDir, refs: Mapping[RefName, Oid], inner: Mapping[str, Mapping[RefName, Oid]] | None = None
) -> None:
    """Note the refs that a sandbox has now; `inner`: in repositories inside. What fails is noted at the next look."""
    there = {place: {str(name): str(value) for name, value in refs.items()} for place, refs in (inner or {}).items()}
    with contextlib.suppress(HostResourceError), changing(directory):
        record = load(directory)
        home = {str(name): str(value) for name, value in refs.items()}
        if record is not None and (there or not home.items() <= record.home.items()):
            changed = msgspec.structs.replace(record, home=record.home | home, inner=record.inner | there)
            write(directory, changed)


def _unwritable(directory: SandboxDir, error: OSError) -> HostResourceError:
    return HostResourceError(f"cannot write {directory.record}", cause=error.strerror or str(error))
