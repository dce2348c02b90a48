"""Commands end when their caller goes; real processes, pipes and terminals, without a machine."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.guest import processes
from git_sandbox.guest.sessions import Watch

READY = "echo ready; while :; do sleep 0.05; done"
IGNORING = f"trap '' TERM HUP INT; {READY}"


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    fifo = tmp_path / "sessions"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDWR)
    made = Watch(descriptor, 0.3)
    yield made
    for each in [*made.commands.values()]:
        made.forget(each)
    os.close(descriptor)


def steps(watch: Watch, seconds: float = 20.0, *, shell: int) -> None:
    """Serve until nobody of the session is left."""
    deadline = time.monotonic() + seconds
    while living(shell):
        assert time.monotonic() < deadline, living(shell)
        watch.step(0.05)


def living(session: int) -> list[str]:
    return [each.name for each in processes.everybody().values() if each.session == session]


@contextlib.contextmanager
def session(
    script: str, stdout: int, stdin: int | None = None, *, own: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """What sshd starts: a shell that leads a session and waits for the command. Without `stdin` that has ended.
    With `own`, the shell itself runs the script.
    """
    argv = ["bash", "-c", f"trap : TERM HUP INT; {script if own else f'bash -c {shlex.quote(script)}'}; exit $?"]
    given = subprocess.PIPE if stdin is None else stdin
    with subprocess.Popen(argv, stdin=given, stdout=stdout, stderr=stdout, start_new_session=True) as shell:
        if shell.stdin is not None:
            shell.stdin.close()
        try:
            yield shell
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


@pytest.mark.parametrize("script", [READY, IGNORING])
def test_a_program_ends_when_nobody_is_at_its_other_end(watch: Watch, script: str) -> None:
    reading, writing = os.pipe()
    with session(script, writing) as shell:
        os.close(writing)
        assert os.read(reading, 100) == b"ready\n"
        os.write(watch.fifo, f"start {shell.pid} abc\n".encode())
        watch.step(0.05)
        assert [each.token for each in watch.commands.values()] == ["abc"]
        os.close(reading)
        steps(watch, shell=shell.pid)
        watch.step(0.05)
    assert not watch.commands


def test_the_shell_may_still_be_writing_its_line(watch: Watch, tmp_path: Path) -> None:
    """Bash puts the FIFO in the place of its output for that, and the line can be read before it is taken back."""
    reading, writing = os.pipe()
    script = f"exec 7>&1 1<>{tmp_path}/sessions; echo start $$ abc; sleep 0.5; exec 1>&7 7>&-; {IGNORING}"
    with session(script, writing, own=True) as shell:
        os.close(writing)
        watch.step(5)
        assert [each.uncopied for each in watch.commands.values()] == [(1,)]
        reader = threading.Thread(target=_read_and_close, args=(reading,))
        reader.start()
        steps(watch, shell=shell.pid)
        reader.join()


@pytest.mark.parametrize("number", ["0", "1"])
def test_the_shell_may_have_closed_one_of_its_ends(watch: Watch, number: str) -> None:
    """The other one is enough, and nobody looks for the closed one again."""
    (reading, writing), (kept, fed) = os.pipe(), os.pipe()
    script = f"exec {number}>&-; echo ready >&2; {IGNORING.replace('echo ready', ':')}"
    with session(script, writing, kept, own=True) as shell:
        for each in (writing, kept):
            os.close(each)
        assert os.read(reading, 100) == b"ready\n"
        while Path(f"/proc/{shell.pid}/fd/{number}").is_symlink():  # bash put another in its place to say so
            time.sleep(0.01)
        os.write(watch.fifo, f"start {shell.pid} abc\n".encode())
        watch.step(0.05)
        assert [(each.uncopied, len(each.ends)) for each in watch.commands.values()] == [((), 1)]
        for each in (reading, fed):
            os.close(each)
        steps(watch, shell=shell.pid)


def _read_and_close(descriptor: int) -> None:
    os.read(descriptor, 100)
    os.close(descriptor)


def test_closed_output_alone_is_the_programs_own_business(watch: Watch) -> None:
    """As in `| head -1`: it hears of it when it writes."""
    (reading, writing), (kept, fed) = os.pipe(), os.pipe()
    with session(READY, writing, kept) as shell:
        for each in (writing, kept):
            os.close(each)
        assert os.read(reading, 100) == b"ready\n"
        os.write(watch.fifo, f"start {shell.pid} abc\n".encode())
        os.close(reading)
        for _ in range(5):
            watch.step(0.05)
        assert [each.ending for each in watch.commands.values()] == [None]
        os.close(fed)
        steps(watch, shell=shell.pid)


def test_what_a_command_leaves_behind_goes_on(watch: Watch) -> None:
    reading, writing = os.pipe()
    with session("sleep 600 >/dev/null 2>&1 & echo ready", writing) as shell:
        os.write(watch.fifo, f"start {shell.pid} abc\n".encode())
        watch.step(0.05)
        os.close(writing)
        assert os.read(reading, 100) == b"ready\n"
        shell.wait()
        for _ in range(5):
            watch.step(0.05)
        assert (watch.commands, living(shell.pid)) == ({}, ["sleep"])
        os.close(reading)


def test_a_closed_terminal_ends_a_program_that_ignores_the_hangup(watch: Watch) -> None:
    ours, theirs = pty.openpty()
    argv = ["setsid", "--ctty", "bash", "-c", f"trap : TERM INT; bash -c {shlex.quote(IGNORING)}; exit $?"]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        assert b"ready" in os.read(ours, 100)
        os.write(watch.fifo, f"start {shell.pid} abc\n".encode())
        watch.step(0.05)
        os.close(ours)
        steps(watch, shell=shell.pid)


def test_signals_are_for_the_program_and_not_for_who_tells_its_exit_code(watch: Watch) -> None:
    reading, writing = os.pipe()
    with session("echo ready; exec sleep 600", writing) as shell:
        os.close(writing)
        assert os.read(reading, 100) == b"ready\n"
        while "sleep" not in living(shell.pid):  # bash that is about to replace itself loses a signal
            time.sleep(0.01)
        os.write(watch.fifo, f"start {shell.pid} abc\nsignal other 9\nsignal abc 15\n".encode())
        watch.step(0.05)  # (SIGTERM: a test run in the background has SIGINT ignored, and so have its children)
        assert shell.wait(20) == 143
        os.close(reading)


@pytest.mark.parametrize(
    "line", [b"start 1 a", b"start x a", b"start 99999999999999999999 a", b"signal a 99", b"\xff", b"start 0 a", b""]
)
def test_lines_that_are_not_ours_change_nothing(watch: Watch, line: bytes) -> None:
    os.write(watch.fifo, line + b"\n")
    watch.step(0.05)
    assert not [each for each in watch.commands.values() if each.shell != 1]


def test_one_that_is_gone_does_not_take_another_with_it(watch: Watch) -> None:
    """The kernel gives descriptors, pidfds among them, the same numbers again."""
    reading, writing = os.pipe()
    with session("echo ready; sleep 600", writing) as first:
        os.close(writing)
        assert os.read(reading, 100) == b"ready\n"
        os.write(watch.fifo, f"start {first.pid} abc\n".encode())
        watch.step(0.05)
        os.close(reading)
        first_one = next(iter(watch.commands))
        while watch.commands:
            watch.step(0.05)
    reading, writing = os.pipe()
    with session(READY, writing) as second:
        os.close(writing)
        assert os.read(reading, 100) == b"ready\n"
        os.write(watch.fifo, f"start {second.pid} abc\n".encode())
        watch.step(0.05)
        assert first_one in watch.commands
        until = time.monotonic() + 2 * watch.grace
        while time.monotonic() < until:
            watch.step(0.05)
        assert len(living(second.pid)) >= 2
        os.close(reading)
        steps(watch, shell=second.pid)


def test_the_clock_is_set_as_it_is_told(watch: Watch) -> None:
    heard: list[float] = []
    watch.clock = heard.append
    os.write(watch.fifo, b"clock 1764500000.5\nclock x\nclock\n")
    watch.step(0.05)
    assert heard == [1764500000.5]
