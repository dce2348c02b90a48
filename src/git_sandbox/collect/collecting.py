"""The story of one import: unpack apart, examine, name, deliver."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.collect import plan
from git_sandbox.collect.quarantine import CollectLimits, Quarantine, quarantined
from git_sandbox.collect.treecheck import check_objects, refused
from git_sandbox.errors import CollectError, HostResourceError, SandboxError
from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.text import one_line
from git_sandbox.transport.manifest import GuestRef, Manifest, SetAside

MAX_KNOWN = 20_000  # object names in a request: about a megabyte
_MAX_WARNING = 500  # characters
_DEFAULT_LIMITS = CollectLimits()
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Collected:
    """What came home.

    `head` is None when the guest's HEAD is unborn: then there is no `refs/sandbox/<id>`, or it is an old one.
    `updated` holds only refs that changed, with their old and new objects. `names` maps the guest's full ref names
    to ours. `wip` is None when the guest has no uncommitted work; `stale` are refs of this sandbox that the guest
    has no more (an old wip or stash, a deleted branch). `warnings` are safe to print. `set_aside`: what did not come,
    refused here or by the guest itself.
    """

    head: Oid | None
    head_symref: str | None
    wip: Oid | None
    updated: Mapping[RefName, tuple[Oid | None, Oid]]
    names: Mapping[str, RefName]
    stale: tuple[RefName, ...]
    warnings: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()

    @property
    def branches(self) -> dict[str, RefName]:
        """Guest branch (short name) to our ref."""
        root = "refs/heads/"
        return {name.removeprefix(root): ours for name, ours in self.names.items() if name.startswith(root)}


def known_objects(repo: Repository, refs: SandboxRefs, *, most: int = MAX_KNOWN) -> list[Oid]:
    """What to tell the guest we have: HEAD, this sandbox's refs, then all others."""
    return _names(refs, *repo.refs_and_head())[:most]


def _names(refs: SandboxRefs, everything: Mapping[RefName, Oid], head: Oid | None) -> list[Oid]:
    found = [*([head] if head else []), *refs.own(everything).values(), *everything.values()]
    return list(dict.fromkeys(found))


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

    Raises CollectError (nothing in the repository has changed) or HostResourceError.
    """
    if manifest.object_format != repo.object_format:
        raise refused(f"its object format is {manifest.object_format}, here it is {repo.object_format}")
    try:
        with quarantined(repo, quarantine, limits) as place:
            place.take(pack)
            return _import(place, refs, manifest, given)
    except (CollectError, HostResourceError):
        raise
    except SandboxError as error:
        raise CollectError("the commits could not be brought home", cause=error.message, hint=error.hint) from error


def _import(place: Quarantine, refs: SandboxRefs, manifest: Manifest, given: Mapping[str, str]) -> Collected:
    repo = place.repo
    everything, head = repo.refs_and_head()
    existing = refs.own(everything)
    wanted, warnings = _acceptable(place, manifest)
    check_objects(place)
    made = plan.make(manifest, refs, plan.Names(refs, existing, ignore_case=place.ignore_case), wanted)
    others: dict[str, str] = {name: value for name, value in everything.items() if plan.kind_of(name)[0] == "other"}
    made.leave_out({**others, **given}, existing)
    _check_uncommitted(place, refs, manifest, made.targets, existing)
    wip = made.targets.get(refs.wip)
    if wip is None and refs.wip in existing and manifest.head.oid and manifest.wip_state == "none":
        # Nothing is uncommitted any more: what an earlier import found must not pass for the end. The reflog keeps it.
        made.targets[refs.wip] = Oid(manifest.head.oid)
    if manifest.wip_state == "partial" and wip is not None and existing.get(refs.wip, wip) != wip:
        # This one lacks files that the earlier one may have: it is never replaced by less.
        made.targets[refs.earlier(existing[refs.wip])] = existing[refs.wip]
    changed = {name: value for name, value in made.targets.items() if existing.get(name) != value}
    if changed:
        place.check_connected(set(changed.values()), _names(refs, everything, head))
        place.check_writable(changed, existing)
        place.deliver(changed)
    return Collected(
        head=made.targets.get(refs.head),
        head_symref=manifest.head.symref,
        wip=wip,
        updated={name: (existing.get(name), value) for name, value in changed.items()},
        names=made.names,
        stale=tuple(name for name in existing if name not in made.targets and _is_guests(name)),
        warnings=(*warnings, *made.warnings, *(one_line(text, limit=_MAX_WARNING) for text in manifest.warnings)),
        set_aside=manifest.set_aside,
    )


def _is_guests(name: RefName) -> bool:
    """Whether the ref follows the guest; base, meta, backup and earlier are the host's own records."""
    own = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/", "refs/sandbox-earlier/")
    return not name.startswith(own)


def _acceptable(place: Quarantine, manifest: Manifest) -> tuple[list[GuestRef], list[str]]:
    """The refs to import. Everything named must exist; branches, notes, stashes and HEAD must be commits.

    A tag, or a ref of another kind, of something else (a tree, a blob) is legal and harmless, but no work to bring
    home: it is left out.
    """
    tags = {ref.oid for ref in manifest.refs if plan.kind_of(ref.name)[0] in ("tags", "other")}
    commits = {ref.oid for ref in manifest.refs if plan.kind_of(ref.name)[0] in ("heads", "notes")}
    commits |= {entry.oid for entry in manifest.stash}
    commits |= {oid for oid in (manifest.head.oid, manifest.wip and manifest.wip.oid) if oid}
    kinds = _kinds(place, sorted(tags | commits))
    for oid in sorted(commits):
        if kinds[oid][0] != "commit":
            raise refused(f"{oid} should be a commit and is {kinds[oid][0]}")
    for oid in sorted(tags):
        if kinds[oid][0] == "missing":
            raise refused(f"{oid} is missing")
    strange = [one_line(ref.name) for ref in manifest.refs if kinds[ref.oid][1] != "commit"]
    warnings = [f"{name} does not point to a commit: left in the sandbox" for name in strange]
    return [ref for ref in manifest.refs if kinds[ref.oid][1] == "commit"], warnings


def _kinds(place: Quarantine, oids: list[str]) -> dict[str, tuple[str, str]]:
    """For each object its type and the type of what it peels to, "missing" where there is none."""
    lines = "".join(f"{oid}\n{oid}^{{commit}}\n" for oid in oids)
    rows = place.run("cat-file", "--batch-check", "--buffer", input=lines.encode()).decode().splitlines()
    types = [row.split(" ")[1] for row in rows]
    return dict(zip(oids, zip(types[::2], types[1::2], strict=True), strict=True))


@dataclass(frozen=True)
class _Shape:
    """What a commit of uncommitted work holds, without the times and names that make each such commit unique."""

    tree: str
    base: tuple[str, ...]
    index: str | None


def _shape(place: Quarantine, wip: str, base: tuple[str, ...]) -> _Shape | None:
    """None when the commit does not stand on `base` with at most an index commit beside it."""
    tree, *parents = place.run("rev-parse", f"{wip}^{{tree}}", f"{wip}^@").decode().split()
    below, beside = tuple(parents[: len(base)]), parents[len(base) :]
    if below != base or len(beside) > 1:
        return None
    index = place.run("rev-parse", f"{beside[0]}^{{tree}}").decode().strip() if beside else None
    return _Shape(tree, base, index)


def _check_uncommitted(
    place: Quarantine,
    refs: SandboxRefs,
    manifest: Manifest,
    targets: dict[RefName, Oid],
    existing: Mapping[RefName, Oid],
) -> None:
    """The wip commit must be what the manifest says: others build on it. An equal one from before is kept."""
    base = (manifest.head.oid,) if manifest.head.oid else ()
    empty = hashlib.new(manifest.object_format, b"tree 0\0", usedforsecurity=False).hexdigest()
    wip = manifest.wip
    if wip is None:
        return
    shape = _shape(place, wip.oid, base)
    implied = () if base else (wip.tree, empty)  # an unborn HEAD's index is kept only where it says something new
    if shape is None or shape.tree != wip.tree or manifest.worktree_tree != wip.tree:
        raise refused("the commit of the uncommitted work is not what the list of refs says")
    if shape.index != wip.index_tree and not (shape.index is None and wip.index_tree in implied):
        raise refused("the commit of the uncommitted work is not what the list of refs says")
    before = existing.get(refs.wip)
    if before and _shape(place, before, base) == shape:
        targets[refs.wip] = before
