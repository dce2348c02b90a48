"""A job on the machine that runs it: its sandbox, one run, and the result as a file.

The sandbox belongs to a repository of the worker's own that stays empty: no object of a job is ever unpacked here. What
the guest exports goes into the result as it comes, for whoever sent the job to examine.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import __version__, files, jsontext, ssh_config
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import cow, job_parts, workspace_disk
from git_sandbox.egress import policyfile
from git_sandbox.errors import DamagedError, SandboxError, UsageError
from git_sandbox.guest import protocol
from git_sandbox.jobs import frames
from git_sandbox.jobs.blobs import Blob
from git_sandbox.jobs.frames import Reader, Writer
from git_sandbox.jobs.job import Job, decode
from git_sandbox.jobs.result import MAX_TEXT, MAX_WARNINGS, Answer, Usage
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.protocol import packcheck, stream
from git_sandbox.sandbox import machine_spec, machines, provision, retrieve
from git_sandbox.sandbox.frame_sender import FrameSender, Recorder
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.provision import Prepared
from git_sandbox.sandbox.run import Run
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings, resolve
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.text import one_line
from git_sandbox.vmm.machine import Backend

_JOB = "job.json"
NOT_KNOWN = "the machine ended before its command did"


@dataclass
class Export:
    """The way home of a job: what the guest exports, into a file. What it brings is why a rescue was needed."""

    job: Job

    def from_machine(self, handle: SandboxHandle, record: Record, progress: Progress) -> str:
        del record
        with retrieve.control(handle.directory, say=progress) as channel:
            self.write(handle.directory, channel, alive=retrieve.ALIVE, end=True)
        return ""

    def from_disk(self, handle: SandboxHandle, record: Record, progress: Progress, reason: str) -> str:
        with retrieve.rescued(handle, record, progress) as channel:
            self.write(handle.directory, channel)
        return reason or NOT_KNOWN

    def note(self, handle: SandboxHandle, record: Record, exit_code: int, brought: str) -> None:
        """The answer says it."""

    def write(
        self, directory: SandboxDir, channel: socket.socket, *, alive: float | None = None, end: bool = False
    ) -> None:
        """Raises CollectError, OSError; then there is no file. Where something is damaged, it is asked once more, with
        care: then the guest looks at all that it has first.
        """
        header = {"object_format": self.job.record.object_format, "end": end, "time": time.time()}
        try:
            self._write(directory, channel, header, alive)
        except DamagedError:
            self._write(directory, channel, {**header, "careful": True}, alive)

    def _write(
        self, directory: SandboxDir, channel: socket.socket, extra: Mapping[str, object], alive: float | None
    ) -> None:
        reply = stream.request(channel, protocol.EXPORT, known=self.job.known, extra=extra, alive=alive)
        target = exported(directory)
        fresh = target.with_suffix(".new")
        with files.opened(fresh, "wb") as out:
            writer = Writer(out, frames.RESULT)
            writer.text(frames.MANIFEST, reply.header)
            for chunk in packcheck.checked(reply.chunks, self.job.record.object_format):
                writer.put(frames.PACK, chunk)
            writer.end()
        fresh.replace(target)


def exported(directory: SandboxDir) -> Path:
    return directory.result.with_name("result.export")


def printed(directory: SandboxDir) -> Path:
    return directory.result.with_name("result.output")


@dataclass
class Attempt:
    """One run of a job in its sandbox on this machine, whose lock is held."""

    handle: SandboxHandle
    job: Job
    image: Image
    sender: FrameSender
    started: float = field(default_factory=time.monotonic)
    begun: bool = False  # a session was open: there may be work on the disk

    def run(self, places: Mapping[Blob, Path]) -> None:
        """Leave the result in `SandboxDir.result`. Raises SandboxError; `begun` says whether anything ran."""
        handle, settings = self.handle, asked(self.job)
        provision.require_programs(settings)
        provision.require_memory(settings.memory)
        backend = machines.backend(settings, self.image, self.sender.progress)
        for line in machines.unconfined(backend.name, settings, share=False):
            self.sender.progress(line)
        record = self._laid(backend, settings, places)
        way, recorder = Export(self.job), Recorder(self.sender, printed(handle.directory))
        with contextlib.ExitStack() as stack:
            stack.callback(recorder.close)
            options = Options(
                settings, handle.id, record.command, self.job.directory,
                stdin=stack.enter_context(open(os.devnull, "rb")).fileno(),  # noqa: PTH123 - a device
                stdout=_closing(stack, recorder.channel(1)), stderr=_closing(stack, recorder.channel(2)),
            )  # fmt: skip
            extras = Extras(setup=self.job.setup)
            prepared = Prepared(record, self.image, (), applying=self.job.disks.applying)
            run = Run(
                handle, record, self.image, backend, options, self.sender.progress, lambda _id: None, extras, way,
                prepared,
            )  # fmt: skip
            answer = self._ran(run)
        finish(handle.directory, answer)

    def _ran(self, run: Run[str]) -> Answer:
        """How it ended. An error after the session began is in the answer: what is on the disk comes home."""
        try:
            reason = run.run()
        except SandboxError as error:
            if not run.began or not exported(self.handle.directory).exists():
                raise
            reason = f"{error.message}: {error.cause}" if error.cause else error.message
        finally:
            self.begun = run.began
        known = run.exit_code if run.problem is None else None
        return self.answer(known, reason, run.warnings)

    def answer(self, exit_code: int | None, reason: str, warnings: tuple[str, ...] = ()) -> Answer:
        texts = tuple(warning[:MAX_TEXT] for warning in warnings[:MAX_WARNINGS])
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        usage = Usage(time.monotonic() - self.started, used.ru_utime + used.ru_stime, used.ru_maxrss << 10)
        return Answer(
            self.job.nonce, self.job.name, exit_code, __version__, socket.gethostname()[:200], reason[:MAX_TEXT],
            texts, usage,
        )  # fmt: skip

    def _laid(self, backend: Backend, settings: Settings, places: Mapping[Blob, Path]) -> Record:
        """The disk, what the guest is told, and the record, which says nothing of paths of another machine."""
        directory, disks = self.handle.directory, self.job.disks
        means = cow.look(
            places[disks.base].parent, directory.root, backend.capabilities.disk_formats, settings.thin_pool,
            layers=False, size=disks.base.size,
        )  # fmt: skip
        strategy = cow.choose(settings.cow, means).strategy
        tail = job_parts.StoredTail(places[disks.tail]) if disks.tail else None
        workspace_disk.lay(strategy, places[disks.base], directory, tail, means.pool)
        for number, blob in enumerate(disks.mounts):
            directory.mounts.mkdir(mode=0o700, exist_ok=True)
            job_parts.share(places[blob], machine_spec.copy_disk(self.handle, number))
        files.write(directory.config, jsontext.encode(msgspec.structs.replace(self.job.config, auto_push=False)))
        if self.job.egress is not None:
            _policy(self.job.egress)
            files.write(directory.egress, self.job.egress)
        ssh_config.make_keys(directory.keys, self.handle.id)
        return self.handle.save(own_record(self.handle, self.job, backend.name))


def _policy(data: bytes) -> None:
    """Raises UsageError for a policy file that the proxy could not read later."""
    try:
        policyfile.decode(data)
    except ValueError as error:
        raise UsageError("the network policy of the job cannot be read", cause=one_line(str(error))) from error


def _closing(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def asked(job: Job) -> Settings:
    """The worker's own settings, and of the job's what makes the machine it is for."""
    record = job.record
    given = {
        "cpus": record.cpus, "memory": f"{record.memory}M", "net": record.net, "boot_timeout": job.boot_timeout,
        "stop_timeout": job.config.stop_timeout, "transport": "disk", "workdir": "guest", "mount": (), "setup": "",
    }  # fmt: skip
    return resolve(given)[0]


def own_record(handle: SandboxHandle, job: Job, backend: str) -> Record:
    inside = tuple(
        msgspec.structs.replace(inner, host="/nonexistent", host_worktree=None) for inner in job.record.nested
    )
    repo = handle.repo
    return msgspec.structs.replace(
        job.record, id=handle.id, worktree=os.fspath(repo.worktree), git_dir=os.fspath(repo.git_dir),
        common_dir=os.fspath(repo.common_dir), created=time.time(), backend=backend, pid=os.getpid(), nested=inside,
        base=None, base_symref=None, brought_home=None, exit_code=None, partly=(), changes=None, home={}, inner={},
        terminal=False,
    )  # fmt: skip


def finish(directory: SandboxDir, answer: Answer) -> None:
    """The result, whole or not at all: what the command printed, the answer, and the export. Raises OSError."""
    fresh = directory.result.with_suffix(".new")
    with files.opened(fresh, "wb") as out:
        writer = Writer(out, frames.RESULT)
        for frame in _frames(printed(directory), None):
            writer.put(*frame)
        writer.put(frames.ANSWER, jsontext.encode(answer))
        for frame in _frames(exported(directory), frames.RESULT):
            writer.put(*frame)
        writer.end()
        os.fsync(out.fileno())
    fresh.replace(directory.result)
    for path in (printed(directory), exported(directory)):
        path.unlink(missing_ok=True)


def _frames(path: Path, first: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """Those of a file of ours; one that was being written when we were killed may end anywhere."""
    with contextlib.suppress(FileNotFoundError, *(() if first else (SandboxError,))), path.open("rb") as file:
        reader = Reader(file, first)
        while (frame := reader.next()) is not None:
            yield frame.kind, frame.data


def remembered(directory: SandboxDir) -> Job | None:
    """The job that a sandbox of the worker's is for; None where that is lost."""
    try:
        return decode(files.read(directory.job / _JOB, files.RECORD))
    except (OSError, ValueError, SandboxError):
        return None


def remember(directory: SandboxDir, job: Job) -> None:
    directory.job.mkdir(mode=0o700, exist_ok=True)
    files.write(directory.job / _JOB, jsontext.encode(job))


def salvaged(handle: SandboxHandle, record: Record, job: Job, image: Image, sender: FrameSender) -> None:
    """The result of a job whose worker was killed: what is on the disk. Raises SandboxError, OSError."""
    attempt = Attempt(handle, job, image, sender)
    reason = Export(job).from_disk(handle, record, sender.progress, "")
    finish(handle.directory, attempt.answer(None, reason))
