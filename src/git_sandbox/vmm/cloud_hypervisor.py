"""Cloud Hypervisor: KVM only, virtio over PCI, its guest's vsock on a unix socket."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from git_sandbox import process
from git_sandbox.errors import RequirementError
from git_sandbox.vmm import launch, virtiofs
from git_sandbox.vmm.launch import GUEST_CID, LOG_LIMIT, RunningProcess
from git_sandbox.vmm.machine import CHANNELS, Capabilities, Cleanup, MachineLogs, MachineSpec
from git_sandbox.vmm.rest import Api, Call

PROGRAM = "cloud-hypervisor"
VERSIONS = ((52,), (100,))  # from, below; what is tested is in docs/how-to/backends.md
LANDLOCK_ABI = 3  # the one Cloud Hypervisor is written for

_CONSOLE = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
_RESET = b'"rebooting"'  # of source "vm", in the stream of events


def explain(status: int) -> str:
    """The meaning of an exit status (negative: killed by that signal)."""
    if status == -31:  # noqa: PLR2004 - SIGSYS
        return "stopped by its seccomp filter: it asked the host for something it never needs"
    return f"killed by signal {-status}" if status < 0 else "an error of its own: its log says which"


def argv(api: Path, events: int) -> list[str]:
    """The command line: an empty VMM with an API. `events`: descriptor for its stream of events."""
    return [PROGRAM, "--api-socket", f"path={api}", "--event-monitor", f"fd={events}", "--seccomp", "true"]


def config(spec: MachineSpec, vsock: Path, share: Path | None = None, *, landlock: bool) -> dict[str, object]:
    """The machine as `vm.create` takes it. Pure. `share`: where the spec's is served.

    `image_type` is named: guessing it from what a guest wrote would let the guest choose, and forbids writing sector 0.
    """
    console = _CONSOLE.get(platform.machine(), "ttyS0")
    described = {
        "payload": {
            "kernel": str(spec.kernel), "initramfs": str(spec.initrd),
            "cmdline": " ".join((f"console={console}", *spec.cmdline)),
        },
        "cpus": {"boot_vcpus": spec.cpus, "max_vcpus": spec.cpus},
        "memory": {"size": spec.memory << 20, "shared": share is not None},
        "disks": [{"path": str(disk.path), "readonly": disk.readonly, "image_type": "Raw"} for disk in spec.disks],
        "vsock": {"cid": GUEST_CID, "socket": str(vsock)},
        "rng": {"src": "/dev/urandom"},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "landlock_enable": landlock,
    }  # fmt: skip
    if spec.share is not None:
        file_system = {"tag": spec.share.tag, "socket": str(share), "num_queues": 1, "queue_size": virtiofs.QUEUE}
        described["fs"] = [file_system]
    return described


def calls(spec: MachineSpec, vsock: Path, share: Path | None = None, *, landlock: bool) -> list[Call]:
    return [
        Call("PUT", "/api/v1/vm.create", config(spec, vsock, share, landlock=landlock)),
        Call("PUT", "/api/v1/vm.boot"),
    ]


def landlock_abi() -> int:
    """Version of the host kernel's Landlock, 0 without (landlock_create_ruleset(2) with the version flag)."""
    number, version_flag = 444, 1  # the same number on every architecture
    return max(0, int(ctypes.CDLL(None).syscall(number, None, ctypes.c_size_t(0), version_flag)))


@dataclass(frozen=True)
class CloudHypervisor:
    """Needs KVM that has been proved (`host.accelerator`)."""

    name: str = "cloud-hypervisor"
    capabilities: ClassVar[Capabilities] = Capabilities(emulation=False, nat=False, vsock=CHANNELS, share=True)

    @contextlib.contextmanager
    def start(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[RunningProcess]:
        if spec.net != "none":
            raise RequirementError("Cloud Hypervisor has no network here", hint="use `--backend qemu` with `--net nat`")
        api, vsock = Api("Cloud Hypervisor", runtime / "api"), runtime / "vsock"
        with contextlib.ExitStack() as stack:
            cleanup = Cleanup([api.socket, api.socket.with_name("api.lock"), vsock])
            stack.callback(cleanup.remove)
            complaints = stack.enter_context(process.capped_log(logs.vmm, LOG_LIMIT))
            share = None
            if spec.share is not None:
                share = stack.enter_context(virtiofs.served(spec.share, runtime, complaints, cleanup))
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            try:
                child = stack.enter_context(launch.spawned(argv(api.socket, writing), logs, complaints, [writing]))
            finally:
                os.close(writing)
            running = RunningProcess("Cloud Hypervisor", child, vsock, logs, explain)
            watch = threading.Thread(target=_end_at_reset, args=(reading, running), daemon=True)
            watch.start()
            stack.callback(watch.join, 5.0)
            stack.callback(child.stop)  # first: its end is the end of the events
            launch.boot(api, running, calls(spec, vsock, share, landlock=landlock_abi() >= LANDLOCK_ABI))
            yield running


def _end_at_reset(events: int, running: RunningProcess) -> None:
    """A guest that resets its machine, by a panic for one, gets no second boot: elsewhere that is the end, too."""
    seen = b""
    while chunk := os.read(events, 65536):
        seen = seen[-len(_RESET) :] + chunk
        if _RESET in seen:
            running.notes.append("the guest reset its machine")
            running.child.stop(grace=0)
