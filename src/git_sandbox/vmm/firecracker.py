"""Firecracker: KVM only, a machine of few devices, its guest's vsock on a unix socket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from git_sandbox import process
from git_sandbox.errors import RequirementError
from git_sandbox.vmm import firecracker_state, identity, launch
from git_sandbox.vmm.launch import GUEST_CID, LOG_LIMIT, RunningProcess
from git_sandbox.vmm.machine import CHANNELS, Capabilities, Cleanup, Disk, MachineLogs, MachineSpec
from git_sandbox.vmm.rest import Api, Call

PROGRAM = "firecracker"
VERSIONS = ((1, 14), (2,))  # from, below; what is tested is in docs/how-to/backends.md
MAX_CPUS = 32

# A machine without ACPI power management ends when its guest resets it through the keyboard controller (`reboot=k`);
# the other words spare probing what that controller does not have (Firecracker, docs/rootfs-and-kernel-setup.md).
_ARGUMENTS = {
    "x86_64": ("console=ttyS0", "reboot=k", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"),
    "aarch64": ("console=ttyS0",),
}

_EXITS = {
    1: "an error of its own: its log says which",
    2: "an error it did not expect",
    148: "stopped by its seccomp filter: it asked the host for something it never needs",
    149: "SIGBUS: a file it has mapped became shorter, or the disk is full",
    150: "SIGSEGV: a fault of its own",
    151: "SIGXFSZ: a file grew beyond its limit",
    152: "its configuration is wrong",
    153: "its command line is wrong: is this version supported?",
    154: "SIGXCPU: its time was up",
    156: "SIGHUP: its terminal closed",
    157: "SIGILL: an instruction this processor does not have",
}


def explain(status: int) -> str:
    """The meaning of an exit status (negative: killed by that signal). 0 says nothing: a panic ends with it, too."""
    if status < 0:
        return f"killed by signal {-status}"
    return _EXITS.get(status, f"status {status}")


def argv(spec: MachineSpec, api: Path) -> list[str]:
    """The command line. Its log goes to standard error; the default would be the console's, standard output.

    Nothing here takes its seccomp filter away.
    """
    return [PROGRAM, "--id", spec.name, "--api-sock", str(api), "--log-path", "/proc/self/fd/2", "--level", "Warn"]


def begin(spec: MachineSpec, vsock: Path, metrics: str) -> Iterable[Call]:
    """The requests after which the machine runs: from its description, or from where it was saved. Pure."""
    if spec.saved is None:
        return calls(spec, vsock, metrics)
    if spec.saved.restore:
        return firecracker_state.load_calls(spec.saved, metrics)
    return calls(firecracker_state.relative(spec), firecracker_state.VSOCK, metrics)


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
    capabilities: ClassVar[Capabilities] = Capabilities(
        emulation=False, nat=False, ends_by="reboot", vsock=CHANNELS, snapshots=True
    )

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningProcess]:
        if spec.net != "none":
            raise RequirementError("Firecracker has no network here", hint="use `--backend qemu` with `--net nat`")
        api, vsock = Api("Firecracker", runtime / "api"), runtime / "vsock"
        with contextlib.ExitStack() as stack:
            own = firecracker_state.names(spec) if spec.saved else {}
            cleanup = Cleanup([api.socket, vsock, *(runtime / name for name in own)])
            stack.callback(cleanup.remove)
            for name, path in own.items():
                (runtime / name).symlink_to(path)
            complaints = stack.enter_context(process.capped_log(logs.vmm, LOG_LIMIT))
            metrics = stack.enter_context(process.capped_log(logs.vmm.with_name("metrics.json"), LOG_LIMIT))
            keep = [metrics.fileno()]
            child = stack.enter_context(launch.spawned(argv(spec, api.socket), logs, complaints, keep, runtime))
            running = RunningProcess("Firecracker", child, vsock, logs, explain)
            if (saved := spec.saved) and not saved.restore:
                running.saving = functools.partial(firecracker_state.save, api, saved)
            launch.boot(api, running, begin(spec, vsock, f"/proc/self/fd/{metrics.fileno()}"))
            yield running

    def fingerprint(self, spec: MachineSpec) -> str:
        """Firecracker itself, the processor, and every device."""
        shape = msgspec.json.encode([dataclasses.asdict(each) for each in calls(spec, firecracker_state.VSOCK, "")])
        return "\0".join([identity.program(PROGRAM), identity.processor(), shape.decode()])
