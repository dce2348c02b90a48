"""A new sandbox from a copy of another one's disk, which may be running.

A running guest writes everything out and holds its file system still while the disk is copied. What it says is not
believed: a guest that lies spoils its own copy, which, like every disk of a guest's, only guests ever mount.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator

import msgspec

from git_sandbox import files, jsontext, ssh_config, store
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import share_dir, workspace_disk
from git_sandbox.errors import CollectError, MachineError, SandboxError, StateError, UsageError
from git_sandbox.git.names import SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol import stream
from git_sandbox.protocol.stream import StreamLimits
from git_sandbox.sandbox import egress_proxy, images, nested_refs, retrieve
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.machine_spec import guest_config
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.provision import Prepared, WentIn, configure, copy_mounts
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Entry, Record, SandboxHandle

# Everything in the guest's memory is written out first. Asked again: a request that comes on the heels of another
# conversation can be taken for the rest of that one and be thrown away.
FREEZE = tuple(StreamLimits(idle=seconds, overall=seconds) for seconds in (20.0, 40.0, 180.0))
THAW = StreamLimits(idle=15.0, overall=30.0)


_APART = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/")  # of each sandbox its own


_DISK = "use `--transport disk`"


class _Held(msgspec.Struct, frozen=True):
    held: bool


@dataclass(frozen=True)
class Forked:
    """`home` None: the new sandbox has the refs of the old one, which was stopped and had all its work at home."""

    id: str
    origin: str
    record: Record
    home: Retrieval | None


def fork(repo: Repository, origin: str, name: str | None, progress: Progress) -> Forked:
    """A stopped sandbox with the disk of `origin`, and with refs, keys and a record of its own.

    Raises StateError when `origin` has no disk or its image is gone, CollectError when what is on the copy cannot be
    read: the copy is kept then.
    """
    image(repo, origin)
    source = store.find(repo, origin)
    with store.create(repo, name) as handle:
        record, still = _begin(handle, source, progress)
        _configure_alike(handle, source)
        if still and source.record and source.record.brought_home and not _nested(repo, source):
            _copy_refs(handle, source)
            record = handle.save(msgspec.structs.replace(record, brought_home=source.record.brought_home))
            return Forked(handle.id, source.id, record, None)
        try:
            brought = retrieve.rescue(handle, record, progress)
        except (SandboxError, OSError) as error:
            raise _unread(error, handle) from error
        retrieve.note(handle, record, None, brought)
        return Forked(handle.id, source.id, record, brought)


def prepared(
    handle: SandboxHandle,
    options: Options,
    ready: Image,
    backend: str,
    progress: Progress,
    *,
    extras: Extras,
    formats: tuple[str, ...] = ("raw",),
) -> Prepared:
    """Like `provision.prepare`, but with the disk of `options.origin` instead of a copy of the repository."""
    settings = options.settings
    source = store.find(handle.repo, options.origin or "")
    if workspace_disk.disk_format(source.directory) not in formats:
        hint = "use its own backend, or create it again with SANDBOX_BASES=no"
        raise StateError(f"{backend} cannot use the disk of sandbox `{source.id}`", hint=hint)
    record, _ = _begin(handle, source, progress)
    record = msgspec.structs.replace(
        record,
        backend=backend,
        cpus=settings.cpus,
        memory=settings.memory,
        net=settings.net.name,
        virtualization=settings.nested == "yes",
        command=options.command or (),
        agent=options.agent,
        terminal=options.terminal,
    )
    try:
        copy_mounts(handle, extras, progress)
        known = guest_config(source.directory)
        alike = dataclasses.replace(extras, places=known.places, user=known.user.name)  # as its disk has it
        configure(handle, record, settings, alike, WentIn(known.apart, known.worktrees))
        return Prepared(handle.save(record), ready, ())
    except BaseException:
        store.delete(handle)  # nothing has happened in it
        raise


def image(repo: Repository, origin: str, transport: str = "disk") -> Image:
    """The image a copy of `origin` needs. Raises StateError when that or the disk is gone, or it works on a share;
    UsageError for a copy that is to be on one.
    """
    source = store.find(repo, origin)
    if share_dir.is_asked(transport):
        raise UsageError(f"a copy of `{source.id}` needs a disk, but a share was requested", hint=_DISK)
    if share_dir.used(source.directory):
        hint = f"`sandbox sync {source.id}` brings its work home: begin with that; and for what is forked, {_DISK}"
        raise StateError(f"sandbox `{source.id}` works on a share, but only a disk can be copied", hint=hint)
    return images.of(SandboxHandle(repo, source.id, source.directory), source.record)


def disk_format(repo: Repository, origin: str) -> str:
    """The format of the disk that a copy of `origin` gets."""
    return workspace_disk.disk_format(store.find(repo, origin).directory)


def _begin(handle: SandboxHandle, source: Entry, progress: Progress) -> tuple[Record, bool]:
    """Disk, keys, record and the pinned start for `handle`. True when `source` did not run meanwhile."""
    base = source.refs.get(SandboxRefs(source.id).base)
    if source.record is None or base is None:
        raise StateError(f"sandbox `{source.id}` cannot be copied: its record or its initial commit is missing")
    try:
        progress(f"Copying the disk of {source.id}")
        with _kept_still(source.directory) as still, contextlib.ExitStack() as stack:
            if not still:
                stack.enter_context(_frozen(source.directory))
            workspace_disk.clone(source.directory, handle.directory)
        if source.directory.objects.is_dir():
            shutil.copytree(source.directory.objects, handle.directory.objects)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source.directory.apart, handle.directory.apart)
        ssh_config.make_keys(handle.directory.keys, handle.id)
        record = msgspec.structs.replace(
            source.record, id=handle.id, created=time.time(), pid=os.getpid(), brought_home=None, exit_code=None,
            command=(), origin=source.id,
        )  # fmt: skip
        store.pin(handle, record, base)
        return handle.save(record), still
    except BaseException:
        store.delete(handle, name_too=False)  # nothing ran: `store.create` removes the rest
        raise


@contextlib.contextmanager
def _kept_still(directory: SandboxDir) -> Iterator[bool]:
    """True: it does not run, and nobody can start it while the block lasts; several may hold it so. False: it runs."""
    with directory.lock.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def _frozen(directory: SandboxDir) -> Iterator[None]:
    """The disk of a running guest is whole and does not change while the block lasts."""
    with contextlib.ExitStack() as stack:
        channel = _freeze(directory, stack)
        yield
        answer = stream.call(channel, protocol.THAW, limits=THAW)
    try:
        held = jsontext.decode(answer, _Held).held
    except ValueError as error:
        raise MachineError("the guest's answer to `thaw` is damaged", cause=str(error)) from error
    if not held:
        raise MachineError("copying the disk took longer than the guest can be frozen", hint="stop the sandbox first")


def _freeze(directory: SandboxDir, stack: contextlib.ExitStack) -> socket.socket:
    """The conversation in which the guest holds still, in `stack`. One that is given up ends with its connection."""
    for limits in FREEZE:
        with contextlib.ExitStack() as attempt:
            channel = attempt.enter_context(retrieve.control(directory))
            try:
                stream.call(channel, protocol.FREEZE, limits=limits)
            except CollectError:
                if limits is FREEZE[-1]:
                    raise
                continue
            stack.enter_context(attempt.pop_all())
            return channel
    raise AssertionError  # the last attempt returns or raises


def _configure_alike(handle: SandboxHandle, source: Entry) -> None:
    if source.directory.mounts.is_dir():  # never written to, so both may have the same files
        handle.directory.mounts.mkdir(mode=0o700)
        for path in source.directory.mounts.iterdir():
            (handle.directory.mounts / path.name).hardlink_to(path)
    with contextlib.suppress(FileNotFoundError):  # of one whose network needs none
        egress_proxy.copy(source.directory, handle.directory, handle.id)
    if source.directory.commands.is_dir():
        shutil.copytree(source.directory.commands, handle.directory.commands)
    config = guest_config(source.directory)
    files.write(handle.directory.config, jsontext.encode(msgspec.structs.replace(config, hostname=handle.id)))


def _nested(repo: Repository, source: Entry) -> bool:
    """Whether work of repositories inside the worktree is in refs elsewhere, which no other sandbox may have twice."""
    return bool(nested_refs.holdings(repo, SandboxHandle(repo, source.id, source.directory), source.record))


def _copy_refs(handle: SandboxHandle, source: Entry) -> None:
    theirs = SandboxRefs(source.id)
    refs = {name: value for name, value in theirs.own(source.refs).items() if not name.startswith(_APART)}
    lines = "".join(f"create {theirs.renamed(name, handle.id)} {value}\n" for name, value in refs.items())
    if lines:
        handle.repo.git.run("update-ref", "--stdin", input=lines.encode())


def _unread(error: Exception, handle: SandboxHandle) -> CollectError:
    return CollectError(
        f"the copy `{handle.id}` was created, but its disk cannot be read: {error}",
        cause=getattr(error, "cause", ""),
        hint=f"`sandbox recover {handle.id}`, or `sandbox drop --force {handle.id}`",
    )
