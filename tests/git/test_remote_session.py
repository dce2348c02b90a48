"""A shell, and commands, in a sandbox on another machine: `spawn --on`, `exec`, `shell`; its work comes home."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import __version__, jsontext, store
from git_sandbox.errors import SessionError
from git_sandbox.git.repo import discover
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Writer
from git_sandbox.jobs.result import Hello
from git_sandbox.sandbox import hosts, remote_session
from git_sandbox.sandbox.remote_session import Visit
from git_sandbox.store import State
from support.site import Site
from support.terminal import Terminal

COMMIT = "git commit -q --allow-empty -m"


@given(st.lists(st.text(max_size=20)), st.text(max_size=20), st.booleans())
def test_no_login_shell_reads_what_is_to_run(command: list[str], directory: str, tty: bool) -> None:
    visit = Visit("0" * 32, tuple(command), directory, tty)
    try:
        words = remote_session.argv("ssh:there", visit)
    except UnicodeEncodeError:
        return
    (script,) = shlex.split(words[-1])[3:]
    word = script.split()[-1]
    assert set(word) <= set("0123456789abcdef")
    assert jsontext.decode(bytes.fromhex(word), Visit) == visit
    assert words[:2] == ["ssh", "-tt" if tty else "-T"]


def test_a_detached_one_is_entered_from_here_and_stopped(site: Site) -> None:
    said = site.sandbox("spawn", "--detach", "--on", "ssh:one", "--name", "dev")
    assert said.code == 0, said.err
    assert site.state("dev") is State.RUNNING
    said = site.sandbox("exec", "dev", "--", "sh", "-c", f"{COMMIT} inside && echo 'a b'; echo err >&2; exit 7")
    assert (said.code, said.out, said.err) == (7, "a b\n", "err\n")
    for words in (("sync", "dev"), ("cp", "README", "dev:/tmp")):
        refused = site.sandbox(*words)
        assert (refused.code, "runs on another machine" in refused.err) == (17, True), refused.err
    assert site.sandbox("shell", "dev").code == 2, "nobody is at a terminal"
    said = site.sandbox("stop", "dev")
    assert said.code == 0, said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/dev") == "inside"
    assert (site.jobs("one"), site.state("dev")) == ([], State.STOPPED)
    assert site.sandbox("exec", "dev", "--", "true").code == 17


def test_a_shell_comes_through_ssh_and_its_work_home_when_it_ends(site: Site) -> None:
    words = [sys.executable, "-m", "git_sandbox", "spawn", "--on", "ssh:one", "--name", "dev", "--on-exit", "merge"]
    with Terminal(words, cwd=site.repo.path, env=os.environ) as terminal:
        terminal.expect("sandbox")
        terminal.type(f"{COMMIT} typed; exit 5\n")
        assert terminal.wait() == 5, terminal.shown()
    assert site.repo.git("log", "-1", "--format=%s", "HEAD") == "typed"
    assert site.jobs("one") == []


def test_one_whose_supervisor_is_killed_is_entered_still_and_recovered(site: Site) -> None:
    assert site.sandbox("spawn", "--detach", "--on", "ssh:one", "--name", "dev").code == 0
    entry = store.find(discover(site.repo.path), "dev")
    assert entry.record
    os.kill(entry.record.pid, 9)
    with entry.directory.lock.open() as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_SH)
    assert site.state("dev") is State.AWAY
    assert site.sandbox("exec", "dev", "--", "sh", "-c", f"{COMMIT} later").code == 0
    site.down("one")
    said = site.sandbox("exec", "dev", "--", "true")
    assert (said.code, "the connection to ssh:one broke" in said.err) == (14, True), said.err
    (site.place("one") / "down").unlink()
    said = site.sandbox("recover", "--on", "ssh:one", "dev")
    assert said.code == 0, said.err
    assert site.repo.git("log", "-1", "--format=%s", "refs/sandbox/dev") == "later"
    assert (site.jobs("one"), site.state("dev")) == ([], State.STOPPED)


def test_after_an_error_nobody_waits_long_for_an_ssh_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the network is gone: a shell breaks, and the connection of its job has not noticed yet."""
    hello = Hello(__version__, 1, 512)
    with (tmp_path / "hello").open("wb") as out:
        Writer(out, frames.RESULT).put(frames.HELLO, jsontext.encode(hello))
    monkeypatch.setattr(hosts, "ENDS", 200.0)
    words = ["sh", "-c", 'cat "$1" && exec sleep 600', "sh", str(tmp_path / "hello")]
    began = time.monotonic()

    def broken() -> None:
        with hosts.started(words, "there", frames.ASK, tmp_path / "log") as talk:
            assert talk.hello == hello
            raise SessionError("the shell broke")

    with pytest.raises(SessionError):
        broken()
    assert time.monotonic() - began < hosts.ENDS / 2


def test_what_stays_on_this_host_is_refused(site: Site) -> None:
    for words in (["--open"], ["--detach", "--from", "x"], ["--ssh-agent", "yes", "-d"]):
        said = site.sandbox("spawn", *words, "--on", "ssh:one", "--json")
        assert said.code in (2, 17), said.out
        assert json.loads(said.out)["status"] == "error"
