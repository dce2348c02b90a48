"""The kind of host this is (WSL, a container, reached over ssh), and what that means for sandboxes."""

from __future__ import annotations

import re
from pathlib import Path

from git_sandbox.doctor.host import Check, Verdict
from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass
from git_sandbox.settings import environment
from git_sandbox.vmm import device_access, host

_ENGINES = ("docker", "podman", "lxc", "containerd", "kubepods")
MOST = 4096  # bytes of a file of the kernel's


@dataclass(frozen=True)
class Surroundings:
    """`wsl`: version of Windows' Linux, 0 elsewhere. `container`: the engine that runs it, where we are in one."""

    wsl: int = 0
    container: str = ""
    ssh: bool = False
    kvm: str = ""  # why machines are emulated; empty where the device can be opened

    @property
    def place(self) -> str:
        """A sentence about where this is; empty for an ordinary host."""
        if self.wsl == 1:
            return "WSL 1 cannot run virtual machines, because it has no Linux kernel: `wsl --set-version DISTRO 2`"
        if self.wsl:
            return "WSL 2" + (_NESTED if self.kvm else "")
        if self.container:
            way = _GIVE.get(self.container, _GIVE["docker"])
            given = f": {way}" if self.kvm.startswith(_NO_DEVICE) else ""
            return f"in a container ({self.container}){given}"
        return ""

    @property
    def lines(self) -> list[str]:
        """What a first start says, besides what it builds."""
        texts = []
        if self.place:
            texts.append(f"This host is {self.place}." if self.wsl else f"This is {self.place}.")
        if self.kvm:
            texts.append(
                "Machines are emulated: everything works, starts take 5 to 10 s instead of 1 or 2, compiling is many "
                f"times slower (`sandbox help no-kvm`). Why: {self.kvm}."
            )
        if self.ssh:
            texts.append(
                "You are here over ssh: if the connection is lost, the session ends and its work comes home; "
                "`sandbox --detach` leaves the sandbox running."
            )
        return texts


_NO_DEVICE = "there is no "
_NESTED = ": for KVM, `nestedVirtualization=true` below [wsl2] in %UserProfile%\\.wslconfig, then `wsl --shutdown`"
_GIVE = {
    "docker": "for KVM, start it with `--device /dev/kvm`",
    "kubepods": "for KVM, the pod needs /dev/kvm, by a device plugin",
}


def look(root: Path = Path("/")) -> Surroundings:
    """`root`: where the kernel's files are."""
    return Surroundings(_wsl(root), _container(root), bool(environment().get("SSH_CONNECTION")), _without_kvm())


def check() -> Check:
    around = look()
    if around.wsl == 1:
        return Check("surroundings", Verdict.MISSING, around.place)
    over = "; over ssh" if around.ssh else ""
    verdict = Verdict.NOTE if around.place and around.kvm else Verdict.OK
    return Check("surroundings", verdict, f"{around.place or 'a Linux host'}{over}")


def _wsl(root: Path) -> int:
    release = _read(root / "proc/sys/kernel/osrelease")
    if "microsoft" not in release.lower():
        return 0
    return 2 if re.search("wsl2|-microsoft-standard", release, re.IGNORECASE) else 1


def _container(root: Path) -> str:
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    known = _read(root / "run/systemd/container").strip() or _read(root / "proc/1/cgroup")
    return next((engine for engine in _ENGINES if engine in known), "")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def _without_kvm() -> str:
    try:
        return device_access.denied(host.KVM)
    except (SandboxError, OSError):
        return f"{_NO_DEVICE}{host.KVM}"
