"""A job on a real machine: what a command finds there is what it finds in one of this host, and its work comes home."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from subprocess import CompletedProcess, Popen

from git_sandbox import jsontext
from git_sandbox.errors import SessionError, StateError
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Reader
from git_sandbox.jobs.job import head as read_head
from git_sandbox.sandbox.remote_session import Visit
from support.vm import SANDBOX, TIMEOUT, Sandboxes

SCRIPT = r"""
while ! test -e /tmp/visited; do sleep 0.2; done
test "$PWD" = /workspace/sub && test "$(hostname)" = try && test "$NAMED" = value && test -e /var/tmp/prepared
test "$(cat /mnt/given/file)" = mounted && git status --short >../seen
git commit -qam edited && git tag new && echo left >../left
echo out; echo err >&2; exit 7
"""


def visit(job: Path, env: dict[str, str], script: str, worker: Popen[bytes]) -> CompletedProcess[bytes]:
    """A command in the machine of a job at work, as soon as that has a session."""
    with job.open("rb") as source:
        nonce = read_head(Reader(source, frames.JOB)).nonce
    word = jsontext.encode(Visit(nonce, ("sh", "-c", script), "sub")).hex()
    while True:
        done = subprocess.run(
            [SANDBOX, "worker", "--enter", word], stdin=subprocess.DEVNULL, capture_output=True, env=env,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode not in (SessionError.exit_code, StateError.exit_code) or worker.poll() is not None:
            return done
        time.sleep(0.2)


def test_a_job_runs_like_a_sandbox_and_leaves_its_worker_empty(boxes: Sandboxes, tmp_path: Path) -> None:
    """One boot. The worker is another user of the same cache: its state is its own. While it works, its machine is
    entered as `sandbox exec` of the other host does it.
    """
    repo, job, done = boxes.repo, tmp_path / "try.job", tmp_path / "try.result"
    repo.commit("sub", {"sub/file": "one\n", ".gitignore": "/ignored\n"})
    repo.write("sub/file", "two\n")
    repo.write("ignored", "kept\n")
    given, setup = tmp_path / "given", tmp_path / "setup"
    given.mkdir()
    (given / "file").write_text("mounted\n")
    setup.write_text("#!/bin/sh\ntouch /var/tmp/prepared\n")
    words = ["--name", "try", "--job-out", str(job), "--env", "NAMED=value", "--setup", str(setup)]
    made = boxes.run("run", *words, "--mount", str(given), "--", "sh", "-ec", SCRIPT, cwd=repo.path / "sub")
    assert made.code == 0, made.said
    assert boxes.listed()["try"]["state"] == "away"
    other = tmp_path / "other"
    env = boxes.env | {"XDG_STATE_HOME": os.fspath(other)}
    with (
        job.open("rb") as source, done.open("wb") as target,
        subprocess.Popen([SANDBOX, "worker"], stdin=source, stdout=target, stderr=subprocess.PIPE, env=env) as worker,
    ):  # fmt: skip
        visited = visit(job, env, "echo here; pwd; cat file; touch /tmp/visited; exit 9", worker)
        _, complaint = worker.communicate(timeout=TIMEOUT)
    assert (visited.returncode, visited.stdout) == (9, b"here\n/workspace/sub\ntwo\n"), visited.stderr
    assert worker.returncode == 0, complaint.decode() + done.read_bytes().decode("utf-8", "replace")[-2000:]
    assert sorted(path.parent.name for path in other.glob("git-sandbox/*/*job-*")) == []
    assert len(list(other.glob("git-sandbox/*/.trash/job-*"))) == 1
    said = boxes.run("collect", str(done))
    assert (said.code, said.out) == (7, b"out\n"), said.said
    assert "err\n" in said.said
    assert repo.git("show", "refs/sandbox/try:sub/file") == "two"
    assert repo.git("show", "refs/sandbox-wip/try:left") == "left"
    assert repo.git("show", "refs/sandbox-wip/try:seen") == " M file\n?? ../seen"
    assert "refs/sandbox-tags/try/new" in boxes.refs()
    assert boxes.listed()["try"]["state"] == "stopped"
