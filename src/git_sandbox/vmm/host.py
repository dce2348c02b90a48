"""What this host can do: the accelerator is proved by booting, never by looking at /dev/kvm."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import paths
from git_sandbox.errors import SandboxError
from git_sandbox.vmm import qemu
from git_sandbox.vmm.machine import KERNEL_ARGUMENTS, MachineLogs, MachineSpec

KVM = Path("/dev/kvm")
DEADLINE = 10.0  # seconds; with working KVM user space is reached in well under one


class Proof(msgspec.Struct, frozen=True):
    """Outcome of a probe, valid until the host boots again or QEMU or the kernel image changes."""

    accelerator: str  # kvm | tcg
    reason: str
    boot_id: str
    qemu: str
    kernel: str
    seconds: float = 0.0

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.boot_id, self.qemu, self.kernel


@dataclass(frozen=True)
class BootFiles:
    kernel: Path
    initramfs: Path


def accelerator(files: BootFiles, *, wanted: str = "auto", fresh: bool = False) -> Proof:
    """Kvm when a kernel boots to user space with it, tcg otherwise; remembered until the next host boot.

    `wanted`: auto, or kvm/tcg to skip the probe.
    """
    asked = Proof(wanted, "asked for", _boot_id(), qemu.identity(), str(files.kernel))
    if wanted != "auto":
        return asked
    remembered = None if fresh else _remembered()
    if remembered and remembered.identity == asked.identity:
        return remembered
    started = time.monotonic()
    works, reason = _probe(files)
    seconds = round(time.monotonic() - started, 2)
    proof = msgspec.structs.replace(asked, accelerator="kvm" if works else "tcg", reason=reason, seconds=seconds)
    _remember(proof)
    return proof


def _probe(files: BootFiles) -> tuple[bool, str]:
    if not KVM.exists():
        return False, "/dev/kvm does not exist"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return False, "/dev/kvm may not be opened by this user (add yourself to the group `kvm`)"
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="git-sandbox-probe-") as scratch:
        logs = MachineLogs(Path(scratch, "console"), Path(scratch, "vmm"))
        cmdline = (*KERNEL_ARGUMENTS, "sandbox.mode=probe", f"sandbox.token={token}")
        spec = MachineSpec("probe", files.kernel, files.initramfs, cmdline, memory=256)
        try:
            with qemu.Qemu("kvm").start(spec, Path(scratch), logs) as machine:
                ended = _wait(machine)
        except SandboxError as error:
            return False, f"QEMU cannot use KVM: {error.cause or error.message}".splitlines()[0]
        reached = logs.console.exists() and token.encode() in logs.console.read_bytes()
    if reached:
        return True, "a kernel booted to user space with KVM"
    return False, "KVM opens but " + (
        "the guest died before user space" if ended else f"the guest hung ({DEADLINE:g} s)"
    )


def _wait(machine: qemu.RunningQemu) -> bool:
    """True when the machine ended by itself before the deadline and QEMU did not report an internal error."""
    with machine.monitor() as monitor:
        for _ in range(int(DEADLINE / 0.25)):
            if machine.wait(0.25):
                return True
            with contextlib.suppress(OSError):
                if monitor.execute("query-status").get("status") == "internal-error":
                    return True
    return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _memory() -> Path:
    return paths.cache_root() / "accelerator.json"


def _remembered() -> Proof | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_memory().read_bytes(), type=Proof)
    return None


def _remember(proof: Proof) -> None:
    with contextlib.suppress(OSError):  # not being able to remember only costs the next probe
        paths.cache_root().mkdir(parents=True, exist_ok=True)
        fresh = _memory().with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(proof))
        fresh.replace(_memory())
