"""Sandboxes that another process supervises: their sessions, a sync, their end."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import IO, TYPE_CHECKING

from git_sandbox import claims, locks, session, signals, store
from git_sandbox.errors import Interrupted, StateError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol.changes import Changes
from git_sandbox.session import Session
from git_sandbox.store import Entry, Record, SandboxHandle, State

if TYPE_CHECKING:
    from git_sandbox.sandbox.imported import Retrieval

ENDED_WITHIN = 3 * 3600.0  # seconds: the longest conversation, a rescue machine and another conversation
LAST_WORD = 5.0  # seconds for a command to end that was asked to


def running(repo: Repository, name: str) -> tuple[Entry, Record]:
    """Raises StateError unless the sandbox runs."""
    entry = store.find(repo, name)
    if entry.state is not State.RUNNING or entry.record is None:
        hints = {
            State.STOPPED: f"`sandbox shell {name}` starts it again; with --detach and no terminal, too",
            State.RECOVERING: f"its machine has ended and its work is being brought home: {claims.WAIT}",
            State.RECOVERABLE: f"its work is on its disk: `sandbox recover {name}`",
            State.AWAY: f"another machine has its job: `sandbox recover --on HOST {name}`",
        }
        raise StateError(
            f"sandbox `{name}` is not running ({entry.state})", hint=hints.get(entry.state, "`sandbox ls`")
        )
    return entry, entry.record


def _here(repo: Repository, name: str) -> tuple[Entry, Record]:
    """The same of one whose machine is on this host. Raises StateError."""
    entry, record = running(repo, name)
    if entry.directory.dispatch.exists():
        hint = f"its work comes home when it ends; `sandbox stop {name}` ends it now"
        raise StateError(f"sandbox `{name}` runs on another machine", hint=hint)
    return entry, record


def directory(record: Record, subdirectory: str) -> str:
    """Where in the guest a session begins whose caller stands in `subdirectory` of the worktree."""
    return f"{record.workdir}/{subdirectory}".rstrip("/")


def open_session(repo: Repository, name: str) -> Session:
    """The session its supervisor holds open, for one more shell or command."""
    entry, _ = _here(repo, name)
    return session.shared(entry.id, entry.directory.ssh_config)


@dataclass
class Caller:
    """What signals mean for a command in a sandbox that another process supervises: the first is for the command, and a
    Ctrl-C may be an ordinary key to it. After any other, and the second time, nobody waits: the guest ends it.
    """

    heard: bool = False

    def __call__(self, session: Session, token: str, caught: Interrupted) -> float | None:
        if self.heard:
            raise caught
        self.heard = True
        signals.listen_again()
        session.signal(token, caught.signum)
        return None if caught.signum == signal.SIGINT else LAST_WORD


def ssh_configs(repo: Repository, name: str | None = None) -> dict[str, str]:
    """The ssh_config(5) text of one running sandbox, or of all of the repository's, by id.

    Raises StateError when the one named does not run.
    """
    asked = (
        [running(repo, name)[0]] if name else [entry for entry in store.entries(repo) if entry.state is State.RUNNING]
    )
    synced = {}
    for entry in asked:
        with contextlib.suppress(FileNotFoundError):  # it is starting, or about to end
            synced[str(entry.id)] = entry.directory.ssh_include.read_text()
    return synced


def sync(repo: Repository, name: str, progress: Progress) -> Retrieval:
    """Collect now what the running guest has; only what is new moves."""
    from git_sandbox.sandbox import retrieve  # late: `exec` does without

    entry, record = _here(repo, name)
    return retrieve.bring_home(SandboxHandle(repo, entry.id, entry.directory), record, progress)


def send(repo: Repository, name: str) -> list[str]:
    """Bring the host's branches into the guest; a line for each that is new there."""
    from git_sandbox.sandbox import send as sending

    entry, record = _here(repo, name)
    return sending.send(repo, record, session.shared(entry.id, entry.directory.ssh_config))


def stop(repo: Repository, name: str, progress: Progress, grace: float | None = None) -> dict[RefName, Oid]:
    """Ask the supervisor to end the programs, bring the work home and stop the machine, and wait until it has.

    `grace`: seconds for the programs instead of the sandbox's own setting; a signal to us while we wait makes it 0.
    Returns the sandbox's refs afterwards; none when it had changed nothing. Raises StateError when the supervisor died
    on the way: then the disk is kept.
    """
    entry, record = running(repo, name)
    with store.followed(repo) as where:
        _end(entry, record, progress, grace)
        repo = where()
    left = [other for other in store.entries(repo) if other.id == entry.id]
    if left and left[0].state is State.RECOVERABLE:
        raise StateError(f"sandbox `{name}` stopped without bringing its work home", hint=f"`sandbox recover {name}`")
    return left[0].refs if left else {}


def stop_anywhere(name: str, progress: Progress, grace: float | None = None) -> State:
    """The same for a sandbox of any repository, by its name in `ls --everywhere`; its state afterwards.

    Where its repository is gone its work stays on its disk. Raises StateError unless it runs.
    """
    from git_sandbox.sandbox import everywhere

    sandbox = everywhere.find(name, None)
    entry, record = sandbox.entry, sandbox.entry.record
    if entry.state is not State.RUNNING or record is None:
        raise StateError(f"sandbox `{name}` is not running ({entry.state})", hint="`sandbox ls --everywhere`")
    _end(entry, record, progress, grace)
    return next((other.state for other in store.entries_in(sandbox.of.root) if other.id == entry.id), State.TRASH)


def _end(entry: Entry, record: Record, progress: Progress, grace: float | None) -> None:
    from git_sandbox.sandbox import ending

    progress(f"Stopping {entry.id}: its work comes home first")
    directory = entry.directory
    with directory.lock.open("r") as handle:
        if not directory.stop_timeout.exists():  # else another `stop` waits: a second signal would leave the work there
            os.kill(record.pid, signal.SIGTERM)
        ending.ask(directory, grace)
        try:
            _done(handle)
        except Interrupted:
            ending.ask(directory, 0)
            progress(f"Killing what runs in {entry.id} (press Ctrl-C again to stop waiting)")
            signals.listen_again()
            _done(handle)


def ended(entry: Entry) -> None:
    """Wait until the supervisor of a sandbox whose program has ended has brought its work home."""
    with contextlib.suppress(FileNotFoundError), entry.directory.lock.open("r") as handle:
        _done(handle)


def _done(handle: IO[str]) -> None:
    """The supervisor holds the lock until all is done. Raises StateError when that takes longer than it ever should."""
    locks.awaited(handle, within=ENDED_WITHIN, what="still ends this sandbox", shared=True)


def changes(repo: Repository, name: str) -> Changes | None:
    """What differed from the start when its work last came home, as its record says."""
    record = store.find(repo, name).record
    return record.changes if record else None
