"""One try as data: everything a worker needs to run it, without the repository it is of.

A worker has no use for the repository: it gives the files of the disk to a machine unread, and passes on what that
exports. What it must have besides (image, disk) is named by content, so a worker that has it is not sent it again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from git_sandbox import jsontext, network, record
from git_sandbox.git.names import is_sandbox_id, oid
from git_sandbox.image.guestfiles import GuestConfig
from git_sandbox.jobs import blobs, frames
from git_sandbox.jobs.blobs import Blob
from git_sandbox.jobs.frames import Reader, Writer, broken
from git_sandbox.record import Record
from git_sandbox.text import one_line

MAX_DISKS = 16
MAX_KNOWN = 10_000
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Nonce = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class Machine(msgspec.Struct, frozen=True):
    """`memory`: MiB. `boot_timeout`: seconds until its session must be open. `image`: key of the guest image."""

    image: str
    cpus: Annotated[int, Meta(ge=1, le=254)]
    memory: Annotated[int, Meta(ge=64, le=1 << 24)]
    net: str = "none"
    boot_timeout: Annotated[int, Meta(ge=1, le=100_000)] = 180


class Disks(msgspec.Struct, frozen=True):
    """`base`: the file system of the workspace. `tail`: what the guest applies to it before anything else, in about
    `applying` seconds. `mounts`: read-only ones, in order.
    """

    base: Blob
    tail: Blob | None = None
    applying: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    mounts: Annotated[tuple[Blob, ...], Meta(max_length=MAX_DISKS)] = ()

    @property
    def every(self) -> tuple[Blob, ...]:
        return tuple(dict.fromkeys([self.base, *([self.tail] if self.tail else []), *self.mounts]))


class Job(msgspec.Struct, frozen=True):
    """`nonce` names this job for ever: a worker runs it once, however often it gets it. `program`: the version that
    made it. `known`: objects that need not be sent back. `egress`: the policy file of `--net allow`. `directory`: where
    in the guest the command runs.
    """

    nonce: Nonce
    program: str
    record: Record
    config: GuestConfig
    command: tuple[str, ...]
    directory: str
    machine: Machine
    disks: Disks
    known: Annotated[tuple[str, ...], Meta(max_length=MAX_KNOWN)] = ()
    setup: bytes | None = None
    egress: bytes | None = None
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        """Of the sandbox, where the job comes from."""
        return self.record.id


def new_nonce() -> str:
    return secrets.token_hex(16)


def decode(data: bytes) -> Job:
    """Raises CollectError for what is no job, or one whose parts cannot be."""
    try:
        job = jsontext.decode(data, Job)
        known = [oid(each) for each in job.known]
    except ValueError as error:
        raise broken(f"its head: {one_line(str(error))}") from None
    fault = _fault(job)
    if fault or len(known) != len(job.known):
        raise broken(f"its head: {fault}")
    return job


def _fault(job: Job) -> str:
    if record.decode(jsontext.encode(job.record)) is None:
        return "the record names what is no object"
    if not is_sandbox_id(job.record.id):
        return "the sandbox's name"
    if not _KEY.fullmatch(job.machine.image):
        return "the image's key"
    if job.machine.net not in network.BY_NAME:
        return "the network"
    return "there is no command" if not job.command else ""


@dataclass(frozen=True)
class Packed:
    """A job, and where here the files that it names are."""

    job: Job
    places: Mapping[Blob, Path]

    def write(self, writer: Writer, wanted: frozenset[str] | None = None) -> None:
        """All of it; `wanted`: only the files of these digests, for a worker that has the others. Raises OSError."""
        writer.text(frames.HEAD, jsontext.encode(self.job))
        for blob in self.job.disks.every:
            if wanted is None or blob.digest in wanted:
                blobs.send(writer, blob, self.places[blob])
        writer.end()


def head(reader: Reader) -> Job:
    """The job that a stream begins with. Raises CollectError."""
    return decode(reader.text(frames.HEAD))


def files(reader: Reader) -> Iterator[Blob]:
    """The files that follow, each to be read with `blobs.receive` before the next one is asked for. Raises
    CollectError unless the stream is whole.
    """
    while (frame := reader.next()) is not None:
        if frame.kind != frames.BLOB:
            raise broken("something else than a file follows the head of a job")
        yield blobs.announced(frame.data)
    if not reader.whole:
        raise broken("it was cut off")
