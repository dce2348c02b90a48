"""Repositories inside a worktree, on the host: where they are, a sandbox's refs in them, and what would be lost."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from git_sandbox import notices
from git_sandbox.git import anchor, gitdirs
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.git.putback import put_back
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review
from git_sandbox.later import dataclass
from git_sandbox.store import NestedRecord, Record, SandboxHandle
from git_sandbox.text import one_line


def host_repository(repo: Repository, refs: SandboxRefs, record: Record, known: NestedRecord) -> Repository | None:
    """The user's own repository that `known` was copied from, if it still is one and is inside `repo`, which may have
    been moved since, or be asked from another worktree.

    Not when it has a sandbox of the same name of its own: that one's refs are not ours to touch.
    """
    which = anchor.private(Path(record.git_dir), Path(record.common_dir))
    if which != anchor.private(repo.git_dir, repo.common_dir):
        repo = anchor.reopened(repo.common_dir, which, repo.object_format)
    before = record.worktree, record.common_dir
    git_dir = anchor.moved(known.host, before, repo)
    if git_dir is None or not gitdirs.is_git_dir(git_dir) or gitdirs.is_linked(git_dir):
        return None
    worktree = anchor.moved(known.host_worktree, before, repo) if known.host_worktree else None
    repository = _opened(git_dir, worktree if worktree and worktree.is_dir() else git_dir)
    return None if repository.refs(refs.meta) else repository


def _opened(git_dir: Path, worktree: Path) -> Repository:
    object_format = Git(git_dir, worktree).line("rev-parse", "--show-object-format")
    return Repository(worktree, git_dir, git_dir, object_format)


def own_name(git_dir: str) -> str:
    """A readable and unique name for the directory of a repository that the host has not got."""
    readable = re.sub(r"[^a-z0-9]+", "-", git_dir.lower().removesuffix("/.git")).strip("-")[-30:].strip("-")
    digest = hashlib.sha256(git_dir.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable or 'repo'}-{digest[:10]}.git"


def make_bare(place: Path, object_format: str) -> Repository:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    git = Git(place).with_env(**HERMETIC)
    git.run("init", "-q", "--bare", "--template=", f"--object-format={object_format}")
    return bare(place)


def bare(place: Path) -> Repository:
    return _opened(place, place)


@dataclass(frozen=True)
class Holding:
    """Refs of a sandbox in one nested repository. `gone`: those that came home and are not there any more."""

    repo: Repository
    refs: dict[RefName, Oid]
    borrowed: bool
    known: NestedRecord | None = None
    gone: tuple[RefName, ...] = ()


def holdings(repo: Repository, handle: SandboxHandle, record: Record | None) -> list[Holding]:
    """Everywhere this sandbox has put refs, apart from `repo` itself."""
    own = sorted(handle.directory.nested.glob("*.git"))
    own_holdings = [
        Holding(repository, repository.refs(*handle.refs.patterns), borrowed=False) for repository in map(bare, own)
    ]
    return [*borrowed(repo, handle, record), *(holding for holding in own_holdings if holding.refs)]


def borrowed(repo: Repository, handle: SandboxHandle, record: Record | None) -> list[Holding]:
    """Those of them that are the user's own repositories, and not in the sandbox's directory. What something else has
    removed of their refs is put back.
    """
    at_home = [(host_repository(repo, handle.refs, record, inner), inner) for inner in record.nested] if record else []
    home = record.inner if record else {}
    holdings = [
        _mended(handle, repository, known, home.get(known.git_dir, {})) for repository, known in at_home if repository
    ]
    return [holding for holding in holdings if holding.refs or holding.gone]


def _mended(handle: SandboxHandle, repo: Repository, known: NestedRecord, home: Mapping[str, str]) -> Holding:
    refs = repo.refs(*handle.refs.patterns)
    expected = handle.refs.own({RefName(name): Oid(value) for name, value in home.items()})
    restored = put_back(repo.git, {name: value for name, value in expected.items() if name not in refs})
    if restored.done:
        where = one_line(os.fspath(repo.worktree), limit=300)
        notices.say(f"{len(restored.done)} refs of sandbox `{handle.id}` in {where} had been removed and were restored")
    return Holding(repo, {**refs, **restored.done}, True, known, tuple({**restored.lost, **restored.blocked}))


def noted(handle: SandboxHandle, record: Record) -> dict[str, dict[RefName, Oid]]:
    """The refs in those, for the record."""
    return {holding.known.git_dir: holding.refs for holding in borrowed(handle.repo, handle, record) if holding.known}


def lost(repo: Repository, holding: Holding) -> list[Oid]:
    """Commits and uncommitted work that no branch, tag or HEAD has in that repository, nor (if it is ours) in `repo`,
    into which the user may have fetched them.
    """
    tips = list(dict.fromkeys(holding.refs.values()))
    if not holding.borrowed:
        tips = [tip for tip in tips if not _merged_into(repo, tip)]
    return review.unmerged(holding.repo, tips)


def _merged_into(repo: Repository, tip: Oid) -> bool:
    """Not merely fetched: what is in FETCH_HEAD only is gone with the next fetch."""
    return repo.resolve(f"{tip}^{{commit}}") is not None and not review.unmerged(repo, [tip], limit=1)
