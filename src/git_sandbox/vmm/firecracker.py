"""Firecracker: KVM only, few devices, the guest's vsock on a unix socket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from git_sandbox import bounded_log
from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.later import dataclass
from git_sandbox.vmm import confined as views
from git_sandbox.vmm import firecracker_state, launch
from git_sandbox.vmm.launch import GUEST_CID, LOG_LIMIT, RunningProcess
from git_sandbox.vmm.machine import Capabilities, Disk, MachineLogs, MachineSpec
from git_sandbox.vmm.rest import Api, Call

PROGRAM = "firecracker"
VERSIONS = ((1, 14), (2,))  # from, below; what is tested is in docs/how-to/backends.md
MAX_CPUS = 32
LOG, METRICS = "log", "metrics"  # FIFOs: with no /proc in sight there is no name for a descriptor

# A machine without ACPI power management ends when its guest resets it through the keyboard controller (`reboot=k`);
# the other words spare probing what that controller does not have (Firecracker, docs/rootfs-and-kernel-setup.md).
_ARGUMENTS = {
    "x86_64": ("console=ttyS0", "reboot=k", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"),
    "aarch64": ("console=ttyS0",),
}

_EXITS_FROM = 148  # its own codes; lower ones are signals, when it is confined
_EXITS = {
    1: "an error: see its log",
    2: "an error it did not expect",
    148: "killed by its seccomp filter: it made a system call that it never needs",
    149: "SIGBUS: a file it has mapped became shorter, or the disk is full",
    150: "SIGSEGV: a segmentation fault",
    151: "SIGXFSZ: a file grew beyond its limit",
    152: "its configuration is wrong",
    153: "its command line is wrong: is this version supported?",
    154: "SIGXCPU: its time was up",
    156: "SIGHUP: its terminal closed",
    157: "SIGILL: an instruction this processor does not have",
}


def explain(status: int) -> str:
    """The meaning of an exit status. 0 says nothing: a panic ends with it, too."""
    number = launch.killed(status) if status < _EXITS_FROM else 0
    return f"killed by signal {number}" if number else _EXITS.get(status, f"status {status}")


def argv(spec: MachineSpec, place: Path) -> list[str]:
    """The command line. Its log goes to a FIFO in `place`; the default would be the console's, standard output.

    Nothing here takes its seccomp filter away.
    """
    return [
        PROGRAM, "--id", spec.name, "--api-sock", str(place / "api"), "--log-path", str(place / LOG), "--level", "Warn",
    ]  # fmt: skip


def begin(spec: MachineSpec, vsock: Path, metrics: str) -> Iterable[Call]:
    """The requests after which the machine runs: from its description, or from where it was saved. Pure."""
    if spec.saved and spec.saved.restore:
        return firecracker_state.load_calls(spec.saved, metrics)
    return calls(spec, vsock, metrics)


def calls(spec: MachineSpec, vsock: Path, metrics: str) -> list[Call]:
    """The machine, request by request; the last one starts it. Pure. `metrics`: path of a file it writes to."""
    boot = {
        "kernel_image_path": str(spec.kernel), "initrd_path": str(spec.initrd),
        "boot_args": " ".join((*_ARGUMENTS.get(platform.machine(), ()), *spec.cmdline)),
    }  # fmt: skip
    return [
        Call("PUT", "/metrics", {"metrics_path": metrics}),
        Call("PUT", "/machine-config", {"vcpu_count": min(spec.cpus, MAX_CPUS), "mem_size_mib": spec.memory}),
        Call("PUT", "/boot-source", boot),
        *(_drive(number, disk) for number, disk in enumerate(spec.disks)),
        Call("PUT", "/vsock", {"guest_cid": GUEST_CID, "uds_path": str(vsock)}),
        Call("PUT", "/entropy", {}),
        Call("PUT", "/actions", {"action_type": "InstanceStart"}),
    ]


def _drive(number: int, disk: Disk) -> Call:
    """Drives appear in this order. None is the "root device": that would add root= beside our initrd.

    Writeback: what the guest syncs is on the host's disk, as promised. A disk that is only read has nothing to sync.
    """
    name = f"disk{number}"
    body = {
        "drive_id": name, "path_on_host": str(disk.path), "is_root_device": False, "is_read_only": disk.readonly,
        "cache_type": "Unsafe" if disk.readonly else "Writeback",
    }  # fmt: skip
    return Call("PUT", f"/drives/{name}", body)


@dataclass(frozen=True)
class Firecracker:
    """Needs KVM that has been proved (`host.accelerator`)."""

    name: str = "firecracker"
    confined: bool = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        emulation=False, network_device=False, ends_by="reboot", vsock=CHANNELS, snapshots=True
    )

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningProcess]:
        launch.refuse_network_device("Firecracker", spec)
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(launch.place(runtime))
            own = firecracker_state.names(spec) if spec.saved else {}
            for name, path in own.items():
                (place / name).symlink_to(path)
            written = [(logs.vmm, place / LOG), (logs.vmm.with_name("metrics.json"), place / METRICS)]
            complaints, _ = (stack.enter_context(bounded_log.log(log, LOG_LIMIT, fifo)) for log, fifo in written)
            view = views.firecracker(spec, place)
            starts = launch.Start(argv(spec, place), view, place, confined=self.confined)
            child = stack.enter_context(launch.spawned(starts, logs, complaints))
            running = RunningProcess("Firecracker", child, place / firecracker_state.VSOCK, logs, explain)
            api = Api("Firecracker", place / "api")
            if spec.saved and not spec.saved.restore:
                running.saving = functools.partial(firecracker_state.save, api, spec.saved)
            launch.boot(api, running, _orders(spec, place))
            yield running

    def fingerprint(self, spec: MachineSpec) -> str:
        """Firecracker itself, the processor, and every device."""
        shape = msgspec.json.encode([dataclasses.asdict(call) for call in calls(spec, firecracker_state.VSOCK, "")])
        return "\0".join([launch.fingerprint(PROGRAM), launch.processor(), shape.decode()])


def _orders(spec: MachineSpec, place: Path) -> Iterable[Call]:
    """What it is told. A machine that is saved, or was, knows its own files by names in its working directory."""
    metrics = str(place / METRICS)
    if spec.saved:
        return begin(firecracker_state.relative(spec), firecracker_state.VSOCK, metrics)
    return begin(spec, place / firecracker_state.VSOCK, metrics)
