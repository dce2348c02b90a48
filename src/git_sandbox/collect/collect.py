"""One import from start to end: unpack separately, examine, name, deliver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from git_sandbox.collect import plan
from git_sandbox.collect.delivery import Delivery
from git_sandbox.collect.quarantine import CollectLimits, Quarantine, quarantined
from git_sandbox.collect.treecheck import refused
from git_sandbox.collect.verdicts import equal_work, sort
from git_sandbox.errors import CollectError, HostResourceError, SandboxError
from git_sandbox.free_space import SMALL, require, watched
from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass, replace
from git_sandbox.protocol.manifest import Manifest, SetAside
from git_sandbox.text import one_line

MAX_KNOWN = 5000  # object names in a request; the guest looks each of them up
_MAX_WARNING = 500  # characters
_MAX_WARNINGS = 200
_DEFAULT_LIMITS = CollectLimits()
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Collected:
    """What came home.

    `head` is None when the guest's HEAD is unborn or was set aside: there is no `refs/sandbox/<id>`, or an old one.
    `updated` holds only refs that changed, with their old and new objects. `names` maps the guest's full ref names
    to ours. `wip` is None when the guest has no uncommitted work; `stale` are refs of this sandbox that the guest
    has no more (an old wip or stash, a deleted branch). `warnings` are safe to print. `set_aside`: what did not come,
    refused here or by the guest itself. `objects` were sent, in a pack of `size` bytes.
    """

    head: Oid | None
    head_symref: str | None
    wip: Oid | None
    updated: Mapping[RefName, tuple[Oid | None, Oid]]
    names: Mapping[str, RefName]
    stale: tuple[RefName, ...]
    warnings: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()
    objects: int = 0
    size: int = 0

    @property
    def branches(self) -> dict[str, RefName]:
        """Guest branch (short name) to our ref."""
        root = "refs/heads/"
        return {name.removeprefix(root): ours for name, ours in self.names.items() if name.startswith(root)}


def known_objects(repo: Repository, refs: SandboxRefs, *, most: int = MAX_KNOWN) -> list[Oid]:
    """What to tell the guest we have: HEAD, this sandbox's refs, branches, then all others. It is enough that most of
    what the guest may have begun from is below them: what is sent twice is only slower.
    """
    everything, head = repo.refs_and_head()
    branches = {name: value for name, value in everything.items() if name.startswith(("refs/heads/", "refs/remotes/"))}
    return _names(refs, branches | everything, head)[:most]


def _names(refs: SandboxRefs, everything: Mapping[RefName, Oid], head: Oid | None) -> list[Oid]:
    objects = [*([head] if head else []), *refs.own(everything).values(), *everything.values()]
    return list(dict.fromkeys(objects))


def collect(
    repo: Repository,
    refs: SandboxRefs,
    manifest: Manifest,
    pack: Iterable[bytes],
    *,
    quarantine: Path,
    limits: CollectLimits = _DEFAULT_LIMITS,
    given: Mapping[str, str] = _NOTHING,
) -> Collected:
    """Import `pack` and set this sandbox's refs as `manifest` says.

    `quarantine` is a directory that does not exist yet, on a file system with room for the pack. `given` are refs
    the guest started with (full name to object): those it did not touch are left out.

    What is sound comes, the rest is in `Collected.set_aside`. Raises CollectError when the stream is broken or costs
    too much, or the refs cannot be written (nothing in the repository has changed); HostResourceError.
    """
    if manifest.object_format != repo.object_format:
        raise refused(f"its object format is {manifest.object_format}, this repository's is {repo.object_format}")
    try:
        with quarantined(repo, quarantine, limits) as place:
            place.take(watched(pack, quarantine.parent, repo.common_dir))
            return _import(place, refs, manifest, given)
    except (CollectError, HostResourceError):
        raise
    except SandboxError as error:
        raise CollectError("the commits could not be brought home", cause=error.message, hint=error.hint) from error


def _import(place: Quarantine, refs: SandboxRefs, manifest: Manifest, given: Mapping[str, str]) -> Collected:
    repo = place.repo
    everything, head = repo.refs_and_head()
    existing = refs.own(everything)
    names = plan.Names(refs, existing, ignore_case=place.ignore_case)
    listed = [ref for ref in manifest.refs if given.get(ref.name) != ref.oid or not names.new(ref.name)]
    sorted_out = sort(place, replace(manifest, refs=tuple(listed)), _names(refs, everything, head))
    sound = sorted_out.sound
    planned = plan.make(sound, refs, names, sound.refs)
    others: dict[str, str] = {name: value for name, value in everything.items() if plan.kind_of(name)[0] == "other"}
    planned.leave_out({**others, **given}, existing)
    wip = _uncommitted(place, refs, sound, planned.targets, existing)
    changed = {name: value for name, value in planned.targets.items() if existing.get(name) != value}
    if changed:
        if (size := place.size) > SMALL:
            require(size, repo.common_dir)
        delivery = Delivery(repo, place.path, changed, place.limits.alloc, place.limits.time)
        if place.empty:
            delivery.point(existing)
        else:
            delivery.check(existing)
            delivery.run()
    return Collected(
        head=planned.targets.get(refs.head),
        head_symref=manifest.head.symref,
        wip=wip,
        updated={name: (existing.get(name), value) for name, value in changed.items()},
        names=planned.names,
        stale=tuple(name for name in existing if name not in planned.targets and _is_guests(name)),
        warnings=_safe((*planned.warnings, *manifest.warnings)),
        set_aside=(*manifest.set_aside, *sorted_out.aside),
        objects=place.objects,
        size=place.size,
    )


def _uncommitted(
    place: Quarantine,
    refs: SandboxRefs,
    manifest: Manifest,
    targets: dict[RefName, Oid],
    existing: Mapping[RefName, Oid],
) -> Oid | None:
    """The commit of the uncommitted work; `targets` gets what follows for earlier ones. An equal one is kept."""
    before, new = existing.get(refs.wip), targets.get(refs.wip)
    if before and new and equal_work(place, manifest, before, new):
        targets[refs.wip] = before
    elif new is None and before and manifest.head.oid and manifest.wip_state == "none":
        # Nothing is uncommitted any more: what an earlier import found must not pass for the end. The reflog keeps it.
        targets[refs.wip] = Oid(manifest.head.oid)
        return None
    elif manifest.wip_state == "partial" and new and before and before != new:
        # This one lacks files that the earlier one may have: it is never replaced by less.
        targets[refs.earlier(before)] = before
    return targets.get(refs.wip) if new else None


def _safe(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts of the guest's, fit to print, and not so many that they push everything else off the screen."""
    shown = [one_line(text, limit=_MAX_WARNING) for text in texts[:_MAX_WARNINGS]]
    more = len(texts) - len(shown)
    return (*shown, *([f"and {more} more warnings"] if more else []))


def _is_guests(name: RefName) -> bool:
    """Whether the ref follows the guest; base, meta, backup and earlier are the host's own records."""
    own = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/", "refs/sandbox-earlier/")
    return not name.startswith(own)
