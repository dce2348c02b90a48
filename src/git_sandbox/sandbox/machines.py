"""From a record to a running machine: which backend, which accelerator, where its sockets are."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import files, paths
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import share_dir, workspace_disk
from git_sandbox.errors import HostResourceError, RequirementError
from git_sandbox.guest import protocol
from git_sandbox.progress import Progress
from git_sandbox.sandbox import provision, warm_start
from git_sandbox.sandbox.warm_start import Adoption
from git_sandbox.settings import Settings, resolve
from git_sandbox.store import Box, Record
from git_sandbox.vmm import backends, host
from git_sandbox.vmm.backends import Wanted
from git_sandbox.vmm.machine import Backend, MachineLogs, MachineSpec, Running

MAX_SOCKET_PATH = 107  # bytes, unix(7)


def backend(settings: Settings, ready: Image, progress: Progress, *, disk: str = "raw", share: bool = False) -> Backend:
    """The backend to use; the accelerator is proved on the way when that has not been done since the host booted.

    `disk`: format of one that it must be able to read. `share`: whether the workspace is a directory of this host's.
    Raises RequirementError when none can do what the settings ask for.
    """
    wanted = Wanted(settings.backend, settings.net, settings.accelerator, disk, share)
    chosen = backends.choose(wanted, backends.look(wanted))
    progress("Checking the accelerator")
    files = host.BootFiles(ready.kernel, ready.initramfs)
    proof = backends.prove(chosen, files, settings.accelerator)
    vsock = settings.vsock == "yes"
    return backends.make(chosen.kind, proof.accelerator, proof.reason, vsock=vsock, jailer=settings.jailer)


@dataclass
class Ahead:
    """What `ahead` has begun, with all that has to end when nobody takes it. `machine` None: somebody has."""

    machine: warm_start.Ahead | None
    held: contextlib.ExitStack

    def taken(
        self, wanted: warm_start.Start, stack: contextlib.ExitStack
    ) -> tuple[Running, Adoption] | warm_start.Cold:
        """The machine, once, from now on in `stack`; COLD when it is another one that is wanted, or it failed."""
        machine, self.machine = self.machine, None
        if machine is None:
            return warm_start.COLD
        held = stack.enter_context(self.held.pop_all())
        found = warm_start.follow(wanted, machine, stack)
        if found == warm_start.COLD:
            held.close()
        return found


@contextlib.contextmanager
def ahead(box: Box, spec: MachineSpec, chosen: Backend, ready: Image, progress: Progress) -> Iterator[Ahead | None]:
    """Begin to restore the machine of a sandbox whose disk is still in the making; None when it is to be started later.

    It ends with the block unless `begun` took it.
    """
    with contextlib.ExitStack() as held:
        sockets = held.enter_context(runtime(box))
        held.enter_context(guest_images.use(ready))
        logs = MachineLogs(box.directory.console, box.directory.vmm_log)
        machine = warm_start.begin(warm_start.Start(chosen, spec, ready, {}, sockets, logs, progress), held)
        if machine is None:
            held.close()
        yield Ahead(machine, held) if machine else None


@contextlib.contextmanager
def started(box: Box, record: Record, ready: Image, mode: str, progress: Progress) -> Iterator[Running]:
    """A machine for the sandbox, booting. It is gone, with its sockets, when the block ends."""
    with begun(box, record, ready, mode, progress) as (running, _):
        yield running


@contextlib.contextmanager
def begun(
    box: Box,
    record: Record,
    ready: Image,
    mode: str,
    progress: Progress,
    *,
    may_be_warm: bool = False,
    like: Settings | None = None,
    applying: float = 0.0,
    first: Ahead | None = None,
) -> Iterator[tuple[Running, Adoption | None]]:
    """Like `started`; a machine that need not boot may be used only when its adoption is done.

    `like`: settings of the command line, of which accelerator, vsock and jailer count instead of what is configured.
    `applying`: seconds the guest may take to bring its disk up to date. `first`: a machine to be taken instead of a new
    one, if it was not taken before.
    """
    disk, shares = workspace_disk.disk_format(box.directory), share_dir.used(box.directory)
    chosen = _again(record, ready, mode, progress, like, disk=disk, share=shares)
    workspace_disk.ready(box.directory)
    spec = provision.machine(box, record, ready, mode, chosen.capabilities)
    own = provision.personal(box, record, mode, chosen.capabilities)
    with contextlib.ExitStack() as stack:
        progress("Starting the machine")
        of_it = box.directory
        logs = MachineLogs(of_it.console, of_it.vmm_log)
        if mode != protocol.RUN:
            logs = MachineLogs(of_it.rescue_console, of_it.rescue_vmm_log)
        sockets = of_it.sockets
        begins = warm_start.Start(chosen, spec, ready, own, sockets, logs, progress, applying)
        running, adoption = first.taken(begins, stack) if may_be_warm and first else warm_start.COLD
        if running is None:
            stack.enter_context(runtime(box))
            stack.enter_context(guest_images.use(ready))
            running, adoption = warm_start.start(begins, stack) if may_be_warm else warm_start.COLD
        if running is None:
            provision.write_initrd(box, ready, own)
            running = stack.enter_context(chosen.start(spec, sockets, logs))
        channels = {name: running.attachment(name) for name in spec.channels}
        files.write(box.directory.channels, msgspec.json.encode(channels))
        yield running, adoption


def _again(
    record: Record, ready: Image, mode: str, progress: Progress, like: Settings | None, *, disk: str, share: bool
) -> Backend:
    """The backend the sandbox was made with. To read its disk any other does, too, that knows the disk's format."""
    net = record.net if mode == protocol.RUN else "none"
    given = {"accelerator": like.accelerator, "vsock": like.vsock, "jailer": like.jailer} if like else {}
    settings, _ = resolve({"backend": record.backend, "net": net, **given})
    try:
        return backend(settings, ready, progress, disk=disk, share=share)
    except RequirementError:
        if mode == protocol.RUN:
            raise
        settings, _ = resolve({"backend": "auto", "net": "none"})
        return backend(settings, ready, progress, disk=disk, share=share)


@contextlib.contextmanager
def runtime(box: Box) -> Iterator[Path]:
    """A fresh private directory for sockets, removed at the end."""
    place = box.directory.sockets
    shutil.rmtree(place, ignore_errors=True)  # of a supervisor that was killed; we hold the sandbox's lock
    paths.private_directory(place)
    if len(os.fsencode(place)) > MAX_SOCKET_PATH - 20:
        raise HostResourceError(f"{place} is too long for a socket's path", hint="set XDG_RUNTIME_DIR to a shorter one")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
