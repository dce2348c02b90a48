"""What this host must have, as rows of check, result and next step. `sandbox doctor` prints them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from git_sandbox import confine, network, paths, process, transports
from git_sandbox.cache import bases, guest_images, templates
from git_sandbox.disk import cow
from git_sandbox.errors import HostResourceError, RequirementError, SandboxError
from git_sandbox.git import command
from git_sandbox.git import repo as repos
from git_sandbox.guest.protocol import SSH
from git_sandbox.idspace import IdSpace
from git_sandbox.image.oci import pull, source
from git_sandbox.image.spec import ImageSpec
from git_sandbox.settings import Settings
from git_sandbox.text import one_line
from git_sandbox.vmm import backends, host, vhost, virtiofs
from git_sandbox.vmm.backends import Found, Kind, Wanted
from git_sandbox.workspace import filecopy

_MAX_SSH_CONFIG = 1 << 20  # bytes
MINIMUM_FREE = 4 << 30  # bytes for an image build and a first sandbox


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, but something optional is missing
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    result: str
    hint: str = ""


@dataclass(frozen=True)
class Tool:
    program: str
    package: str  # Debian and Ubuntu
    purpose: str
    version: tuple[str, ...] = ("--version",)
    optional: bool = False


TOOLS = (
    Tool("mke2fs", "e2fsprogs", "makes disks", ("-V",)),
    Tool("ssh", "openssh-client", "sessions", ("-V",)),
    Tool("ssh-keygen", "openssh-client", "keys of a sandbox", ()),
    Tool("setpriv", "util-linux", "no left-over processes"),
    Tool("prlimit", "util-linux", "limits for reading guest data"),
    Tool("mmdebstrap", "mmdebstrap", "builds the guest image"),
    Tool("fakeroot", "fakeroot", "builds the guest image"),
    Tool("skopeo", "skopeo", "fetches OCI images (`--image docker://…`)", optional=True),
    Tool("bwrap", "bubblewrap", "keeps VMMs and the programs of a build away from this host's files", optional=True),
    *(
        Tool(program.name, program.package, f"`--net {mode.name}`", (), optional=True)
        for mode in network.MODES
        for program in mode.programs
    ),
)


def checks(spec: ImageSpec, wanted: Wanted, settings: Settings) -> Iterator[Check]:
    """Every check in turn; none of them raises. `wanted`: what the settings ask of a machine."""
    named: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("git", _git),
        *((kind.name, _kind(kind, wanted)) for kind in backends.KINDS),
        ("backend", lambda: _backend(wanted)),
        *((tool.program, _tool(tool)) for tool in TOOLS),
        ("confinement", lambda: _confinement(settings)),
        (virtiofs.PROGRAM, lambda: _virtiofsd(wanted)),
        ("transport", lambda: _transport(wanted)),
        ("user namespaces", _namespaces),
        ("image", lambda: _image(spec)),
        *([("OCI image", lambda: _fetched(settings.image))] if transports.named(settings.image) else []),
        ("accelerator", lambda: _accelerator(spec, wanted)),
        ("warm starts", _warm),
        ("repository bases", _bases),
        ("workspace disks", lambda: _disks(spec, wanted, settings)),
        ("channel", lambda: _channel(wanted)),
        ("disk space", _space),
        ("directories", _directories),
        ("ssh", _ssh_config),
        ("copies", copies),
    )
    for name, check in named:
        try:
            yield check()
        except (SandboxError, OSError) as error:
            hint = error.hint if isinstance(error, SandboxError) else ""
            yield Check(name, Verdict.MISSING, str(error), hint)


def _git() -> Check:
    if process.which("git") is None:
        return Check("git", Verdict.MISSING, "not installed", "`sudo apt-get install git`")
    version = repos.host_version()
    shown, wanted = _dotted(version), _dotted(command.MINIMUM_VERSION)
    if version < command.MINIMUM_VERSION:
        return Check("git", Verdict.MISSING, shown, f"{wanted} or newer is needed: `sudo apt-get install git`")
    return Check("git", Verdict.OK, shown)


def _kind(kind: Kind, wanted: Wanted) -> Callable[[], Check]:
    """Only the backend that is asked for by name has to be there."""

    def check() -> Check:
        found = Found(kind, kind.version())
        if not found.problem:
            return Check(kind.name, Verdict.OK, backends.dotted(found.version or ()))
        verdict = Verdict.MISSING if wanted.backend == kind.name else Verdict.NOTE
        return Check(kind.name, verdict, found.problem, kind.get)

    return check


def _backend(wanted: Wanted) -> Check:
    """Which one a sandbox gets, and why."""
    try:
        chosen = backends.choose(wanted, backends.look(wanted))
    except RequirementError as error:
        return Check("backend", Verdict.MISSING, f"{error.message}: {error.cause}", backends.KINDS[0].get)
    return Check("backend", Verdict.OK, f"{chosen.kind.name}: {chosen.reason}")


def _tool(tool: Tool) -> Callable[[], Check]:
    def check() -> Check:
        found = process.which(tool.program)
        if found is None:
            verdict = Verdict.NOTE if tool.optional else Verdict.MISSING
            hint = f"`sudo apt-get install {tool.package}`"
            return Check(tool.program, verdict, f"not installed ({tool.purpose})", hint)
        return Check(tool.program, Verdict.OK, _version(tool) or found)

    return check


def _confinement(settings: Settings) -> Check:
    """Whether programs that work on a guest's data see nothing but their files."""
    name = "confinement"
    bad = Verdict.MISSING if settings.confinement == "yes" else Verdict.NOTE
    if settings.confinement == "no":
        return Check(name, bad, "switched off: a VMM that a guest takes over can open all of your files")
    if why := confine.unavailable():
        result = f"the programs that work on a guest's data can open all of your files: {why}"
        return Check(name, bad, result, "`sudo apt-get install bubblewrap`; `sandbox help backends` says what it needs")
    programs = [*(kind.program for kind in backends.KINDS), "git"]
    programs += [each.name for mode in network.MODES for each in mode.programs]
    programs += [str(each.path) for each in virtiofs.look() if each.usable]
    if whys := [why for each in programs if (why := confine.obstacle(each))]:
        return Check(name, bad, f"not confined: {'; '.join(whys)}")
    return Check(name, Verdict.OK, "VMMs, passt, virtiofsd and the git that unpacks see their own files only")


def _virtiofsd(wanted: Wanted) -> Check:
    """Only `--transport share` needs it."""
    try:
        found = virtiofs.choose(virtiofs.look())
    except RequirementError as error:
        verdict = Verdict.MISSING if wanted.share else Verdict.NOTE
        return Check(virtiofs.PROGRAM, verdict, f"{error.message}: {error.cause}", error.hint)
    return Check(virtiofs.PROGRAM, Verdict.OK, found.words)


def _transport(wanted: Wanted) -> Check:
    """Where a sandbox's working copy is, and why."""
    if not wanted.share:
        return Check(
            "transport", Verdict.OK, "disk: the default, faster and of limited size; share only when asked for"
        )
    backends.refuse_contradiction(wanted)
    space = IdSpace.ours()
    return Check("transport", Verdict.OK, f"share: asked for; its files belong to ids from {space.uid} on")


def _version(tool: Tool) -> str:
    if not tool.version:
        return ""
    done = process.run([tool.program, *tool.version], timeout=process.ASKED)
    found = re.search(r"\d+\.\d[\w.+~-]*", (done.stdout + done.stderr).decode("utf-8", "replace"))
    return found[0].rstrip(".,") if found else ""


def _namespaces() -> Check:
    """An ordinary user builds an image inside a user namespace with subordinate ids; root needs neither."""
    name = "user namespaces"
    if os.getuid() == 0:
        return Check(name, Verdict.OK, "not needed by root")
    if process.which("newuidmap") is None:
        return Check(name, Verdict.MISSING, "no newuidmap (builds the guest image)", "`sudo apt-get install uidmap`")
    user = _user()
    for table in ("/etc/subuid", "/etc/subgid"):
        lines = Path(table).read_text().splitlines() if Path(table).exists() else []
        if not any(line.split(":")[0] in (user, str(os.getuid())) for line in lines):
            hint = f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"
            return Check(name, Verdict.MISSING, f"{table} has no line for {user}", hint)
    done = process.run(["unshare", "--user", "--map-root-user", "true"], timeout=process.ASKED)
    if done.returncode != 0:
        hint = "allow them: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu"
        return Check(name, Verdict.NOTE, "the kernel refuses them to programs without a profile", hint)
    return Check(name, Verdict.OK, "allowed, with subordinate ids")


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _image(spec: ImageSpec) -> Check:
    found = guest_images.find(spec.key)
    if found is None:
        size = f"about {spec.download_mib} MiB to fetch"
        return Check(
            "image", Verdict.NOTE, f"not built yet ({size})", "`sandbox image build`; the first sandbox does it, too"
        )
    return Check("image", Verdict.OK, f"{spec.key} ({found.size >> 20} MiB)")


def _fetched(name: str) -> Check:
    found = pull.known(source.parse(name))
    if found is None:
        return Check(
            "OCI image", Verdict.NOTE, "not fetched yet", "`sandbox image pull`; the first sandbox does it, too"
        )
    return Check("OCI image", Verdict.OK, f"{found.key} ({found.size >> 20} MiB)")


def _accelerator(spec: ImageSpec, wanted: Wanted) -> Check:
    found = guest_images.find(spec.key)
    if found is None:
        return Check("accelerator", Verdict.NOTE, "unknown: proved by booting, which needs the image")
    chosen = backends.choose(wanted, backends.look(wanted))
    files = host.BootFiles(found.kernel, found.initramfs)
    proof = backends.prove(chosen, files, wanted.accelerator, fresh=wanted.accelerator == backends.AUTO)
    if proof.accelerator == backends.KVM:
        return Check("accelerator", Verdict.OK, f"kvm: {proof.reason} in {proof.seconds:g} s")
    backends.make(chosen.kind, proof.accelerator, proof.reason)  # raises for a backend that cannot do without
    return Check("accelerator", Verdict.NOTE, f"software emulation: {proof.reason}", "everything works, slower")


def _warm() -> Check:
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


def _channel(wanted: Wanted) -> Check:
    """What sessions and pushes go over; the backend decides, and nobody sees a difference."""
    kind = backends.choose(wanted, backends.look(wanted)).kind
    over = "vsock, through a unix socket of its own" if SSH in kind.capabilities.vsock else "virtio-serial ports"
    more = "" if kind.capabilities.vsock or vhost.problem() else f"; sessions with `--vsock` over {vhost.DEVICE}"
    return Check("channel", Verdict.OK, f"sessions and pushes go over {over} ({kind.name}){more}")


def copies() -> Check:
    """What a copy of a sandbox's disk costs (`sandbox fork`, recovery): decided by the file system it is on."""
    with tempfile.TemporaryDirectory(prefix=".git-sandbox-", dir=_existing(paths.state_root())) as scratch:
        probe = Path(scratch, "probe")
        probe.write_bytes(b"probe")
        if filecopy.can_reflink(probe, Path(scratch)):
            return Check("copies", Verdict.OK, "shared: a copy of a disk takes no time and no space until it changes")
    return Check("copies", Verdict.OK, "whole, without holes: this file system shares no blocks; Btrfs and XFS do")


def _space() -> Check:
    root = _existing(paths.state_root())
    free = shutil.disk_usage(root).free
    result = f"{free >> 30} GiB free for {paths.state_root()}"
    if free < MINIMUM_FREE:
        hint = "free some space, or set XDG_STATE_HOME and XDG_CACHE_HOME"
        return Check("disk space", Verdict.MISSING, result, hint)
    return Check("disk space", Verdict.OK, result)


def _bases() -> Check:
    """What `sandbox image prune` would free."""
    found = bases.every()
    size = sum(each.size for each in found)
    return Check("repository bases", Verdict.OK, f"{len(found)} in the cache, {size >> 20} MiB")


def _disks(spec: ImageSpec, wanted: Wanted, settings: Settings) -> Check:
    """How the disk of a sandbox shows the base of its repository, and why so: tried on the file systems in question."""
    if not settings.bases:
        return Check("workspace disks", Verdict.NOTE, "copied whole, every time: the setting bases says no")
    formats = backends.choose(wanted, backends.look(wanted)).kind.capabilities.disk_formats
    source, target = _existing(bases.bases_root()), _existing(paths.state_root())
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


def _directories() -> Check:
    for path in (paths.state_root(), paths.cache_root(), paths.runtime_root()):
        existing = _existing(path)
        if not os.access(existing, os.W_OK):
            hint = "set XDG_STATE_HOME, XDG_CACHE_HOME or XDG_RUNTIME_DIR to a place you can write"
            return Check("directories", Verdict.MISSING, f"{existing} cannot be written", hint)
    try:
        paths.runtime()
    except HostResourceError as error:
        return Check("directories", Verdict.MISSING, f"{error.message} ({error.cause})", error.hint)
    return Check("directories", Verdict.OK, "state, cache and runtime directory can be written")


def _ssh_config() -> Check:
    """An Include that older versions recommended: whoever makes that directory after a reboot is obeyed by ssh."""
    place = Path.home() / ".ssh" / "config"
    try:
        with place.open("rb") as file:
            text = file.read(_MAX_SSH_CONFIG)
    except OSError:
        text = b""
    if re.search(rb"(?im)^[ \t]*include\b.*/git-sandbox-\d+/", text):
        cause = f"{place} includes files below a directory that another user can make"
        return Check("ssh", Verdict.NOTE, cause, "replace that line with the one of `sandbox ssh-config`")
    return Check("ssh", Verdict.OK, "your configuration includes no directory of ours that another user can make")


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
