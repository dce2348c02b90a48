"""Everything before the machine starts: copy the repository, take the snapshot, create disk, keys and initrd."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from git_sandbox import consent, files, jsontext, process, ssh_config, store, text, transports
from git_sandbox.cache.bases import Base
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import share_dir
from git_sandbox.egress import policyfile, rules
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.git import large, snapshot
from git_sandbox.git.names import Oid, RefName, oid
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.guest import protocol
from git_sandbox.idspace import IdSpace
from git_sandbox.image import build, spec, terminfo, timezone
from git_sandbox.image.guestfiles import GuestConfig, GuestMount, GuestUser
from git_sandbox.integrate.trees import empty_tree
from git_sandbox.later import dataclass, field, replace
from git_sandbox.progress import Progress
from git_sandbox.sandbox import egress_proxy, machine_spec
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.settings import Settings, environment
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.vmm import backends, virtiofs
from git_sandbox.vmm.backends import BackendNeeds
from git_sandbox.workspace import builder, extensions, guest_gitconfig, nested, readonly_copy, share
from git_sandbox.workspace.capture import Captured
from git_sandbox.workspace.survey import CapturePolicy

NOTHING = Extras()
RESERVE = 256  # MiB of memory left to the host


@dataclass(frozen=True)
class Prepared:
    """`base` and `applying` as in `Workspace`."""

    record: Record
    image: Image
    warnings: tuple[str, ...]
    base: Base | None = None
    applying: float = 0.0


def image(settings: Settings, progress: Progress) -> Image:
    """The image these settings ask for, built or fetched when it is not there yet."""
    tools = build.ensure(spec.asked(settings), progress)
    if not transports.named(settings.image):
        return tools
    from git_sandbox.image.oci import pull, source  # late: most starts have no use for them

    return replace(tools, system=pull.ensure(source.parse(settings.image), settings.confinement, progress))


def require_programs(settings: Settings) -> None:
    """Raises RequirementError, before anything is copied, when one is missing that the way there or back needs."""
    process.require("mke2fs", "ssh", "ssh-keygen", "setpriv", "prlimit")
    if share_dir.is_asked(settings.transport):
        backends.refuse_contradiction(BackendNeeds(settings.backend, share=True))
        virtiofs.choose(virtiofs.look())
        IdSpace.ours()


def require_memory(mebibytes: int) -> None:
    """Raises HostResourceError, before anything is started, when the host has not enough memory left."""
    available = available_memory()
    if available < mebibytes + RESERVE:
        raise HostResourceError(
            f"the machine needs {mebibytes} MiB of memory, {available} MiB are available on this host",
            hint=f"try `--memory {max(256, (available - RESERVE) // 2)}M`, or stop another sandbox",
        )


def available_memory() -> int:
    """MiB that programs can have on this host without others being swapped out."""
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) // 1024


def prepare(
    handle: SandboxHandle,
    options: Options,
    ready: Image,
    backend: str,
    progress: Progress,
    *,
    extras: Extras = NOTHING,
    formats: tuple[str, ...] = ("raw",),
    whole: bool = False,
    parts: bool = False,
) -> Prepared:
    """Leave in `handle` a disk with the repository, and the record that says what went in.

    `formats`: of disks, which the backend can use. `whole`, `parts`: see `builder.make`.
    """
    repo, settings = handle.repo, options.settings
    extensions.require_understood(repo, ready.info.suite)
    kind: Literal["all", "none"] = "none" if settings.ignored == "none" else "all"
    policy = CapturePolicy(kind, options.skip_unreadable, exclude=settings.exclude, git_extra=settings.git_extra)
    if share_dir.is_asked(settings.transport):
        workspace = share.make(handle, policy, settings, progress)
    else:
        workspace = builder.make(handle, policy, settings, formats, progress, whole=whole, parts=parts)
    try:
        record = _record(handle, options, workspace.captured, workspace.snapshot, ready, backend=backend)
        record = msgspec.structs.replace(record, nested=workspace.nested, workdir=extras.folder or record.workdir)
        pinned = pin(handle, record, workspace.snapshot)
        copy_mounts(handle, extras, progress)
        if not parts:
            ssh_config.make_keys(handle.directory.keys, handle.id)
        apart = (*workspace.snapshot.apart, *workspace.worktrees.apart, *nested.apart(workspace.nested))
        configure(handle, record, settings, extras, WentIn(apart, workspace.worktrees.states))
        handle.save(record, pinned)
    except BaseException:
        store.delete(handle, name_too=False)
        raise
    warnings = (*workspace.captured.warnings, *workspace.snapshot.warnings, *nested.broken(workspace.nested))
    return Prepared(record, ready, warnings, workspace.base, workspace.applying)


def _record(
    handle: SandboxHandle, options: Options, captured: Captured, taken: Snapshot, ready: Image, *, backend: str
) -> Record:
    settings, repo = options.settings, handle.repo
    return Record(
        id=handle.id,
        worktree=os.fspath(repo.worktree),
        git_dir=os.fspath(repo.git_dir),
        common_dir=os.fspath(repo.common_dir),
        object_format=repo.object_format,
        created=time.time(),
        base=captured.head.commit,
        base_symref=captured.head.symref,
        snapshot=taken.tree,
        index_tree=taken.index_tree,
        backend=backend,
        image=ready.root.name,
        root=ready.system.key if ready.system else "",
        cpus=settings.cpus,
        memory=settings.memory,
        net=settings.net.name,
        virtualization=settings.nested == "yes",
        refs={str(name): str(value) for name, value in captured.refs.items()},
        stash=captured.stash,
        pid=os.getpid(),
        command=options.command or (),
        agent=options.agent,
        terminal=options.terminal,
        workdir=os.fspath(repo.worktree) if settings.workdir == "host" else store.WORKSPACE,
    )


def pin(handle: SandboxHandle, record: Record, taken: Snapshot) -> dict[RefName, Oid]:
    """Keep the commit it started from, whatever becomes of the user's branches; the refs that do. W0 is in the
    sandbox's own store, and what is in neither is known by its stamps.
    """
    files.write(handle.directory.apart, jsontext.encode(large.stamps(handle.repo.worktree, taken.apart)))
    git = handle.repo.git
    unborn = "a sandbox of a branch without a commit\n"
    base = oid(record.base) if record.base else snapshot.commit_tree(git, empty_tree(git), (), unborn)
    return store.pin(handle, record, base)


@dataclass(frozen=True)
class WentIn:
    """What the guest has to know of the start, to tell it from what happens in there. See `GuestConfig`."""

    apart: tuple[str, ...] = ()
    worktrees: dict[str, tuple[str | None, str | None, str | None]] = field(default_factory=dict)


def configure(handle: SandboxHandle, record: Record, settings: Settings, extras: Extras, went_in: WentIn) -> None:
    """Write down what the guest is told about itself."""
    zone = timezone.of_host(environment().get("TZ"))
    tell = GuestConfig(
        hostname=handle.id,
        mode=protocol.RUN,
        user=GuestUser.current().called(extras.user),
        host_path=record.worktree,
        timezone=zone.name,
        zone=zone.content,
        etc=guest_gitconfig.effective(handle.repo, environment()).files() | terminfo.files(environment()),
        authorities=dict(extras.authorities),
        env=dict(extras.env),
        stop_timeout=settings.stop_timeout,
        auto_push=settings.auto_push == "yes",
        mounts=tuple(GuestMount(mount.name, os.fspath(mount.path)) for mount in extras.mounts),
        files=extras.files,
        places=extras.places,
        apart=went_in.apart,
        worktrees=went_in.worktrees,
    )
    files.write(handle.directory.config, jsontext.encode(tell))  # private: the environment may hold secrets
    if settings.net.egress:
        egress = egress_proxy.policy(handle.repo, settings, handle.id)
        egress = policyfile.with_rules(egress, rules.parse_all(extras.keys.rules, origin="--key"))
        policyfile.save(handle.directory.egress, replace(egress, credentials=extras.keys.credentials))


def copy_mounts(handle: SandboxHandle, extras: Extras, progress: Progress) -> None:
    """The read-only disks with copies of the host's directories, in order."""
    for number, mount in enumerate(extras.mounts):
        handle.directory.mounts.mkdir(mode=0o700, exist_ok=True)
        progress(f"Copying {mount.path}")
        readonly_copy.make(mount.path.resolve(), machine_spec.copy_disk(handle, number))
        if mount.digest and consent.look("mount", "", mount.path).state != mount.digest:
            raise StateError(
                f"{text.one_line(str(mount.path))} has changed since you agreed to it",
                hint="`sandbox config` shows what changed",
            )
