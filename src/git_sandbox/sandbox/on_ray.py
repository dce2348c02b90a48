"""Tries as tasks of a Ray cluster (extra `ray`): placement, queues and retries are Ray's; the promises are ours.

A task gives its job to a worker on its node, as a connection by ssh would. Files go through the object store, and a
node fetches those that its worker lacks. The result is imported here as any other; then the node hears that it is here.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from git_sandbox import jsontext, store
from git_sandbox.errors import RequirementError, SandboxError
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import blobs, frames
from git_sandbox.jobs.frames import Reader, Writer
from git_sandbox.jobs.job import Packed
from git_sandbox.jobs.result import Hearing, Question
from git_sandbox.progress import Progress
from git_sandbox.sandbox import dispatch, hosts
from git_sandbox.sandbox.hosts import LostError
from git_sandbox.sandbox.mouth import OUTPUT_LIMIT
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.parallel import Failure, Output, Ran, Try, lines
from git_sandbox.sandbox.supervisor import Ended, failure

RAY = "ray"
RETRIES = 3  # of a task whose node or process is gone
WORKER = (sys.executable, "-P", "-m", "git_sandbox", "worker")  # on a node, which has the same installation
HERE = "this node"
LATE = 60.0  # seconds for nodes to hear that a result is here


def is_ray(place: str) -> bool:
    return place == RAY or place.startswith(f"{RAY}:")


class Done(msgspec.Struct, frozen=True):
    """What a task returns: the node it ran on and a result as a stream, or why there is none."""

    node: str
    result: bytes = b""
    error: tuple[str, str, str, int] | None = None  # message, cause, hint, exit code


# --- on a node --------------------------------------------------------------------------------------------------------


@dataclass
class _Load:
    """A job whose files are in the object store, by digest, and its images by name."""

    words: bytes
    parts: Mapping[str, Any]

    def head(self, writer: Writer) -> None:
        writer.text(frames.HEAD, self.words)

    def files(self, writer: Writer, wanted: Collection[str] | None = None) -> None:
        for name in wanted or ():
            if name in self.parts:
                reader = Reader(io.BytesIO(_ray().get(self.parts[name])), None)
                while (frame := reader.next()) is not None:
                    writer.put(frame.kind, frame.data)
        writer.end()


def work(argv: Sequence[str], words: bytes, parts: Mapping[str, Any]) -> Done:
    """The task."""
    node = _ray().get_runtime_context().get_node_id()
    printed = bytearray()

    def output(channel: int, data: bytes) -> None:
        if len(printed) < OUTPUT_LIMIT:
            out = io.BytesIO()
            Writer(out, None).put(frames.OUTPUT, bytes([channel]) + data)
            printed.extend(out.getvalue())

    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        target, load = Path(scratch, "result"), _Load(words, parts)

        def attempt(hearing: Hearing) -> None:
            with hosts.started(argv, HERE, frames.JOB, Path(scratch, "log")) as talk:
                hosts.run(talk, load, target, hearing, lambda: None)

        try:
            try:
                attempt(Hearing(output=output))
            except LostError:  # the worker was killed: what is on its disk
                attempt(Hearing())
        except SandboxError as error:
            return Done(node, error=(error.message, error.cause, error.hint, error.exit_code))
        return Done(node, frames.RESULT + bytes(printed) + target.read_bytes()[len(frames.RESULT) :])


def delivered(argv: Sequence[str], nonce: str) -> None:
    """Say on this node that the result of a job is where it belongs."""
    with (
        tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch,
        contextlib.suppress(SandboxError),
        hosts.started(argv, HERE, frames.ASK, Path(scratch, "log")) as talk,
    ):
        talk.send(frames.QUESTION, jsontext.encode(Question("delivered", nonce)))
        while talk.source.next() is not None:
            pass


# --- here -------------------------------------------------------------------------------------------------------------


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RequirementError(
            "`--on ray` needs Ray", cause=str(error), hint="`pip install 'git-sandbox[ray]'`, here and on the nodes"
        ) from None
    return ray


@contextlib.contextmanager
def _connected(place: str) -> Iterator[Any]:
    """Ray, connected to the cluster at `ray:ADDRESS`, or to the one that `ray` finds, or to a new one on this host."""
    ray = _ray()
    address = place.removeprefix(RAY).removeprefix(":") or None
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False if not address else None,
        )
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


@dataclass
class _Crowd:
    """Tries that are on their way, by the reference of their task. Nothing of a result stays in memory."""

    ray: Any
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
                task = self.ray.remote(work).options(
                    num_cpus=record.cpus, memory=(record.memory + hosts.OVERHEAD) << 20, max_retries=RETRIES
                )
                sent.note(options.on[0])
                known = (index, sent.box.id, sent.job.nonce)
                self.tasks[task.remote(WORKER, jsontext.encode(sent.job), parts)] = known
        except SandboxError as error:
            self.tries[index] = _failed(index, None, error)

    def _stored(self, packed: Packed) -> dict[str, Any]:
        """References of a job's files: each is put into the object store once."""
        wanted: dict[str, Callable[[Writer], None]] = {}
        for blob in packed.job.disks.every:
            wanted[blob.digest] = lambda writer, blob=blob: blobs.send(writer, blob, packed.places[blob])  # type: ignore[misc]
        for name in packed.images:
            wanted[name] = lambda writer, name=name: packed.image(writer, name)  # type: ignore[misc]
        for name, send in wanted.items():
            if name not in self.parts:
                out = io.BytesIO()
                send(Writer(out, None))
                self.parts[name] = self.ray.put(out.getvalue())
        return {name: self.parts[name] for name in wanted}

    def hear(self) -> None:
        """Import what is done, as it is done."""
        while self.tasks:
            (ready, *_), _ = self.ray.wait(list(self.tasks), num_returns=1)
            index, name, nonce = self.tasks.pop(ready)
            self.progress(f"{len(self.tries)} ended, {len(self.tasks) + 1} on their way")
            try:
                self.tries[index] = self._home(index, name, nonce, self._got(ready))
            except SandboxError as error:
                self.tries[index] = _failed(index, name, error)
        self.ray.wait(
            self.acknowledged, num_returns=len(self.acknowledged), timeout=LATE
        ) if self.acknowledged else None

    def _got(self, task: Any) -> Done:
        try:
            found: Done = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            raise SandboxError("Ray lost the task", cause=str(error)[:2000]) from error
        if found.error is not None:
            raise failure(*found.error)
        return found

    def _home(self, index: int, name: str, nonce: str, found: Done) -> Try:
        with store.open_existing(self.repo, name) as (box, entry):
            if entry.record is None:
                raise store.unreadable(entry)
            hearing = Hearing(output=lambda channel, data: self._say(name, channel, data))
            answer, home = dispatch.took(box, entry.record, nonce, io.BytesIO(found.result), hearing)
            record, kept = dispatch.settled(box, entry.record, answer, home, remove=True)
            ended = dispatch.finished(box, record, answer, home, kept=kept, warnings=())
        if dispatch.whole(home):
            self._acknowledge(found.node, nonce)
        came = home.collected
        told = Ended(
            name, ended.exit_code, home.changed, home.rescued, came.head, came.wip,
            {ref: new for ref, (_, new) in came.updated.items()}, ended.warnings,
        )  # fmt: skip
        return Try(index, name, ended.exit_code, ended=told)

    def _say(self, name: str, channel: int, data: bytes) -> None:
        for line in lines(iter([data]), len(data) + 1):
            self.output(name, channel, line)

    def _acknowledge(self, node: str, nonce: str) -> None:
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        task = self.ray.remote(delivered).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)
        self.acknowledged.append(task.remote(WORKER, nonce))


def _failed(index: int, name: str | None, error: SandboxError) -> Try:
    told = Failure(error.kind, error.message, error.cause, error.hint, error.exit_code)
    return Try(index, name, error.exit_code, failure=told)


def run(repo: Repository, each: Sequence[Options], progress: Progress, output: Output) -> Ran:
    """Run all of them as tasks of one cluster. Those that end are imported while others run."""
    with _connected(each[0].on[0]) as ray:
        crowd = _Crowd(ray, repo, progress, output)
        for index, options in enumerate(each, 1):
            crowd.submit(index, options)
        crowd.hear()
    return Ran(tuple(crowd.tries[index] for index in sorted(crowd.tries)))
