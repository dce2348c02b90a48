"""Cloud Hypervisor: KVM only, virtio over PCI, the guest's vsock on a unix socket."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from git_sandbox import arguments, bounded_log
from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.later import dataclass
from git_sandbox.vmm import cloud_hypervisor_state, confined, launch, virtiofs
from git_sandbox.vmm.launch import GUEST_CID, LOG_LIMIT, RunningProcess
from git_sandbox.vmm.machine import Capabilities, Cleanup, Disk, MachineLogs, MachineSpec
from git_sandbox.vmm.rest import Api, Call

PROGRAM = "cloud-hypervisor"
VERSIONS = ((52,), (100,))  # from, below; what is tested is in docs/how-to/backends.md
LANDLOCK_ABI = 3  # the one Cloud Hypervisor is written for

_CONSOLE = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
_RESET = b'"rebooting"'  # of source "vm", in the stream of events


def explain(status: int) -> str:
    """The meaning of an exit status."""
    number = launch.killed(status)
    if number == signal.SIGSYS:
        return "killed by its seccomp filter: it made a system call that it never needs"
    return f"killed by signal {number}" if number else "an error: see its log"


def argv(api: Path, events: int) -> list[str]:
    """The command line: an empty VMM with an API. `events`: descriptor for its stream of events."""
    return [
        PROGRAM,
        "--api-socket",
        f"path={arguments.cloud_hypervisor(str(api))}",
        "--event-monitor",
        f"fd={events}",
        "--seccomp",
        "true",
    ]


def config(spec: MachineSpec, vsock: Path, share: Path | None = None, *, landlock: bool) -> dict[str, object]:
    """The machine as `vm.create` takes it, and as it is kept beside a saved state. Devices there are found by id. Pure.

    `share`: where the spec's is served.

    `image_type` is named: guessing it from what a guest wrote would let the guest choose, and forbids writing sector 0.
    """
    console = _CONSOLE.get(platform.machine(), "ttyS0")
    described = {
        "payload": {
            "kernel": str(spec.kernel), "initramfs": str(spec.initrd),
            "cmdline": " ".join((f"console={console}", *spec.cmdline)),
        },
        "cpus": {"boot_vcpus": spec.cpus, "max_vcpus": spec.cpus},
        "memory": cloud_hypervisor_state.memory(spec.saved, spec.memory, shared=share is not None),
        "disks": [_disk(number, disk) for number, disk in enumerate(spec.disks)],
        "vsock": {"id": "vsock", "cid": GUEST_CID, "socket": str(vsock)},
        "rng": {"src": "/dev/urandom"},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "landlock_enable": landlock,
        "landlock_rules": cloud_hypervisor_state.landlock_rules(spec.saved),
    }  # fmt: skip
    if spec.share is not None:
        file_system = {"tag": spec.share.tag, "socket": str(share), "num_queues": 1, "queue_size": virtiofs.QUEUE}
        described["fs"] = [file_system]
    return described


def _disk(number: int, disk: Disk) -> dict[str, object]:
    return {"id": f"disk{number}", "path": str(disk.path), "readonly": disk.readonly, "image_type": "Raw"}


def calls(described: Mapping[str, object]) -> list[Call]:
    return [Call("PUT", "/api/v1/vm.create", described), Call("PUT", "/api/v1/vm.boot")]


def landlock_abi() -> int:
    """Version of the host kernel's Landlock, 0 without (landlock_create_ruleset(2) with the version flag)."""
    number, version_flag = 444, 1  # the same number on every architecture
    return max(0, int(ctypes.CDLL(None).syscall(number, None, ctypes.c_size_t(0), version_flag)))


@dataclass(frozen=True)
class CloudHypervisor:
    """Needs KVM that has been proved (`host.accelerator`)."""

    name: str = "cloud-hypervisor"
    confined: bool = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        emulation=False, network_device=False, vsock=CHANNELS, snapshots=True, restored_disks=2, share=True
    )

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningProcess]:
        launch.refuse_network_device("Cloud Hypervisor", spec)
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(launch.place(runtime))
            api, vsock = Api("Cloud Hypervisor", place / "api"), place / "vsock"
            complaints = stack.enter_context(bounded_log.log(logs.vmm, LOG_LIMIT))
            server = None
            if spec.share is not None:
                serves = virtiofs.served(spec.share, place, complaints, Cleanup(), confined=self.confined)
                server = stack.enter_context(serves)
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            try:
                view = confined.cloud_hypervisor(spec, place)
                starts = launch.Start(argv(api.socket, writing), view, place, [writing], self.confined)
                child = stack.enter_context(launch.spawned(starts, logs, complaints))
            finally:
                os.close(writing)
            running = RunningProcess("Cloud Hypervisor", child, vsock, logs, explain)
            watch = threading.Thread(target=_end_at_reset, args=(reading, running), daemon=True)
            watch.start()
            stack.callback(watch.join, 5.0)
            stack.callback(child.stop)  # first: its end is the end of the events
            if server is not None:
                stack.enter_context(server.needed(child))
            described = config(spec, vsock, server.place if server else None, landlock=landlock_abi() >= LANDLOCK_ABI)
            begin: Iterable[Call] = calls(described)
            if (saved := spec.saved) and saved.restore:
                cloud_hypervisor_state.describe(described, saved, place)
                begin = cloud_hypervisor_state.load_calls(place, _sizes(spec))
            elif saved:
                cloud_hypervisor_state.make_room(saved, spec.memory)
                running.saving = functools.partial(cloud_hypervisor_state.save, api, saved)
            launch.boot(api, running, begin)
            yield running

    def fingerprint(self, spec: MachineSpec) -> str:
        """Cloud Hypervisor itself, the processor, and every device."""
        shape = msgspec.json.encode(config(spec, Path("vsock"), landlock=landlock_abi() >= LANDLOCK_ABI))
        return "\0".join([launch.fingerprint(PROGRAM), launch.processor(), shape.decode()])


def _sizes(spec: MachineSpec) -> dict[str, int]:
    """Bytes of the disks that are a sandbox's own, by id."""
    return {f"disk{number}": disk.path.stat().st_size for number, disk in enumerate(spec.disks) if not disk.readonly}


def _end_at_reset(events: int, running: RunningProcess) -> None:
    """A guest that resets its machine, by a panic for one, gets no second boot: elsewhere that is the end, too."""
    seen = b""
    while chunk := os.read(events, 65536):
        seen = seen[-len(_RESET) :] + chunk
        if _RESET in seen:
            running.notes.append("the guest reset its machine")
            running.child.stop(grace=0)
