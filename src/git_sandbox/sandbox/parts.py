"""What belongs to a sandbox besides its directory: its refs, in each repository that has some.

Who drops, renames or uninstalls one asks `holders`; who restores one, or looks whether it could be restored, asks
`repository` for each part of what is in the trash.
"""

from __future__ import annotations

from git_sandbox.git.command import Git
from git_sandbox.git.names import SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import nested_refs
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.trash.note import Part
from git_sandbox.trash.objects import Holder


def holders(handle: SandboxHandle, record: Record | None) -> list[Holder]:
    """The sandbox's repository first, then the user's own inside the worktree that have refs of it."""
    heads = [value for name, value in record.refs.items() if name.startswith("refs/heads/")] if record else []
    base = record.base if record and record.base else handle.refs.base
    own = Holder(handle.repo.git, handle.repo.common_dir, handle.repo.refs(*handle.refs.patterns), [base, *heads])
    return [own, *(_inner(holding) for holding in nested_refs.borrowed(handle.repo, handle, record))]


def _inner(holding: nested_refs.Holding) -> Holder:
    known, repo = holding.known, holding.repo
    start = [*([known.base] if known.base else []), *known.refs.values()] if known else []
    return Holder(repo.git, repo.common_dir, holding.refs, start, known.git_dir if known else "")


def repository(repo: Repository, name: SandboxId, record: Record | None, part: Part) -> Git | None:
    """Where a part belongs: by what was recorded when the sandbox began, not by a path that was written down."""
    if not part.key:
        return repo.git
    known = next((inner for inner in record.nested if inner.git_dir == part.key), None) if record else None
    at_home = nested_refs.host_repository(repo, SandboxRefs(name), record, known) if record and known else None
    return at_home.git if at_home else None
