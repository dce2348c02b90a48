"""What a worker sends back: how the command ended, what it printed, and the guest's export, unexamined.

A worker is as little trusted as its guest: everything here has limits, and what it says is compared with what was asked
for. Objects and refs go through the quarantine like those of a guest of our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from git_sandbox import jsontext
from git_sandbox.errors import SandboxError
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Frame, Reader, Writer, broken
from git_sandbox.jobs.job import Nonce
from git_sandbox.later import dataclass
from git_sandbox.protocol.manifest import MAX_JSON
from git_sandbox.protocol.stream import DEFAULT_LIMITS
from git_sandbox.text import one_line, printable

MAX_WARNINGS = 200
MAX_TEXT = 4096  # characters
MAX_RESULT = DEFAULT_LIMITS.total + (1 << 30)  # bytes of one that are kept: no pack is longer, the rest is small
_WANTED = re.compile(r"[0-9a-f]{64}|(?:image|root):[A-Za-z0-9._-]{1,100}")
T = TypeVar("T")

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class Usage(msgspec.Struct, frozen=True):
    """What a try cost on the worker. Seconds, bytes."""

    wall: Seconds = 0.0
    cpu: Seconds = 0.0
    memory: Annotated[int, Meta(ge=0, le=1 << 60)] = 0


class Answer(msgspec.Struct, frozen=True):
    """`exit_code` None: how the command ended is not known, for its machine died (`reason`), and what is here was on
    its disk. `host`: what the worker calls itself.
    """

    nonce: Nonce
    name: Annotated[str, Meta(max_length=40)]
    exit_code: Annotated[int, Meta(ge=0, le=255)] | None
    program: Text = ""
    host: Text = ""
    reason: Text = ""
    warnings: Annotated[tuple[Text, ...], Meta(max_length=MAX_WARNINGS)] = ()
    usage: Usage = Usage()
    version: Literal[1] = 1

    def safe(self) -> Answer:
        """The same with text that may be printed."""
        return msgspec.structs.replace(
            self, program=one_line(self.program), host=one_line(self.host), reason=one_line(self.reason, limit=400),
            warnings=tuple(one_line(warning, limit=400) for warning in self.warnings),
        )  # fmt: skip


class Hello(msgspec.Struct, frozen=True):
    """What a worker says first. `memory`: MiB that machines can have. `free`: MiB of disk for its state. `kvm`: whether
    `/dev/kvm` can be used. `images`: keys of those it has.
    """

    program: Text
    cpus: Annotated[int, Meta(ge=1, le=1 << 16)]
    memory: Annotated[int, Meta(ge=0, le=1 << 32)]
    free: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    kvm: bool = False
    images: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()
    host: Text = ""
    version: Literal[1] = 1


class Failure(msgspec.Struct, frozen=True):
    """Why a worker did not run a job, in the words of `SandboxError`. `begun`: its command may have run."""

    message: Text
    cause: Annotated[str, Meta(max_length=1 << 16)] = ""
    hint: Text = ""
    exit_code: Annotated[int, Meta(ge=1, le=255)] = 1
    begun: bool = True

    def error(self) -> SandboxError:
        """Safe to print; of the kind that its exit code says."""
        kinds = {kind.exit_code: kind for kind in SandboxError.__subclasses__()}
        kind = kinds.get(self.exit_code, SandboxError)
        return kind(
            one_line(self.message, limit=400), cause=printable(self.cause, limit=4000), hint=one_line(self.hint)
        )


class Question(msgspec.Struct, frozen=True):
    """What may be asked of a worker instead of giving it a job: `hello` for what it is, `result` for that of a job that
    it has, or is at work on; `rescue` for a conversation with a rescue machine that has its disk, `delivered` to say
    that nothing of it is missing any more, `stop` to have it end.
    """

    op: Literal["hello", "result", "rescue", "delivered", "stop"]
    nonce: Nonce | None = None


@dataclass(frozen=True)
class Result:
    """`pack` must be read to its end: only then was the stream whole. Reading raises CollectError."""

    answer: Answer
    manifest: bytes
    pack: Iterator[bytes]


@dataclass
class Hearing:
    """Who listens to a worker while it works: progress, output (1 or 2, and bytes)."""

    progress: Callable[[str], None] = lambda _text: None
    output: Callable[[int, bytes], None] = lambda _channel, _data: None
    failure: Callable[[Failure], None] = lambda _failure: None


def read(reader: Reader, hearing: Hearing) -> Result:
    """The result at the end of a worker's words. Raises CollectError, or what a failure says (`Failure.error`)."""
    while (frame := reader.next()) is not None:
        if frame.kind == frames.ANSWER:
            answer = parsed(frame.data, Answer).safe()
            return Result(answer, reader.text(frames.MANIFEST, MAX_JSON), reader.rest(frames.PACK))
        hear(frame, hearing)
    raise broken("it ended without a result")


def kept(reader: Reader, target: IO[bytes], say: Callable[[Frame], None]) -> bool:
    """Write what counts of a stream to `target` as it comes, as a stream that `read` reads; the rest is said. Whether
    it was whole, and `target` is. Raises CollectError, OSError for a full disk, or what `say` raises.
    """
    writer, room = Writer(target, frames.RESULT), MAX_RESULT
    while (frame := reader.next()) is not None:
        if frame.kind in frames.SPOKEN:
            say(frame)
            continue
        room -= len(frame.data) + frames.HEAD_SIZE
        if room < 0:
            raise broken(f"it has more than {MAX_RESULT} bytes")
        writer.put(frame.kind, frame.data)
    if reader.whole:
        writer.end()
    return reader.whole


def hear(frame: Frame, hearing: Hearing) -> None:
    """Something a worker says while it works. Raises CollectError for what it cannot say."""
    match frame.kind:
        case frames.PROGRESS:
            hearing.progress(one_line(frame.data))
        case frames.OUTPUT if frame.data[:1] in (b"\x01", b"\x02"):
            hearing.output(frame.data[0], frame.data[1:])
        case frames.FAILURE:
            failure = parsed(frame.data, Failure)
            hearing.failure(failure)
            raise failure.error()
        case frames.HELLO | frames.WANT:
            pass
        case _:
            raise broken(f"a frame of kind {frame.kind!r} is at the wrong position")


def lacking(data: bytes) -> frozenset[str]:
    """Digests of the files, and names of the images, that a worker lacks. Raises CollectError."""
    return frozenset(digest for digest in parsed(data, list[str]) if _WANTED.fullmatch(digest))


def parsed(data: bytes, kind: type[T]) -> T:
    """Raises CollectError."""
    try:
        return jsontext.decode(data, kind)
    except ValueError as error:
        raise broken(f"invalid message from a worker: {one_line(str(error))}") from None
