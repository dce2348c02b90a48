"""A shell or a command in a sandbox whose machine is on another host: one more `ssh`, beside its job's conversation.

What is to run is data, in one word of hexadecimal digits: no login shell over there reads anything in it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from git_sandbox import jsontext, process, terminal
from git_sandbox.errors import SessionError, StateError, UsageError
from git_sandbox.jobs import frames, result
from git_sandbox.jobs.job import Nonce
from git_sandbox.jobs.result import Hearing, Question
from git_sandbox.sandbox import dispatch, hosts, job_place, live
from git_sandbox.sandbox_dir import SandboxDir

REMOTE = hosts.REMOTE.removesuffix("'") + " --enter {}'"
BROKE = 255  # ssh's own exit code


class Visit(msgspec.Struct, frozen=True):
    """`nonce`: of the sandbox's job. `command`: empty for a shell. `directory`: where in the worktree it begins. `tty`:
    whether it has a terminal: ours, through ssh's.
    """

    nonce: Nonce
    command: tuple[str, ...] = ()
    directory: str = ""
    tty: bool = False


def argv(place: str, visit: Visit) -> list[str]:
    """The user's ssh with the user's configuration. Raises UsageError."""
    options = [word for option in hosts.ALIVE for word in ("-o", option)]
    words = REMOTE.format(jsontext.encode(visit).hex())
    return ["ssh", "-tt" if visit.tty else "-T", *options, "--", hosts.host(place), words]


def enter(place: str, visit: Visit, *, stdout: int = 1) -> int:
    """A command, or a shell, with our standard streams; its exit code. What runs there ends with us, the sandbox does
    not. Raises SessionError where the connection breaks.
    """
    env = process.environment(process.inherited(hosts.AGENT))
    with (
        terminal.restored(stdout, 2, raw=visit.tty),
        process.spawn(argv(place, visit), env=env, stdin=0, stdout=stdout, stderr=2, foreground=visit.tty) as child,
    ):
        code = child.wait() or 0
    if code == BROKE:
        raise SessionError(f"the connection to {place} broke")
    return code if code >= 0 else 128 - code


def place_of(directory: SandboxDir) -> tuple[str, Nonce] | None:
    """The host that has the machine of a sandbox, and its job; None for one that ssh does not lead to."""
    known = dispatch.read_note(directory)
    return (known.place, known.nonce) if known is not None and known.place.startswith(hosts.SSH) else None


def visited(directory: SandboxDir, command: Sequence[str], place: str, *, tty: bool, stdout: int = 1) -> int | None:
    """`enter` the sandbox in `directory`, at `place` in its worktree; None where no host has it."""
    where = place_of(directory)
    if where is None:
        return None
    return enter(where[0], Visit(where[1], tuple(command), place, tty), stdout=stdout)


def end(place: str, nonce: Nonce, log: Path, hearing: Hearing) -> None:
    """Have the machine at `place` end the sandbox of a job that would not end by itself. Raises LostError, or what the
    worker says.
    """
    with hosts.conversation(place, frames.ASK, log) as talk:
        talk.send(frames.QUESTION, jsontext.encode(Question("stop", nonce)))
        while (frame := talk.source.next()) is not None:
            result.hear(frame, hearing)


def serve(word: str) -> int:
    """The other side: `sandbox worker --enter`. Raises SandboxError."""
    try:
        visit = jsontext.decode(bytes.fromhex(word), Visit)
    except ValueError as error:
        raise UsageError(
            "--enter is for `sandbox` itself", hint="`sandbox exec ID`, where the sandbox is from"
        ) from error
    for repo, directory in job_place.places(visit.nonce, again=False):
        name = directory.root.name
        session = live.open_session(repo, name)
        place = live.directory(live.running(repo, name)[1], visit.directory)
        if not visit.command:
            return min(session.shell(place), BROKE - 1)
        if not visit.tty:
            threading.Thread(target=_hang_up, daemon=True).start()
        return min(session.run(visit.command, place, tty=visit.tty, on_signal=live.Caller()), BROKE - 1)
    raise StateError("no such sandbox", hint="it has ended, and its work is home")


def _hang_up() -> None:
    """Without a terminal sshd only closes its ends when the connection is gone: that is heard as a signal."""
    looking = select.poll()
    looking.register(1, 0)  # an end that nobody reads is said unasked
    looking.poll()
    os.kill(os.getpid(), signal.SIGHUP)
