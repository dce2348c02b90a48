"""One sandbox, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Unpack

from git_sandbox import store
from git_sandbox.api.shared import LIMIT, Given, Output, resolved, streams
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import branches, review
from git_sandbox.integrate.branches import Branch
from git_sandbox.integrate.merge import Merged, merge
from git_sandbox.integrate.modes import Mode, Request
from git_sandbox.integrate.plan import Plan, plan
from git_sandbox.integrate.review import CommitInfo
from git_sandbox.integrate.undo import Undone, undo
from git_sandbox.progress import Progress
from git_sandbox.sandbox import expiring, fork, live, lookup, remove, scp, supervisor, trashed
from git_sandbox.sandbox.imported import Home
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.remove import Dropped, Recovered
from git_sandbox.sandbox.trashed import Restored
from git_sandbox.store import State


@dataclass(frozen=True)
class Sandbox:
    """One sandbox of a repository. Nothing is remembered here: every call looks how things stand."""

    repository: Repository
    id: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.state is State.RUNNING:
            self.stop()

    @property
    def state(self) -> State:
        """`State.REFS` also when nothing at all is left of it. In the trash: `State.TRASH`."""
        entries = [entry for entry in store.entries(self.repository) if entry.id == self.id]
        if entries:
            return entries[0].state
        return State.TRASH if trashed.find(self.repository, self.id) else State.REFS

    @property
    def refs(self) -> dict[RefName, Oid]:
        """The refs in the repository that are this sandbox's."""
        return next((dict(entry.refs) for entry in store.entries(self.repository) if entry.id == self.id), {})

    def start(self, *, progress: Progress = lambda _text: None, **given: Unpack[Given]) -> Self:
        """Start it again from its disk, and leave it running. One that ended badly must be `recover`ed first."""
        if self.state is not State.STOPPED:
            raise StateError(f"sandbox `{self.id}` is not stopped ({self.state})")
        options = Options(resolved(self.repository, given), self.id, detached=True)
        supervisor.start(self.repository, options, progress, resume=self.id)
        return self

    def exec(
        self, command: Sequence[str], *, input: bytes = b"", directory: str = "/workspace", limit: int = LIMIT
    ) -> Output:
        """Run a command in the running sandbox, to its end. `limit`: bytes kept of each output, see `Output`."""
        session = live.open_session(self.repository, self.id)
        with streams(input, limit) as (stdin, out, err):
            code = session.run(command, directory, stdin=stdin.fileno(), stdout=out.descriptor, stderr=err.descriptor)
            return Output(code, out.content, err.content, out.truncated or err.truncated)

    def upload(self, source: str | os.PathLike[str], target: str) -> None:
        """Copy a file or directory of this host into the running sandbox."""
        scp.upload(live.open_session(self.repository, self.id), Path(source), target)

    def download(
        self, source: str, target: str | os.PathLike[str], *, limit: int = scp.LIMIT, accept_risky: bool = False
    ) -> Path:
        """Copy a file or directory out of the running sandbox; where it is now. StateError when more than `limit` bytes
        come, or (without `accept_risky`) files that programs of this host obey by themselves; then nothing is.
        """
        session = live.open_session(self.repository, self.id)
        return scp.download(session, source, Path(target), limit, accept_risky=accept_risky).target

    def collect(self, *, progress: Progress = lambda _text: None) -> Home:
        """Bring home now what the running sandbox has, as `sandbox sync` here and `sandbox push` inside do."""
        return live.sync(self.repository, self.id, progress)

    def push(self) -> list[str]:
        """The other way, as `sandbox sync --send`: this repository's branches appear inside as refs/remotes/host/*.
        A line for each that is new there.
        """
        return live.send(self.repository, self.id)

    def stop(self, *, progress: Progress = lambda _text: None) -> dict[RefName, Oid]:
        """Bring its work home and shut it down; its refs, none when it had changed nothing and is in the trash."""
        return live.stop(self.repository, self.id, progress)

    def recover(self, *, progress: Progress = lambda _text: None) -> Recovered:
        """Bring home what is on the disk of a sandbox that does not run (any more)."""
        return remove.recover(self.repository, self.id, progress)

    def fork(self, name: str | None = None, *, progress: Progress = lambda _text: None) -> Sandbox:
        """A second, stopped sandbox with the disk of this one."""
        return Sandbox(self.repository, fork.fork(self.repository, self.id, name, progress).id)

    def commits(self) -> list[CommitInfo]:
        """What came home beyond the base, newest first."""
        sandbox = lookup.known(self.repository, self.id)
        tips = [*([sandbox.head] if sandbox.head else []), *sandbox.branches.values()]
        return review.log(self.repository, tips, sandbox.base.commit) if tips else []

    def plan(self, mode: Mode = Mode.FF_OR_MERGE) -> Plan:
        """What `merge` would do now. Nothing is changed."""
        sandbox, request = self._request(mode, None)
        return plan(self.repository, sandbox.base, request)

    def merge(self, mode: Mode = Mode.FF_OR_MERGE, *, message: str | None = None, yes: bool = False) -> Merged:
        """Merge its commits into the current branch, all or nothing.

        Without `yes` only what needs nobody's consent is merged (`Plan.question`); else UsageError.
        """
        sandbox, request = self._request(mode, message)
        planned = plan(self.repository, sandbox.base, request)
        if planned.possible and planned.question and not yes:
            raise UsageError(f"not merged without asking: {planned.question}", hint="look at it, then say yes=True")
        try:
            return merge(self.repository, sandbox.base, request)
        finally:
            store.remember(self.repository, self.id)

    def branch(self, *names: str, yes: bool = False) -> tuple[Branch, ...]:
        """Make its branches branches here: all that it made or moved, or those named (`NAME` or `NAME:NEW`).

        Without `yes` none is moved to what changes files that run by themselves (`branches.risky`): UsageError.
        """
        sandbox = lookup.known(self.repository, self.id)
        moves = branches.look(self.repository, branches.choose(sandbox.branches, names), explicit=bool(names))
        if not yes and branches.risky(self.repository, moves, moved_only=True):
            raise UsageError("not moved without asking: it changes files that run on their own", hint="say yes=True")
        branches.make(self.repository, sandbox.entry.id, moves)
        return moves

    def undo(self) -> Undone:
        """Undo the last merge of this sandbox."""
        return undo(self.repository, store.find(self.repository, self.id).id)

    def drop(self, *, force: bool = False) -> Dropped:
        """Move it to the trash. Raises StateError without `force` when work of it exists nowhere else."""
        dropped = remove.drop(self.repository, self.id, force=force)
        expiring.expire()
        return dropped

    def restore(self) -> Restored:
        """Bring it back from the trash, with its refs."""
        return trashed.restore(self.repository, self.id)

    def _request(self, mode: Mode, message: str | None) -> tuple[lookup.Known, Request]:
        sandbox = lookup.known(self.repository, self.id)
        return sandbox, Request(sandbox.entry.id, lookup.require_head(sandbox), mode, (), message)
