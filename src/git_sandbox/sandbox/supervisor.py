"""The supervisor of a sandbox without a terminal: a process that outlives the one that started it.

The starter hears about progress through a pipe, until the session is open or the supervisor has failed; of an attached
one (`parallel`) until its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from git_sandbox import jsontext, paths, process, signals
from git_sandbox.errors import Interrupted, MachineError, SandboxError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import lifecycle, notifying, run, settle
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.settle import Questions
from git_sandbox.text import one_line, printable

MODULE = "git_sandbox.sandbox.supervisor"


class Order(msgspec.Struct, frozen=True):
    """What the supervisor is told on standard input. `resume`: an existing sandbox instead of a new one. `attached`:
    the command's output goes to the supervisor's own, and the starter waits for the end.
    """

    worktree: str
    options: Options
    resume: str | None = None
    attached: bool = False


class Ended(msgspec.Struct, frozen=True):
    """How an attached sandbox ended and what came home. `changed` False: nothing is left of it."""

    id: str
    exit_code: int
    changed: bool
    rescued: bool
    head: str | None
    wip: str | None
    refs: dict[str, str]
    warnings: tuple[str, ...]


class Event(msgspec.Struct, frozen=True):
    """One line on the pipe: progress, warnings, the id of the sandbox once its session is open, its end, an error."""

    progress: str | None = None
    notice: tuple[str, ...] | None = None
    ready: str | None = None
    ended: Ended | None = None
    error: tuple[str, str, str, int] | None = None  # message, cause, hint, exit code


def start(
    repo: Repository,
    options: Options,
    progress: Progress,
    *,
    resume: str | None = None,
    notice: Notice = lambda _warnings: None,
) -> str:
    """Start a supervisor and wait until its sandbox is ready; its id. Raises what it failed with.

    When this process is interrupted while waiting, the supervisor is told to clean up.
    """
    pid, reading = launch(Order(os.fspath(repo.worktree), options, resume))
    try:
        return _listen(reading, progress, notice)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise


def launch(order: Order) -> tuple[int, int]:
    """A supervisor on its own: its process id, and the descriptor on which it tells events."""
    root = paths.private_directory(paths.state_root())
    reading, writing = os.pipe()
    try:
        pid = process.detach(
            argv(writing), data=jsontext.encode(order), log=root / "supervisor.log", pass_fds=[writing]
        )
    finally:
        os.close(writing)
    return pid, reading


def argv(descriptor: int) -> list[str]:
    # -P: we stand in the user's repository, and a module of its own must not be taken for one of ours.
    return [sys.executable, "-P", "-m", MODULE, str(descriptor)]


def _listen(reading: int, progress: Progress, notice: Notice) -> str:
    with os.fdopen(reading, "rb") as pipe:
        for line in pipe:
            event = jsontext.decode(line, Event)
            if event.progress is not None:
                progress(event.progress)
            if event.notice is not None:
                notice(event.notice)
            if event.ready is not None:
                return event.ready
            if event.error is not None:
                raise failure(*event.error)
    log = paths.state_root() / "supervisor.log"
    raise MachineError("the sandbox's supervisor ended unexpectedly", cause=printable(log.read_bytes()[-2000:]))


def failure(message: str, cause: str, hint: str, code: int) -> SandboxError:
    """The error a supervisor told."""
    kinds = {kind.exit_code: kind for kind in SandboxError.__subclasses__()}
    return kinds.get(code, SandboxError)(message, cause=cause, hint=hint)


def main(descriptor: int) -> int:
    """The supervisor: runs in a session of its own, told what to do on standard input."""
    order = jsontext.decode(sys.stdin.buffer.read(), Order)
    pipe = os.fdopen(descriptor, "wb", buffering=0)

    def tell(event: Event) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):  # the starter has what it waited for
            pipe.write(jsontext.encode(event) + b"\n")

    def ready(name: str) -> None:
        tell(Event(ready=name))
        if not order.attached:
            pipe.close()

    try:
        with signals.signals_raise():
            ended = _live(
                order, lambda text: tell(Event(progress=text)), ready, lambda texts: tell(Event(notice=texts))
            )
        tell(Event(ended=ended))
        return ended.exit_code  # noqa: TRY300 - what can fail is above
    except Interrupted as signal_:
        tell(Event(error=("it was interrupted before its session started", "", "", signal_.exit_code)))
        return signal_.exit_code
    except SandboxError as error:
        tell(Event(error=(error.message, error.cause, error.hint, error.exit_code)))
        sys.stderr.write(one_line(f"{error.message}: {error.cause}") + "\n")
        return error.exit_code
    except Exception as error:
        tell(Event(error=(f"the supervisor failed: {error!r}", traceback.format_exc(), "", 1)))
        raise


def _live(order: Order, progress: Progress, ready: Callable[[str], None], notice: Notice) -> Ended:
    repo = repos.discover(Path(order.worktree))
    options = order.options
    if order.resume is not None:
        finished = lifecycle.resume(repo, order.resume, options, progress, ready=ready, notice=notice)
    else:
        finished = lifecycle.spawn(repo, options, progress, ready, notice)
    settings = options.settings
    settle.settle(
        finished.repo, finished.record, finished.home, Questions(), on_exit=settings.on_exit, dirty=settings.dirty
    )
    if options.agent:
        notifying.ended(run.told_by(options), finished.record, finished.exit_code)
    came = finished.home.collected
    return Ended(
        finished.id, finished.exit_code, finished.home.changed, finished.home.rescued, came.head, came.wip,
        {name: new for name, (_, new) in came.updated.items()}, finished.warnings,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
