"""Checks of what a machine gets here: its backend, images, disks and confinement, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from git_sandbox import confine, network, paths
from git_sandbox.cache import bases, guest_images, templates
from git_sandbox.disk import cow
from git_sandbox.doctor.host import Check, Verdict, existing, user_name
from git_sandbox.errors import RequirementError
from git_sandbox.guest.protocol import SSH
from git_sandbox.idspace import IdSpace
from git_sandbox.image.oci import pull, source
from git_sandbox.image.spec import ImageSpec
from git_sandbox.settings import Settings
from git_sandbox.text import one_line
from git_sandbox.vmm import backends, device_access, host, vhost, virtiofs
from git_sandbox.vmm.backends import BackendNeeds, InstalledBackend, Kind
from git_sandbox.workspace import filecopy


def installed(kind: Kind, needs: BackendNeeds) -> Callable[[], Check]:
    """Only the backend that is asked for by name has to be there."""

    def check() -> Check:
        candidate = InstalledBackend(kind, kind.version())
        if not candidate.problem:
            return Check(kind.name, Verdict.OK, backends.dotted(candidate.version or ()))
        verdict = Verdict.MISSING if needs.backend == kind.name else Verdict.NOTE
        packages = kind.packages if candidate.version is None else ()
        return Check(kind.name, verdict, candidate.problem, kind.get, packages)

    return check


def kvm() -> Check:
    """Whether this user may open the device; whether it works is proved by booting (`accelerator`)."""
    if not host.KVM.exists():
        return Check("kvm", Verdict.NOTE, f"there is no {host.KVM}", "software emulation works, slower")
    why = device_access.denied(host.KVM)
    if not why:
        return Check("kvm", Verdict.OK, f"{host.KVM} can be opened")
    group = device_access.helpful_group(host.KVM)
    command = ("usermod", "--append", "--groups", group, user_name()) if group else ()
    hint = f"`sudo {' '.join(command)}`, then log in again" if command else ""
    return Check("kvm", Verdict.NOTE, why, hint, command=command)


def backend(needs: BackendNeeds) -> Check:
    """Which one a sandbox gets, and why."""
    try:
        chosen = backends.choose(needs, backends.look(needs))
    except RequirementError as error:
        return Check("backend", Verdict.MISSING, f"{error.message}: {error.cause}", backends.KINDS[0].get)
    return Check("backend", Verdict.OK, f"{chosen.kind.name}: {chosen.reason}")


def confinement(settings: Settings) -> Check:
    """Whether programs that work on a guest's data see nothing but their files."""
    name = "confinement"
    bad = Verdict.MISSING if settings.confinement == "yes" else Verdict.NOTE
    if settings.confinement == "no":
        return Check(name, bad, "off: a compromised VMM can open all of your files")
    if why := confine.unavailable() or confine.refusal():  # proved once more, whatever is remembered
        result = f"programs that handle guest data can open all of your files: {why}"
        return Check(name, bad, result, "`sudo apt-get install bubblewrap`; `sandbox help backends` says what it needs")
    programs = [*(kind.program for kind in backends.KINDS), "git"]
    programs += [program.name for mode in network.MODES for program in mode.programs]
    programs += [str(candidate.path) for candidate in virtiofs.look() if candidate.usable]
    if whys := [why for program in programs if (why := confine.obstacle(program))]:
        return Check(name, bad, f"not confined: {'; '.join(whys)}")
    return Check(
        name, Verdict.OK, "VMMs, passt, virtiofsd and the git that unpacks guest data see only their own files"
    )


def virtiofsd(needs: BackendNeeds) -> Check:
    """Only `--transport share` needs it."""
    try:
        candidate = virtiofs.choose(virtiofs.look())
    except RequirementError as error:
        verdict = Verdict.MISSING if needs.share else Verdict.NOTE
        return Check(virtiofs.PROGRAM, verdict, f"{error.message}: {error.cause}", error.hint)
    return Check(virtiofs.PROGRAM, Verdict.OK, candidate.words)


def transport(needs: BackendNeeds) -> Check:
    """Where a sandbox's working copy is, and why."""
    if not needs.share:
        return Check("transport", Verdict.OK, "disk (the default): faster, and its size is limited")
    backends.refuse_contradiction(needs)
    space = IdSpace.ours()
    return Check("transport", Verdict.OK, f"share (as requested): its files belong to ids from {space.uid} on")


def guest_image(spec: ImageSpec) -> Check:
    image = guest_images.find(spec.key)
    if image is None:
        size = f"about {spec.download_mib} MiB to fetch"
        return Check(
            "image", Verdict.NOTE, f"not built yet ({size})", "`sandbox image build`; the first sandbox does it, too"
        )
    return Check("image", Verdict.OK, f"{spec.key} ({image.size >> 20} MiB)")


def oci_image(name: str) -> Check:
    image = pull.known(source.parse(name))
    if image is None:
        return Check(
            "OCI image", Verdict.NOTE, "not fetched yet", "`sandbox image pull`; the first sandbox does it, too"
        )
    return Check("OCI image", Verdict.OK, f"{image.key} ({image.size >> 20} MiB)")


def accelerator(spec: ImageSpec, needs: BackendNeeds) -> Check:
    image = guest_images.find(spec.key)
    if image is None:
        return Check("accelerator", Verdict.NOTE, "unknown: proved by booting, which needs the image")
    chosen = backends.choose(needs, backends.look(needs))
    files = host.BootFiles(image.kernel, image.initramfs)
    proof = backends.prove(chosen, files, needs.accelerator, fresh=needs.accelerator == backends.AUTO)
    if proof.accelerator == backends.KVM:
        return Check("accelerator", Verdict.OK, f"kvm: {proof.reason} in {proof.seconds:g} s")
    backends.make(chosen.kind, proof.accelerator, proof.reason)  # raises for a backend that cannot do without
    return Check("accelerator", Verdict.NOTE, f"software emulation: {proof.reason}", "everything works, slower")


def warm_starts() -> Check:
    """Templates are made when they are needed, so having none is no fault."""
    good = [template for template in templates.every() if template.sound()]
    size = sum(template.size for template in good) >> 20
    kept = f"{len(good)} saved machine{'' if len(good) == 1 else 's'} ({size} MiB)"
    result = kept if good else "no saved machine yet: the next start makes one"
    failures = sorted(templates.failures().values(), key=lambda failure: failure.when)
    if failures:
        reason = f"failed recently, machines boot instead: {one_line(failures[-1].reason)}"
        hint = "`sandbox image prune` clears that; `--warm no` boots every time"
        return Check("warm starts", Verdict.NOTE, f"{result}; {reason}", hint)
    return Check("warm starts", Verdict.OK, result)


def channel(needs: BackendNeeds) -> Check:
    """What sessions and pushes go over; the backend decides, and nobody sees a difference."""
    kind = backends.choose(needs, backends.look(needs)).kind
    over = "vsock, through a unix socket of its own" if SSH in kind.capabilities.vsock else "virtio-serial ports"
    more = "" if kind.capabilities.vsock or vhost.problem() else f"; sessions with `--vsock` over {vhost.DEVICE}"
    return Check("channel", Verdict.OK, f"sessions and pushes go over {over} ({kind.name}){more}")


def copies() -> Check:
    """What a copy of a sandbox's disk costs (`sandbox fork`, recovery): decided by the file system it is on."""
    with tempfile.TemporaryDirectory(prefix=".git-sandbox-", dir=existing(paths.state_root())) as scratch:
        probe = Path(scratch, "probe")
        probe.write_bytes(b"probe")
        if filecopy.can_reflink(probe, Path(scratch)):
            return Check("copies", Verdict.OK, "reflinks: a copy of a disk takes no time or space until it changes")
    return Check("copies", Verdict.OK, "full copies without holes: this file system has no reflinks (Btrfs and XFS do)")


def repository_bases() -> Check:
    """What `sandbox image prune` would free."""
    cached = bases.every()
    size = sum(base.size for base in cached)
    return Check("repository bases", Verdict.OK, f"{len(cached)} in the cache, {size >> 20} MiB")


def workspace_disks(spec: ImageSpec, needs: BackendNeeds, settings: Settings) -> Check:
    """How the disk of a sandbox shows the base of its repository, and why so: tried on the file systems in question."""
    if not settings.bases:
        return Check("workspace disks", Verdict.NOTE, "copied whole every time (setting bases: no)")
    formats = backends.choose(needs, backends.look(needs)).kind.capabilities.disk_formats
    source, target = existing(bases.bases_root()), existing(paths.state_root())
    try:
        means = cow.look(source, target, formats, settings.thin_pool, layers=spec.layers, size=None)
    except OSError as error:
        reason = f"{error.strerror or error}: {source} or {target}"
        return Check("workspace disks", Verdict.NOTE, f"copied whole every time: {reason}")
    try:
        chosen = cow.choose(settings.cow, means)
    except RequirementError as error:
        return Check("workspace disks", Verdict.MISSING, f"{error.message}: {error.cause}", error.hint)
    return Check("workspace disks", Verdict.OK, f"{chosen.strategy}: {chosen.reason}")
