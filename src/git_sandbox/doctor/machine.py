"""What a machine gets here: its backend, its images and disks, its confinement, and why."""

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
from git_sandbox.vmm.backends import Found, Kind, Wanted
from git_sandbox.workspace import filecopy


def installed(kind: Kind, wanted: Wanted) -> Callable[[], Check]:
    """Only the backend that is asked for by name has to be there."""

    def check() -> Check:
        found = Found(kind, kind.version())
        if not found.problem:
            return Check(kind.name, Verdict.OK, backends.dotted(found.version or ()))
        verdict = Verdict.MISSING if wanted.backend == kind.name else Verdict.NOTE
        packages = kind.packages if found.version is None else ()
        return Check(kind.name, verdict, found.problem, kind.get, packages)

    return check


def kvm() -> Check:
    """Whether this user may open the device; whether it works is proved by booting (`accelerator`)."""
    if not host.KVM.exists():
        return Check("kvm", Verdict.NOTE, f"there is no {host.KVM}", "software emulation does everything, slower")
    why = device_access.denied(host.KVM)
    if not why:
        return Check("kvm", Verdict.OK, f"{host.KVM} can be opened")
    group = device_access.helpful_group(host.KVM)
    command = ("usermod", "--append", "--groups", group, user_name()) if group else ()
    hint = f"`sudo {' '.join(command)}`, then log in again" if command else ""
    return Check("kvm", Verdict.NOTE, why, hint, command=command)


def backend(wanted: Wanted) -> Check:
    """Which one a sandbox gets, and why."""
    try:
        chosen = backends.choose(wanted, backends.look(wanted))
    except RequirementError as error:
        return Check("backend", Verdict.MISSING, f"{error.message}: {error.cause}", backends.KINDS[0].get)
    return Check("backend", Verdict.OK, f"{chosen.kind.name}: {chosen.reason}")


def confinement(settings: Settings) -> Check:
    """Whether programs that work on a guest's data see nothing but their files."""
    name = "confinement"
    bad = Verdict.MISSING if settings.confinement == "yes" else Verdict.NOTE
    if settings.confinement == "no":
        return Check(name, bad, "switched off: a VMM that a guest takes over can open all of your files")
    if why := confine.unavailable() or confine.refusal():  # proved once more, whatever is remembered
        result = f"the programs that work on a guest's data can open all of your files: {why}"
        return Check(name, bad, result, "`sudo apt-get install bubblewrap`; `sandbox help backends` says what it needs")
    programs = [*(kind.program for kind in backends.KINDS), "git"]
    programs += [each.name for mode in network.MODES for each in mode.programs]
    programs += [str(each.path) for each in virtiofs.look() if each.usable]
    if whys := [why for each in programs if (why := confine.obstacle(each))]:
        return Check(name, bad, f"not confined: {'; '.join(whys)}")
    return Check(name, Verdict.OK, "VMMs, passt, virtiofsd and the git that unpacks see their own files only")


def virtiofsd(wanted: Wanted) -> Check:
    """Only `--transport share` needs it."""
    try:
        found = virtiofs.choose(virtiofs.look())
    except RequirementError as error:
        verdict = Verdict.MISSING if wanted.share else Verdict.NOTE
        return Check(virtiofs.PROGRAM, verdict, f"{error.message}: {error.cause}", error.hint)
    return Check(virtiofs.PROGRAM, Verdict.OK, found.words)


def transport(wanted: Wanted) -> Check:
    """Where a sandbox's working copy is, and why."""
    if not wanted.share:
        return Check(
            "transport", Verdict.OK, "disk: the default, faster and of limited size; share only when asked for"
        )
    backends.refuse_contradiction(wanted)
    space = IdSpace.ours()
    return Check("transport", Verdict.OK, f"share: asked for; its files belong to ids from {space.uid} on")


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


def accelerator(spec: ImageSpec, wanted: Wanted) -> Check:
    image = guest_images.find(spec.key)
    if image is None:
        return Check("accelerator", Verdict.NOTE, "unknown: proved by booting, which needs the image")
    chosen = backends.choose(wanted, backends.look(wanted))
    files = host.BootFiles(image.kernel, image.initramfs)
    proof = backends.prove(chosen, files, wanted.accelerator, fresh=wanted.accelerator == backends.AUTO)
    if proof.accelerator == backends.KVM:
        return Check("accelerator", Verdict.OK, f"kvm: {proof.reason} in {proof.seconds:g} s")
    backends.make(chosen.kind, proof.accelerator, proof.reason)  # raises for a backend that cannot do without
    return Check("accelerator", Verdict.NOTE, f"software emulation: {proof.reason}", "everything works, slower")


def warm_starts() -> Check:
    """Templates are made when they are needed, so having none is no fault."""
    good = [each for each in templates.every() if each.sound()]
    size = sum(each.size for each in good) >> 20
    kept = f"{len(good)} saved machine{'' if len(good) == 1 else 's'} ({size} MiB)"
    result = kept if good else "no saved machine yet: the next start makes one"
    failures = sorted(templates.failures().values(), key=lambda each: each.when)
    if failures:
        reason = f"failed recently, machines boot instead: {one_line(failures[-1].reason)}"
        hint = "`sandbox image prune` forgets that; `--warm no` boots every time"
        return Check("warm starts", Verdict.NOTE, f"{result}; {reason}", hint)
    return Check("warm starts", Verdict.OK, result)


def channel(wanted: Wanted) -> Check:
    """What sessions and pushes go over; the backend decides, and nobody sees a difference."""
    kind = backends.choose(wanted, backends.look(wanted)).kind
    over = "vsock, through a unix socket of its own" if SSH in kind.capabilities.vsock else "virtio-serial ports"
    more = "" if kind.capabilities.vsock or vhost.problem() else f"; sessions with `--vsock` over {vhost.DEVICE}"
    return Check("channel", Verdict.OK, f"sessions and pushes go over {over} ({kind.name}){more}")


def copies() -> Check:
    """What a copy of a sandbox's disk costs (`sandbox fork`, recovery): decided by the file system it is on."""
    with tempfile.TemporaryDirectory(prefix=".git-sandbox-", dir=existing(paths.state_root())) as scratch:
        probe = Path(scratch, "probe")
        probe.write_bytes(b"probe")
        if filecopy.can_reflink(probe, Path(scratch)):
            return Check("copies", Verdict.OK, "shared: a copy of a disk takes no time and no space until it changes")
    return Check("copies", Verdict.OK, "whole, without holes: this file system shares no blocks; Btrfs and XFS do")


def repository_bases() -> Check:
    """What `sandbox image prune` would free."""
    found = bases.every()
    size = sum(each.size for each in found)
    return Check("repository bases", Verdict.OK, f"{len(found)} in the cache, {size >> 20} MiB")


def workspace_disks(spec: ImageSpec, wanted: Wanted, settings: Settings) -> Check:
    """How the disk of a sandbox shows the base of its repository, and why so: tried on the file systems in question."""
    if not settings.bases:
        return Check("workspace disks", Verdict.NOTE, "copied whole, every time: the setting bases says no")
    formats = backends.choose(wanted, backends.look(wanted)).kind.capabilities.disk_formats
    source, target = existing(bases.bases_root()), existing(paths.state_root())
    try:
        means = cow.look(source, target, formats, settings.thin_pool, layers=spec.layers, size=None)
    except OSError as error:
        reason = f"{error.strerror or error}: {source} or {target}"
        return Check("workspace disks", Verdict.NOTE, f"copied whole, every time: {reason}")
    try:
        chosen = cow.choose(settings.cow, means)
    except RequirementError as error:
        return Check("workspace disks", Verdict.MISSING, f"{error.message}: {error.cause}", error.hint)
    return Check("workspace disks", Verdict.OK, f"{chosen.strategy}: {chosen.reason}")
