"""Programs that run in the background, and end with us."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING

import msgspec

from git_sandbox.process.bounds import Limits, environment
from git_sandbox.process.starting import resolve, start
from git_sandbox.process.watch import watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
PIECE = 64 << 10  # bytes
OOM, WORST = 500, 1000  # more to be ended for than we have ourselves, and the most there is (proc(5), oom_score_adj)
_CHILD = re.compile(rb'"child-pid": (\d+)')


def wait_for(child: subprocess.Popen[bytes], timeout: float | None) -> int | None:
    """Exit status, or None when it still runs after `timeout` seconds."""
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


@contextlib.contextmanager
def _descriptor(pid: int) -> Iterator[int]:
    """It stands for that process, and is readable once it has ended (pidfd_open(2)). Raises ProcessLookupError."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def kill_group(pid: int) -> None:
    """SIGKILL to the process group of `pid`; nothing happens when it is already gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class Child(msgspec.Struct):
    """A program that runs beside us. Made by `spawn`."""

    argv: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    tidies: bool = False  # it has processes of its own, and cleans up when all of them get SIGTERM
    report: IO[bytes] | None = None  # where bubblewrap tells which process is the program that it runs (`--info-fd`)
    first: bool = False  # that program is asked to end, and not bubblewrap, which would kill it

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None  # noqa: S101 - started with stdin=PIPE
        return self.popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.popen.stdout is not None  # noqa: S101 - spawned with stdout=PIPE
        return self.popen.stdout

    def poll(self) -> int | None:
        return self.popen.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit status, or None when it still runs after `timeout` seconds."""
        return wait_for(self.popen, timeout)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[threading.Event]:
        """Kill it when the block takes longer; the event is set then."""
        late = threading.Event()

        def end() -> None:
            late.set()
            kill_group(self.pid)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def stop(self, grace: float = STOP_GRACE) -> int:
        """SIGTERM, wait `grace` seconds, SIGKILL to the whole group, reap. Returns the exit status."""
        if self.popen.poll() is None:
            if self.report:
                self._stop_confined(self.report, grace)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGTERM) if self.tidies else os.kill(self.pid, signal.SIGTERM)
                if self.wait(grace) is None:
                    kill_group(self.pid)
        return self.popen.wait()

    def _stop_confined(self, report: IO[bytes], grace: float) -> None:
        """Bubblewrap asks the kernel late to end its child with it, and tells of that child before it lets it go on.

        Of whom it has not told is in its process group and waits. The other one is killed when bubblewrap has ended.
        """
        match = _CHILD.search(report.read(PIECE) or b"")
        with contextlib.ExitStack() as stack, contextlib.suppress(ProcessLookupError):
            program = stack.enter_context(_descriptor(int(match[1]))) if match else None
            os.kill(int(match[1]) if match and self.first else self.pid, signal.SIGTERM)
            with _descriptor(self.pid) as bubblewrap:  # a zombie until it is waited for: its id is nobody else's
                select.select([bubblewrap], [], [], grace)
            kill_group(self.pid)
            if program is not None:
                signal.pidfd_send_signal(program, signal.SIGKILL)


def _mortal(argv: Sequence[str], death: str, *, yields: bool, waits: bool = False) -> list[str]:
    """`argv`, ended by the signal `death` when we die. If we died before that was arranged, it does not begin.

    `waits`: nor before there is a line on its standard input, which it then has not.
    """
    wait = "read -r go && exec </dev/null || exit; " if waits else ""
    script = f'[ "$PPID" = "$0" ] || exit; {wait}{_yielding() if yields else ""}exec "$@"'
    begin = ["sh", "-c", script, str(os.getpid())]
    return resolve(["setpriv", "--pdeathsig", death, "--", *resolve(begin), *resolve(argv)])


def _yielding() -> str:
    """What a shell says to be the first to go when memory runs out."""
    ours = 0
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj") as file:  # noqa: PTH123 - pathlib is not here
        ours = int(file.read())
    return f"{{ echo {min(WORST, ours + OOM)} >/proc/self/oom_score_adj; }} 2>/dev/null; "


@contextlib.contextmanager
def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    foreground: bool = False,
    grace: float = STOP_GRACE,
    tidies: bool = False,
    yields: bool = False,
    watched: bool = False,
) -> Iterator[Child]:
    """Start a program that lives as long as the block (or shorter) and dies with this process.

    It runs in a session of its own, so that Ctrl-C on the terminal reaches us and not it; `foreground` keeps it in
    ours, for programs that own the terminal (ssh, a pager). Must be entered in the main thread: PDEATHSIG is tied
    to the thread that forked (prctl(2)).

    `tidies`: asked to end, it removes what it made, given the time (`grace`); so it is asked, not killed, when we die.
    `yields`: when memory runs out the kernel ends this one before us. `watched`: when we are killed, all of its process
    group ends, from the first moment; for one without standard input that starts others which do not die with it.
    """
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(watching()) if watched else None
        popen = start(
            _mortal(argv, "TERM" if tidies else "KILL", yields=yields, waits=watched),
            cwd=cwd,
            env=environment() if env is None else dict(env),
            stdin=subprocess.PIPE if watched else subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=subprocess.DEVNULL if stderr is None else stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=not foreground,
        )
        child = Child(tuple(argv), popen, tidies)
        try:
            if watch is not None:
                watch(popen.pid)
                _let_go(popen)
            yield child
        finally:
            child.stop(grace)
            for stream in (popen.stdin, popen.stdout, popen.stderr):
                if stream is not None:
                    stream.close()


def _let_go(popen: subprocess.Popen[bytes]) -> None:
    """What waits for a line on its standard input begins; of one that has ended, its caller learns by itself."""
    assert popen.stdin is not None  # noqa: S101 - started with stdin=PIPE
    with contextlib.suppress(OSError):
        os.write(popen.stdin.fileno(), b"\n")
    popen.stdin.close()


@contextlib.contextmanager
def answering(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], limits: Limits, complaints: IO[bytes]
) -> Iterator[Child]:
    """Start a program that answers on standard output what it reads, and ends with its input: with the block, or when
    we die. For any thread.
    """
    full = resolve(limits.wrap(resolve(argv)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
    child = Child(tuple(argv), start(full, cwd=cwd, env=dict(env), start_new_session=True, **pipes))
    try:
        yield child
    finally:
        with contextlib.suppress(OSError):  # what it has not read
            child.stdin.close()
        child.stdout.close()
        if child.wait(STOP_GRACE) is None:
            kill_group(child.pid)
            child.wait()


def page(command: str, text: bytes) -> int:
    """Give `text` to a shell command that shows it on our terminal; its exit status. It may end before it read all.

    Ctrl-C belongs to the pager as long as it runs, as with git.
    """
    extra = {name: os.environ.get(name, value) for name, value in (("LESS", "FRX"), ("LV", "-c"))}
    child = start(["/bin/sh", "-c", command], stdin=subprocess.PIPE, env=environment(extra))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # only now: children inherit what is ignored
    try:
        with child, contextlib.suppress(BrokenPipeError):
            child.communicate(text)
    finally:
        signal.signal(signal.SIGINT, before)
    return child.returncode


def interactive(argv: Sequence[str], *, cwd: Path) -> int:
    """Run a program that has our terminal and all of our environment; its exit status, as a shell says it.

    Ctrl-C and Ctrl-Z belong to it as long as it runs: the one is ignored by us, the other stops both.
    """
    child = start(resolve(argv), cwd=cwd)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTSTP)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only now: children inherit what is ignored
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def detach(argv: Sequence[str], *, data: bytes, log: Path, pass_fds: Sequence[int] = ()) -> int:
    """Start a program that outlives us and our terminal, with all of our environment; its process id.

    It gets `data` on standard input; what it prints goes to `log`.
    """
    with log.open("ab") as out:
        child = start(
            resolve(argv), stdin=subprocess.PIPE, stdout=out, stderr=out, pass_fds=tuple(pass_fds),
            start_new_session=True,
        )  # fmt: skip
    with contextlib.suppress(BrokenPipeError):
        assert child.stdin is not None  # noqa: S101 - for the type checker
        child.stdin.write(data)
        child.stdin.close()
    child.returncode = 0  # it is nobody's to wait for: keeps Popen from warning about a child that still runs
    return child.pid


PIPE = subprocess.PIPE


STDOUT = subprocess.STDOUT


DEVNULL = subprocess.DEVNULL
