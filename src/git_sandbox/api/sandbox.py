"""One sandbox, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Unpack

from git_sandbox import files, settings, store
from git_sandbox.api.shared import LIMIT, Given, Output, resolved, streams
from git_sandbox.egress.request_log import Row as Request
from git_sandbox.egress.rules import Rule
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import branches, resolve, review
from git_sandbox.integrate.branches import Branch
from git_sandbox.integrate.merge import Merged, merge
from git_sandbox.integrate.modes import Mode
from git_sandbox.integrate.modes import Request as MergeRequest
from git_sandbox.integrate.patches import Patches, patches
from git_sandbox.integrate.plan import Plan, plan
from git_sandbox.integrate.preview import preview
from git_sandbox.integrate.resolve import Aborted, Started
from git_sandbox.integrate.review import CommitInfo, Difference, Span, Style
from git_sandbox.integrate.undo import Undone, undo
from git_sandbox.progress import Progress
from git_sandbox.sandbox import egress_proxy, expiring, fork, live, lookup, remove, scp, supervisor, trashed
from git_sandbox.sandbox import rename as renaming
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.remove import Dropped, Recovered
from git_sandbox.sandbox.rename import Sized
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

    def collect(self, *, progress: Progress = lambda _text: None) -> Retrieval:
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

    def bundle(self, target: str | os.PathLike[str], *, progress: Progress = lambda _text: None) -> list[Path]:
        """Write what is on its disk to a new git bundle, as the guest sent it: unexamined; the files."""
        return remove.hand_out(self.repository, self.id, Path(target), progress)

    def fork(self, name: str | None = None, *, progress: Progress = lambda _text: None) -> Sandbox:
        """A second, stopped sandbox with the disk of this one."""
        return Sandbox(self.repository, fork.fork(self.repository, self.id, name, progress).id)

    def rename(self, new: str) -> Sandbox:
        """Call it `new`; this value still has the former name. StateError while it runs."""
        return Sandbox(self.repository, renaming.rename(self.repository, self.id, new).id)

    def set(self, *, memory: str | None = None, cpus: int | str | None = None) -> Sized:
        """Give its machine more or less from its next start on: `memory="8G"`, `cpus=2`. StateError while it runs."""
        given = {"memory": memory, "cpus": cpus}
        texts = {name: str(value) for name, value in given.items() if value is not None}
        if not texts:
            raise UsageError("nothing to change is given", hint="memory or cpus")
        values = {name: settings.parsed(name, text, "set()") for name, text in texts.items()}
        return renaming.resize(self.repository, self.id, **values)

    def logs(self, *, limit: int = LIMIT) -> bytes:
        """What the command of a detached sandbox has written, its last `limit` bytes. Guest text."""
        try:
            return files.tail(store.find(self.repository, self.id).directory.output, limit)
        except FileNotFoundError:
            raise StateError(f"sandbox `{self.id}` has no output", hint="only detached commands have one") from None

    def requests(self) -> list[Request]:
        """What was asked for on the network `allow`, the last first."""
        return egress_proxy.requests(store.find(self.repository, self.id).directory)

    def allow(self, *rules: str) -> tuple[Rule, ...]:
        """Let it connect to more names, at once when it runs; all its rules. StateError without the network `allow`."""
        return egress_proxy.permit(self.repository, self.id, rules)

    def ssh_config(self) -> str:
        """What ssh reads to reach it as the host `sandbox-ID`. StateError unless it runs."""
        return live.ssh_configs(self.repository, self.id).get(self.id, "")

    def diff(
        self, span: Span | None = None, *, style: Style = Style.PATCH, paths: Sequence[str] = (), limit: int = LIMIT
    ) -> Difference:
        """What `merge` would change here, or what `span` says: `BASE`, `SPAWN`, `WIP`. `paths`: from the top."""
        sandbox = lookup.known(self.repository, self.id)
        if span is not None:
            ends = lookup.ends(sandbox, span)
            git = sandbox.base.seen_by(self.repository.git)
            return review.difference(git, *ends, style=style, most=limit, paths=paths)
        request = MergeRequest(sandbox.entry.id, lookup.require_head(sandbox))
        with preview(self.repository, sandbox.base, request) as seen:
            return review.difference(seen.git, seen.before, seen.after, style=style, most=limit, paths=paths)

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
        if planned.possible:
            _refuse_question(planned, yes=yes)
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
            raise UsageError(
                "not moved without your consent: it changes files that run by themselves", hint="say yes=True"
            )
        branches.make(self.repository, sandbox.entry.id, moves)
        return moves

    def undo_branch(self) -> tuple[Branch, ...]:
        """Remove or move back the branches that `branch` made or moved, where nobody has moved them since."""
        return branches.undo(self.repository, store.find(self.repository, self.id).id)

    def patches(self, directory: str | os.PathLike[str]) -> Patches:
        """Write its commits as patches for `git am` into a new or empty directory."""
        return patches(self.repository, lookup.require_head(lookup.known(self.repository, self.id)), Path(directory))

    def begin_merge(self, *, yes: bool = False) -> Started:
        """Begin a merge that has conflicts, which the checkout then has, to be resolved by hand. Without `yes` only
        where no file changes that runs by itself; else UsageError.
        """
        sandbox, request = self._request(Mode.FF_OR_MERGE, None)
        _refuse_question(plan(self.repository, sandbox.base, request), yes=yes)
        return resolve.start(self.repository, sandbox.base, request)

    def abort_merge(self) -> Aborted:
        """Take back what `begin_merge` began."""
        return resolve.abort(self.repository, store.find(self.repository, self.id).id)

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

    def _request(self, mode: Mode, message: str | None) -> tuple[lookup.Known, MergeRequest]:
        sandbox = lookup.known(self.repository, self.id)
        return sandbox, MergeRequest(sandbox.entry.id, lookup.require_head(sandbox), mode, (), message)


def _refuse_question(planned: Plan, *, yes: bool) -> None:
    if planned.question and not yes:
        raise UsageError(f"not merged without your consent: {planned.question}", hint="look at it, then say yes=True")
