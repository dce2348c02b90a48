from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import bounded_log, process, signals
from git_sandbox.errors import Interrupted, RequirementError, SandboxError
from git_sandbox.process import Limits
from git_sandbox.process import child as children


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_missing_program_says_what_to_do() -> None:
    with pytest.raises(RequirementError, match="no-such-program") as caught:
        process.run(["no-such-program"])
    assert "doctor" in caught.value.hint


def test_child_sees_a_curated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH", "SECRET_TOKEN"):
        monkeypatch.setenv(name, "leaked")
    said = process.run(["env"]).text
    assert "leaked" not in said
    assert f"HOME={os.environ['HOME']}" in said


def test_limits_are_the_kernels(tmp_path: Path) -> None:
    done = process.run(["sh", "-c", "head -c 100000 /dev/zero > big"], cwd=tmp_path, limits=Limits(file_size=1000))
    assert done.returncode != 0
    assert (tmp_path / "big").stat().st_size == 1000
    burn = process.run(["sh", "-c", "while :; do :; done"], limits=Limits(cpu=1), timeout=60)
    assert -burn.returncode in (signal.SIGXCPU, signal.SIGKILL)
    eat = [sys.executable, "-c", "bytearray(1 << 30)"]
    assert process.run(eat, limits=Limits(address_space=200 << 20)).returncode == 1


def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    script = "sleep 300 & echo $! > pid; wait"
    with pytest.raises(SandboxError, match=r"timed out after 0\.5 s"):
        process.run(["sh", "-c", script], cwd=tmp_path, timeout=0.5)
    assert gone(int((tmp_path / "pid").read_text()))


def test_error_of_the_feed_kills_the_child_and_comes_through(tmp_path: Path) -> None:
    def feed() -> Iterator[bytes]:
        yield b"some"
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        raise ValueError("the guest lied")

    with pytest.raises(ValueError, match="lied"):
        process.run(["sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 300"], cwd=tmp_path, feed=feed())
    assert gone(int((tmp_path / "pid").read_text()))


def test_spawned_child_ends_with_its_block_even_when_it_ignores_sigterm(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 300 & echo $! > pid.new; mv pid.new pid; wait; wait; sleep 300"
    with process.spawn(["sh", "-c", script], cwd=tmp_path, grace=0.2) as child:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
    assert gone(child.pid)
    assert gone(int((tmp_path / "pid").read_text()))


SUPERVISOR = """
import sys, time
from git_sandbox import process
from git_sandbox.process import child as children
from git_sandbox.process import child as children
with process.spawn(["sleep", "300"]) as child:
    print(child.pid, flush=True)
    time.sleep(300)
"""


def test_spawned_child_dies_with_a_killed_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.kill()
    assert gone(pid)


def test_a_child_whose_supervisor_died_before_it_began_does_not_begin(tmp_path: Path) -> None:
    """As if it had been killed between fork(2) and prctl(2): somebody else is the parent by then."""
    mark = tmp_path / "began"
    argv = children._mortal(["touch", str(mark)], "KILL", yields=False)
    assert subprocess.run(argv, check=False).returncode == 0
    assert mark.exists()
    mark.unlink()
    other = [str(os.getppid()) if word == str(os.getpid()) else word for word in argv]
    assert subprocess.run(other, check=False).returncode == 1
    assert not mark.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_raise_once_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # while unwinding: ignored

    with pytest.raises(Interrupted) as caught, signals.signals_raise():
        interrupted()
    assert (caught.value.signum, caught.value.exit_code) == (number, 128 + number)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_listen_again_lets_a_second_signal_through() -> None:

    def interrupted_twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except Interrupted:
            signals.listen_again()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)  # with the first one: they mean the same
        time.sleep(signals.TOGETHER + 0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(Interrupted) as caught, signals.signals_raise():
        interrupted_twice()
    assert caught.value.signum == signal.SIGTERM


def test_only_the_beginning_of_endless_output_is_read(tmp_path: Path) -> None:
    found, whole = process.beginning(["yes"], 10_000, cwd=tmp_path, env=process.environment())
    assert (len(found.stdout), whole) == (10_000, False)
    found, whole = process.beginning(["printf", "abc"], 10, cwd=tmp_path, env=process.environment())
    assert (found.stdout, found.returncode, whole) == (b"abc", 0, True)


def test_a_capped_log_keeps_what_children_say_and_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        bounded_log.log(log, 1000) as complaints,
        process.spawn(["sh", "-c", "yes | head -c 1000000 >&2"], stderr=complaints) as child,
    ):
        child.wait()
    assert 900 < log.stat().st_size < 2000


@pytest.mark.parametrize("reads", [False, True])
def test_limits_hold_before_a_program_has_its_input(*, reads: bool) -> None:
    code = "import sys; from resource import *; sys.stdin.read(); print(getrlimit(RLIMIT_CPU), getrlimit(RLIMIT_DATA))"
    limits = process.Limits(cpu=77, data=5 << 30)
    done = process.run([sys.executable, "-c", code], input=b"x", limits=limits, reads=reads)
    assert done.text == f"(77, 77) ({5 << 30}, {5 << 30})\n"


def test_one_that_gets_no_input_is_bounded_before_it_begins() -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU))"
    done = process.run([sys.executable, "-c", code], limits=process.Limits(cpu=77), reads=True)
    assert done.text == "(77, 77)\n"


@pytest.mark.parametrize("reads", [False, True])
def test_a_lower_limit_of_the_user_stays(*, reads: bool) -> None:
    """As `ulimit -t` of a login node: to ask for more was an error, of all that git was to do."""
    inner = (
        "import sys; from resource import *; sys.stdin.read(); print(getrlimit(RLIMIT_CPU), getrlimit(RLIMIT_FSIZE))"
    )
    outer = (
        "import resource, sys; from git_sandbox import process; resource.setrlimit(resource.RLIMIT_CPU, (50, 60));"
        f"limits = process.Limits(cpu=7200, file_size=1 << 20); argv = [sys.executable, '-c', {inner!r}];"
        f"print(process.run(argv, input=b'x', limits=limits, reads={reads}).text, end='')"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True)
    assert done.stdout == f"(60, 60) ({1 << 20}, {1 << 20})\n"


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tool").touch(mode)
    (tmp_path / "a" / "folder").mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / place) for place in ("missing", "a", "b", "c")))
    for name in ("tool", "folder", "none", str(tmp_path / "a/tool"), str(tmp_path / "c/tool")):
        assert process.which(name) == shutil.which(name)
    assert process.which("mke2fs") == shutil.which("mke2fs", path="/usr/local/sbin:/usr/sbin:/sbin")


def test_what_a_watched_program_started_ends_with_us(tmp_path: Path) -> None:
    """As bubblewrap's child at its beginning: it does not die with its parent. SIGKILL lets nobody clean up."""
    script = f"sleep 600 & echo $! $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/ids; wait"
    if not (ours := os.fork()):
        with process.spawn(["sh", "-c", script], watched=True):
            time.sleep(600)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ids").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(word) for word in (tmp_path / "ids").read_text().split()]
    assert all(map(alive, pids))
    os.kill(ours, signal.SIGKILL)
    os.waitpid(ours, 0)
    assert all(gone(pid, 60.0) for pid in pids)


def test_a_watch_ends_with_its_block_and_lets_the_program_end_as_it_likes() -> None:
    before = Path("/proc/thread-self/children").read_text()
    with process.spawn(["sh", "-c", "exit 7"], watched=True) as child:
        assert child.wait(60) == 7
    with process.spawn(["sh", "-c", "cat; echo done"], watched=True, stdout=process.PIPE) as child:
        assert child.stdout.read() == b"done\n", "it has no standard input"
    assert Path("/proc/thread-self/children").read_text() == before


def test_what_waits_for_a_watch_does_not_begin_without_it(tmp_path: Path) -> None:
    argv = children._mortal(["touch", f"{tmp_path}/begun"], "KILL", yields=False, waits=True)
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode != 0
    assert not (tmp_path / "begun").exists()
    assert subprocess.run(argv, input=b"\n", check=False).returncode == 0
    assert (tmp_path / "begun").exists()
