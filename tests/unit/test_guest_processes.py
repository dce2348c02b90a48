"""Who gets SIGTERM, SIGHUP and SIGKILL at the end: process 1 of a process namespace of its own asks real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PRELUDE = """
import os, pathlib, signal, subprocess, sys, time
from git_sandbox.guest import processes
from git_sandbox.guest.common import FORKED

def begin(script, **more):
    child = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, **more)
    assert child.stdout.readline() == b"up\\n", script
    return child

def forked(script):
    child = begin(script)
    FORKED.add(child.pid)
    return child

def names(found):
    return sorted(each.name for each in found)

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, processes.of_user()
        time.sleep(0.02)
"""


def as_process_1(script: str, tmp_path: Path) -> str:
    """What `script` prints, run as the first process of a process namespace of its own."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", PRELUDE + script],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.fspath(SOURCE)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_saved_on_the_way_out_is_saved_and_the_stubborn_are_killed(tmp_path: Path) -> None:
    script = """
saving = begin("trap 'sleep 0.5; echo saved >saved; exit' TERM; echo up; while :; do sleep 0.05; done")
stopped = begin("trap 'echo saved >stopped; exit' TERM; echo up; kill -STOP $$; while :; do sleep 0.05; done")
daemon = begin("trap 'echo saved >daemon; exit' TERM; echo up; while :; do sleep 0.05; done", start_new_session=True)
stubborn = begin("trap '' TERM HUP INT; echo up; while :; do sleep 0.05; done")
held = begin("trap '' TERM; echo up; kill -STOP $$; while :; do sleep 0.05; done", start_new_session=True)
processes.ask()
deadline = time.monotonic() + 60
shells = lambda left: {process.pid for process in left if process.name == "bash"}
while (left := processes.wait(0.5)) and shells(left) != {stubborn.pid, held.pid} and time.monotonic() < deadline:
    pass
assert shells(left) == {stubborn.pid, held.pid}, left
assert not processes.kill()
assert (stubborn.wait(), held.wait(), saving.wait(), stopped.wait(), daemon.wait()) == (-9, -9, 0, 0, 0)
print(*sorted(os.listdir()))
"""
    assert as_process_1(script, tmp_path).split() == ["daemon", "saved", "stopped"]


def test_what_process_1_has_begun_is_not_the_users(tmp_path: Path) -> None:
    script = """
ours = forked("echo up; bash -c 'while :; do sleep 600; done'; :")
theirs = begin("echo up; bash -c 'while :; do sleep 600; done'; :")
until(lambda: names(processes.of_user()) == ["bash", "bash", "sleep"])
assert {theirs.pid} == {each.pid for each in processes.of_user() if each.parent == 1}
processes.end(0)
assert processes.of_user() == []
assert ours.poll() is None
"""
    as_process_1(script, tmp_path)


def test_of_an_sshds_children_those_that_lead_a_session_are_the_users(tmp_path: Path) -> None:
    script = """
import shutil
shutil.copy(shutil.which("bash"), "sshd-session")
inner = "setsid -w bash -c 'echo up; sleep 600; :' & sleep 600 & wait"
server = subprocess.Popen(["./sshd-session", "-c", inner], stdout=subprocess.PIPE)
FORKED.add(server.pid)
assert server.stdout.readline() == b"up\\n"
until(lambda: names(processes.of_user()) == ["bash", "sleep"])
assert not processes.kill()
assert (server.poll(), processes.of_user()) == (None, [])
"""
    as_process_1(script, tmp_path)


def test_a_shell_at_its_prompt_is_hung_up_and_one_with_a_program_waits_for_that(tmp_path: Path) -> None:
    script = """
import pty
saving = "trap 'sleep 0.5; echo saved >saved; exit' TERM; echo up; while :; do sleep 0.05; done"
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc"])
os.write(terminal, b"bash -c " + b'"' + saving.encode() + b'"\\n')
said = b""
while b"up\\r\\n" not in said:
    said += os.read(terminal, 100)
processes.ask()
assert processes.wait(20) == []
print(pathlib.Path("saved").read_text(), os.waitpid(pid, 0)[1] != 0)
"""
    assert as_process_1(script, tmp_path).split() == ["saved", "True"]


def test_who_starts_others_all_the_time_is_killed_all_the_same(tmp_path: Path) -> None:
    script = """
begin("trap '' TERM; echo up; while :; do (sleep 1; sleep 1) & sleep 0.01; done", start_new_session=True)
time.sleep(0.5)
assert not processes.kill()
assert processes.of_user() == []
"""
    as_process_1(script, tmp_path)


@pytest.mark.parametrize("name", ["x) R 1 1", "(", "\udcff", "a b"])
def test_a_name_that_looks_like_more_changes_nothing(tmp_path: Path, name: str) -> None:
    script = f"""
import shutil
name = {os.fsencode(name)!r}
shutil.copy(shutil.which("sleep"), name)
child = subprocess.Popen([b"./" + name, "600"])
until(lambda: [process.state for process in processes.of_user()] == ["S"])
(found,) = processes.of_user()
assert (found.pid, found.parent, found.state) == (child.pid, 1, "S"), found
"""
    as_process_1(script, tmp_path)
