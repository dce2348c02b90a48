"""Firecracker: KVM only, a machine of few devices, its guest's vsock on a unix socket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import msgspec

from git_sandbox import bounded_log
from git_sandbox.errors import RequirementError
from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.vmm import firecracker_state, identity, jail, launch
from git_sandbox.vmm.jail import Cell, Jail
from git_sandbox.vmm.launch import GUEST_CID, LOG_LIMIT, RunningProcess
from git_sandbox.vmm.machine import Capabilities, Cleanup, Disk, MachineLogs, MachineSpec
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

_SIGNALLED, _EXITS_FROM = 128, 148
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
    """The meaning of an exit status. 0 says nothing: a panic ends with it, too.

    Killed by a signal: negative, and in a jail 128 and its number; Firecracker's own codes of that kind begin later.
    """
    if status < 0 or _SIGNALLED < status < _EXITS_FROM:
        return f"killed by signal {-status if status < 0 else status - _SIGNALLED}"
    return _EXITS.get(status, f"status {status}")


def argv(spec: MachineSpec, api: Path) -> list[str]:
    """The command line. Its log goes to standard error; the default would be the console's, standard output.

    Nothing here takes its seccomp filter away.
    """
    return [PROGRAM, "--id", spec.name, *_options(str(api), "/proc/self/fd/2")]


def _options(api: str, log: str) -> list[str]:
    return ["--api-sock", api, "--log-path", log, "--level", "Warn"]


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
class _Stand:
    """What is ready for a process that is about to start: its command line, and where it is reached from here.

    `spec`: the machine by the names that this process knows. `calls`: the requests after which it runs.
    """

    argv: list[str]
    api: Path
    vsock: Path
    spec: MachineSpec
    calls: Iterable[Call]
    complaints: IO[bytes]
    keep: tuple[int, ...] = ()


@dataclass(frozen=True)
class Firecracker:
    """Needs KVM that has been proved (`host.accelerator`). `jail`: where it runs; None: as we do."""

    jail: Jail | None = None
    name: ClassVar[str] = "firecracker"
    capabilities: ClassVar[Capabilities] = Capabilities(
        emulation=False, network_device=False, ends_by="reboot", vsock=CHANNELS, snapshots=True, jails=True
    )

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningProcess]:
        if spec.net.device:
            hint = f"use `--backend qemu` with `--net {spec.net.name}`"
            raise RequirementError("Firecracker has no network device here", hint=hint)
        with contextlib.ExitStack() as stack:
            if self.jail is None:
                stand = _free(spec, runtime, logs, stack)
            else:
                stand = _jailed(self.jail, Cell.ours(runtime), spec, logs, stack)
            child = stack.enter_context(launch.spawned(stand.argv, logs, stand.complaints, stand.keep, runtime))
            running = RunningProcess("Firecracker", child, stand.vsock, logs, explain)
            api = Api("Firecracker", stand.api)
            if (saved := spec.saved) and stand.spec.saved and not saved.restore:
                running.saving = functools.partial(firecracker_state.save, api, stand.spec.saved, saved.memory)
            launch.boot(api, running, stand.calls)
            yield running

    def fingerprint(self, spec: MachineSpec) -> str:
        """Firecracker itself, the processor, every device, and whether it knows its files by the names of a jail."""
        shape = msgspec.json.encode([dataclasses.asdict(each) for each in calls(spec, firecracker_state.VSOCK, "")])
        confined = self.jail.fingerprint() if self.jail else ""
        return "\0".join([identity.program(PROGRAM), identity.processor(), shape.decode(), confined])


def _free(spec: MachineSpec, runtime: Path, logs: MachineLogs, stack: contextlib.ExitStack) -> _Stand:
    """A process with our rights, which ends with `stack`."""
    api, vsock = runtime / "api", runtime / "vsock"
    own = firecracker_state.names(spec) if spec.saved else {}
    stack.callback(Cleanup([api, vsock, *(runtime / name for name in own)]).remove)
    for name, path in own.items():
        (runtime / name).symlink_to(path)
    complaints = stack.enter_context(bounded_log.log(logs.vmm, LOG_LIMIT))
    metrics = stack.enter_context(bounded_log.log(_metrics(logs), LOG_LIMIT)).fileno()
    told = f"/proc/self/fd/{metrics}"
    if spec.saved:
        ordered = begin(firecracker_state.relative(spec), firecracker_state.VSOCK, told)
    else:
        ordered = begin(spec, vsock, told)
    return _Stand(argv(spec, api), api, vsock, spec, ordered, complaints, (metrics,))


def _jailed(jailer: Jail, cell: Cell, spec: MachineSpec, logs: MachineLogs, stack: contextlib.ExitStack) -> _Stand:
    """A process in a jail. No descriptor of ours gets there, so its logs are pipes with a name."""
    stack.enter_context(cell.open())
    named = [(logs.vmm, cell.sockets / "log"), (_metrics(logs), cell.sockets / "metrics")]
    complaints, _ = (stack.enter_context(bounded_log.log(log, LOG_LIMIT, name)) for log, name in named)
    for _, name in named:
        cell.give(name)
    known, rows = jail.inside(spec)
    if spec.saved and not spec.saved.restore:
        for each in (spec.saved.memory, spec.saved.state):
            each.touch()
    there = Path("/", jail.RUN)
    words = jail.argv(jailer, cell, spec.name, rows, _options(str(there / "api"), str(there / "log")))
    ordered = _sealed(list(begin(known, there / "vsock", str(there / "metrics"))), cell)
    return _Stand(words, cell.sockets / "api", cell.sockets / "vsock", known, ordered, complaints)


def _metrics(logs: MachineLogs) -> Path:
    return logs.vmm.with_name("metrics.json")


def _sealed(ordered: list[Call], cell: Cell) -> Iterator[Call]:
    """The last request lets the guest run: before it, all sockets are there."""
    yield from ordered[:-1]
    cell.seal()
    yield ordered[-1]
