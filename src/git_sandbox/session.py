"""A session in the running guest: OpenSSH over one channel, with one shared connection (ControlMaster)."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from git_sandbox import bounded_log, files, network, process, signals, terminal
from git_sandbox.background import Beside
from git_sandbox.errors import Interrupted, SandboxError, SessionError
from git_sandbox.git.configtext import Pair
from git_sandbox.guest import protocol
from git_sandbox.image import terminfo
from git_sandbox.later import dataclass
from git_sandbox.ssh_config import SENT, Keys, config, offer
from git_sandbox.text import printable
from git_sandbox.vmm.machine import Attachment

READY = b"git-sandbox-session-ready"
BEHIND = 2  # seconds that the guest's clock may be behind ours
SIGNALLED = 20.0  # seconds for a signal to reach a program in the guest
LOG_LIMIT = 64 << 10  # bytes of ssh's complaints kept; a guest can make it complain without end
SSH_FAILED = 255  # ssh's own status when the connection, and not the command, failed


# Gets the session, the command's token and the signal. Seconds that the command may still take, None: any number.
OnSignal = Callable[["Session", str, Interrupted], float | None]


def leave(_session: Session, _token: str, caught: Interrupted) -> float | None:
    """What a signal to us means for a command in the guest, unless its caller says otherwise: the guest ends it."""
    raise caught


@dataclass(frozen=True)
class Session:
    """An open connection. Commands start without another handshake."""

    name: str
    config: Path
    broken: Callable[[], bool]  # whether the connection is known to be gone

    @property
    def host(self) -> str:
        """What ssh, scp and git call the guest, given `config`."""
        return f"sandbox-{self.name}"

    def argv(self, *words: str, tty: bool) -> list[str]:
        return ["ssh", "-F", str(self.config), "-tt" if tty else "-T", self.host, *words]

    def shell(self, directory: str) -> int:
        """An interactive login shell on our own terminal; its exit status."""
        described = terminfo.describe(os.environ)
        command = f'{_clock()}; {described}cd {shlex.quote(directory)} 2>/dev/null; exec "${{SHELL:-bash}}" -l'
        with terminal.restored(1, 2, raw=True):
            return self._foreground(self.argv(command, tty=True))

    def attach(self) -> bool:
        """Our terminal shows the program that runs on the guest's (`guest/terminal.py`), until that ends, or somebody
        leaves it by its key, or the connection breaks. Whether it is known to go on.
        """
        command = f"{_clock()}; {terminfo.describe(os.environ)}{_ATTACH}"
        with terminal.restored(1, 2, raw=True), contextlib.suppress(SessionError):
            return self._foreground(self.argv(command, tty=True)) == protocol.GOES_ON
        return False

    def run(
        self,
        command: Sequence[str],
        directory: str,
        *,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        tty: bool = False,
        on_signal: OnSignal = leave,
    ) -> int:
        """A command with our standard streams; its exit status, 128 + n when signal n killed it.

        Without `tty` they are passed byte for byte. With it the command has a terminal, whose only output is `stdout`,
        and ours, if it is one, is in raw mode meanwhile. `on_signal` is called for each signal that we get; when it
        returns, the command is waited for again.
        """
        token = secrets.token_hex(8)
        described = terminfo.describe(os.environ) if tty else ""
        argv, env = self.argv(_line(command, directory, token, described), tty=tty), self._environment()
        # Without a terminal ssh is apart from ours: Ctrl-C is for the command, not for who carries its output.
        with (
            terminal.restored(stdout, stderr, raw=tty),
            process.spawn(argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr, foreground=tty) as child,
        ):
            return self._wait(child, token, on_signal)

    def run_logged(
        self, command: Sequence[str], directory: str, log: Path, limit: int, *, on_signal: OnSignal = leave
    ) -> int:
        """A command with nobody at the terminal: no input, both outputs to `log`, at most about `limit` bytes."""
        token = secrets.token_hex(8)
        argv = self.argv(_line(command, directory, token), tty=False)
        with process.spawn(argv, stdout=process.PIPE, stderr=process.STDOUT) as child:
            keeping = Beside(partial(bounded_log.keep, child.stdout, log, limit))
            status = self._wait(child, token, on_signal)
            keeping.wait()
            return status

    def signal(self, token: str, number: int) -> None:
        """Send a signal to the programs of one command. Nothing happens when there are none (any more)."""
        argv = self.argv(f"echo signal {token} {number} 1<>{protocol.SESSIONS}", tty=False)
        with contextlib.suppress(SandboxError):
            process.run(argv, timeout=SIGNALLED, output=4096)

    def _wait(self, child: process.Child, token: str, on_signal: OnSignal) -> int:
        seconds, heard = None, None
        while True:
            try:
                status = child.wait(seconds)
                if status is None and heard is not None:
                    raise heard
                return self._status(status)
            except Interrupted as caught:
                if caught is heard:
                    raise
                heard, seconds = caught, on_signal(self, token, caught)
                signals.listen_again()

    def _environment(self) -> dict[str, str]:
        return process.environment({"LANG": "C.UTF-8", **_sent()})

    def _foreground(self, argv: list[str]) -> int:
        with process.spawn(argv, env=self._environment(), stdin=0, stdout=1, stderr=2, foreground=True) as child:
            return self._status(child.wait())

    def _status(self, status: int | None) -> int:
        if status == SSH_FAILED and self.broken():
            raise SessionError(
                "the connection to the sandbox was lost", hint="`sandbox ls` shows what can be recovered"
            )
        return 128 - status if status is not None and status < 0 else status or 0


# Waits for a program that is about to begin. A terminal nobody knows there is taken for a common one.
_ATTACH = (
    f"tmux='tmux -u -L {protocol.TERMINAL}'; ended={protocol.TERMINAL_PLACE}$(id -u)/{protocol.TERMINAL_ENDED}; n=0; "
    "infocmp >/dev/null 2>&1 || export TERM=xterm-256color; "
    "until [ -e $ended ] || $tmux has-session 2>/dev/null || [ $n -ge 600 ]; do n=$((n + 1)); sleep 0.1; done; "
    f"$tmux attach-session -t {protocol.TERMINAL} 2>/dev/null; "
    f"[ -e $ended ] || ! $tmux has-session 2>/dev/null || exit {protocol.GOES_ON}; exit 0"
)


def _line(command: Sequence[str], directory: str, token: str, first: str = "") -> str:
    """What the guest's shell does for one command: have it watched (guest/sessions.py), and tell how it ended.
    `first`: what it does before.

    Its traps, and the last words, keep the shell there until the command has ended: a signal that ends both would turn
    into ssh's 255, and a shell that replaces itself by the command cannot say 128 + n. What it says itself ("Killed")
    goes nowhere.
    """
    watched = f"exec 9>&2 2>/dev/null; echo start $$ {token} 1<>{protocol.SESSIONS}; trap : INT TERM HUP"
    return f"{watched}; {_clock()}; {first}cd {shlex.quote(directory)} 2>&9 && {shlex.join(command)} 2>&9 9>&-; exit $?"


def _clock() -> str:
    """Have the guest's clock set when it is behind ours, and wait until it is: it stands still while this host sleeps.
    In builtins of bash, which cost nothing.
    """
    now = int(time.time())
    behind = f"[ ${{EPOCHSECONDS:-{now}}} -lt {now - BEHIND} ]"
    wait = f"for _ in 1 2 3 4 5 6 7 8 9; do {behind} && sleep 0.2; done"
    return f"if {behind}; then echo clock {now} 1<>{protocol.SESSIONS}; {wait}; fi 2>/dev/null"


def _sent() -> dict[str, str]:
    return {name: os.environ[name] for name in SENT if name in os.environ and name != "LANG"}


def shared(name: str, config: Path) -> Session:
    """The connection another process holds open. Raises SessionError when there is none."""

    def gone() -> bool:
        asked = ["ssh", "-F", str(config), "-O", "check", f"sandbox-{name}"]
        return process.run(asked, timeout=process.ASKED).returncode != 0

    if gone():
        raise SessionError(f"cannot open a session in sandbox `{name}`", hint="it may still be starting: try again")
    return Session(name, config, gone)


def master(name: str, config: Path, proxy: Path | None) -> list[str]:
    """What opens the connection that others share. It stands in the directory of `proxy`, whose path may have anything
    in it that ssh would split. What is forwarded is asked for ahead of every session.
    """
    argv = ["ssh", "-F", str(config), "-M", "-N", "-o", "PermitLocalCommand=yes"]
    argv += ["-o", f"LocalCommand=echo {READY.decode()}"]
    argv += ["-R", f"127.0.0.1:{network.PROXY_PORT}:./{proxy.name}"] if proxy else []
    return [*argv, f"sandbox-{name}"]


@contextlib.contextmanager
def connect(
    name: str,
    user: str,
    keys: Keys,
    channel: Attachment,
    runtime: Path,
    *,
    alive: Callable[[], bool],
    timeout: float,
    agent: str = "",
    git: Sequence[Pair] = (),
    include: Path | None = None,
    proxy: Path | None = None,
) -> Iterator[Session]:
    """An open session. The guest may still be booting: ssh waits in the channel until sshd answers.

    `timeout`: seconds until sshd must have answered. `agent`, `git`: see `config`.
    `include`: a file that the user's own ssh can read meanwhile.
    `proxy`: the egress proxy's socket, to which a port of the guest's loopback leads meanwhile.
    Raises SessionError when it did not, or the machine died.
    """
    path, control = runtime / "ssh_config", runtime / "master"
    written = partial(config, name, user, keys, channel, control, agent=agent, git=git)
    files.write(path, written().encode("utf-8", "surrogateescape"))
    argv = master(name, path, proxy)
    log = runtime / "ssh.log"
    with contextlib.ExitStack() as stack:
        stack.callback(control.unlink, missing_ok=True)
        complaints = stack.enter_context(bounded_log.log(log, LOG_LIMIT))
        env = process.environment({"SHELL": "/bin/sh", **_sent()})
        where = proxy.parent if proxy else None
        first = stack.enter_context(process.spawn(argv, cwd=where, env=env, stdout=process.PIPE, stderr=complaints))
        _wait_ready(first, alive, timeout, log)
        if include is not None:
            stack.callback(include.unlink, missing_ok=True)
            offer(include, written(lasting=True))
        yield Session(name, path, lambda: first.wait(1.0) is not None)


def _wait_ready(master: process.Child, alive: Callable[[], bool], timeout: float, log: Path) -> None:
    deadline = time.monotonic() + timeout
    received = b""
    while READY not in received:
        left = deadline - time.monotonic()
        if left <= 0 or not alive():
            why = "the machine ended before it answered" if left > 0 else f"no answer within {timeout:g} s"
            raise SessionError("cannot open a shell in the sandbox", cause=why, hint="the console log may say more")
        if select.select([master.stdout], [], [], min(left, 1.0))[0]:
            chunk = os.read(master.stdout.fileno(), 4096)
            if not chunk:
                time.sleep(0.2)  # its last words are on their way through the log's reader
                raise SessionError(
                    "cannot open a shell in the sandbox", cause=printable(log.read_bytes()[-2000:]).strip()
                )
            received += chunk
