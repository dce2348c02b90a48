"""Warm starts: a machine that has booted once without a sandbox is saved, and every sandbox's machine is that one.

Whatever fails here, the machine boots cold (docs/adr/0050).
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
from functools import partial
from pathlib import Path

import msgspec

from git_sandbox import files
from git_sandbox.background import Beside
from git_sandbox.cache import templates
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.templates import Template
from git_sandbox.errors import HostResourceError, MachineError, SandboxError, SessionError
from git_sandbox.guest import protocol
from git_sandbox.guest.protocol import CONTROL
from git_sandbox.image import guestfiles, initrd, spec
from git_sandbox.image.initrd import GuestFile
from git_sandbox.progress import Progress
from git_sandbox.protocol import stream
from git_sandbox.text import one_line
from git_sandbox.vmm.machine import (
    Backend,
    Begun,
    Capabilities,
    Disk,
    MachineLogs,
    MachineSpec,
    Running,
    Saved,
    Snapshotting,
    can_begin,
    can_save,
    kernel_arguments,
)

SCHEMA = "2"  # of what is saved and how it is adopted
INIT = "template-init.sh"
BOOT = stream.StreamLimits(idle=180.0, overall=180.0)
ADOPT = stream.StreamLimits(idle=60.0, overall=60.0)
GREETING = stream.StreamLimits(idle=5.0, overall=5.0)
PAUSE = 0.05  # seconds between two of them
SEED = 64  # bytes of fresh randomness for the guest's kernel
SPARE = 1 << 30  # bytes the host's disk keeps free beside a template's memory


@dataclasses.dataclass(frozen=True)
class Start:
    """A start that may be warm: the machine as it would boot, and what makes it the sandbox's own."""

    backend: Backend
    spec: MachineSpec
    image: Image
    files: Mapping[str, GuestFile]
    runtime: Path
    logs: MachineLogs
    progress: Progress
    applying: float = 0.0  # seconds it may take to bring the disk up to date, as part of the adoption


@dataclasses.dataclass(frozen=True)
class Ahead:
    """A machine that is restored, and rehearses, while the repository is still being copied (docs/adr/0076).

    It belongs to nobody before `follow`. `template`: keeps that from being removed.
    """

    key: str
    machine: Begun
    template: contextlib.ExitStack
    waking: Beside[None]


Cold = tuple[None, None]
COLD: Cold = (None, None)


class Adoption:
    """The guest becomes the sandbox's own while others already connect; nobody may use it before that is `done`.

    `forgets`: it forgets connections that are made too early, see `_awake`. `applying`: seconds it may take for the
    difference to a base, besides.
    """

    def __init__(
        self, machine: Running, key: str, extra: Mapping[str, object], *, forgets: bool, applying: float = 0.0
    ) -> None:
        self._machine, self._key, self._extra, self._forgets = machine, key, extra, forgets
        self._limits = dataclasses.replace(ADOPT, idle=ADOPT.idle + applying, overall=ADOPT.overall + applying)
        self._why: SandboxError | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._adopt, daemon=True)
        self._thread.start()

    def _adopt(self) -> None:
        try:
            if self._forgets:
                _awake(self._machine)
            _call(self._machine, protocol.ADOPT, self._limits, {**self._extra, "time": time.time()})
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
            raise SessionError("a warm start did not work", cause=why(self._why)) from self._why


def begin(wanted: Start, stack: contextlib.ExitStack) -> Ahead | None:
    """Begin to restore, in `stack`, the machine that `wanted` is going to need: nothing of it has to be there but the
    image and a place for its sockets. None when that cannot be done, or there is no template yet.
    """
    backend = wanted.backend
    if not can_begin(backend):
        return None
    template = stack.enter_context(contextlib.ExitStack())
    try:
        key = _key(wanted, backend)
        found = None if key in templates.failures() else template.enter_context(templates.used(key))
    except (SandboxError, OSError):  # `start` meets it again
        return None
    if found is None:
        return None
    after = stack.enter_context(contextlib.ExitStack())
    try:
        machine = stack.enter_context(backend.begin(_ours(wanted, found), wanted.runtime, wanted.logs))
    except (SandboxError, OSError) as error:
        _given_up(wanted, key, error)
        return None
    waking = Beside(partial(_wake, machine))
    after.callback(waking.wait)  # it ends when the machine has
    return Ahead(key, machine, template, waking)


def _wake(machine: Begun) -> None:
    """Have it run, and its guest do once, for nothing, what it will do in earnest when there is a disk."""
    machine.restore()
    _call(machine, protocol.REHEARSE, ADOPT)


def follow(wanted: Start, ahead: Ahead, stack: contextlib.ExitStack) -> tuple[Running, Adoption] | Cold:
    """Let a machine that was begun ahead become the sandbox's; COLD when another one has to be started."""
    backend = wanted.backend
    if not can_save(backend) or not _like_a_template(wanted.spec, backend.capabilities):
        return COLD
    if _key(wanted, backend) != ahead.key:
        return COLD
    try:
        ahead.waking.result()
        ahead.machine.attach(wanted.spec.disks[1:])
    except (SandboxError, OSError) as error:
        _given_up(wanted, ahead.key, error)
        return COLD
    ahead.template.close()
    return ahead.machine, _adoption(wanted, ahead.machine, ahead.key, stack)


def _given_up(wanted: Start, key: str, error: Exception) -> None:
    templates.failed(key, why(error))
    wanted.progress(f"A warm start did not work ({one_line(why(error))}): booting instead")


def start(wanted: Start, stack: contextlib.ExitStack) -> tuple[Running, Adoption] | Cold:
    """A machine that is adopting the sandbox, in `stack`; COLD when it has to boot.

    The first start of its kind makes the template. When another process is making it, this one boots meanwhile.
    """
    backend = wanted.backend
    if not can_save(backend) or not _like_a_template(wanted.spec, backend.capabilities):
        return COLD
    try:
        key = _key(wanted, backend)
        if key in templates.failures():
            return COLD
        with templates.used(key) as found:
            if found is not None:
                return _restored(wanted, backend, found, stack)
        if not _make(wanted, backend, key):
            return COLD
        with templates.used(key) as found:
            return _restored(wanted, backend, found, stack) if found is not None else COLD
    except (SandboxError, OSError) as error:
        _given_up(wanted, key, error)
        return COLD


def _like_a_template(spec: MachineSpec, can: Capabilities) -> bool:
    """As many disks as the backend can give another file; no share, for virtiofsd would have to know what the guest
    knows; and no base that the guest lays its disk over while it boots.
    """
    laid_over = any(word.startswith(f"{protocol.BASE}=") for word in spec.cmdline)
    return spec.share is None and not laid_over and 1 < len(spec.disks) <= can.restored_disks


def _key(wanted: Start, backend: Snapshotting) -> str:
    """Changes with everything in the template: image, VMM, processor, devices, our own programs in the guest."""
    digest = hashlib.sha256()
    parts = [SCHEMA.encode(), (wanted.image.root / "image.json").read_bytes(), spec.data(INIT).read_bytes()]
    parts += [name.encode() + b"\0" + each.content for name, each in sorted(guestfiles.programs().items())]
    parts.append(backend.fingerprint(_shape(wanted, Path("initrd"), Path("disks"))).encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _shape(wanted: Start, archive: Path, disks: Path, saved: Saved | None = None) -> MachineSpec:
    """The machine without what is a sandbox's own; for its disks stand others, in the directory `disks`."""
    own = [Disk(disks / str(number), each.readonly) for number, each in enumerate(wanted.spec.disks[1:])]
    end = wanted.backend.capabilities.ends_by
    return dataclasses.replace(
        wanted.spec,
        name="template",
        initrd=archive,
        cmdline=kernel_arguments(protocol.TEMPLATE, end, f"rdinit=/sandbox/{INIT}"),
        disks=(wanted.spec.disks[0], *own),
        saved=saved,
    )


def _make(wanted: Start, backend: Snapshotting, key: str) -> bool:
    """Boot once without a sandbox and save; False when another process is at it."""
    with templates.building() as place:
        if place is None:
            return False
        need = (wanted.spec.memory << 20) + SPARE
        if shutil.disk_usage(place).free < need:
            raise HostResourceError(f"a template needs {need >> 20} MiB below {place.parent}")
        wanted.progress("Preparing warm starts (once for this kind of machine)")
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=place) as scratch:  # killed, it goes with `place`
            _boot_and_save(wanted, backend, Template(place), Path(scratch))
        templates.publish(place, key, wanted.image.root.name, _words(wanted.spec, backend))
    return True


def _boot_and_save(wanted: Start, backend: Snapshotting, built: Template, scratch: Path) -> None:
    own = guestfiles.programs() | {
        INIT: GuestFile(spec.data(INIT).read_bytes(), 0o755),
        protocol.CONFIG: GuestFile(msgspec.json.encode(_told(backend.capabilities))),
    }
    initrd.write(built.initrd, wanted.image.initramfs, own)
    shape = _shape(wanted, built.initrd, scratch, Saved(built.root, restore=False))
    for each in shape.disks[1:]:  # there have to be some; the guest does not touch them
        with files.opened(each.path, "wb") as file:
            file.truncate(1 << 20)
    logs = MachineLogs(scratch / "console", scratch / "vmm")
    with backend.start(shape, wanted.runtime, logs) as machine:
        _call(machine, protocol.STATUS, BOOT)
        machine.save()


def _told(can: Capabilities) -> dict[str, object]:
    """A template's `config.json`: where its guest waits, and how its machine ends."""
    vsock = [name for name in can.vsock if name == CONTROL]
    return {"mode": protocol.TEMPLATE, "vsock": vsock, "shutdown": can.ends_by}


def _restored(
    wanted: Start, backend: Snapshotting, found: Template, stack: contextlib.ExitStack
) -> tuple[Running, Adoption]:
    running = stack.enter_context(backend.start(_ours(wanted, found), wanted.runtime, wanted.logs))
    return running, _adoption(wanted, running, found.root.name, stack)


def _ours(wanted: Start, found: Template) -> MachineSpec:
    """The template's machine with what is a sandbox's own."""
    shape = _shape(wanted, found.initrd, wanted.runtime, Saved(found.root, restore=True))
    return dataclasses.replace(shape, name=wanted.spec.name, disks=wanted.spec.disks)


def _adoption(wanted: Start, running: Running, key: str, stack: contextlib.ExitStack) -> Adoption:
    files = {name: (_text(each.content), each.mode) for name, each in wanted.files.items()}
    extra = {"files": files, "seed": _text(os.urandom(SEED))}
    forgets = CONTROL in wanted.backend.capabilities.vsock
    adoption = Adoption(running, key, extra, forgets=forgets, applying=wanted.applying)
    stack.callback(adoption.abandon)  # before the machine is stopped
    return adoption


def _awake(machine: Running) -> None:
    """Return once the guest answers. Raises MachineError.

    A restored guest forgets the connections it had over vsock without a word to the other end, and with them one of
    ours that was made before it got there.
    """
    deadline = time.monotonic() + ADOPT.overall
    while True:
        try:
            _call(machine, protocol.STATUS, GREETING)
        except MachineError:
            if time.monotonic() >= deadline or not machine.alive():
                raise
            time.sleep(PAUSE)
        else:
            return


def _call(machine: Running, op: str, limits: stream.StreamLimits, extra: Mapping[str, object] | None = None) -> None:
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


def _words(wanted: MachineSpec, backend: Backend) -> str:
    return f"{backend.name}, {wanted.cpus} processors, {wanted.memory} MiB"
