"""One try as data: everything a worker needs to run it, without the repository.

A worker has no use for the repository: it gives the files of the disk to a machine unread, and passes on what that
exports. What it must have besides (image, disk) is named by content, so a worker that has it is not sent it again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator, Mapping
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
from git_sandbox.later import dataclass
from git_sandbox.record import Record
from git_sandbox.text import one_line

MAX_DISKS = 16
MAX_KNOWN = 10_000
MAX_CPUS, MAX_MEMORY = 254, 1 << 24  # MiB
# Files of an image in a cache: of `guest_images`, and of `root_images`.
NAMES = ("kernel", "initramfs", "rootfs.ext4", "image.json", "config.json", "info.json")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Nonce = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


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
    made it. `record`: what the sandbox is, with its command, machine and images. `directory`: where in the worktree the
    command runs. `known`: objects that need not be sent back. `egress`: the policy file of `--net allow`.
    `boot_timeout`: seconds until its session must be open.
    """

    nonce: Nonce
    program: str
    record: Record
    config: GuestConfig
    disks: Disks
    directory: str = ""
    known: Annotated[tuple[str, ...], Meta(max_length=MAX_KNOWN)] = ()
    setup: bytes | None = None
    egress: bytes | None = None
    boot_timeout: Annotated[int, Meta(ge=1, le=100_000)] = 180
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        """Of the sandbox, where the job comes from."""
        return self.record.id


class ImageFiles(msgspec.Struct, frozen=True):
    """An entry of an image cache, for a worker that lacks it: its files follow, in this order."""

    kind: Literal["image", "root"]
    key: str
    files: Annotated[dict[str, Blob], Meta(max_length=len(NAMES))]

    @property
    def label(self) -> str:
        """What a worker says that wants it."""
        return f"{self.kind}:{self.key}"


def new_nonce() -> str:
    return secrets.token_hex(16)


def decode(data: bytes) -> Job:
    """Raises CollectError for what is no job, or one whose parts cannot be."""
    try:
        job = jsontext.decode(data, Job)
        known = [oid(name) for name in job.known]
    except ValueError as error:
        raise broken(f"its head: {one_line(str(error))}") from None
    fault = _fault(job)
    if fault or len(known) != len(job.known):
        raise broken(f"its head: {fault}")
    return job


def _fault(job: Job) -> str:
    unchecked = job.record
    if record.decode(jsontext.encode(unchecked)) is None:
        return "the record names an invalid object"
    if not is_sandbox_id(unchecked.id):
        return "the sandbox's name"
    if not is_key(unchecked.image) or (unchecked.root and not is_key(unchecked.root)):
        return "the image's key"
    if unchecked.net not in network.BY_NAME or not (
        1 <= unchecked.cpus <= MAX_CPUS and 1 <= unchecked.memory <= MAX_MEMORY
    ):
        return "the machine"
    return "" if unchecked.command else "there is no command"


def is_key(text: str) -> bool:
    """Whether it can be the name of an entry of a cache."""
    return _KEY.fullmatch(text) is not None


@dataclass(frozen=True)
class Packed:
    """A job, and where here the files that it names are. `images`: the directories of those that it runs with."""

    job: Job
    places: Mapping[Blob, Path]
    images: Mapping[str, Path]

    def head(self, writer: Writer) -> None:
        writer.text(frames.HEAD, jsontext.encode(self.job))

    def files(self, writer: Writer, digests: Collection[str] | None = None) -> None:
        """What follows the head. `digests`: what a worker lacks; None for a file, which has all but the images. Raises
        OSError.
        """
        for blob in self.job.disks.every:
            if digests is None or blob.digest in digests:
                blobs.send(writer, blob, self.places[blob])
        for name in digests or ():
            if name in self.images:
                self.image(writer, name)
        writer.end()

    def image(self, writer: Writer, name: str) -> None:
        """One of `images`. Raises OSError."""
        _send_image(writer, name, self.images[name])


def images(record: Record) -> list[str]:
    """What a worker says that has not got them."""
    return [f"image:{record.image}", *([f"root:{record.root}"] if record.root else [])]


def _send_image(writer: Writer, name: str, place: Path) -> None:
    kind, _, key = name.partition(":")
    blobs_of = {file: blobs.of_file(place / file) for file in NAMES if (place / file).is_file()}
    header = {"kind": kind, "key": key, "files": msgspec.to_builtins(blobs_of)}
    writer.put(frames.IMAGE, jsontext.encode(header))
    for file, blob in blobs_of.items():
        blobs.send(writer, blob, place / file)


def head(reader: Reader) -> Job:
    """The job that a stream begins with. Raises CollectError."""
    return decode(reader.text(frames.HEAD))


def files(reader: Reader) -> Iterator[Blob | ImageFiles]:
    """What follows: a file, to be read with `blobs.receive` before the next is asked for, or an image, whose files come
    next. Raises CollectError unless the stream is whole.
    """
    while (frame := reader.next()) is not None:
        if frame.kind == frames.BLOB:
            yield blobs.announced(frame.data)
        elif frame.kind == frames.IMAGE:
            yield _image(frame.data)
        else:
            raise broken("the head of a job is not followed by a file")
    if not reader.whole:
        raise broken("it was truncated")


def _image(data: bytes) -> ImageFiles:
    try:
        image = jsontext.decode(data, ImageFiles)
    except ValueError as error:
        raise broken(f"an image: {one_line(str(error))}") from None
    if not is_key(image.key) or not set(image.files) <= set(NAMES):
        raise broken("an image has no such name, or no such file")
    return image
