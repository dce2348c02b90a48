"""A try that runs on another machine: what is sent, and what comes back into the sandbox that waits here.

That sandbox has everything but a disk. `SandboxDir.dispatch` says which job it is and where: as long as it exists,
another machine has work of the user's, or may have it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from git_sandbox import __version__, files, jsontext, settings, store
from git_sandbox.cache.guest_images import Image
from git_sandbox.disk import job_parts
from git_sandbox.egress import policyfile
from git_sandbox.errors import CollectError, StateError, UsageError
from git_sandbox.git import refpacking
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import blobs, frames, job, result
from git_sandbox.jobs.blobs import Blob
from git_sandbox.jobs.frames import Reader, Writer
from git_sandbox.jobs.job import MAX_KNOWN, Disks, Job, Nonce, Packed
from git_sandbox.jobs.result import Answer, Hearing
from git_sandbox.later import dataclass
from git_sandbox.progress import Notice, Progress
from git_sandbox.protocol import bundle
from git_sandbox.sandbox import hosts, imported, machine_spec, provision, retrieve, session_options
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.provision import Prepared
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.setting_values import AUTO
from git_sandbox.store import Entry, Record, SandboxHandle

FILE = "file:"  # before the path of a job that was written to a file
# What stands for a shell: it says that the session is open, and waits to be ended.
WAITS = ("sh", "-c", "echo && exec tail -f /dev/null")
DIED = 13  # the exit code of a try whose machine died: that of MachineError
_BLOB = "blob.json"


class Dispatch(msgspec.Struct, frozen=True):
    """`dispatch.json`. `place`: `ssh:HOST`, or `file:PATH` of the job. `since`: seconds since the epoch."""

    nonce: Nonce
    place: str
    since: float


@dataclass(frozen=True)
class Sent:
    """A try whose sandbox here is `handle`, with its lock held, and what to give to a worker."""

    handle: SandboxHandle
    prepared: Prepared
    packed: Packed
    warnings: tuple[str, ...]

    @property
    def job(self) -> Job:
        return self.packed.job

    def note(self, place: str) -> None:
        """From now on somebody else may have it: the sandbox stays, whatever happens to us. Raises OSError."""
        note(self.handle, Dispatch(self.job.nonce, place, time.time()))
        self.handle.elsewhere = True

    def forget(self) -> None:
        """Nobody has it, and nothing of it ran."""
        self.handle.directory.dispatch.unlink(missing_ok=True)
        self.handle.elsewhere = False


def refuse(options: Options) -> None:
    """Raises UsageError for what cannot be done elsewhere."""
    settings = options.settings
    faults = {
        "a shell": options.command is None and not (options.on and options.on[0].startswith(hosts.SSH)),
        "--from": options.origin is not None,
        "--tty": options.tty or options.terminal,
        "--publish": bool(settings.publish),
        "--ssh-agent": settings.ssh_agent == "yes",
        "--key": bool(settings.key or options.keys),
        "--git-credentials": settings.git_credentials != "none",
        "--transport share": settings.transport == "share",
    }
    for name, asked in faults.items():
        if asked:
            hint = "keys, ports and terminals stay on this host"
            raise UsageError(f"{name} cannot be used on another machine", hint=hint)


@contextlib.contextmanager
def prepared(repo: Repository, options: Options, progress: Progress, notice: Notice) -> Iterator[Sent]:
    """A new sandbox of `repo` without a disk, and its job. When the block ends and it was not noted that anybody has
    it, it is gone again. Raises SandboxError.
    """
    refuse(options)
    effective = options.settings
    extras = dataclasses.replace(
        session_options.gather(effective, settings.environment()), files=options.files
    )  # fmt: skip
    image = provision.image(effective, progress)
    with store.create(repo, options.name) as handle:
        try:
            workspace = provision.prepare(handle, options, image, AUTO, progress, extras=extras, parts=True)
            notice(workspace.warnings)
            yield Sent(handle, workspace, pack(handle, workspace, options, extras), workspace.warnings)
        finally:
            if not handle.elsewhere:
                store.delete(handle, name_too=False)


def pack(handle: SandboxHandle, prepared: Prepared, options: Options, extras: Extras) -> Packed:
    directory, settings = handle.directory, options.settings
    base, tail = directory.job / job_parts.BASE, directory.job / job_parts.TAIL
    mounts = {blobs.of_file(path): path for path in machine_spec.copies_made(handle)}
    known = prepared.base.root if prepared.base else None
    places = {_base(base, known): base, **mounts}
    disks = Disks(next(iter(places)), applying=prepared.applying, mounts=tuple(mounts))
    if tail.exists():
        blob = blobs.of_file(tail)
        places[blob], disks = tail, msgspec.structs.replace(disks, tail=blob)
    policy = policyfile.encode(policyfile.load(directory.egress)) if settings.net.egress else None
    record = msgspec.structs.replace(prepared.record, command=prepared.record.command or WAITS)
    order = Job(
        job.new_nonce(), __version__, record, machine_spec.guest_config(directory), disks,
        options.subdirectory, tuple(imported.known_to(handle, prepared.record)[:MAX_KNOWN]), extras.setup, policy,
        settings.boot_timeout,
    )  # fmt: skip
    return Packed(order, places, _images(prepared.image, prepared.record))


def _images(image: Image, record: Record) -> dict[str, Path]:
    places = [image.root, *([image.system.root] if image.system else [])]
    return dict(zip(job.images(record), places, strict=True))


def _base(image: Path, known: Path | None) -> Blob:
    """The name of a base, which is worked out once for each: `known` is where it is kept."""
    place = known / _BLOB if known else None
    if place is not None:
        with contextlib.suppress(OSError, ValueError):
            return jsontext.load(place, Blob)
    blob = blobs.of_file(image)
    if place is not None:
        with contextlib.suppress(OSError):
            fresh = place.with_suffix(f".{os.getpid()}")
            files.write(fresh, jsontext.encode(blob))
            fresh.replace(place)
    return blob


def note(handle: SandboxHandle, dispatch: Dispatch) -> None:
    fresh = handle.directory.dispatch.with_suffix(".new")
    with files.opened(fresh, "wb") as out:
        out.write(jsontext.encode(dispatch))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(handle.directory.dispatch)


def written(sent: Sent, target: Path) -> None:
    """The job as a new file, with everything but the images. Raises UsageError, HostResourceError."""
    with bundle.fresh(target) as out:
        writer = Writer(out, frames.JOB)
        sent.packed.head(writer)
        sent.packed.files(writer)
        out.flush()
        os.fsync(out.fileno())
        sent.note(f"{FILE}{os.fspath(target.absolute())}")
    shutil.rmtree(sent.handle.directory.job, ignore_errors=True)


# --- what comes back --------------------------------------------------------------------------------------------------


def read_note(directory: SandboxDir) -> Dispatch | None:
    """Where the job of a sandbox is; None where it has none, or that is lost."""
    try:
        return jsontext.load(directory.dispatch, Dispatch, files.WRITTEN)
    except (OSError, ValueError):
        return None


def away(repo: Repository) -> dict[Nonce, tuple[Entry, Dispatch]]:
    """Sandboxes that wait for a result, or for the rest of one."""
    notes = {entry.id: (entry, read_note(entry.directory)) for entry in store.entries(repo)}
    return {known.nonce: (entry, known) for entry, known in notes.values() if known is not None}


def not_away(name: str) -> StateError:
    return StateError(
        f"sandbox `{name}` has no job on another machine", hint=f"`sandbox recover {name}` reads its disk here"
    )


def took(
    handle: SandboxHandle, record: Record, nonce: Nonce, source: IO[bytes], hearing: Hearing
) -> tuple[Answer, Retrieval]:
    """Import a result from a file; nothing of it where it is not whole, or that of another job. Raises CollectError."""
    sent = result.read(Reader(source, frames.RESULT), hearing)
    if (sent.answer.nonce, sent.answer.name) != (nonce, record.id):
        raise CollectError("the result belongs to another job", cause=f"it is for sandbox `{sent.answer.name}`")
    home = imported.from_export(handle, record, sent.manifest, sent.pack)
    reason = sent.answer.reason if sent.answer.exit_code is None else ""
    return sent.answer, dataclasses.replace(home, rescued=sent.answer.exit_code is None, reason=reason)


def settled(
    handle: SandboxHandle, record: Record, answer: Answer, home: Retrieval, *, remove: bool, let_go: bool = True
) -> tuple[Record, bool]:
    """Note what is home, and that nobody else has anything of it, unless something did not come along, or the worker
    may not have heard of it (`let_go`). The record, and whether the sandbox is still there: one that changed nothing
    goes to the trash, where `remove`.
    """
    record = retrieve.note(handle, record, answer.exit_code, home)
    if whole(home) and let_go:
        handle.directory.dispatch.unlink(missing_ok=True)
        shutil.rmtree(handle.directory.job, ignore_errors=True)
    refpacking.pack(handle.repo)
    if home.changed or not (remove and let_go):
        return record, True
    return record, retrieve.settle(handle, record, home, answer.exit_code)


def whole(home: Retrieval) -> bool:
    """Whether the worker has nothing that is not here."""
    return not home.partly and not home.nested.missing


def finished(
    handle: SandboxHandle,
    record: Record,
    answer: Answer,
    home: Retrieval,
    *,
    kept: bool,
    warnings: tuple[str, ...],
    interrupted: int = 0,
) -> Finished:
    code = DIED if answer.exit_code is None else answer.exit_code
    lines = (*warnings, *answer.warnings, *home.warnings)
    return Finished(handle.repo, handle.id, record, code, home, kept, lines, interrupted)


def collect(repo: Repository, path: Path, hearing: Hearing) -> Finished:
    """The result in a file that a worker wrote, for the sandbox that waits for it. Idempotent: what is here is not
    imported twice. Raises UsageError, StateError, CollectError.
    """
    try:
        source = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}", cause=error.strerror or str(error)) from error
    with source:
        answer = result.read(Reader(source, frames.RESULT), Hearing()).answer
        source.seek(0)
        nonce, known = answer.nonce, None
        with contextlib.suppress(UsageError):  # what it calls itself may be no name
            known = read_note(store.directory(repo, answer.name))
        if known is None:
            hint = "`sandbox ls` lists those that are away; what was collected before is in its sandbox"
            raise StateError(f"no sandbox of this repository waits for the result in {path}", hint=hint)
        if known.nonce != nonce:
            raise CollectError("the result belongs to another job", cause=f"it is for sandbox `{answer.name}`")
        with store.open_existing(repo, answer.name) as (handle, entry):
            if entry.record is None:
                raise store.unreadable(entry)
            answer, home = took(handle, entry.record, nonce, source, hearing)
            record, kept = settled(handle, entry.record, answer, home, remove=True)
            return finished(handle, record, answer, home, kept=kept, warnings=())
