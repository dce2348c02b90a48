"""Warm starts: a machine is booted once without a sandbox and saved; every sandbox's machine is restored from it.

Whatever fails here, the machine boots cold (docs/adr/0012).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from git_sandbox import files
from git_sandbox.cache import templates
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.templates import Template
from git_sandbox.errors import HostResourceError, MachineError, SandboxError, SessionError
from git_sandbox.guest import protocol
from git_sandbox.guest.protocol import CONTROL
from git_sandbox.image import guestfiles, initrd
from git_sandbox.image.initrd import GuestFile
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol import stream
from git_sandbox.text import one_line
from git_sandbox.vmm.machine import (
    Backend,
    Capabilities,
    Disk,
    MachineLogs,
    MachineSpec,
    Running,
    Saved,
    Snapshotting,
    can_save,
    kernel_arguments,
)

SCHEMA = "2"  # of what is saved and how it is personalized
BOOT = stream.StreamLimits(idle=180.0, overall=180.0)
PERSONALIZE_LIMITS = stream.StreamLimits(idle=60.0, overall=60.0)
GREETING = stream.StreamLimits(idle=5.0, overall=5.0)
PAUSE = 0.05  # seconds between two of them
SEED = 64  # bytes of fresh randomness for the guest's kernel
SPARE = 1 << 30  # bytes the host's disk keeps free beside a template's memory


@dataclass(frozen=True)
class Start:
    """A start that may be warm: the machine as it would boot, and what makes it the sandbox's own."""

    backend: Backend
    spec: MachineSpec
    image: Image
    files: Mapping[str, GuestFile]
    runtime: Path
    logs: MachineLogs
    progress: Progress
    applying: float = 0.0  # seconds it may take to bring the disk up to date, as part of the personalization


class Personalization:
    """The guest becomes the sandbox's own while others already connect; nobody may use it before that is `done`.

    `forgets`: it forgets connections that are made too early, see `_awake`. `applying`: seconds it may take for the
    difference to a base, besides.
    """

    def __init__(
        self, machine: Running, key: str, extra: Mapping[str, object], *, forgets: bool, applying: float = 0.0
    ) -> None:
        self._machine, self._key, self._extra, self._forgets = machine, key, extra, forgets
        self._limits = dataclasses.replace(
            PERSONALIZE_LIMITS, idle=PERSONALIZE_LIMITS.idle + applying, overall=PERSONALIZE_LIMITS.overall + applying
        )
        self._why: SandboxError | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._personalize, daemon=True)
        self._thread.start()

    def _personalize(self) -> None:
        try:
            if self._forgets:
                _awake(self._machine)
            call(self._machine, protocol.PERSONALIZE, self._limits, {**self._extra, "time": time.time()})
        except SandboxError as error:
            if not self._abandoned:
                self._why = error

    def abandon(self) -> None:
        """The machine is about to be ended: what follows from that is no fault of the template's."""
        self._abandoned = True

    def blame(self, reason: str) -> None:
        """The template is not to be used again: its machine died before anybody could use it."""
        templates.failed(self._key, why(self._why) if self._why else reason)

    @property
    def failed(self) -> bool:
        return self._why is not None

    def done(self) -> None:
        """Wait for it. Raises SessionError when it did not work: the sandbox has to boot."""
        self._thread.join()
        if self._why is not None:
            raise SessionError("a warm start failed", cause=why(self._why)) from self._why


Warm = tuple[Running, Personalization]


def give_up(start: Start, key: str, error: Exception) -> None:
    templates.failed(key, why(error))
    start.progress(f"A warm start failed ({one_line(why(error))}): booting instead")


def start(start: Start, stack: contextlib.ExitStack) -> Warm | None:
    """A machine that is adopting the sandbox, in `stack`; None when it has to boot.

    The first start of its kind makes the template. When another process is making it, this one boots meanwhile.
    """
    backend = start.backend
    if not can_save(backend) or not fits(start, backend.capabilities):
        return None
    try:
        name = key(start, backend)
    except (SandboxError, OSError):  # the image is damaged: whatever boots it says so
        return None
    if name in templates.failures():
        return None
    try:
        warm = _from_template(start, backend, name, stack)
        return warm or (_from_template(start, backend, name, stack) if _make(start, backend, name) else None)
    except (SandboxError, OSError) as error:
        give_up(start, name, error)
        return None


def _from_template(start: Start, backend: Snapshotting, key: str, stack: contextlib.ExitStack) -> Warm | None:
    with templates.used(key) as template:
        if template is None:
            return None
        running = stack.enter_context(backend.start(restored_spec(start, template), start.runtime, start.logs))
        return running, personalization(start, running, key, stack)


def fits(start: Start, can: Capabilities) -> bool:
    """As many disks as the backend can give another file; no share, for virtiofsd would have to know what the guest
    knows; and no base that the guest lays its disk over while it boots.
    """
    spec = start.spec
    laid_over = any(word.startswith(f"{protocol.BASE}=") for word in spec.cmdline)
    others = len(spec.disks) - len(_lasting(start, can))
    return spec.share is None and not laid_over and len(spec.disks) > 1 and others <= can.restored_disks


def _lasting(start: Start, can: Capabilities) -> list[Disk]:
    """Disks of the image, besides the first, that the template has itself, and is one for that image only: where the
    backend cannot give others. Elsewhere all images share a template.
    """
    image, disks = start.image, start.spec.disks
    paths = (image.system.rootfs if image.system else None, image.layer)
    return [disk for disk in disks[1:] if disk.path in paths] if len(disks) > can.restored_disks else []


def key(start: Start, backend: Snapshotting) -> str:
    """Changes with everything in the template: image, VMM, processor, devices, our own programs in the guest."""
    digest = hashlib.sha256()
    parts = [SCHEMA.encode(), (start.image.root / "image.json").read_bytes()]
    parts += [name.encode() + b"\0" + file.content for name, file in sorted(guestfiles.programs().items())]
    parts.append(backend.fingerprint(_shape(start, Path("initrd"), Path("disks"))).encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _shape(start: Start, archive: Path, disks: Path, saved: Saved | None = None) -> MachineSpec:
    """The machine without what is a sandbox's own; for its disks stand others, in the directory `disks`."""
    can = start.backend.capabilities
    lasting, end = _lasting(start, can), can.ends_by
    own = [
        disk if disk in lasting else Disk(disks / str(number), disk.readonly)
        for number, disk in enumerate(start.spec.disks[1:])
    ]
    return dataclasses.replace(
        start.spec,
        name="template",
        initrd=archive,
        cmdline=kernel_arguments(protocol.TEMPLATE, end, protocol.FIRST) + _of_image(start.spec),
        disks=(start.spec.disks[0], *own),
        saved=saved,
    )


def _of_image(spec: MachineSpec) -> tuple[str, ...]:
    """Where the guest finds the image's layer: a restored machine has the command line of the saved one."""
    return tuple(word for word in spec.cmdline if word.startswith(f"{protocol.LAYER}="))


def _make(start: Start, backend: Snapshotting, key: str) -> bool:
    """Boot once without a sandbox and save; False when another process is at it."""
    with templates.building() as place:
        if place is None:
            return False
        need = (start.spec.memory << 20) + SPARE
        if shutil.disk_usage(place).free < need:
            raise HostResourceError(f"a template needs {need >> 20} MiB below {place.parent}")
        start.progress("Preparing warm starts (once for this kind of machine)")
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=place) as scratch:  # killed, it goes with `place`
            _boot_and_save(start, backend, Template(place), Path(scratch))
        templates.publish(place, key, start.image.root.name, _words(start.spec, backend))
    return True


def _boot_and_save(start: Start, backend: Snapshotting, built: Template, scratch: Path) -> None:
    own = guestfiles.programs() | {
        protocol.CONFIG: GuestFile(msgspec.json.encode(_told(backend.capabilities))),
    }
    initrd.write(built.initrd, start.image.initramfs, own)
    shape = _shape(start, built.initrd, scratch, Saved(built.root, restore=False))
    for disk in shape.disks[1:]:  # there have to be some; the guest does not touch them
        if disk.path.parent != scratch:  # an image's own
            continue
        with files.opened(disk.path, "wb") as file:
            file.truncate(1 << 20)
    logs = MachineLogs(scratch / "console", scratch / "vmm")
    with backend.start(shape, start.runtime, logs) as machine:
        call(machine, protocol.STATUS, BOOT)
        machine.save()


def _told(can: Capabilities) -> dict[str, object]:
    """A template's `config.json`: where its guest waits, and how its machine ends."""
    vsock = [name for name in can.vsock if name == CONTROL]
    return {"mode": protocol.TEMPLATE, "vsock": vsock, "shutdown": can.ends_by}


def restored_spec(start: Start, template: Template) -> MachineSpec:
    """The template's machine with what is a sandbox's own."""
    shape = _shape(start, template.initrd, start.runtime, Saved(template.root, restore=True))
    return dataclasses.replace(shape, name=start.spec.name, disks=start.spec.disks)


def personalization(start: Start, running: Running, key: str, stack: contextlib.ExitStack) -> Personalization:
    files = {name: (_text(file.content), file.mode) for name, file in start.files.items()}
    extra = {"files": files, "seed": _text(os.urandom(SEED))}
    forgets = CONTROL in start.backend.capabilities.vsock
    personalized = Personalization(running, key, extra, forgets=forgets, applying=start.applying)
    stack.callback(personalized.abandon)  # before the machine is stopped
    return personalized


def _awake(machine: Running) -> None:
    """Return once the guest answers. Raises MachineError.

    A restored guest forgets the connections it had over vsock without a word to the other end, and with them one of
    ours that was made before it got there.
    """
    deadline = time.monotonic() + PERSONALIZE_LIMITS.overall
    while True:
        try:
            call(machine, protocol.STATUS, GREETING)
        except MachineError:
            if time.monotonic() >= deadline or not machine.alive():
                raise
            time.sleep(PAUSE)
        else:
            return


def call(machine: Running, op: str, limits: stream.StreamLimits, extra: Mapping[str, object] | None = None) -> None:
    """Raises MachineError, with what the console last said, when the guest does not do it."""
    try:
        with machine.attachment(CONTROL).connect(timeout=limits.idle, patience=limits.idle) as channel:
            stream.call(channel, op, extra=extra, limits=limits)
    except (SandboxError, OSError) as error:
        raise MachineError(f"`{op}` failed", cause=f"{error}; {machine.diagnosis()}") from error


def why(error: Exception) -> str:
    cause = error.cause if isinstance(error, SandboxError) else ""
    return f"{error}: {cause}" if cause else str(error)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _words(machine: MachineSpec, backend: Backend) -> str:
    return f"{backend.name}, {machine.cpus} processors, {machine.memory} MiB"
