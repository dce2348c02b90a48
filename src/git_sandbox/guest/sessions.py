"""Ends the commands of `run` and `exec` with their caller: one helper of process 1 watches over all of them.

The shell that sshd starts for a command writes one line to a FIFO, which costs nothing: `start PID TOKEN`. The host
passes signals on in the same way, `signal TOKEN NUMBER`, and has the clock set, `clock SECONDS`.

The helper sees by its copies of the shell's standard input
and output that sshd has closed the other end of both (poll(2): POLLHUP or POLLERR), which happens when the client, the
connection or the whole host side is gone. sshd leaves standard error open then, until the program ends.

The shell may still be at its line when the line is read: bash has the FIFO in the place of its standard output then.
What is the FIFO is not copied, but looked at again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.guest import processes, protocol
from git_sandbox.guest.processes import Process

FIFO = Path(protocol.SESSIONS)
PIDFD_GETFD = 438  # system call number, the same on every processor
MOST = 4000  # commands watched at a time
MAX_LINE = 512  # bytes; what is longer is no line of ours
GONE = select.POLLERR | select.POLLHUP
BEHIND = 2.0  # seconds that the clock may be behind the host's
AGAIN = 0.2  # seconds between two looks at programs that have been asked to end


def copy_descriptor(pidfd: int, number: int) -> int:
    """Descriptor `number` of another process, as one of ours. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return descriptor


@dataclass
class Command:
    """`shell`: leads the session. `ending`: when it is killed, having been asked to end.
    `uncopied`: numbers of its standard input and output that the helper has no copy of yet.
    """

    shell: int
    token: str
    pidfd: int
    ends: set[int]  # of its input and output, as long as there is somebody at the other end
    terminal: bool
    uncopied: tuple[int, ...] = (0, 1)
    ending: float | None = None

    def programs(self) -> list[Process]:
        """Those of the session, without its shell, which tells how they ended. On a terminal without those of other
        process groups: they are jobs of another shell, to which the kernel's hang-up means what it means anywhere.
        """
        everybody = processes.everybody().values()
        mine = [process for process in everybody if process.session == self.shell != process.pid]
        return [process for process in mine if process.group == self.shell or not self.terminal]


class Watch:
    """`grace`: seconds between SIGTERM and SIGKILL. `clock`: sets the clock forward, to seconds since 1970."""

    def __init__(self, fifo: int, grace: float, clock: Callable[[float], object] = lambda _seconds: None) -> None:
        self.fifo, self.grace, self.clock = fifo, grace, clock
        self.commands: dict[int, Command] = {}  # by pidfd
        self.ending: list[Command] = []  # their shell is gone, its pidfd closed; the rest was asked to end
        self.poll = select.poll()
        self.poll.register(fifo, select.POLLIN)
        self.rest = b""

    def serve(self) -> None:
        while True:
            self.step(None)

    def step(self, seconds: float | None) -> None:
        for command in self.commands.values():
            with contextlib.suppress(OSError):
                self.copy_ends(command)
        unsettled = self.ending or any(command.ending or command.uncopied for command in self.commands.values())
        patience = AGAIN if unsettled else seconds
        for descriptor, events in self.poll.poll(None if patience is None else patience * 1000):
            if descriptor == self.fifo:
                self.read()
            elif descriptor in self.commands:
                self.shell_ended(self.commands[descriptor])
            elif events & GONE:
                self.closed(descriptor)
        self.kill_stubborn()

    def read(self) -> None:
        *lines, self.rest = (self.rest + os.read(self.fifo, 65536)).split(b"\n")
        self.rest = self.rest[:MAX_LINE]
        for line in lines:
            words = line.decode("ascii", "replace").split()
            with contextlib.suppress(OSError, ValueError, OverflowError):
                self.obey(words)

    def obey(self, words: list[str]) -> None:
        match words:
            case ["start", pid, token] if len(self.commands) < MOST:
                self.start(int(pid), token)
            case ["signal", token, number]:
                for command in list(self.commands.values()):
                    if command.token == token:
                        processes.send(command.programs(), signal.Signals(int(number)))
            case ["clock", seconds]:
                self.clock(float(seconds))
            case _:
                pass

    def start(self, shell: int, token: str) -> None:
        seen = processes.look(shell)
        if seen is None or not seen.leads or shell in {command.shell for command in self.commands.values()}:
            return
        command = Command(shell, token, os.pidfd_open(shell), set(), bool(seen.terminal))
        self.commands[command.pidfd] = command
        self.poll.register(command.pidfd, select.POLLIN)
        self.copy_ends(command)

    def copy_ends(self, command: Command) -> None:
        """Of those that the shell has closed there is no copy. Raises OSError: it is gone."""
        for number in command.uncopied:
            end = self.copy_end(command.pidfd, number)
            if end == self.fifo:
                continue
            command.uncopied = tuple(other for other in command.uncopied if other != number)
            if end is not None:
                command.ends.add(end)
                self.poll.register(end, 0)

    def copy_end(self, pidfd: int, number: int) -> int | None:
        """None: it is closed. `fifo` itself: the shell is still at its line."""
        try:
            end = copy_descriptor(pidfd, number)
        except OSError as error:
            if error.errno == errno.EBADF:
                return None
            raise
        if os.path.sameopenfile(end, self.fifo):
            os.close(end)
            return self.fifo
        return end

    def shell_ended(self, command: Command) -> None:
        """What it leaves behind may go on, as with ssh, unless the caller is gone, too: a hang-up ended the shell."""
        for end in [*command.ends]:
            asked = select.poll()
            asked.register(end, 0)
            if asked.poll(0):
                self.closed(end)
        if command.ending is not None:
            self.ending.append(command)
        self.forget(command)

    def forget(self, command: Command) -> None:
        del self.commands[command.pidfd]
        for end in (command.pidfd, *command.ends):
            self.poll.unregister(end)
            os.close(end)

    def closed(self, end: int) -> None:
        for command in self.commands.values():
            if end in command.ends:
                command.ends.remove(end)
                self.poll.unregister(end)
                os.close(end)
                if not command.ends and not command.uncopied:
                    self.end(command)
                return

    def end(self, command: Command) -> None:
        command.ending = time.monotonic() + self.grace
        processes.send(command.programs(), signal.SIGTERM, signal.SIGCONT)

    def kill_stubborn(self) -> None:
        now = time.monotonic()
        for command in [*self.commands.values(), *self.ending]:
            if command.ending is not None and now >= command.ending:
                processes.send(command.programs(), signal.SIGKILL)
        for command in self.commands.values():
            if command.ending is not None and now >= command.ending:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(command.pidfd, signal.SIGKILL)  # nobody waits for its word any more
        self.ending = [command for command in self.ending if command.ending is not None and now < command.ending]


def prepare() -> int:
    """The FIFO, before any session. Every user of the guest may write to it: there is one."""
    os.mkfifo(FIFO)
    (FIFO).chmod(0o622)
    return os.open(FIFO, os.O_RDWR | os.O_CLOEXEC)  # also for writing: it must not end with whoever wrote


def serve(fifo: int, grace: float, clock: Callable[[float], object]) -> None:
    Watch(fifo, grace, clock).serve()


def tell_time(seconds: float) -> None:
    """Have the clock set forward when it is behind the host's: this one stood still while the host slept."""
    if seconds > time.time() + BEHIND:
        with contextlib.suppress(OSError):
            fifo = os.open(FIFO, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fifo, f"clock {seconds}\n".encode())
            os.close(fifo)
