"""From a record to a running machine: its backend, its accelerator, its sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from git_sandbox import files, notices
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import share_dir, workspace_disk
from git_sandbox.errors import RequirementError
from git_sandbox.guest import protocol
from git_sandbox.progress import Progress
from git_sandbox.sandbox import machine_spec, warm_start
from git_sandbox.sandbox.prestart import Prestart
from git_sandbox.sandbox.warm_start import Personalization
from git_sandbox.settings import Settings, resolve
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.vmm import backends, host
from git_sandbox.vmm.backends import BackendNeeds, Ways
from git_sandbox.vmm.machine import Backend, MachineLogs, Running

CONFINE = (
    "`sudo apt-get install bubblewrap`; `sandbox help backends` says what it needs, "
    "`SANDBOX_CONFINEMENT=auto` starts without"
)


def backend(settings: Settings, image: Image, progress: Progress, *, disk: str = "raw", share: bool = False) -> Backend:
    """The backend to use; the accelerator is proved on the way when that has not been done since the host booted.

    `disk`: format of one that it must be able to read. `share`: whether the workspace is a directory of this host's.
    Raises RequirementError when none can do what the settings ask for.
    """
    nested = settings.nested == "yes"
    needs = BackendNeeds(settings.backend, settings.net, settings.accelerator, disk, share, nested)
    chosen = backends.choose(needs, backends.look(needs))
    progress("Checking the accelerator")
    files = host.BootFiles(image.kernel, image.initramfs)
    proof = backends.prove(chosen, files, settings.accelerator)
    if nested:
        host.require_nesting(proof.accelerator)
    ways = Ways(vsock=settings.vsock == "yes", confined=settings.confinement != "no")
    return backends.make(chosen.kind, proof.accelerator, proof.reason, ways)


def unconfined(backend: str, settings: Settings, *, share: bool) -> tuple[str, ...]:
    """What to tell the user of a start whose programs cannot be confined here, unless they are not to be.

    Raises RequirementError when they have to be.
    """
    if settings.confinement == "no":
        return ()
    needs = BackendNeeds(net=settings.net, share=share)
    why = backends.unconfined(backends.BY_NAME[backend], needs)
    if why and settings.confinement == "yes":
        raise RequirementError("the sandbox cannot be confined", cause=why, hint=CONFINE)
    return (f"{why} (`sandbox help backends` has the remedy; `--confinement yes` refuses such a start)",) if why else ()


def backend_of_record(
    handle: SandboxHandle, record: Record, image: Image, mode: str, progress: Progress, *, like: Settings | None = None
) -> Backend:
    """The backend the sandbox was made with. To read its disk any other does, too, that knows the disk's format.

    `like`: settings of the command line, of which accelerator, vsock and confinement count instead of what is
    configured; confinement counts for any other backend as well.
    """
    disk, share = workspace_disk.disk_format(handle.directory), share_dir.used(handle.directory)
    net = record.net if mode == protocol.RUN else "none"
    given = {"accelerator": like.accelerator, "vsock": like.vsock, "confinement": like.confinement} if like else {}
    nested = "yes" if record.virtualization and mode == protocol.RUN else "no"
    settings, _ = resolve({"backend": record.backend, "net": net, "nested": nested, **given})
    try:
        return backend(settings, image, progress, disk=disk, share=share)
    except RequirementError:
        if mode == protocol.RUN:
            raise
        confinement = like.confinement if like else None
        settings, _ = resolve({"backend": "auto", "net": "none", "nested": "no", "confinement": confinement})
        return backend(settings, image, progress, disk=disk, share=share)


@contextlib.contextmanager
def started(
    handle: SandboxHandle, record: Record, image: Image, mode: str, progress: Progress, *, like: Settings | None = None
) -> Iterator[Running]:
    """A machine for the sandbox with the backend of its record, booting. It is gone when the block ends.

    `like`: settings of the command line, as for `backend_of_record`.
    """
    chosen = backend_of_record(handle, record, image, mode, progress, like=like)
    settings, _ = resolve({"net": "none", "confinement": like.confinement if like else None})
    for setting in unconfined(chosen.name, settings, share=share_dir.used(handle.directory)):
        notices.say(setting)
    with launched(handle, record, image, chosen, progress, mode=mode) as (running, _):
        yield running


@contextlib.contextmanager
def launched(
    handle: SandboxHandle,
    record: Record,
    image: Image,
    backend: Backend,
    progress: Progress,
    *,
    mode: str = protocol.RUN,
    may_be_warm: bool = False,
    applying: float = 0.0,
    first: Prestart | None = None,
) -> Iterator[tuple[Running, Personalization | None]]:
    """A machine for the sandbox; it is gone, with its sockets, when the block ends.

    A restored one may be used only when its personalization is done. `applying`: seconds the guest may take to bring
    its disk up to date. `first`: a machine to be taken instead of a new one, if it was not taken before.
    """
    workspace_disk.ready(handle.directory)
    can, hardware = backend.capabilities, machine_spec.hardware(record, mode)
    copies = machine_spec.copies_made(handle)
    spec = machine_spec.machine(handle, image, can, mode, hardware=hardware, copies=copies)
    own = machine_spec.personal(handle, record, mode, can, image.system)
    with contextlib.ExitStack() as stack:
        progress("Starting the machine")
        start = warm_start.Start(
            backend, spec, image, own, handle.directory.sockets, _logs(handle, mode), progress, applying
        )
        warm = first.claim(start, stack) if may_be_warm and first else None
        if warm is None:
            stack.enter_context(machine_spec.runtime(handle))
            stack.enter_context(guest_images.use(image))
            warm = warm_start.start(start, stack) if may_be_warm else None
        if warm is None:
            machine_spec.write_initrd(handle, image, own)
        running = warm[0] if warm else stack.enter_context(backend.start(spec, start.runtime, start.logs))
        channels = {name: running.attachment(name) for name in spec.channels}
        files.write(handle.directory.channels, msgspec.json.encode(channels))
        yield running, warm[1] if warm else None


def _logs(handle: SandboxHandle, mode: str) -> MachineLogs:
    if mode == protocol.RUN:
        return MachineLogs(handle.directory.console, handle.directory.vmm_log)
    return MachineLogs(handle.directory.rescue_console, handle.directory.rescue_vmm_log)
