"""The sandboxes of all repositories of this user, including deleted repositories."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from git_sandbox import registry, store
from git_sandbox.errors import RepositoryError, StateError, UsageError
from git_sandbox.git import gitdirs
from git_sandbox.git import repo as repos
from git_sandbox.git.names import is_sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.registry import StateDirectory
from git_sandbox.store import Entry, State
from git_sandbox.text import one_line
from git_sandbox.trash import expiry

SEPARATOR = "/"
SHOWN = 5  # sandboxes named where a name fits several
_KEY = re.compile(r"[a-z0-9-]{1,60}")


@dataclass(frozen=True)
class Elsewhere:
    """One sandbox. `name`: what tells it from those of all other repositories. `repository`: where that was last seen.
    `gone`: it is not there any more (or was moved, and nobody has used the tool in it since).
    """

    name: str
    id: str
    state: State
    created: float  # seconds since 1970
    repository: str
    gone: bool
    disk_bytes: int
    command: tuple[str, ...]


@dataclass(frozen=True)
class Everywhere:
    """`disk_bytes`: of all these together; `trash_bytes`: of what is in the trash of any repository, beside them."""

    sandboxes: list[Elsewhere]
    disk_bytes: int
    trash_bytes: int


@dataclass(frozen=True)
class Located:
    """A sandbox by its directory. `common_dir`: of its repository; None when that is gone."""

    of: StateDirectory
    entry: Entry
    common_dir: Path | None

    @property
    def name(self) -> str:
        return f"{self.of.key}{SEPARATOR}{self.entry.id}"


def look() -> Everywhere:
    """All of them, by repository, the oldest first."""
    rows = [_row(sandbox) for sandbox in _all()]
    return Everywhere(rows, sum(row.disk_bytes for row in rows), expiry.summary().size)


def by_repository() -> Iterator[tuple[str, Repository | None, list[Elsewhere]]]:
    """The key of each repository that has sandboxes, a checkout of it (None where there is none any more), and them."""
    for directory in registry.every():
        entries = store.entries_in(directory.root)
        sandboxes = [Located(directory, entry, _there(directory, entry)) for entry in entries]
        if sandboxes:
            yield directory.key, _checkout(sandboxes), [_row(sandbox) for sandbox in sandboxes]


def _checkout(sandboxes: Sequence[Located]) -> Repository | None:
    common = next((sandbox.common_dir for sandbox in sandboxes if sandbox.common_dir), None)
    started = [Path(sandbox.entry.record.worktree) for sandbox in sandboxes if sandbox.entry.record]
    with contextlib.suppress(RepositoryError):
        return checkout(common, started) if common else None
    return None


def _all() -> list[Located]:
    return [
        Located(state, entry, _there(state, entry))
        for state in registry.every()
        for entry in store.entries_in(state.root)
    ]


def _row(sandbox: Located) -> Elsewhere:
    entry, record = sandbox.entry, sandbox.entry.record
    return Elsewhere(
        sandbox.name,
        entry.id,
        entry.state,
        record.created if record else 0.0,
        str(_place(sandbox)),
        sandbox.common_dir is None,
        entry.disk_bytes,
        record.command if record else (),
    )


def _place(sandbox: Located) -> Path | str:
    if sandbox.of.seen is not None:
        return sandbox.of.seen.worktree
    return Path(sandbox.entry.record.worktree) if sandbox.entry.record else "?"


def _there(state: StateDirectory, entry: Entry) -> Path | None:
    if state.seen is not None:
        return state.seen.path if state.seen.holds() else None
    common = Path(entry.record.common_dir) if entry.record else None  # from before repositories had an identity
    return common if common is not None and gitdirs.is_git_dir(common) else None


def addressed(name: str, around: Repository | None) -> tuple[Repository, str]:
    """The repository of the sandbox `KEY/ID`, and its ID there. `around`: the one we stand in, which is taken if it is
    that one; else the checkout where the sandbox was started, or the main one.

    Raises StateError for no such sandbox, and for one whose repository is gone.
    """
    sandbox = find(name, None)
    if sandbox.common_dir is None:
        raise StateError(
            f"the repository of sandbox `{sandbox.name}` is gone",
            hint=f"`sandbox recover {sandbox.name} --into REPO` recovers it into another one",
        )
    if around is not None and os.path.realpath(around.common_dir) == os.path.realpath(sandbox.common_dir):
        return around, sandbox.entry.id
    started = [Path(sandbox.entry.record.worktree)] if sandbox.entry.record else []
    return checkout(sandbox.common_dir, started), sandbox.entry.id


def checkout(common_dir: Path, started: Iterable[Path] = ()) -> Repository:
    """The repository with that common git directory: in the first of `started` that is one of its checkouts, or else in
    its main one. Raises RepositoryError where there is none, as for a bare one.
    """
    for place in (*started, common_dir.parent):
        with contextlib.suppress(RepositoryError):
            repo = repos.discover(place)
            if os.path.realpath(repo.common_dir) == os.path.realpath(common_dir):
                return repo
    raise RepositoryError(
        f"no checkout of {one_line(os.fspath(common_dir), limit=300)} was found", hint="go to one, and name the ID only"
    )


def find(name: str, repo: Repository | None) -> Located:
    """The sandbox of that name: `ID` in `repo` or else anywhere, or `REPOSITORY/ID` as `look` has it, of which the
    beginning is enough. Raises StateError for none, and for several.
    """
    key, _, sandbox_name = name.rpartition(SEPARATOR)
    if not is_sandbox_id(sandbox_name) or (key and not _KEY.fullmatch(key)):
        raise UsageError("invalid name of a sandbox", hint="`sandbox ls --everywhere` lists them")
    own = registry.find(repo) if repo is not None and not key else None
    fitting = [sandbox for sandbox in _all() if sandbox.entry.id == sandbox_name and sandbox.of.key.startswith(key)]
    exact = [sandbox for sandbox in fitting if sandbox.of.root == own or sandbox.of.key == key]
    chosen = exact or fitting
    if not chosen:
        raise StateError(
            f"there is no sandbox `{name}`", hint="`sandbox ls --everywhere` lists those of all repositories"
        )
    if len(chosen) > 1:
        named = ", ".join(f"`{sandbox.name}`" for sandbox in chosen[:SHOWN])
        raise StateError(f"several sandboxes are named `{name}`", hint=f"name one of {named}")
    return chosen[0]
