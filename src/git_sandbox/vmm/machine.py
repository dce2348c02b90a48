"""A machine as data, and the interface of every backend."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeGuard

from git_sandbox import network
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, field
from git_sandbox.network import Network
from git_sandbox.protocol import channel

MEMORY = "memory"  # file of a machine that is kept

# Kernel arguments of every boot. `no_timer_check`: on a host so busy that no timer interrupt arrives within ten ticks,
# the kernel can otherwise panic ("IO-APIC + timer doesn't work!"); `panic=-1` turns any panic into the machine's end.
KERNEL_ARGUMENTS = ("quiet", "loglevel=3", "panic=-1", "no_timer_check")


def kernel_arguments(mode: str, end: str, *more: str) -> tuple[str, ...]:
    """`mode`: one of `protocol`'s. `end`: see `Capabilities.ends_by`."""
    return (*KERNEL_ARGUMENTS, *more, f"{protocol.MODE}={mode}", f"{protocol.END}={end}")


@dataclass(frozen=True)
class Disk:
    """A disk image. Order matters: the first disk of a machine is its root image, the second the workspace.

    `format`: one of the backend's `Capabilities.disk_formats`. It is told, never guessed from the image: a guest could
    write into a raw one what makes it look like another.
    """

    path: Path
    readonly: bool = False
    format: str = "raw"  # raw | qcow2
    block: bool = False  # not a file, but a block device of the host's
    backing: Path | None = None  # the raw image that a qcow2 one is laid over


@dataclass(frozen=True)
class Share:
    """A directory of this host that the guest gets as a file system called `tag`. See `disk.share_dir` for `place`."""

    tag: str
    place: Path


@dataclass(frozen=True)
class Saved:
    """Where a machine is kept: `place`, a directory. `restore`: start from there, instead of leaving it there.

    `later`: nothing is yet behind its disks, the first excepted (see `PrestartedMachine`). What lies in `place` is the
    backend's own business, but for `memory`: the guest's, which restored machines map. `private`: a copy of that for
    this machine alone, where its VMM opens it to write.
    """

    place: Path
    restore: bool
    later: bool = False
    private: Path | None = None

    @property
    def memory(self) -> Path:
        return self.place / MEMORY

    @property
    def state(self) -> Path:
        return self.place / "state"


@dataclass(frozen=True)
class MachineSpec:
    name: str
    kernel: Path
    initrd: Path
    cmdline: tuple[str, ...]
    disks: tuple[Disk, ...] = ()
    cpus: int = 1
    memory: int = 1024  # MiB
    channels: tuple[str, ...] = ()
    net: Network = network.NONE
    nested: bool = False  # the guest may run machines of its own; only for backends that can
    share: Share | None = None  # only for backends that can, see `Capabilities.share`
    saved: Saved | None = None  # only for backends that can, see `Capabilities.snapshots`


CALLS = "calls"  # kind of attachment: the guest connects, to the unix socket at which the host listens


@dataclass(frozen=True)
class Attachment:
    """How the host reaches one channel of a machine. Plain words, so that a helper process can be told in JSON."""

    kind: str  # one of `channel.KINDS`, or CALLS
    path: str
    port: int = 0

    def connect(self, timeout: float | None = None, *, patience: float = 0.0) -> socket.socket:
        """See `channel.connect`. Raises OSError when nobody listens."""
        return channel.connect(self.kind, self.path, self.port, timeout=timeout, patience=patience)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; callers ask these, never for a backend's name."""

    emulation: bool  # runs where KVM does not
    network_device: bool  # the guest can have one
    disk_formats: tuple[str, ...] = ("raw",)
    ends_by: str = "poweroff"  # poweroff | reboot: what the guest's kernel must do for the VMM to end
    vsock: tuple[str, ...] = ()  # channels for which the guest listens on vsock; the others are virtio-serial ports
    share: bool = False  # has file systems over vhost-user (`vmm.virtiofs`)
    nested: bool = False  # can pass the processor's virtualization on
    snapshots: bool = False  # is a `Snapshotting`: machines can be saved, and others start from there
    restored_disks: int = 26  # a machine with more cannot be restored, because they would be the saved one's
    late_disks: bool = False  # is a `Beginning`: machines can be restored before their disks are there


class Running(Protocol):
    """A machine that has been started."""

    def attachment(self, channel: str) -> Attachment: ...

    def alive(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """True once the machine has ended, False when `timeout` (seconds) passed first."""
        ...

    def stalled(self) -> bool:
        """Whether the VMM itself says that its guest cannot go on."""
        ...

    def diagnosis(self) -> str:
        """Why it does not run (any more), for an error message: the VMM's last words and the console's."""
        ...


class Backend(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> contextlib.AbstractContextManager[Running]:
        """Start the machine; leaving the block ends it for certain, kills and reaps what is left of it.

        `runtime`: an empty private directory with a short path, for sockets. Raises MachineError, RequirementError.
        """
        ...


class Savable(Running, Protocol):
    def save(self) -> None:
        """Stop the machine and leave memory and state where its spec says; it then only waits to be ended.

        Raises MachineError.
        """
        ...


class PrestartedMachine(Running, Protocol):
    """A machine whose process was started while its disks are still in the making. Both raise MachineError."""

    def restore(self) -> None:
        """Wait until it has taken up its state and runs. Starts nothing, so any thread may."""
        ...

    def attach(self, disks: Sequence[Disk]) -> None:
        """Put `disks` where nothing was, in their order, before its guest looks for them."""
        ...


class Snapshotting(Backend, Protocol):
    """A backend whose machines, when their spec has a `saved`, can be saved or are restored from there."""

    def fingerprint(self, spec: MachineSpec) -> str:
        """Changes with all that a saved machine must have in common with one that starts from it."""
        ...

    def start(
        self, spec: MachineSpec, runtime: Path, logs: MachineLogs
    ) -> contextlib.AbstractContextManager[Savable]: ...


def can_save(backend: Backend) -> TypeGuard[Snapshotting]:
    return backend.capabilities.snapshots


class Beginning(Snapshotting, Protocol):
    """One that can restore a machine before its disks are there."""

    def begin(
        self, spec: MachineSpec, runtime: Path, logs: MachineLogs
    ) -> contextlib.AbstractContextManager[PrestartedMachine]: ...


def can_begin(backend: Backend) -> TypeGuard[Beginning]:
    return backend.capabilities.late_disks


@dataclass(frozen=True)
class MachineLogs:
    console: Path
    vmm: Path


@dataclass
class Cleanup:
    """Sockets of a machine, removed however its block ends."""

    paths: list[Path] = field(default_factory=list)

    @contextlib.contextmanager
    def listener(self, path: Path) -> Iterator[socket.socket]:
        """A listening unix socket whose descriptor a VMM can inherit: nobody has to wait for it to appear."""
        listening = socket.socket(socket.AF_UNIX)
        try:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
            self.paths.append(path)
            listening.listen(8)
            yield listening
        finally:
            listening.close()

    def remove(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)
