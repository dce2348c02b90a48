"""What `sandbox config` says about a devcontainer.json: whether it counts, what it would do, what changed."""

from __future__ import annotations

from git_sandbox.cli import common
from git_sandbox.devcontainer.agreed import File
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.setting_values import AUTO
from git_sandbox.text import one_line, whole


def _repository() -> Repository | None:
    try:
        return common.repository()
    except RepositoryError:
        return None


def usable(wanted: str, *, alone: bool) -> File | None:
    """The one that the setting means. `alone`: there is nothing else to agree to, so one that cannot be used is an
    error (UsageError).
    """
    from git_sandbox.sandbox import devcontainers

    repo = _repository()
    try:
        found = devcontainers.chosen(repo, wanted) if repo else None
        if found is not None:
            found.plan({})
    except UsageError:
        if alone or wanted != AUTO:
            raise
        return None
    return found


def about(wanted: str) -> list[str]:
    """Safe to print."""
    repo = _repository()
    if repo is None:
        return []
    from git_sandbox.sandbox import devcontainers

    try:
        found = devcontainers.chosen(repo, wanted)
        if found is None:
            return [f"Devcontainer: {'none' if wanted == devcontainers.NONE else 'the repository has none'}"]
        plan = found.plan({})
        return [f"Devcontainer: {one_line(found.place)} ({_state(found)})", *_rows(found), *map(_ignored, plan.notes)]
    except UsageError as error:
        more = "".join(f"\n  {one_line(each, limit=300)}" for each in (error.cause, error.hint) if each)
        return [f"Devcontainer: {one_line(error.message, limit=300)}{more}"]


def _state(found: File) -> str:
    if found.trusted:
        return "trusted"
    if found.agreed is None:
        return "not trusted: read it, then run `sandbox config --trust`"
    return "changed since you trusted it: read it, then run `sandbox config --trust`"


def _rows(found: File) -> list[str]:
    changed = [] if found.trusted else found.changes
    return [f"  {whole(line)}" for line in changed or found.now.lines]


def _ignored(note: str) -> str:
    return f"  note: {whole(note)}"
