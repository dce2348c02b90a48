"""The backends: which exist, which of them this host has, and which one a sandbox gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from git_sandbox import confine, network, process
from git_sandbox.errors import RequirementError, UsageError
from git_sandbox.later import dataclass
from git_sandbox.network import Network
from git_sandbox.vmm import cloud_hypervisor, firecracker, host, launch, qemu, virtiofs
from git_sandbox.vmm.cloud_hypervisor import CloudHypervisor
from git_sandbox.vmm.firecracker import Firecracker
from git_sandbox.vmm.host import BootFiles, Proof
from git_sandbox.vmm.machine import Backend, Capabilities
from git_sandbox.vmm.qemu import Qemu

AUTO = "auto"
KVM = "kvm"


@dataclass(frozen=True)
class Ways:
    """What was decided for a backend beside its accelerator. `vsock`: the host's, for what has none of its own.

    `confined`: its programs, where this host lets us (`confine.obstacle`).
    """

    vsock: bool = False
    confined: bool = True


@dataclass(frozen=True)
class Kind:
    """A backend, before it is known whether this host has it. `versions`: from, below."""

    name: str
    program: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    capabilities: Capabilities
    version: Callable[[], tuple[int, ...] | None]  # None: not installed
    make: Callable[[str, Ways], Backend]  # given the accelerator
    get: str  # how to get it
    packages: tuple[str, ...] = ()  # of Debian and Ubuntu, that bring it


_OPTIONAL = "optional; `sandbox help backends` says how to get it and when it is worth it"

# In the order in which `auto` tries them.
KINDS = (
    Kind(
        "qemu", qemu.binary(), qemu.VERSIONS, qemu.CAPABILITIES,
        lambda: qemu.version() if process.which(qemu.binary()) else None,
        lambda accelerator, ways: Qemu(accelerator, vsock=ways.vsock, confined=ways.confined),
        f"`sudo apt-get install {qemu.PACKAGE}`", (qemu.PACKAGE,),
    ),
    Kind(
        "cloud-hypervisor", cloud_hypervisor.PROGRAM, cloud_hypervisor.VERSIONS, CloudHypervisor.capabilities,
        lambda: launch.version(cloud_hypervisor.PROGRAM),
        lambda _accelerator, ways: CloudHypervisor(confined=ways.confined),
        _OPTIONAL,
    ),
    Kind(
        "firecracker", firecracker.PROGRAM, firecracker.VERSIONS, Firecracker.capabilities,
        lambda: launch.version(firecracker.PROGRAM), lambda _accelerator, ways: Firecracker(confined=ways.confined),
        _OPTIONAL,
    ),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class InstalledBackend:
    """What this host has of one kind."""

    kind: Kind
    version: tuple[int, ...] | None

    @property
    def problem(self) -> str:
        """Why it cannot be used; empty when it can."""
        lowest, above = self.kind.versions
        if self.version is None:
            return f"{self.kind.program} is not installed"
        if not lowest <= self.version < above:
            return (
                f"{self.kind.program} {dotted(self.version) or 'of unknown version'} is not supported: {self.supported}"
            )
        return ""

    @property
    def supported(self) -> str:
        lowest, above = self.kind.versions
        return f"{dotted(lowest)} or newer, below {dotted(above)}"


@dataclass(frozen=True)
class BackendNeeds:
    """What a machine asks of a backend. `backend`: auto, or a name. `accelerator`: auto, kvm or tcg.

    `disk`: format of a disk that is there already. `share`: the working copy is a directory of the host's. `nested`:
    the guest may have KVM of its own.
    """

    backend: str = AUTO
    net: Network = network.NONE
    accelerator: str = AUTO
    disk: str = "raw"
    share: bool = False
    nested: bool = False


@dataclass(frozen=True)
class Choice:
    kind: Kind
    version: tuple[int, ...]
    reason: str


def survey() -> Iterator[InstalledBackend]:
    """Every kind, looked for only when asked for the next one."""
    for kind in KINDS:
        yield InstalledBackend(kind, kind.version())


def look(needs: BackendNeeds) -> Iterable[InstalledBackend]:
    """Those that come into question: one that is asked for by name, or all in the order of preference."""
    if needs.backend == AUTO:
        return survey()
    kind = BY_NAME[needs.backend]
    return [InstalledBackend(kind, kind.version())]


def choose(needs: BackendNeeds, candidates: Iterable[InstalledBackend]) -> Choice:
    """The one rule: of what comes into question, the first that is installed, supported, and can do what is wanted.

    QEMU comes first: every distribution has it, and it runs with KVM and without. Pure. Raises RequirementError saying
    what is wrong with each.
    """
    refused = []
    for candidate in candidates:
        problem = candidate.problem or _cannot(candidate.kind, needs)
        if not problem and candidate.version is not None:
            reason = f"first of {', '.join(BY_NAME)} that is installed and meets the requirements"
            return Choice(candidate.kind, candidate.version, "asked for" if needs.backend != AUTO else reason)
        refused.append(problem)
    if needs.backend == AUTO:
        raise RequirementError(
            "no virtual machine monitor can be used", cause="\n".join(refused), hint="run `sandbox doctor`"
        )
    hint = "`sandbox doctor` says how to get it, or use `--backend auto`"
    raise RequirementError(f"the backend {needs.backend} cannot be used", cause="\n".join(refused), hint=hint)


def _cannot(kind: Kind, needs: BackendNeeds) -> str:
    """What of that the backend cannot do; empty when it can do all."""
    if needs.net.device and not kind.capabilities.network_device:
        able = [name for name, backend in BY_NAME.items() if backend.capabilities.network_device]
        return f"{kind.name} has no network without root: `--net {needs.net.name}` needs `--backend {'|'.join(able)}`"
    if needs.accelerator == "tcg" and not kind.capabilities.emulation:
        return f"{kind.name} needs KVM, but software emulation was requested"
    if needs.share and not kind.capabilities.share:
        return f"{kind.name} has no virtio-fs: `--transport share` needs `--backend {_able_to_share()}`"
    if needs.nested and not kind.capabilities.nested:
        able = [name for name, backend in BY_NAME.items() if backend.capabilities.nested]
        return f"{kind.name} does not support nested virtualization: `--nested yes` needs `--backend {'|'.join(able)}`"
    if needs.disk not in kind.capabilities.disk_formats:
        able = [name for name, backend in BY_NAME.items() if needs.disk in backend.capabilities.disk_formats]
        return f"{kind.name} cannot read this {needs.disk} disk, laid over a base: `--backend {'|'.join(able)}`"
    return ""


def refuse_contradiction(needs: BackendNeeds) -> None:
    """Raises UsageError for a backend that was asked for by name and no version of which can do what is asked."""
    if needs.share and needs.backend != AUTO and not BY_NAME[needs.backend].capabilities.share:
        raise UsageError(
            f"--transport share and --backend {needs.backend} cannot be used together",
            cause=_cannot(BY_NAME[needs.backend], needs),
            hint=f"use `--transport disk`, or `--backend {_able_to_share()}`",
        )


def _able_to_share() -> str:
    return "|".join(name for name, backend in BY_NAME.items() if backend.capabilities.share)


def prove(chosen: Choice, files: BootFiles, accelerator: str, *, fresh: bool = False) -> Proof:
    """What this host can do, proved with the backend that is going to use it. `accelerator`: auto, kvm or tcg."""
    prober = host.Prober(chosen.kind.make(KVM, Ways()), dotted(chosen.version))
    return host.accelerator(files, prober, setting=accelerator, fresh=fresh)


def make(kind: Kind, accelerator: str, reason: str, ways: Ways = Ways()) -> Backend:  # noqa: B008 - frozen
    """The backend. `accelerator`, `reason`: what was proved. Raises RequirementError for one that needs KVM."""
    if accelerator != KVM and not kind.capabilities.emulation:
        able = [name for name, backend in BY_NAME.items() if backend.capabilities.emulation]
        raise RequirementError(
            f"{kind.name} needs KVM, which does not work on this host",
            cause=reason,
            hint=f"use `--backend {'|'.join(able)}`: it works without KVM; `sandbox doctor` tests KVM again",
        )
    return kind.make(accelerator, ways)


def unconfined(kind: Kind, needs: BackendNeeds) -> str:
    """Which programs that work on a guest's data see all that the user sees, and why; empty when none does."""
    programs = [kind.program, "git", *(program.name for program in needs.net.programs)]
    programs += [str(virtiofs.choose(virtiofs.look()).path)] if needs.share else []
    reasons: dict[str, list[str]] = {}
    for program in programs:
        if why := confine.obstacle(program):
            reasons.setdefault(why, []).append(program.rpartition("/")[2])
    return "; ".join(f"{', '.join(named)} can open all of your files: {why}" for why, named in reasons.items())


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
