"""A repository: create, list and compare its sandboxes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from git_sandbox import store
from git_sandbox.api.sandbox import Sandbox
from git_sandbox.api.shared import LIMIT, Given, contained, interruptible, resolved, streams
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import results, siblings
from git_sandbox.integrate.results import Group
from git_sandbox.integrate.siblings import Comparison, Sibling
from git_sandbox.progress import Progress
from git_sandbox.sandbox import expiring, lifecycle, listing, lookup, parallel, settle, supervisor, trashed
from git_sandbox.sandbox.crowd import Try
from git_sandbox.sandbox.everywhere import Everywhere
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.listing import Row
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.settle import Questions, Settled
from git_sandbox.sandbox.trashed import Pruned

Line = Callable[[str, int, bytes], None]  # id of a sandbox, 1 for output or 2 for error output, one line


@dataclass(frozen=True)
class Ran:
    """A sandbox that has ended: what its command said, what came home (`finished`), what became of it (`settled`)."""

    finished: Finished
    settled: Settled
    stdout: bytes
    stderr: bytes
    truncated: bool = False  # it said more than the limit, and only the beginning is here

    @property
    def id(self) -> str:
        return self.finished.id

    @property
    def exit_code(self) -> int:
        return self.finished.exit_code

    @property
    def changed(self) -> bool:
        """False: it ended as it began, and nothing is left of it."""
        return self.finished.home.changed


def open(path: str | os.PathLike[str] = ".") -> Project:  # noqa: A001 - `git_sandbox.open`, as in tarfile and dbm
    """The repository around `path`. Raises SandboxError (kind `repository`) when there is none."""
    return Project(repos.discover(Path(path)))


def everywhere() -> Everywhere:
    """The sandboxes of all repositories of this user, with what they take on disk."""
    from git_sandbox.sandbox import everywhere as places  # late: most programs work in one repository

    return places.look()


@dataclass(frozen=True)
class Project:
    """A repository, and the sandboxes of it."""

    repository: Repository

    def run(
        self,
        command: Sequence[str],
        *,
        name: str | None = None,
        origin: str | None = None,
        input: bytes = b"",
        limit: int = LIMIT,
        progress: Progress = lambda _text: None,
        **given: Unpack[Given],
    ) -> Ran:
        """Run a command in a new sandbox to its end, and bring home what came of it; nothing is merged unless `on_exit`
        is `merge`. `origin`: a sandbox to begin with the disk of. Ctrl-C brings the work home before it is raised.
        `limit`: bytes kept of each output; of more, `Ran.truncated` says so.
        """
        with streams(input, limit) as (stdin, out, err):
            options = Options(
                resolved(self.repository, given), name, tuple(command), origin=origin,
                stdin=stdin.fileno(), stdout=out.descriptor, stderr=err.descriptor,
            )  # fmt: skip
            options = contained(self.repository, given, options)
            with interruptible():
                finished = lifecycle.spawn(self.repository, options, progress)
                settled = _settle(finished, options)
            expiring.expire()
            if finished.interrupted:
                raise KeyboardInterrupt if finished.interrupted == signal.SIGINT else Interrupted(finished.interrupted)
            return Ran(finished, settled, out.content, err.content, out.truncated or err.truncated)

    def run_many(
        self,
        command: Sequence[str],
        count: int,
        *,
        name: str | None = None,
        origin: str | None = None,
        output: Line = lambda _name, _channel, _line: None,
        progress: Progress = lambda _text: None,
        **given: Unpack[Given],
    ) -> list[Try]:
        """`count` tries of one task side by side; each finds SANDBOX_INDEX in its environment. See `run --count`."""
        options = Options(resolved(self.repository, given), name, tuple(command), origin=origin)
        options = contained(self.repository, given, options, forwarded=False)
        planned = parallel.plan(self.repository, options, count, share_processors="cpus" not in given)
        with interruptible():
            ran = parallel.run(self.repository, planned, progress, output)
        if ran.interrupted:
            raise KeyboardInterrupt if ran.interrupted == signal.SIGINT else Interrupted(ran.interrupted)
        return list(ran.tries)

    def spawn(
        self,
        *,
        name: str | None = None,
        origin: str | None = None,
        progress: Progress = lambda _text: None,
        **given: Unpack[Given],
    ) -> Sandbox:
        """A new sandbox that runs until it is stopped, also when this program ends. As a context manager it is stopped
        at the end of the block.
        """
        options = Options(resolved(self.repository, given), name, origin=origin, detached=True)
        options = contained(self.repository, given, options)
        return self.sandbox(supervisor.start(self.repository, options, progress))

    def sandbox(self, name: str) -> Sandbox:
        """One that is there, whatever its state. Raises StateError when there is none of that name."""
        return Sandbox(self.repository, store.find(self.repository, name).id)

    def sandboxes(self) -> list[Row]:
        """All of them, oldest first."""
        return listing.rows(self.repository)

    def trash(self) -> list[Row]:
        """What `Sandbox.restore` can bring back, the oldest first."""
        trashed.finish(self.repository)
        return trashed.rows(self.repository)

    def prune(self, *names: str, everything: bool = False, dry_run: bool = False) -> Pruned:
        """Delete for good what has expired in the trash; with names only these, with `everything` all of it."""
        if names and everything:
            raise UsageError("names and everything=True cannot be used together")
        trashed.finish(self.repository)
        root = store.state_directory(self.repository)
        return trashed.prune([root], names, everything=everything, dry_run=dry_run)

    def groups(self, *names: str) -> tuple[Group, ...]:
        """Which sandboxes ended with the same files, the largest group first; without names of all."""
        entries = [store.find(self.repository, name) for name in names] or store.entries(self.repository)
        return results.grouped(self.repository, {entry.id: entry.refs for entry in entries})

    def compare(self, *names: str) -> Comparison:
        """Predicted conflicts among two or more sandboxes with commits, and an order to merge them in."""
        if not 2 <= len(names) <= siblings.MAX_SIBLINGS:  # noqa: PLR2004 - a comparison has two sides
            raise UsageError(f"2 to {siblings.MAX_SIBLINGS} sandboxes can be compared")
        sandboxes = [lookup.known(self.repository, name) for name in names]
        return siblings.compare(
            self.repository,
            [Sibling(sandbox.entry.id, sandbox.base.commit, lookup.require_head(sandbox)) for sandbox in sandboxes],
        )


def _settle(finished: Finished, options: Options) -> Settled:
    settings = options.settings
    return settle.settle(
        finished.repo, finished.record, finished.home, Questions(), on_exit=settings.on_exit, dirty=settings.dirty
    )  # fmt: skip
