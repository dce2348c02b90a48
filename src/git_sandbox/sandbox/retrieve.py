"""Retrieves the work of a sandbox: ask the guest for everything, import it, record it. From a running machine, or from
its disk by a rescue machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import files, locks, store
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import CollectError, MachineError, RepositoryError, SandboxError
from git_sandbox.guest import protocol
from git_sandbox.guest.protocol import CONTROL
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol import bundle, stream
from git_sandbox.sandbox import images, imported, reach, trashed
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.trash.note import UNCHANGED
from git_sandbox.vmm.machine import Running

ALIVE = 30.0  # seconds; a guest that runs says at once that it has heard
POWER_OFF = stream.StreamLimits(idle=15.0, overall=30.0)
ANSWERS = 10.0  # seconds within which a guest that runs takes a connection
DYING = 3.0  # seconds until a machine that has hung up is gone
WHILE_IT_RUNS = stream.StreamLimits(begin=600.0, overall=1800.0)  # for what can be done again
TAKES_TURNS = 2000.0  # seconds to wait for another conversation, which has ended by then (`WHILE_IT_RUNS`)
BOOTING = 600.0  # seconds within which a rescue machine does
NEARLY_FULL = 16 << 20  # bytes free; then a full disk is why things fail
OFF_WITHIN = 20.0  # seconds until a machine that was asked to power off is stopped the hard way


def bring_home(handle: SandboxHandle, record: Record, progress: Progress, *, end: bool = False) -> Retrieval:
    """Export from a machine that runs, in this process or another, and collect. Moves only what is new.

    `end`: kill what still runs first, so that nothing changes meanwhile. Raises CollectError, MachineError; the machine
    and its disk are as before.
    """
    limits = stream.DEFAULT_LIMITS if end else WHILE_IT_RUNS
    with control(handle.directory, say=progress) as channel:
        return imported.from_channel(handle, record, channel, progress, alive=ALIVE, end=end, limits=limits)


@dataclass(frozen=True)
class Import:
    """The way home of a sandbox of this repository's. `like`: settings that its rescue machine is started with, too."""

    like: Settings | None = None

    def from_machine(self, handle: SandboxHandle, record: Record, progress: Progress) -> Retrieval:
        return bring_home(handle, record, progress, end=True)

    def from_disk(self, handle: SandboxHandle, record: Record, progress: Progress, reason: str) -> Retrieval:
        try:
            return dataclasses.replace(rescue(handle, record, progress, like=self.like), reason=reason)
        except (SandboxError, OSError) as error:
            raise why(error, handle) from error

    def note(self, handle: SandboxHandle, record: Record, exit_code: int, brought: Retrieval) -> None:
        note(handle, record, exit_code, brought)


def power_off(handle: SandboxHandle, running: Running) -> None:
    """Ask nicely; whoever started the machine ends it for certain afterwards."""
    with contextlib.suppress(SandboxError, OSError), control(handle.directory) as channel:
        stream.call(channel, protocol.POWEROFF, limits=POWER_OFF)
    running.wait(OFF_WITHIN)


def rescue(handle: SandboxHandle, record: Record, progress: Progress, *, like: Settings | None = None) -> Retrieval:
    """Bring home what is on the disk of a machine that ended without doing so itself.

    A second machine, of an image's own programs only, attaches the disk, replays its journal and exports: no file
    system made by a guest is ever read by the host. Any image will do: the one it ran with, or the newest that boots.
    `like`: settings of the command line that count for it (`machines.backend_of_record`).
    Raises MachineError, CollectError, StateError (no disk, no image), RepositoryError (it is gone).
    """
    _ = handle.repo  # no machine where there is nothing to bring its work to
    with rescued(handle, record, progress, like=like) as channel:
        home = imported.from_channel(handle, record, channel, progress)
    return dataclasses.replace(home, rescued=True)


def hand_out(handle: SandboxHandle, record: Record, target: Path, progress: Progress) -> list[Path]:
    """Write what is on the disk of a sandbox to a bundle at `target`, unexamined, and the guest's list beside it; the
    files. Nothing comes into the repository. Raises as `rescue` and `bundle.write` do.
    """
    with rescued(handle, record, progress) as channel:
        progress(f"Writing {target}")
        return written(channel, target, object_format=record.object_format, base=record.base)


def written(channel: socket.socket, target: Path, *, object_format: str, base: str | None) -> list[Path]:
    """The export of the guest at `channel` as files. No git of ours reads what comes, so it is asked with care at once
    (docs/adr/0014): a pack with something damaged in it could not be read by anybody.
    """
    extra = {"object_format": object_format, "careful": True}
    reply = stream.request(channel, protocol.EXPORT, known=[base] if base else [], extra=extra)
    return bundle.write(target, reply.header, reply.chunks, object_format=object_format, base=base)


@contextlib.contextmanager
def rescued(
    handle: SandboxHandle, record: Record, progress: Progress, *, like: Settings | None = None
) -> Iterator[socket.socket]:
    """The channel to a rescue machine for the sandbox's disk, which is powered off afterwards."""
    with store.recovering(handle.directory), contextlib.ExitStack() as machine, contextlib.ExitStack() as talk:
        running, channel = _first_that_boots(_Rescue(handle, record, progress, like), machine, talk)
        try:
            with talk:
                yield channel
        except (CollectError, MachineError) as error:
            raise _explained(error, running) from None
        power_off(handle, running)


@dataclass(frozen=True)
class _Rescue:
    """What a rescue machine is started for, and with which settings of the command line."""

    handle: SandboxHandle
    record: Record
    progress: Progress
    like: Settings | None

    def started(self, image: Image) -> contextlib.AbstractContextManager[Running]:
        from git_sandbox.sandbox import machines  # late: `sync` and `stop` start none

        return machines.started(self.handle, self.record, image, "rescue", self.progress, like=self.like)


def _first_that_boots(
    rescue: _Rescue, machine: contextlib.ExitStack, talk: contextlib.ExitStack
) -> tuple[Running, socket.socket]:
    """A rescue machine in `machine` and the channel to it in `talk`."""
    left = images.for_rescue(rescue.handle, rescue.record)
    while True:
        rescue.progress("Starting a rescue machine for the disk")
        running = None
        try:
            running = machine.enter_context(rescue.started(left.pop(0)))
            return running, talk.enter_context(control(rescue.handle.directory, patience=BOOTING))
        except MachineError as error:
            explained = _explained(error, running) if running else error
            machine.close()
            if not left:
                raise explained from None
            rescue.progress("The image does not boot; trying another one")


def _explained(error: CollectError | MachineError, running: Running) -> CollectError | MachineError:
    """With the last words of a machine that has died."""
    if not running.wait(DYING):
        return error
    why = "\n".join(text for text in (error.cause, running.diagnosis()) if text)
    return type(error)(error.message, cause=why, hint=error.hint)


@contextlib.contextmanager
def control(
    directory: SandboxDir, *, patience: float = ANSWERS, say: Progress | None = None
) -> Iterator[socket.socket]:
    """The channel to the guest's init, for us alone: it carries one conversation at a time.

    `patience`: seconds for a guest that does not listen (yet). `say` hears when another conversation has to end first.
    Raises StateError when that one does not end.
    """
    with files.opened(directory.control_lock, "a") as lock:
        locks.awaited(lock, within=TAKES_TURNS, what="talks to the guest", say=say)
        try:
            channel = reach.attachment(directory, CONTROL).connect(timeout=10, patience=patience)
        except OSError as error:
            raise MachineError("the machine no longer answers", cause=str(error)) from error
        with channel:
            yield channel


def settle(handle: SandboxHandle, record: Record, home: Retrieval, exit_code: int | None) -> bool:
    """Note that everything is home; a sandbox that changed nothing goes to the trash. True when it is still there."""
    record = note(handle, record, exit_code, home)
    if home.changed:
        return True
    try:
        trashed.put(handle, record, UNCHANGED)
    except SandboxError:
        return True  # the disk is full, say: that it stays loses nothing
    return False


def note(handle: SandboxHandle, record: Record, exit_code: int | None, home: Retrieval) -> Record:
    """How it ended, and what did not come home. While something is on the disk only, it stays recoverable."""
    when = None if home.nested.missing else time.time()
    return handle.save(
        msgspec.structs.replace(
            record, brought_home=when, exit_code=exit_code, partly=home.partly, changes=home.changes
        ),
        home.refs,
    )


def why(error: SandboxError | OSError, handle: SandboxHandle) -> CollectError:
    """The error for work that did not come home, saying where it is and what to do first."""
    full = shutil.disk_usage(handle.directory.root).free < NEARLY_FULL
    message, cause = (error.strerror or str(error), "") if isinstance(error, OSError) else (error.message, error.cause)
    first = f"free some space below {handle.directory.root}, then " if full else ""
    hint = f"the work is still on the sandbox's disk: {first}`sandbox recover {handle.id}`"
    return CollectError(
        f"the work in sandbox `{handle.id}` has not been brought home: {message}",
        cause=f"this host's disk is full\n{cause}".strip() if full else cause,
        hint=error.hint if isinstance(error, RepositoryError) and handle.homeless else hint,
    )
