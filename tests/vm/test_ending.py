"""What runs in a sandbox ends before its work comes home, and with its caller."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from support.pace import SLOWNESS
from support.terminal import Terminal
from support.vm import SANDBOX, Sandboxes, wait_for

AGENT = """#!/bin/bash
trap 'sleep 0.3; echo s >s; git add s; git commit -qm saved; exit 3' TERM INT HUP
echo up; while :; do sleep .2; done
"""
IGNORING = 'trap "" TERM HUP INT; echo up; while :; do sleep 1; done'
LEFT = """
nohup sh -c 'trap "echo saved >daemon; exit" TERM; while :; do sleep .2; done' >/dev/null 2>&1 &
setsid bash -c 'trap "echo saved >stopped; exit" TERM; kill -STOP $$; while :; do sleep .2; done' >/dev/null 2>&1 &
setsid bash -c 'trap "" TERM HUP; while :; do date >>noise; sleep .1; done' >/dev/null 2>&1 &
"""


@contextlib.contextmanager
def running(boxes: Sandboxes, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that has said `up`."""
    with boxes.started(*words) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        yield child


def inside(boxes: Sandboxes, name: str = "vm-1") -> set[str]:
    """What runs there, apart from ours."""
    return set(boxes.ok("exec", name, "--", "ps", "-eo", "args=").text.splitlines())


@pytest.mark.contract
def test_a_command_ends_with_its_caller_and_everything_before_the_export(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d", "--stop-timeout", "2")
    before = inside(boxes)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with running(boxes, "exec", "vm-1", "--", "sh", "-c", "echo up; exec sleep 4242") as child:
            child.send_signal(number)
            assert child.wait(60 * SLOWNESS) == code
    with running(
        boxes, "exec", "vm-1", "--", "sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep .1; done"
    ) as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(60 * SLOWNESS) == 9, "docker, too, gives the command's own code"
    with running(boxes, "exec", "vm-1", "--", "sh", "-c", IGNORING) as child:
        child.kill()
    wait_for("the command ended", lambda: len(inside(boxes)) <= len(before), 60)
    boxes.ok("exec", "vm-1", "--", "sh", "-c", LEFT)
    time.sleep(2)
    assert len(inside(boxes)) > len(before)
    assert boxes.run("exec", "vm-1", "--", "sh", "-c", "echo a; sleep 0.5; kill -9 $$").code == 137
    boxes.ok("stop", "vm-1")
    wip = boxes.repo.git("ls-tree", "--name-only", "refs/sandbox-wip/vm-1").split()
    assert {"daemon", "noise", "stopped"} <= set(wip)


def test_what_is_saved_on_the_way_out_is_home(boxes: Sandboxes) -> None:
    boxes.repo.commit("agent", {"agent.sh": AGENT})
    boxes.ok("run", "-d", "--name", "x", "--", "bash", "agent.sh")
    output = boxes.directory("x") / "output.log"
    wait_for("the agent", lambda: output.exists() and output.read_bytes() == b"up\n")
    assert boxes.ok("stop", "x").text.startswith("Stopped x")
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/x") == "saved"
    with running(boxes, "run", "--name", "y", "--", "bash", "agent.sh") as child:
        os.kill(child.pid, signal.SIGTERM)
        assert boxes.finish(child).code == 3
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/y") == "saved"


def test_a_command_has_a_terminal_when_its_caller_has_one(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d")
    words = [
        "exec",
        "vm-1",
        "--",
        "sh",
        "-c",
        "test -t 0 -a -t 1 && stty size; echo $TERM; read a; echo got-$a; exit 5",
    ]
    with Terminal([SANDBOX, *words], cwd=boxes.repo.path, env=boxes.env) as term:
        before = term.settings()
        assert "24 80" in term.expect("xterm-256color")
        term.type("key\n")
        term.expect("got-key")
        assert term.wait() == 5
        assert term.settings() == before
    with Terminal([SANDBOX, "exec", "vm-1", "--", "bash"], cwd=boxes.repo.path, env=boxes.env) as term:
        term.expect("/workspace")
        term.resize(40, 100)
        # One process group from beginning to end: bash itself between two commands takes no interrupt.
        term.type("sh -c 'sleep 0.5; stty size; exec sleep 600'\n")
        term.expect("40 100")
        term.type("\x03")
        time.sleep(3 * SLOWNESS)  # the terminal throws away what was typed before the interrupt was taken
        term.type("echo still-$((1 + 1))\n")
        term.expect("still-2")
        term.expect("/workspace", 20)
        term.type("vi README\n")
        term.expect("hello")
        term.type(":q\n")
        term.expect("/workspace", 20)
        term.type("exit 4\n")
        assert term.wait() == 4
    asked = boxes.run("exec", "-t", "vm-1", "--", "sh", "-c", "test -t 1 && echo yes")
    # Without a terminal here ssh's shared connection sends modes of zeros: output is not post-processed (no CR).
    assert (asked.code, asked.text) == (0, "yes\n")
    with Terminal([SANDBOX, "exec", "-T", "vm-1", "--", "test", "-t", "0"], cwd=boxes.repo.path, env=boxes.env) as term:
        assert term.wait() == 1
    boxes.ok("stop", "vm-1")
