"""The task on a node of a Ray cluster: a worker of the node, and the conversation with it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from git_sandbox import files, jsontext
from git_sandbox.errors import RequirementError, SandboxError
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Reader, Writer
from git_sandbox.jobs.result import Hearing, Question
from git_sandbox.later import dataclass
from git_sandbox.sandbox import hosts
from git_sandbox.sandbox.frame_sender import OUTPUT_LIMIT
from git_sandbox.sandbox.hosts import LostError

HERE = "this node"


def ray() -> Any:
    """The library. Raises RequirementError."""
    try:
        import ray as library
    except ImportError as error:
        raise RequirementError(
            "`--on ray` needs Ray", cause=str(error), hint="`pip install 'git-sandbox[ray]'`, here and on the nodes"
        ) from None
    return library


class Done(msgspec.Struct, frozen=True):
    """What a task returns: the node it ran on and a result as a stream, or why there is none."""

    node: str
    result: bytes = b""
    error: tuple[str, str, str, int] | None = None  # message, cause, hint, exit code


@dataclass
class _Load:
    """A job whose files are in the object store, by digest, and its images by name."""

    words: bytes
    parts: Mapping[str, Any]

    def head(self, writer: Writer) -> None:
        writer.text(frames.HEAD, self.words)

    def files(self, writer: Writer, digests: Collection[str] | None = None) -> None:
        for name in digests or ():
            if name in self.parts:
                reader = Reader(io.BytesIO(ray().get(self.parts[name])), None)
                while (frame := reader.next()) is not None:
                    writer.put(frame.kind, frame.data)
        writer.end()


def work(argv: Sequence[str], words: bytes, parts: Mapping[str, Any]) -> Done:
    """The task."""
    load = _Load(words, parts)

    def attempt(target: Path, hearing: Hearing) -> None:
        with hosts.started(argv, HERE, frames.JOB, target.with_name("log")) as talk:
            hosts.run(talk, load, target, hearing)

    def attempts(target: Path, hearing: Hearing) -> None:
        try:
            attempt(target, hearing)
        except LostError:  # the worker was killed: what is on its disk
            attempt(target, Hearing())

    return _done(attempts)


def fetch(argv: Sequence[str], nonce: str) -> Done:
    """What this node has of a job."""

    def attempt(target: Path, hearing: Hearing) -> None:
        with hosts.started(argv, HERE, frames.ASK, target.with_name("log")) as talk:
            hosts.fetch(talk, nonce, target, hearing)

    return _done(attempt)


def introduced(argv: Sequence[str]) -> Done:
    """What this node's worker says of itself, as JSON."""

    def attempt(target: Path, _hearing: Hearing) -> None:
        with hosts.started(argv, HERE, frames.ASK, target.with_name("log")) as talk:
            talk.send(frames.QUESTION, jsontext.encode(Question("hello")))
            files.write(target, frames.RESULT + jsontext.encode(talk.hello))

    done = _done(attempt)
    return msgspec.structs.replace(done, result=done.result[len(frames.RESULT) :])


def _done(attempt: Callable[[Path, Hearing], None]) -> Done:
    """What `attempt` leaves in a file, and what was printed meanwhile before it."""
    node = ray().get_runtime_context().get_node_id()
    printed = bytearray()

    def output(channel: int, data: bytes) -> None:
        if len(printed) < OUTPUT_LIMIT:
            out = io.BytesIO()
            Writer(out, None).put(frames.OUTPUT, bytes([channel]) + data)
            printed.extend(out.getvalue())

    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        target = Path(scratch, "result")
        try:
            attempt(target, Hearing(output=output))
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
