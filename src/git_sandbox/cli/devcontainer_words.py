"""What `sandbox config` prints about a devcontainer.json: whether it is used, what it would do, what changed."""

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


def usable(setting: str, *, alone: bool) -> File | None:
    """The one that the setting means. `alone`: there is nothing else to agree to, so one that cannot be used is an
    error (UsageError).
    """
    from git_sandbox.sandbox import devcontainers

    repo = _repository()
    try:
        file = devcontainers.chosen(repo, setting) if repo else None
        if file is not None:
            file.plan({})
    except UsageError:
        if alone or setting != AUTO:
            raise
        return None
    return file


def look(setting: str) -> Shown | None:
    """The one that the setting means; None outside of a repository."""
    repo = _repository()
    if repo is None:
        return None
    from git_sandbox.sandbox import devcontainers

    try:
        file = devcontainers.chosen(repo, setting)
        if file is None:
            return Shown("none")
        plan = file.plan({})
        changes = () if file.trusted else tuple(file.changes)
        return Shown(_state(file), file.place, file.now.lines, changes, plan.notes)
    except UsageError as error:
        return Shown("unusable", notes=tuple(text for text in (error.message, error.cause, error.hint) if text))


def _state(file: File) -> str:
    return "trusted" if file.trusted else "changed" if file.agreed else "not trusted"


def about(shown: Shown | None, setting: str) -> list[str]:
    """For people. Safe to print."""
    if shown is None:
        return []
    if shown.state == "none":
        from git_sandbox.sandbox import devcontainers

        return [f"Devcontainer: {'none' if setting == devcontainers.NONE else 'the repository has none'}"]
    if shown.state == "unusable":
        return ["Devcontainer: " + "\n  ".join(one_line(note, limit=300) for note in shown.notes)]
    rows = [*(shown.changes or shown.lines), *(f"note: {note}" for note in shown.notes)]
    state = {"changed": f"changed since you trusted it: {_READ}", "not trusted": f"not trusted: {_READ}"}
    return [
        f"Devcontainer: {one_line(shown.path)} ({state.get(shown.state, shown.state)})",
        *(f"  {whole(row)}" for row in rows),
    ]
