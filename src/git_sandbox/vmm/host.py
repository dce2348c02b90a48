"""The capabilities of this host: the accelerator is proved by booting, never by looking at /dev/kvm."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import tempfile
import time
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.errors import RequirementError, SandboxError
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.vmm import device_access
from git_sandbox.vmm.machine import Backend, MachineLogs, MachineSpec, Running, kernel_arguments

KVM = Path("/dev/kvm")
DEADLINE = 20.0  # seconds; working KVM takes well under one, KVM inside of emulation took eleven


class Proof(msgspec.Struct, frozen=True):
    """Outcome of a probe, valid until the host boots again or the VMM or the kernel image changes."""

    accelerator: str  # kvm | tcg
    reason: str
    boot_id: str
    prober: str  # name and version of the VMM that was tried
    kernel: str
    seconds: float = 0.0

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.boot_id, self.prober, self.kernel


@dataclass(frozen=True)
class BootFiles:
    kernel: Path
    initramfs: Path


@dataclass(frozen=True)
class Prober:
    """A backend that runs on KVM, and its version."""

    backend: Backend
    version: str

    @property
    def name(self) -> str:
        return f"{self.backend.name} {self.version}"


def require_nesting(accelerator: str, modules: Path = Path("/sys/module")) -> None:
    """Raises RequirementError where this host's KVM lets no guest have KVM. What emulation emulates has it anyway."""
    machine = platform.machine()
    if machine != "x86_64":
        raise RequirementError(f"`--nested yes` works on x86_64 only, and this host is {machine}")
    if accelerator != "kvm":
        return
    parameters = [modules / name / "parameters/nested" for name in ("kvm_intel", "kvm_amd")]
    given = [path.read_text().strip() for path in parameters if path.exists()]
    if not any(value in ("Y", "1") for value in given):
        raise RequirementError(
            "this host's KVM lets no guest run virtual machines",
            cause="the parameter `nested` of its kernel module is off"
            if given
            else "its kernel module does not report it",
            hint="as root, with no machine running: `modprobe -r kvm_intel; modprobe kvm_intel nested=1` (or kvm_amd)",
        )


def accelerator(files: BootFiles, prober: Prober, *, setting: str = "auto", fresh: bool = False) -> Proof:
    """Kvm when a kernel boots to user space with it, tcg otherwise; remembered until the next host boot.

    `setting`: auto, or kvm/tcg to skip the probe.
    """
    asked = Proof(setting, "asked for", _boot_id(), prober.name, str(files.kernel))
    if setting != "auto":
        return asked
    remembered = None if fresh else _remembered(prober.backend.name)
    if remembered and remembered.identity == asked.identity:
        return remembered
    started = time.monotonic()
    works, reason = _probe(files, prober.backend)
    seconds = round(time.monotonic() - started, 2)
    proof = msgspec.structs.replace(asked, accelerator="kvm" if works else "tcg", reason=reason, seconds=seconds)
    _remember(proof, prober.backend.name)
    return proof


def _probe(files: BootFiles, backend: Backend) -> tuple[bool, str]:
    if not KVM.exists():
        return False, "/dev/kvm does not exist"
    if why := device_access.denied(KVM):
        return False, why
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="git-sandbox-probe-") as scratch:
        logs = MachineLogs(Path(scratch, "console.log"), Path(scratch, "vmm.log"))
        words = kernel_arguments(protocol.PROBE, backend.capabilities.ends_by, f"{protocol.TOKEN}={token}")
        spec = MachineSpec("probe", files.kernel, files.initramfs, words, memory=256)
        try:
            with backend.start(spec, Path(scratch), logs) as machine:
                ended = _wait(machine)
        except SandboxError as error:
            return False, f"{backend.name} cannot use KVM: {error.cause or error.message}".splitlines()[0]
        reached = logs.console.exists() and token.encode() in logs.console.read_bytes()
    if reached:
        return True, "a kernel booted to user space with KVM"
    return False, "KVM opens but " + (
        "the guest died before user space" if ended else f"the guest hung ({DEADLINE:g} s)"
    )


def _wait(machine: Running) -> bool:
    """True when the machine ended by itself before the deadline, or its VMM says that it cannot go on."""
    return any(machine.wait(0.25) or machine.stalled() for _ in range(int(DEADLINE / 0.25)))


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _memory(backend: str) -> Path:
    return paths.cache_root() / f"accelerator-{backend}.json"


def _remembered(backend: str) -> Proof | None:
    with contextlib.suppress(OSError, ValueError):
        return jsontext.load(_memory(backend), Proof)
    return None


def _remember(proof: Proof, backend: str) -> None:
    with contextlib.suppress(OSError):  # not being able to remember only costs the next probe
        paths.private_directory(paths.cache_root())
        fresh = _memory(backend).with_suffix(f".{os.getpid()}")
        files.write(fresh, msgspec.json.encode(proof))
        fresh.replace(_memory(backend))
