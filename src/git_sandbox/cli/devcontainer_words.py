"""What `sandbox config` says about a devcontainer.json: whether it counts, what it would do, what changed."""

from __future__ import annotations

from git_sandbox.cli import common
from git_sandbox.devcontainer.agreed import File
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.setting_values import AUTO
from git_sandbox.text import one_line, whole

_READ = "read it, then run `sandbox config --trust`"


@dataclass(frozen=True)
class Shown:
    """A devcontainer.json as `sandbox config` shows it. `state`: trusted, not trusted, changed (since it was), unusable
    or none. `path`: relative to the worktree. `lines`: what it asks for. `changes`: since it was trusted. `notes`: what
    of it does nothing, or why it cannot be used.
    """

    state: str
    path: str = ""
    lines: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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


def look(wanted: str) -> Shown | None:
    """The one that the setting means; None outside of a repository."""
    repo = _repository()
    if repo is None:
        return None
    from git_sandbox.sandbox import devcontainers

    try:
        found = devcontainers.chosen(repo, wanted)
        if found is None:
            return Shown("none")
        plan = found.plan({})
        changes = () if found.trusted else tuple(found.changes)
        return Shown(_state(found), found.place, found.now.lines, changes, plan.notes)
    except UsageError as error:
        return Shown("unusable", notes=tuple(each for each in (error.message, error.cause, error.hint) if each))


def _state(found: File) -> str:
    return "trusted" if found.trusted else "changed" if found.agreed else "not trusted"


def about(shown: Shown | None, wanted: str) -> list[str]:
    """For people. Safe to print."""
    if shown is None:
        return []
    if shown.state == "none":
        from git_sandbox.sandbox import devcontainers

        return [f"Devcontainer: {'none' if wanted == devcontainers.NONE else 'the repository has none'}"]
    if shown.state == "unusable":
        return ["Devcontainer: " + "\n  ".join(one_line(each, limit=300) for each in shown.notes)]
    rows = [*(shown.changes or shown.lines), *(f"note: {each}" for each in shown.notes)]
    state = {"changed": f"changed since you trusted it: {_READ}", "not trusted": f"not trusted: {_READ}"}
    return [
        f"Devcontainer: {one_line(shown.path)} ({state.get(shown.state, shown.state)})",
        *(f"  {whole(each)}" for each in rows),
    ]
