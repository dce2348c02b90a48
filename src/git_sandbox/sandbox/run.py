"""One run of a sandbox's machine: boot, session, retrieval."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from git_sandbox import files, network, signals
from git_sandbox.cache import bases
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import Interrupted, SandboxError, SessionError
from git_sandbox.guest import protocol
from git_sandbox.guest.protocol import HOST, SSH
from git_sandbox.later import dataclass
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import (
    devcontainers,
    egress_proxy,
    guest_requests,
    live,
    machine_spec,
    machines,
    notifying,
    retrieve,
    session_options,
)
from git_sandbox.sandbox.egress_process import Proxy
from git_sandbox.sandbox.egress_proxy import Refused
from git_sandbox.sandbox.ending import Programs
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.prestart import Prestart
from git_sandbox.sandbox.provision import Prepared
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.sandbox.warm_start import Personalization
from git_sandbox.session import Session, connect
from git_sandbox.setting_values import AUTO
from git_sandbox.settings import environment
from git_sandbox.ssh_config import Keys
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.vmm.machine import Backend, Running
from git_sandbox.workspace.builder import refused

PANIC_WITHIN = 15.0  # seconds a panicking kernel takes to stop the machine
LAST_WORD = 5.0  # seconds until we know how a command ended that has been killed
OUTPUT_LIMIT = 16 << 20  # bytes kept of what a detached command prints
T = TypeVar("T")
Brought = TypeVar("Brought")
Ready = Callable[[str], None]  # called with the sandbox's id once its session is open


def told_by(options: Options) -> tuple[str, ...]:
    """The command that tells the user how a sandbox is."""
    return notifying.command(options.settings.notify, environment(), agent=bool(options.agent))


class BootError(SessionError):
    """The kernel panicked before anything of the user's had run.

    Seen in about one boot in 150 under full load with QEMU 7.2's multi-threaded emulation (docs/explanation/no-kvm.md).
    """


class BaseRefusedError(SessionError):
    """The guest could not use the base that its disk was laid over. Nobody has used the machine yet."""


class Retriever(Protocol[Brought]):
    """What becomes of a sandbox's work at the end of a run."""

    def from_machine(self, handle: SandboxHandle, record: Record, progress: Progress) -> Brought:
        """From a machine that runs, in which nothing of the user's may go on. Raises SandboxError, OSError."""

    def from_disk(self, handle: SandboxHandle, record: Record, progress: Progress, reason: str) -> Brought:
        """From the disk of one that could not do it, for that `reason`."""

    def note(self, handle: SandboxHandle, record: Record, exit_code: int, brought: Brought) -> None:
        """Write down how the sandbox ended."""


@dataclass
class Run(Generic[Brought]):
    """One run of a machine. `began`: a session was open, so there may be work of the user's on the disk."""

    handle: SandboxHandle
    record: Record
    image: Image
    backend: Backend
    options: Options
    progress: Progress
    ready: Ready
    extras: Extras
    way: Retriever[Brought]
    prepared: Prepared | None = None  # only for the first run of a sandbox
    first: Prestart | None = None
    notice: Notice = lambda _warnings: None
    began: bool = False
    exit_code: int = 0
    interrupted: int = 0
    ended: bool = False  # what ran in the machine
    problem: SandboxError | None = None
    refused: tuple[Refused, ...] = ()  # by its network
    warnings: tuple[str, ...] = ()  # about its network

    def run(self) -> Brought:
        """Session, then home. A kernel that dies before a session was open is booted once more."""
        try:
            return self._attempt(may_be_warm=self.options.settings.warm == AUTO)
        except BootError:
            self.progress("The guest kernel died during boot; retrying")
            return self._attempt(may_be_warm=False)

    def _attempt(self, *, may_be_warm: bool) -> Brought:
        """When the live machine cannot export (any more), a rescue machine reads its disk."""
        brought: Brought | None = None
        reason = ""
        for marker in (self.handle.directory.stop_timeout, self.handle.directory.recovering):
            marker.unlink(missing_ok=True)  # of a supervisor that was killed
        with self._way_out() as proxy, machines.launched(
            self.handle, self.record, self.image, self.backend, self.progress, may_be_warm=may_be_warm,
            applying=self.prepared.applying if self.prepared else 0.0, first=self.first,
        ) as (running, personalization):  # fmt: skip
            try:
                self._session(running, personalization, proxy)
            except Interrupted as caught:  # while the session was being closed
                self._note_interrupt(caught)
            except SessionError as error:
                raise self._classified(error, running, personalization) from error
            if not running.alive():
                with contextlib.suppress(OSError):  # only for show, and this host's disk may be full
                    files.write(self.handle.directory.recovering, b"")
            try:
                brought = self._retry_after_signal(
                    lambda: self.way.from_machine(self.handle, self.record, self.progress)
                )
            except (SandboxError, OSError) as error:  # OSError: of this host's, whose disk is full
                reason = _reason(self.problem or error, running)
            self.progress("Stopping the machine")
            self._retry_after_signal(lambda: retrieve.power_off(self.handle, running))
        if brought is None:
            return self.way.from_disk(self.handle, self.record, self.progress, reason)
        if self.problem is not None:
            self.way.note(self.handle, self.record, self.problem.exit_code, brought)
            raise self.problem
        return brought

    def _retry_after_signal(self, step: Callable[[], T]) -> T:
        """Begin a step of the end once more when the first signal comes in the middle of it: `sandbox stop` and Ctrl-C
        ask for this end, and it may have begun a moment before. The second signal ends everything.
        """
        try:
            return step()
        except Interrupted as caught:
            self._note_interrupt(caught)
            return step()

    def _note_interrupt(self, caught: Interrupted) -> None:
        if self.interrupted or not self.began:
            raise caught
        self.interrupted = caught.signum
        signals.listen_again()

    def _classified(
        self, error: SessionError, running: Running, personalization: Personalization | None
    ) -> SessionError:
        """With what VMM and console last said. BootError when the machine ended without being asked to,
        BaseRefusedError when that was because of a base.

        A warm one that did not become the sandbox's is as good as dead.
        """
        died = not self.began and (
            (personalization is not None and personalization.failed) or running.wait(PANIC_WITHIN)
        )
        cause = "\n".join(filter(None, (error.cause, running.diagnosis())))
        if died and self.prepared and self.prepared.base and refused(self.handle.directory):
            bases.remove(self.prepared.base)
            return BaseRefusedError("the guest could not read its copy of the repository, which was discarded")
        if died and personalization is not None:
            personalization.blame(cause)
        return (BootError if died else SessionError)(error.message, cause=cause, hint=error.hint)

    @contextlib.contextmanager
    def _way_out(self) -> Iterator[Proxy | None]:
        """The proxy of a sandbox whose network needs one, and afterwards what it refused."""
        if not network.BY_NAME[self.record.net].egress:
            yield None
            return
        began = time.time()
        with egress_proxy.served(self.handle.directory, environment(), self.options.settings.confinement) as proxy:
            yield proxy
            ended = proxy.warnings()
        self.warnings = (*ended, *egress_proxy.pushes(self.handle.directory, began))
        self.refused = egress_proxy.refused(self.handle.directory, began)

    def _session(self, running: Running, personalization: Personalization | None, proxy: Proxy | None) -> None:
        self.progress("Waiting for the shell")
        directory = self.handle.directory
        with connect(
            self.handle.id, machine_spec.guest_config(directory).user.name, Keys(directory.keys),
            running.attachment(SSH), directory.sockets,
            alive=lambda: running.alive() and not (personalization and personalization.failed),
            timeout=self.options.settings.boot_timeout + (self.prepared.applying if self.prepared else 0.0),
            agent=self.extras.agent, git=self.extras.git, include=directory.ssh_include,
            proxy=proxy.path if proxy else None,
        ) as opened:  # fmt: skip
            if personalization is not None:
                personalization.done()
            self.began = True
            self.progress("")
            try:
                if proxy is not None:
                    proxy.start()
                with guest_requests.served(
                    self.handle, self.record, opened, running.attachment(HOST), told_by(self.options)
                ):
                    self._set_up(opened)
                    self.ready(self.handle.id)
                    self.exit_code = self._command(opened, running)
            except SandboxError as error:
                self.problem, self.exit_code = error, error.exit_code  # how the command ended is not known
            except Interrupted as caught:
                self.exit_code = caught.exit_code
                self._note_signal(caught)
                signals.listen_again()
            if running.alive():
                self._end_programs()

    def _note_signal(self, caught: Interrupted | None) -> None:
        if caught is not None and not self.interrupted:
            self.interrupted = caught.signum

    def _end_programs(self) -> None:
        """What they save on the way out is exported, too. Once: nothing begins afterwards."""
        if not self.ended:
            self.ended = True
            self._note_signal(Programs(self.handle.directory, self.options.settings.stop_timeout, self.progress).end())

    def _pass_on(self, opened: Session, token: str, caught: Interrupted) -> float | None:
        """Signals to us while a command runs. The first Ctrl-C is for the command alone; it may go on. Then all end."""
        first = not self.interrupted
        self._note_signal(caught)
        signals.listen_again()
        if caught.signum == signal.SIGINT and first and not self.options.detached:
            opened.signal(token, caught.signum)
            return None
        self.progress("Interrupted: stopping what runs in the sandbox (press Ctrl-C again to kill it)")
        self._end_programs()
        return LAST_WORD

    def _set_up(self, opened: Session) -> None:
        if self.extras.setup is not None:
            log = self.handle.directory.setup_log if self.options.detached else None
            session_options.run_setup(opened, self.extras.setup, log)
        session_options.publish(opened, self.extras.ports)
        if self.extras.stages:
            self._run_commands(opened)

    def _run_commands(self, opened: Session) -> None:
        """Of a devcontainer."""
        place, detached = self.handle.directory.commands, self.options.detached
        place.mkdir(mode=0o700, exist_ok=True)
        if self.prepared is not None:
            devcontainers.remember(place, self.extras.stages)
        begun = devcontainers.Commands(self.extras.stages, live.directory(self.record, ""), place, detached)
        shell = self.options.command is None and not detached
        devcontainers.run(begun, opened, self.progress, self.notice, shell=shell)

    def _command(self, opened: Session, running: Running) -> int:
        directory = live.directory(self.record, self.options.subdirectory)
        options, output = self.options, self.handle.directory.output
        if options.command is not None and options.detached:
            held = (protocol.COMMAND, "terminal", *options.command) if options.terminal else options.command
            return opened.run_logged(held, directory, output, OUTPUT_LIMIT, on_signal=self._pass_on)
        if options.command is not None:
            return opened.run(
                options.command, directory, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr,
                tty=options.tty, on_signal=self._pass_on,
            )  # fmt: skip
        if self.options.detached:
            running.wait()
            return 0
        return opened.shell(directory)


def _reason(error: SandboxError | OSError, running: Running) -> str:
    """Why nothing came from the live machine, with the last words of one that ended."""
    words = [error.message, error.cause] if isinstance(error, SandboxError) else [error.strerror or str(error)]
    if not running.alive():
        words += ["the machine ended", running.diagnosis()]
    return "; ".join(filter(None, words))
