"""The only module that starts programs.

Every child gets a curated environment, no standard input unless given one, and a way to die: `spawn` stops what
it started when its block ends, and the kernel does it (PR_SET_PDEATHSIG, through setpriv(1)) when we are killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING

import msgspec

from git_sandbox.errors import HostResourceError, RequirementError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# What a child may inherit. Everything else (GIT_*, LD_*, PYTHON*, secrets in CI variables) stays here.
_INHERITED = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
)  # fmt: skip
# What a program that signs needs to find keys, agents and the place to ask for a passphrase, beside those.
_ASKING = (
    "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "GNUPGHOME", "GPG_TTY", "PINENTRY_USER_DATA", "SSH_ASKPASS",
    "SSH_ASKPASS_REQUIRE", "SSH_AUTH_SOCK", "WAYLAND_DISPLAY", "XAUTHORITY",
)  # fmt: skip
STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
ASKED = 120.0  # seconds for a program asked for its version, or whether something works: much, on a busy host
WATCHED_EVERY = 0.2  # seconds
NUDGED_EVERY = 0.5  # seconds
NUDGED_AGAIN = 0.02  # seconds
_PIECE = 64 << 10  # bytes
_CHILD = re.compile(rb'"child-pid": (\d+)')
STDERR_LIMIT = 64 * 1024  # bytes of a child's complaints worth keeping


class Completed(msgspec.Struct, frozen=True):
    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def complaint(self) -> str:
        """The end of standard error, for error messages. Not sanitised: see `text.printable`."""
        return self.stderr[-STDERR_LIMIT:].decode("utf-8", "replace").strip()


class FloodError(SandboxError):
    """A program said more than it may."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds for a child that reads hostile data, enforced by the kernel through prlimit(1)."""

    address_space: int | None = None  # bytes
    file_size: int | None = None  # bytes
    cpu: int | None = None  # seconds
    data: int | None = None  # bytes that it allocates; files that it maps for reading do not count

    def wrap(self, argv: Sequence[str]) -> list[str]:
        options = [
            f"--{name}={value}:{value}"
            for name, value in (
                ("as", self.address_space),
                ("fsize", self.file_size),
                ("cpu", self.cpu),
                ("data", self.data),
            )
            if value is not None
        ]
        return ["prlimit", *options, "--", *argv] if options else list(argv)


NO_LIMITS = Limits()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The curated environment for a child, with `extra` on top."""
    return {key: os.environ[key] for key in _INHERITED if key in os.environ} | dict(extra or {})


def inherited(names: re.Pattern[str]) -> dict[str, str]:
    """Variables of ours by name, for the few children that heed more than the curated ones."""
    return {key: value for key, value in os.environ.items() if names.fullmatch(key)}


def asking() -> dict[str, str]:
    """More of the environment, for a child that may ask the user for a passphrase."""
    found = {key: os.environ[key] for key in _ASKING if key in os.environ}
    terminal = next((os.ttyname(each) for each in (0, 2) if os.isatty(each)), "")
    return ({"GPG_TTY": terminal} if terminal else {}) | found


def which(program: str) -> str | None:
    """Full path of `program`, looking also where Debian keeps mke2fs and friends for users without sbin on PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def require(*programs: str) -> None:
    """Raises RequirementError for the first that is missing: before work that would be in vain without it."""
    for program in programs:
        _resolve([program])


def _resolve(argv: Sequence[str]) -> list[str]:
    found = which(argv[0])
    if found is None:
        raise RequirementError(
            f"the program `{argv[0]}` is not installed", hint="run `sandbox doctor` for how to get it"
        )
    return [found, *argv[1:]]


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    feed: Iterable[bytes] | None = None,
    timeout: float | None = None,
    limits: Limits = NO_LIMITS,
    output: int | None = None,
    watch: Callable[[], None] | None = None,
    to: IO[bytes] | None = None,
    meter: Callable[[int], None] | None = None,
    nudge: Callable[[int], object] | None = None,
) -> Completed:
    """Run a program to its end and return what it said, whatever its exit status.

    `meter` hears now and then, from another thread, how many bytes it has written so far; `nudge` its process id, and
    after a true answer soon again.
    `to`: a file for standard output, which is not kept in memory then (not with `feed` or `output`).
    `output`: bytes of either kind of output, for a program that a guest can make say more. With more it is killed, and
    SandboxError raised.
    `watch` is called again and again while it runs (with `feed` or `output` only); what it raises does the same.
    `feed` streams standard input from an iterator; an exception raised by it kills the child and propagates.
    `timeout` (seconds) kills the child's whole process group and raises SandboxError.
    """
    full = _resolve(limits.wrap(_resolve(argv)))
    with (
        _popen(
            full,
            cwd=cwd,
            env=environment() if env is None else dict(env),
            stdin=subprocess.DEVNULL if feed is None and input is None and output is None else subprocess.PIPE,
            stdout=subprocess.PIPE if to is None else to,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as child,
        _watched(child.pid, None if meter is None else _meter(meter), WATCHED_EVERY),
        _watched(child.pid, nudge, NUDGED_EVERY),
    ):
        try:
            if output is not None and feed is None:
                feed = [input] if input else []
            if feed is None:
                stdout, stderr = child.communicate(input, timeout)
            else:
                stdout, stderr = _communicate(child, feed, timeout, output, watch)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            raise SandboxError(f"`{argv[0]}` took longer than {timeout:g} s and was stopped") from None
        except BaseException:
            kill_group(child.pid)
            raise
    return Completed(tuple(argv), child.returncode, stdout or b"", stderr)


def _meter(meter: Callable[[int], None]) -> Callable[[int], object]:
    """Tell `meter` what the kernel counts of a child (proc(5), `io`): blocks that are shared and not copied are not."""

    def read(pid: int) -> None:
        with contextlib.suppress(OSError, StopIteration, ValueError), open(f"/proc/{pid}/io") as rows:  # noqa: PTH123 - often
            meter(int(next(row for row in rows if row.startswith("wchar:")).split()[1]))

    return read


@contextlib.contextmanager
def _watched(pid: int, look: Callable[[int], object] | None, every: float) -> Iterator[None]:
    """Call `look` every so many seconds from another thread, and soon again where it answers with something true."""
    if look is None:
        yield
        return
    done = threading.Event()

    def repeat() -> None:
        pause = every
        while not done.wait(pause):
            pause = NUDGED_AGAIN if look(pid) else every

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def foreground(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], input: bytes, timeout: float) -> Completed:
    """Run a program that may ask something on our terminal: it stays in our session, and Ctrl-C reaches it, too.

    `timeout` (seconds) kills it and raises SandboxError.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with _popen(_resolve(argv), cwd=cwd, env=dict(env), **pipes) as child:
        try:
            stdout, stderr = child.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise SandboxError(f"`{argv[0]}` took longer than {timeout:g} s and was stopped") from None
        except BaseException:
            child.kill()
            raise
    return Completed(tuple(argv), child.returncode, stdout, stderr)


def _popen(argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(argv, **options)  # type: ignore[call-overload,no-any-return]
    except OSError as error:
        raise HostResourceError(f"cannot start `{argv[0]}`", cause=error.strerror or str(error)) from error


def _read(stream: IO[bytes], most: int) -> bytes:
    """In pieces: `read` takes memory for `most` bytes at once, however few come."""
    found, left = [], most
    while left > 0 and (piece := stream.read(min(left, _PIECE))):
        found.append(piece)
        left -= len(piece)
    return b"".join(found)


class _Readers:
    """Reads both outputs of a child beside it, so that neither can make it wait; at most `most` bytes of each."""

    def __init__(self, child: subprocess.Popen[bytes], most: int | None) -> None:
        assert child.stdout is not None  # noqa: S101 - for the type checker: both are PIPE
        assert child.stderr is not None  # noqa: S101
        self._pid, self._most = child.pid, most
        self._kept: dict[str, bytes] = {}
        self._flooded = threading.Event()
        self._threads = [
            threading.Thread(target=self._drain, args=(name, stream), daemon=True)
            for name, stream in (("out", child.stdout), ("err", child.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def _drain(self, name: str, stream: IO[bytes]) -> None:
        self._kept[name] = stream.read() if self._most is None else _read(stream, self._most)
        if self._most is not None and stream.read(1):
            self._flooded.set()
            kill_group(self._pid)

    def join(self, patience: float | None) -> None:
        """Wait for the end of both outputs, `patience` seconds for each: ssh's master may hold one open."""
        for thread in self._threads:
            thread.join(patience)

    def finish(self) -> tuple[bytes, bytes]:
        """Both outputs of a child that has ended. Raises SandboxError when it said too much."""
        self.join(STOP_GRACE if self._flooded.is_set() else None)
        if self._flooded.is_set():
            raise FloodError(f"a program was stopped: it wrote more than {self._most} bytes")
        return self._kept["out"], self._kept["err"]


def _communicate(
    child: subprocess.Popen[bytes],
    feed: Iterable[bytes],
    timeout: float | None,
    most: int | None,
    watch: Callable[[], None] | None,
) -> tuple[bytes, bytes]:
    readers = _Readers(child, most)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill_group(child.pid)

    assert child.stdin is not None  # noqa: S101 - for the type checker: feed implies PIPE
    watchdog = threading.Timer(timeout, expire) if timeout else None
    if watchdog:
        watchdog.start()
    try:
        _feed(child.stdin, feed)
        while watch is not None and _wait(child, WATCHED_EVERY) is None:
            watch()
        child.wait()
    except BaseException:
        kill_group(child.pid)  # before the pipe closes: the child must not take a broken feed for a finished one
        readers.join(STOP_GRACE)  # else their pipes would be closed under them
        raise
    finally:
        if watchdog:
            watchdog.cancel()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    said = readers.finish()
    if expired.is_set():
        raise subprocess.TimeoutExpired(child.args, timeout or 0)
    return said


def _wait(child: subprocess.Popen[bytes], timeout: float | None) -> int | None:
    """Exit status, or None when it still runs after `timeout` seconds."""
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def _feed(stdin: IO[bytes], feed: Iterable[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the child has seen enough; its exit status says why
        for chunk in feed:
            stdin.write(chunk)
            stdin.flush()  # else a dead child goes unnoticed until a trickle of chunks has filled the buffer
        stdin.close()


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
        return _wait(self.popen, timeout)

    def _asked(self) -> int:
        """Who gets SIGTERM. Bubblewrap, when it has not yet told of another: then that one has not begun."""
        told = _CHILD.search(self.report.read(_PIECE) or b"") if self.report else None
        return int(told[1]) if told else self.pid

    def stop(self, grace: float = STOP_GRACE) -> int:
        """SIGTERM, wait `grace` seconds, SIGKILL to the whole group, reap. Returns the exit status."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM) if self.tidies else os.kill(self._asked(), signal.SIGTERM)
            if self.wait(grace) is None:
                kill_group(self.pid)
        return self.popen.wait()


def _mortal(argv: Sequence[str], death: str) -> list[str]:
    """`argv`, ended by the signal `death` when we die. If we died before that was arranged, it does not begin."""
    begin = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]
    return _resolve(["setpriv", "--pdeathsig", death, "--", *_resolve(begin), *_resolve(argv)])


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
) -> Iterator[Child]:
    """Start a program that lives as long as the block (or shorter) and dies with this process.

    It runs in a session of its own, so that Ctrl-C on the terminal reaches us and not it; `foreground` keeps it in
    ours, for programs that own the terminal (ssh, a pager). Must be entered in the main thread: PDEATHSIG is tied
    to the thread that forked (prctl(2)).

    `tidies`: asked to end, it removes what it made, given the time (`grace`); so it is asked, not killed, when we die.
    """
    popen = _popen(
        _mortal(argv, "TERM" if tidies else "KILL"),
        cwd=cwd,
        env=environment() if env is None else dict(env),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.DEVNULL if stderr is None else stderr,
        pass_fds=tuple(pass_fds),
        start_new_session=not foreground,
    )
    child = Child(tuple(argv), popen, tidies)
    try:
        yield child
    finally:
        child.stop(grace)
        for stream in (popen.stdin, popen.stdout, popen.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def answering(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], limits: Limits, complaints: IO[bytes]
) -> Iterator[Child]:
    """Start a program that answers on standard output what it reads, and ends with its input: with the block, or when
    we die. For any thread.
    """
    full = _resolve(limits.wrap(_resolve(argv)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
    child = Child(tuple(argv), _popen(full, cwd=cwd, env=dict(env), start_new_session=True, **pipes))
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
    child = _popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, env=environment(extra))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # only now: children inherit what is ignored
    try:
        with child, contextlib.suppress(BrokenPipeError):
            child.communicate(text)
    finally:
        signal.signal(signal.SIGINT, before)
    return child.returncode


def detach(argv: Sequence[str], *, data: bytes, log: Path, pass_fds: Sequence[int] = ()) -> int:
    """Start a program that outlives us and our terminal, with all of our environment; its process id.

    It gets `data` on standard input; what it prints goes to `log`.
    """
    with log.open("ab") as out:
        child = _popen(
            _resolve(argv), stdin=subprocess.PIPE, stdout=out, stderr=out, pass_fds=tuple(pass_fds),
            start_new_session=True,
        )  # fmt: skip
    with contextlib.suppress(BrokenPipeError):
        assert child.stdin is not None  # noqa: S101 - for the type checker
        child.stdin.write(data)
        child.stdin.close()
    child.returncode = 0  # it is nobody's to wait for: keeps Popen from warning about a child that still runs
    return child.pid


def beginning(
    argv: Sequence[str], most: int, *, cwd: Path, env: Mapping[str, str], limits: Limits = NO_LIMITS
) -> tuple[Completed, bool]:
    """The first `most` bytes of what a program prints, and whether that is all; else it was stopped."""
    import tempfile  # late: `sandbox ls` does without

    with (
        tempfile.TemporaryFile() as said,
        spawn(limits.wrap(argv), cwd=cwd, env=env, stdout=PIPE, stderr=said) as child,
    ):
        found = _read(child.stdout, most)
        more = bool(child.stdout.read(1))
        status = 0 if more else child.wait() or 0
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - STDERR_LIMIT))
        return Completed(tuple(argv), status, found, said.read()), not more


PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL
