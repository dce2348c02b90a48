"""The life of a sandbox from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

from git_sandbox import process, store
from git_sandbox.errors import Interrupted, SandboxError
from git_sandbox.git.repo import Repository
from git_sandbox.image.cache import Image
from git_sandbox.image.guestfiles import GuestUser
from git_sandbox.sandbox import home, machines, prepare
from git_sandbox.sandbox.home import Home
from git_sandbox.sandbox.options import Options, Progress
from git_sandbox.session import Keys, Session, connect
from git_sandbox.store import Box, Record
from git_sandbox.vmm.machine import SSH, Running


@dataclass(frozen=True)
class Finished:
    """How a sandbox ended. `kept` is False when nothing changed and nothing is left of it."""

    id: str
    record: Record
    exit_code: int
    home: Home
    kept: bool
    warnings: tuple[str, ...]
    interrupted: int = 0  # number of the signal that ended the session


def spawn(repo: Repository, options: Options, progress: Progress) -> Finished:
    """Run a shell or a command in a new sandbox of `repo` and bring home what came of it.

    Whatever goes wrong once the machine runs, its disk stays and `sandbox recover` can read it. Raises SandboxError
    of the kind that fits, and Interrupted after a signal, when the work could be brought home nevertheless.
    """
    settings = options.settings
    ready = prepare.image(settings, progress)
    prepare.require_memory(settings)
    with store.create(repo, options.name) as box:
        backend = machines.backend(settings, ready, progress)
        made = prepare.prepare(box, options, ready, backend.name, progress)
        lived, brought = _live(box, made.record, ready, options, progress)
        kept = home.settle(box, made.record, brought, lived.exit_code)
    warnings = (*made.warnings, *brought.collected.warnings)
    return Finished(box.id, made.record, lived.exit_code, brought, kept, warnings, lived.interrupted)


@dataclass
class _Lived:
    """What is known so far. `began`: a session was open, so there may be work of the user's on the disk."""

    began: bool = False
    exit_code: int = 0
    interrupted: int = 0
    problem: SandboxError | None = None
    home: Home | None = None


def _live(box: Box, record: Record, ready: Image, options: Options, progress: Progress) -> tuple[_Lived, Home]:
    """Session, then home. When the live machine cannot export (any more), a rescue machine reads its disk."""
    lived = _Lived()
    try:
        with machines.started(box, record, ready, "run", progress) as running:
            _session(box, running, options, lived, progress)
            _home(box, record, running, lived, progress)
    except BaseException:
        if not lived.began:
            home.remove(box)
        raise
    brought = lived.home or _rescued(box, record, progress)
    if lived.problem is not None and lived.home is not None:
        home.settle(box, record, brought, lived.problem.exit_code)
        raise lived.problem
    return lived, brought


def _session(box: Box, running: Running, options: Options, lived: _Lived, progress: Progress) -> None:
    progress("Waiting for the shell")
    with connect(
        box.id, GuestUser.current().name, Keys(box.directory.keys), running.attachment(SSH), box.directory.sockets,
        alive=running.alive, timeout=options.settings.boot_timeout,
    ) as opened:  # fmt: skip
        lived.began = True
        progress("")
        try:
            lived.exit_code = _work(opened, options)
        except SandboxError as error:
            lived.problem = error
        except Interrupted as signal:
            lived.interrupted, lived.exit_code = signal.signum, signal.exit_code
            process.listen_again()
            progress("Interrupted: bringing your work home first (once more: leave it on the disk)")


def _home(box: Box, record: Record, running: Running, lived: _Lived, progress: Progress) -> None:
    try:
        lived.home = home.bring_home(box, record, running, progress)
    except SandboxError as error:
        lived.problem = lived.problem or error
    progress("Stopping the machine")
    home.power_off(running)


def _rescued(box: Box, record: Record, progress: Progress) -> Home:
    try:
        return home.rescue(box, record, progress)
    except SandboxError as error:
        raise home.why(error, box) from error


def _work(opened: Session, options: Options) -> int:
    directory = f"/workspace/{options.subdirectory}".rstrip("/")
    if options.command is None:
        return opened.shell(directory)
    return opened.run(options.command, directory, stdout=options.stdout)
