"""`sandbox worker`: one job on standard input, its result on standard output (docs/reference/job.md).

No state but caches and what is not delivered: a job has a sandbox here, named by its nonce, from when its files are
here until whoever sent it says that he has the result; then that goes to the trash. It is run once, however often it
comes: whoever brings it again gets the result, or waits for it, or gets what is on the disk where we were killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from git_sandbox import __version__, files, jsontext, locks, paths, settings, store
from git_sandbox.cache import guest_images, job_files, root_images
from git_sandbox.cache.guest_images import Image, ImageInfo
from git_sandbox.cache.root_images import ImageConfig, RootInfo
from git_sandbox.errors import SandboxError, SessionError, StateError
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import blobs, frames, job, result
from git_sandbox.jobs.blobs import Blob
from git_sandbox.jobs.frames import Reader, broken
from git_sandbox.jobs.job import ImageFiles, Job
from git_sandbox.jobs.result import Failure, Hello, Question
from git_sandbox.sandbox import job_place, job_run, live, parts, provision, retrieve
from git_sandbox.sandbox.frame_sender import Ears, FrameSender
from git_sandbox.sandbox.job_run import Attempt
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.text import one_line
from git_sandbox.trash.note import DELIVERED

FIRST_LINE = 64  # bytes
FOR_A_RUN = 7 * 24 * 3600.0  # seconds that a second one waits for the first that has the same job
LATE = 600.0  # seconds for whoever has the result to say so


def serve(source: IO[bytes], out: IO[bytes]) -> int:
    """Do what `source` says; the exit code: 0 when a result, or an answer, was given."""
    sender = FrameSender(out)
    sender.say(frames.HELLO, jsontext.encode(hello()))
    try:
        first = source.readline(FIRST_LINE)
        if first == frames.ASK:
            return _asked(source, sender)
        if first != frames.JOB:
            raise broken("the input is not a job")
        reader = Reader(source, None)
        return _worked(job.head(reader), reader, source, sender)
    except BegunError as caught:
        return _failed(sender, caught.error, begun=True)
    except (SandboxError, OSError) as error:
        return _failed(sender, _problem(error), begun=False)


def _problem(error: SandboxError | OSError) -> SandboxError:
    if isinstance(error, SandboxError):
        return error
    return SandboxError(error.strerror or str(error), cause=str(error.filename or ""))


def _failed(sender: FrameSender, error: SandboxError, *, begun: bool) -> int:
    failure = Failure(error.message[:4096], error.cause[:65536], error.hint[:4096], error.exit_code, begun)
    sender.say(frames.FAILURE, jsontext.encode(failure))
    return error.exit_code


def hello() -> Hello:
    """What this machine is."""
    images = [*(image.root.name for image in guest_images.every()), *(image.key for image in root_images.every())]
    return Hello(
        __version__, len(os.sched_getaffinity(0)), max(0, provision.available_memory() - provision.RESERVE),
        free=shutil.disk_usage(paths.private_directory(paths.state_root())).free >> 20,
        kvm=os.access("/dev/kvm", os.R_OK | os.W_OK), images=tuple(images[:1000]), host=socket.gethostname()[:200],
    )  # fmt: skip


def _asked(source: IO[bytes], sender: FrameSender) -> int:
    frame = Reader(source, None).next()
    if frame is None or frame.kind != frames.QUESTION:
        raise broken("the request has no question")
    question = result.parsed(frame.data, Question)
    if question.op == "hello" or question.nonce is None:
        return 0
    for repo, directory in job_place.places(question.nonce, again=question.op in ("result", "rescue")):
        if _answered(question, repo, directory, source, sender):
            return 0
    if question.op == "delivered":  # what is asked for is so; an exit code of its own would be that of a busy sandbox
        return 0
    raise StateError("no such job", hint="it never started, or its result was already collected")


def _answered(
    question: Question, repo: Repository, directory: SandboxDir, source: IO[bytes], sender: FrameSender
) -> bool:
    if question.op == "delivered":
        _trash(repo, directory)
        return True
    if question.op == "stop":
        with contextlib.suppress(StateError):  # it has ended, or its worker was killed: what there is comes later
            live.stop(repo, directory.root.name, sender.progress)
        return True
    if question.op == "result":
        return _delivered(repo, directory, Ears(source), sender)
    with store.open_existing(repo, directory.root.name) as (handle, entry):
        if entry.record is None:
            raise store.unreadable(entry)
        with retrieve.rescued(handle, entry.record, sender.progress) as channel:
            sender.say(frames.OPEN)
            sender.join(source, channel)
    return True


class BegunError(Exception):
    """What went wrong with a job whose command may have run: its sandbox stays."""

    def __init__(self, error: SandboxError) -> None:
        super().__init__(error.message)
        self.error = error


@contextlib.contextmanager
def _begun() -> Iterator[None]:
    """Whatever goes wrong in the block: the command may have run, and what it did is here."""
    try:
        yield
    except (SandboxError, OSError) as error:
        raise BegunError(_problem(error)) from error


def _worked(order: Job, reader: Reader, source: IO[bytes], sender: FrameSender) -> int:
    """Run a job that is new; give the result of one that is not."""
    repo = job_place.repository(order.record.object_format)
    with _begun():
        directory = job_place.directory(repo, order.nonce, again=True)
    if directory.root.is_dir():
        with _begun():
            sender.say(frames.WANT, jsontext.encode([]))
            for blob in job.files(reader):
                if isinstance(blob, Blob):
                    blobs.receive(reader, blob, None)
        if _delivered(repo, directory, Ears(source), sender):
            return 0
        raise StateError("an earlier copy of the job was received but never ran", hint="send it again")
    places = _arrived(order, reader, sender)
    ears = Ears(source)
    _run(repo, order, places, sender)
    with _begun():
        _given(repo, directory, ears, sender, output=False)
    return 0


def _run(repo: Repository, job: Job, places: Mapping[Blob, Path], sender: FrameSender) -> None:
    """The first time. What did not run leaves nothing."""
    with store.create(repo, job_place.name(job.nonce)) as handle:
        job_run.remember(handle.directory, job)
        attempt = Attempt(handle, job, _image(job), sender)
        try:
            attempt.run(places)
        except (SandboxError, OSError) as error:  # OSError: the disk is full, say
            if attempt.begun:
                raise BegunError(_problem(error)) from error
            raise
        finally:
            if not attempt.begun and not handle.directory.result.exists():
                store.delete(handle)


def _arrived(order: Job, reader: Reader, sender: FrameSender) -> dict[Blob, Path]:
    """The files of a job, from the cache or as they come; its images as well."""
    there = {blob: job_files.find(blob.digest) for blob in order.disks.every}
    lacking = [blob.digest for blob, place in there.items() if place is None]
    lacking += [name for name in job.images(order.record) if not _has(name)]
    sender.say(frames.WANT, jsontext.encode(lacking))
    for blob in job.files(reader):
        if isinstance(blob, ImageFiles):
            if blob.label not in lacking:
                raise broken("it contains an image that was not requested")
            sender.progress(f"Receiving image {blob.key}")
            _receive_image(reader, blob)
        elif there.get(blob, blob) is None:
            sender.progress(f"Receiving {blob.size >> 20} MiB")
            with job_files.arriving() as place:
                blobs.receive(reader, blob, place)
                there[blob] = job_files.keep(place, blob.digest)
        else:
            blobs.receive(reader, blob, None)
    job_files.tidy(settings.resolve()[0].bases << 20, keep={blob.digest for blob in there})
    missing = [blob.digest for blob, place in there.items() if place is None]
    if missing:
        raise broken(f"the file {missing[0]} is not in it")
    return {blob: place for blob, place in there.items() if place is not None}


def _has(name: str) -> bool:
    kind, _, key = name.partition(":")
    return (guest_images.find(key) if kind == "image" else root_images.find(key)) is not None


def _receive_image(reader: Reader, image: ImageFiles) -> None:
    """Into the cache, complete or not at all."""
    making = guest_images.building if image.kind == "image" else root_images.making
    with making() as place:
        for name, blob in image.files.items():
            frame = reader.next()
            if frame is None or frame.kind != frames.BLOB or blobs.announced(frame.data) != blob:
                raise broken("a file of an image is missing")
            blobs.receive(reader, blob, place / name)
        if _has(image.label):
            return  # somebody else was faster
        try:
            if image.kind == "image":
                info = jsontext.load(place / "image.json", ImageInfo)
                guest_images.publish(place, msgspec.structs.replace(info, key=image.key))
            else:
                known = jsontext.load(place / "info.json", RootInfo)
                config = jsontext.load(place / "config.json", ImageConfig)
                root_images.publish(place, msgspec.structs.replace(known, key=image.key), config)
        except (OSError, ValueError) as error:
            raise broken(f"an image: {one_line(str(error))}") from error


def _image(job: Job) -> Image:
    """Raises StateError where it is not here and did not come."""
    record = job.record
    image, system = guest_images.find(record.image), root_images.find(record.root) if record.root else None
    if image is None or (record.root and system is None):
        raise StateError(
            f"this machine has no image {record.root or record.image}",
            hint="`sandbox image build` here, or send the job with `sandbox run --on ssh:HOST`, which sends it",
        )
    return dataclasses.replace(image, system=system)


def _delivered(repo: Repository, directory: SandboxDir, ears: Ears, sender: FrameSender) -> bool:
    """Give the result of a job that is here, when whoever works on it is done; False when nothing of it ran."""
    with files.opened(directory.lock, "a") as lock:
        with _begun():
            locks.awaited(lock, within=FOR_A_RUN, what="works on this job", say=sender.progress)
        if not locks.there(lock, directory.lock):
            raise StateError("the job was just delivered or abandoned")
    with _begun():
        if not directory.result.exists():
            with store.open_existing(repo, directory.root.name) as (handle, entry):
                if not (directory.record.exists() and directory.has_disk()):  # the record comes last, then it may run
                    store.delete(handle)
                    return False
                job = job_run.remembered(directory)
                if entry.record is None or job is None:
                    raise store.unreadable(entry)
                job_run.salvaged(handle, entry.record, job, _image(job), sender)
        _given(repo, directory, ears, sender, output=True)
    return True


def _given(repo: Repository, directory: SandboxDir, ears: Ears, sender: FrameSender, *, output: bool) -> None:
    """Give the result; when whoever gets it says that he has it, or it is in a file, the sandbox goes to the trash.
    Raises SessionError where nobody was there to the end.
    """
    sender.give(directory.result, output=output)
    if not sender.kept():
        heard = ears.ended.wait(LATE if sender.heard else 0)
        if not ears.acknowledged:
            if not (heard and sender.heard):
                raise SessionError("the result was not collected", hint="the same job, given again, gives it again")
            return
    _trash(repo, directory)


def _trash(repo: Repository, directory: SandboxDir) -> None:
    with store.open_existing(repo, directory.root.name) as (handle, entry):
        if entry.record is not None:
            record = handle.save(msgspec.structs.replace(entry.record, brought_home=time.time()))
            store.trash(handle, DELIVERED, parts.holders(handle, record))
