"""Tries as tasks of a Ray cluster (extra `ray`): Ray does placement, queues and retries.

A task gives its job to a worker on its node, as a connection by ssh would. Files go through the object store, and a
node fetches those that its worker lacks. The result is imported here as any other; then the node hears that it is here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from git_sandbox import jsontext, store
from git_sandbox.errors import SandboxError, StateError
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import blobs
from git_sandbox.jobs.frames import Writer
from git_sandbox.jobs.job import Packed
from git_sandbox.jobs.result import Hearing
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.sandbox import dispatch, hosts, ray_cluster
from git_sandbox.sandbox.crowd import Failure, Output, Ran, Try, lines
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.ray_cluster import Cluster
from git_sandbox.sandbox.ray_task import Done, delivered, fetch, work
from git_sandbox.sandbox.supervisor import Ended

RETRIES = 3  # of a task whose node or process is gone
LATE = 60.0  # seconds for nodes to hear that a result is here
AHEAD = (
    500  # tasks that Ray has at a time: it looks at all of them for each that ends, and a cluster grows by far fewer
)


@dataclass
class Tasks:
    """Tries that are on their way, by the reference of their task. Nothing of a result stays in memory."""

    cluster: Cluster
    repo: Repository
    progress: Progress
    output: Output
    tasks: dict[Any, tuple[int, str, str]] = field(default_factory=dict)  # index, sandbox, nonce
    parts: dict[str, Any] = field(default_factory=dict)
    acknowledged: list[Any] = field(default_factory=list)
    tries: dict[int, Try] = field(default_factory=dict)

    def submit(self, index: int, options: Options) -> None:
        try:
            with dispatch.prepared(self.repo, options, self.progress, lambda _warnings: None) as sent:
                parts = self._stored(sent.packed)
                record = sent.job.record
                task = self.cluster.ray.remote(work).options(
                    num_cpus=record.cpus, memory=(record.memory + hosts.OVERHEAD) << 20, max_retries=RETRIES
                )
                sent.note(options.on[0])
                known = (index, sent.handle.id, sent.job.nonce)
                self.tasks[task.remote(ray_cluster.WORKER, jsontext.encode(sent.job), parts)] = known
        except SandboxError as error:
            self.tries[index] = _failed(index, None, error)

    def _stored(self, packed: Packed) -> dict[str, Any]:
        """References of a job's files: each is put into the object store once."""
        writers: dict[str, Callable[[Writer], None]] = {}
        for blob in packed.job.disks.every:
            writers[blob.digest] = lambda writer, blob=blob: blobs.send(writer, blob, packed.places[blob])  # type: ignore[misc]
        for name in packed.images:
            writers[name] = lambda writer, name=name: packed.image(writer, name)  # type: ignore[misc]
        for name, send in writers.items():
            if name not in self.parts:
                out = io.BytesIO()
                send(Writer(out, None))
                self.parts[name] = self.cluster.ray.put(out.getvalue())
        return {name: self.parts[name] for name in writers}

    def hear(self, left: int = 0) -> None:
        """Import what is done, as it is done, until only `left` are on their way."""
        while len(self.tasks) > left:
            (ready, *_), _ = self.cluster.ray.wait(list(self.tasks), num_returns=1)
            index, name, nonce = self.tasks.pop(ready)
            self.progress(f"{len(self.tries)} ended, {len(self.tasks) + 1} on their way")
            try:
                self.tries[index] = self._home(index, name, nonce, self.cluster.done(ready))
            except SandboxError as error:
                self.tries[index] = _failed(index, name, error)

    def settle(self, left: int = 0) -> None:
        """Wait until all nodes but of `left` results have heard."""
        if over := len(self.acknowledged) - left:
            self.acknowledged = self.cluster.ray.wait(self.acknowledged, num_returns=over, timeout=LATE)[1]

    def asked(self, nonce: str) -> Done:
        """What any node has of a job. Raises SandboxError: what the last one says."""
        problem: SandboxError = StateError("the cluster has no node")
        for node in self.cluster.nodes():
            try:
                return self.cluster.done(self.cluster.on(node, fetch).remote(ray_cluster.WORKER, nonce))
            except SandboxError as error:
                problem = error
        raise problem

    def imported(self, name: str, nonce: str, done: Done, *, remove: bool) -> Finished:
        """What a task returned, in the sandbox that waits for it; its node hears of it. Raises SandboxError."""
        with store.open_existing(self.repo, name) as (handle, entry):
            if entry.record is None:
                raise store.unreadable(entry)
            hearing = Hearing(output=lambda channel, data: self._say(name, channel, data))
            answer, home = dispatch.took(handle, entry.record, nonce, io.BytesIO(done.result), hearing)
            record, kept = dispatch.settled(handle, entry.record, answer, home, remove=remove)
            ended = dispatch.finished(handle, record, answer, home, kept=kept, warnings=())
        if dispatch.whole(home):
            self.acknowledge(done.node, nonce)
        return ended

    def _home(self, index: int, name: str, nonce: str, done: Done) -> Try:
        ended = self.imported(name, nonce, done, remove=True)
        home, came = ended.home, ended.home.collected
        result = Ended(
            name, ended.exit_code, home.changed, home.rescued, came.head, came.wip,
            {ref: new for ref, (_, new) in came.updated.items()}, ended.warnings,
        )  # fmt: skip
        return Try(index, name, ended.exit_code, ended=result)

    def _say(self, name: str, channel: int, data: bytes) -> None:
        for line in lines(iter([data]), len(data) + 1):
            self.output(name, channel, line)

    def acknowledge(self, node: str, nonce: str) -> None:
        self.acknowledged.append(self.cluster.on(node, delivered).remote(ray_cluster.WORKER, nonce))
        if len(self.acknowledged) > AHEAD:
            self.settle(AHEAD)


def _failed(index: int, name: str | None, error: SandboxError) -> Try:
    failure = Failure(error.kind, error.message, error.cause, error.hint, error.exit_code)
    return Try(index, name, error.exit_code, failure=failure)


def run(repo: Repository, attempts: Sequence[Options], progress: Progress, output: Output) -> Ran:
    """Run all of them as tasks of one cluster. Those that end are imported while others run."""
    with ray_cluster.connected(attempts[0].on[0]) as cluster:
        crowd = Tasks(cluster, repo, progress, output)
        for index, options in enumerate(attempts, 1):
            crowd.hear(AHEAD - 1)
            crowd.submit(index, options)
        crowd.hear()
        crowd.settle()
    return Ran(tuple(crowd.tries[index] for index in sorted(crowd.tries)))


def recover(
    repo: Repository, place: str, names: Sequence[str], progress: Progress
) -> Iterator[tuple[str, Finished | SandboxError]]:
    """What the nodes of a cluster have of sandboxes that are away, or why it did not come: one does not keep the others
    away. Raises RequirementError.
    """
    nonces = {str(entry.id): known.nonce for entry, known in dispatch.away(repo).values()}
    with ray_cluster.connected(place) as cluster:
        crowd = Tasks(cluster, repo, progress, lambda _name, _channel, _line: None)
        for name in names:
            try:
                if name not in nonces:
                    raise dispatch.not_away(name)
                yield name, crowd.imported(name, nonces[name], crowd.asked(nonces[name]), remove=False)
            except SandboxError as error:
                yield name, error
        crowd.settle()
