"""The story as a person lives it, on a real terminal."""

from __future__ import annotations

import pytest

from support.terminal import Terminal
from support.vm import SANDBOX, Sandboxes

PROMPT = "/workspace"
BOOT = 150.0  # seconds
JOB = "sh -c 'echo job-$((1 + 1)); exec sleep 600'\n"  # says itself that it runs: a key typed earlier would be lost


def terminal(boxes: Sandboxes, *words: str) -> Terminal:
    return Terminal([SANDBOX, *words], cwd=boxes.repo.path, env=boxes.env)


def ready(term: Terminal) -> None:
    """A prompt, and a shell that answers to it: input is echoed, so answer and question must differ."""
    term.expect(PROMPT, BOOT)
    term.type("echo answer-$((40 + 2))\n")
    term.expect("answer-42")
    term.expect(PROMPT)


@pytest.mark.contract
def test_shell_resize_interrupt_and_exit_code(boxes: Sandboxes) -> None:
    with terminal(boxes) as term:
        before = term.settings()
        term.expect("Sandbox vm-1: a virtual machine with a copy of your repository; sudo works.", BOOT)
        term.expect("Network: none.")
        term.expect("`exit` brings your work home")
        ready(term)
        term.type("stty size; tput colors\n")
        term.expect("24 80")
        term.expect("256")
        term.resize(50, 132)
        term.type("sleep 0.3; stty size\n")
        term.expect("50 132")
        term.expect(PROMPT)
        term.type(JOB)
        term.expect("job-2")
        term.type("\x03")
        term.expect(PROMPT, 20)
        term.type("echo after=$((100 + $?))\n")
        term.expect("after=230")
        term.type(JOB)
        term.expect("job-2")
        term.type("\x1a")
        term.expect("Stopped")
        term.type("kill %1; wait %1; echo gone-$((1 + 1)); (exit 7)\n")
        term.expect("gone-2")
        term.expect(PROMPT)
        term.type("\x04")
        assert term.wait() == 7, term.shown()
        assert "No changes" in term.shown()
        assert term.settings() == before
    assert (boxes.refs(), boxes.directories()) == ({}, [])


def test_fast_forward_merges_by_itself_and_diverged_asks(boxes: Sandboxes) -> None:
    repo = boxes.repo
    first = repo.git("rev-parse", "HEAD")
    with terminal(boxes) as term:
        ready(term)
        term.type("echo 1 > one; git add one; git commit -qm inside; exit\n")
        assert term.wait() == 0, term.shown()
        assert "Merged into your branch" in term.shown()
        assert "sandbox merge --undo vm-1" in term.shown()
    assert repo.read("one") == b"1\n"
    assert repo.git("rev-parse", "HEAD^") == first
    with terminal(boxes, "--name", "other") as term:
        ready(term)
        repo.commit("meanwhile", {"two": "2\n"})
        term.type("echo 3 > three; git add three; git commit -qm theirs; exit\n")
        assert "1 commit came home from sandbox other" in term.expect("Merge sandbox other now? [y/N]:", 120)
        term.type("y\n")
        assert term.wait() == 0, term.shown()
        assert "came home" not in term.shown()  # said once
    # Two histories side by side have no order: the guest's clock may be a second behind.
    subjects = repo.git("log", "--format=%s", "--no-merges").split()
    assert sorted(subjects[:2]) == ["meanwhile", "theirs"]
    assert subjects[2:] == ["inside", "first"]
    assert len(repo.git("rev-list", "--parents", "-1", "HEAD").split()) == 3
    assert repo.status() == ""


def test_closed_terminal_brings_the_work_home(boxes: Sandboxes) -> None:
    with terminal(boxes) as term:
        ready(term)
        term.type("echo 1 > one; git add one; git commit -qm inside; echo done-$((1 + 1))\n")
        term.expect("done-2")
        term.hang_up()
        assert term.wait() == 129, term.shown()
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    assert boxes.repo.git("log", "-1", "--format=%s") == "first", "nobody was there to ask or to be told"
