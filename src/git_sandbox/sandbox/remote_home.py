"""What comes back from another machine, into the sandbox that waits here, and how its worker hears of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from git_sandbox import jsontext
from git_sandbox.errors import SandboxError
from git_sandbox.jobs import frames
from git_sandbox.jobs.result import Answer, Hearing, Question
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import dispatch, hosts, imported, retrieve
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.hosts import Conversation
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle


@dataclass(frozen=True)
class Came:
    """What came from the machine at `place`. `acknowledged`: its worker knows that nothing of it is missing here."""

    place: str
    answer: Answer
    home: Retrieval
    acknowledged: bool
    interrupted: int = 0


def finished(
    handle: SandboxHandle,
    record: Record,
    came: Came,
    progress: Progress,
    *,
    remove: bool,
    warnings: tuple[str, ...] = (),
) -> Finished:
    """Ask for what no result has, and see to it that the worker lets go of the job. As long as that is not known, the
    sandbox here says where it is.
    """
    home = _rest(handle, record, came, progress)
    let_go = came.acknowledged or (
        dispatch.whole(home) and _delivered(came.place, came.answer.nonce, log_file(handle.directory))
    )
    if dispatch.whole(home) and not let_go:
        way = f"`sandbox recover --on {came.place} {handle.id}`"
        warnings = (*warnings, f"{came.place} may still have a copy: it does not answer any more; {way} clears it")
    record, kept = dispatch.settled(handle, record, came.answer, home, remove=remove, let_go=let_go)
    return dispatch.finished(
        handle, record, came.answer, home, kept=kept, warnings=warnings, interrupted=came.interrupted
    )


def acknowledged(talk: Conversation, home: Retrieval) -> bool:
    """Whether the worker ended well after `arrived`: a connection that broke may have lost our last word."""
    return dispatch.whole(home) and talk.status == 0


def _delivered(place: str, nonce: str, log: Path) -> bool:
    """Say that nothing of a job is missing here; whether the worker has let go of it, or has no such job any more. One
    that could not (another worker has it locked) ends with an error.
    """
    try:
        with hosts.conversation(place, frames.ASK, log) as talk:
            talk.send(frames.QUESTION, jsontext.encode(Question("delivered", nonce)))
    except SandboxError:
        return False
    return talk.status == 0


def _rest(handle: SandboxHandle, record: Record, came: Came, progress: Progress) -> Retrieval:
    """What no result has (content of Git LFS files, repositories inside), by a rescue machine over there that has the
    disk. What does not come either stays there, named.
    """
    place, answer, home = came.place, came.answer, came.home
    if dispatch.whole(home) or not (home.nested.missing or home.lfs.missing):
        return home
    progress(f"Asking {place} for the rest")
    try:
        with (
            hosts.conversation(place, frames.ASK, log_file(handle.directory)) as talk,
            hosts.rescue(talk, answer.nonce, Hearing(progress)) as channel,
        ):
            brought = imported.from_channel(handle, record, channel, progress)
    except SandboxError as error:
        progress(f"{error.message}: {error.cause}" if error.cause else error.message)
        return home
    return dataclasses.replace(brought, changed=True, rescued=home.rescued, reason=home.reason)


def arrived(handle: SandboxHandle, record: Record, nonce: str, talk: Conversation) -> tuple[Answer, Retrieval]:
    """Import what was kept; the worker hears that we have it when nothing of it is missing."""
    with handle.directory.result.open("rb") as source:
        answer, home = dispatch.took(handle, record, nonce, source, Hearing())
    retrieve.note(handle, record, answer.exit_code, home)
    handle.directory.result.unlink()
    if dispatch.whole(home):
        talk.send(frames.ACKNOWLEDGE)
    return answer, home


def log_file(directory: SandboxDir) -> Path:
    return directory.vmm_log
