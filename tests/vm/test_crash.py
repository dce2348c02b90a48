"""However a sandbox ends, what was committed comes home, and nothing keeps running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.pace import SLOWNESS
from support.vm import Sandboxes, wait_for

WORK = "echo 1 > one; git add one; git commit -qm inside; echo loose > loose; "


def started(child: subprocess.Popen[bytes], word: bytes = b"up\n") -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == word


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_session_and_the_work_comes_home(boxes: Sandboxes, number: signal.Signals) -> None:
    with boxes.started("run", "--", "sh", "-ec", WORK + "echo up; sleep 600") as child:
        started(child)
        child.send_signal(number)
        done = boxes.finish(child)
    ended_by = signal.SIGTERM if number == signal.SIGHUP else number  # what saves on SIGTERM must be able to
    assert done.code == 128 + ended_by, done.said
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:loose") == "loose"
    assert boxes.listed()["vm-1"]["state"] == "stopped"
    assert boxes.repo.git("rev-parse", "main") != boxes.refs()["refs/sandbox/vm-1"]


def test_signal_before_the_guest_answers_leaves_nothing(boxes: Sandboxes) -> None:
    with boxes.started("run", "--", "true") as child:
        wait_for("a machine", boxes.sockets)
        child.terminate()
        done = boxes.finish(child)
    assert done.code == 143, done.said
    assert (boxes.refs(), boxes.directories()) == ({}, [])


@pytest.mark.contract
@pytest.mark.parametrize("end", ["poweroff -f", "sh -c 'echo c > /proc/sysrq-trigger'"], ids=["power-off", "crash"])
def test_machine_that_ends_from_inside_is_rescued(boxes: Sandboxes, end: str) -> None:
    done = boxes.run("run", "--", "sh", "-ec", f"{WORK} sync; sudo {end}; sleep 60")
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:loose") == "loose"
    assert "rescue" in done.said
    assert done.code in (13, 14), "the command did not end, so its exit code must not be taken for success"
    assert boxes.listed()["vm-1"]["state"] == "stopped"


@pytest.mark.smoke
@pytest.mark.contract
@pytest.mark.transports
def test_killed_supervisor_leaves_a_recoverable_sandbox(boxes: Sandboxes) -> None:
    with boxes.started("run", "--", "sh", "-ec", WORK + "sync; echo up; sleep 600") as child:
        started(child)
        assert boxes.listed()["vm-1"]["state"] == "running"
        assert boxes.run("drop", "--force", "vm-1").code == 17, "it runs"
        child.kill()
        child.wait()
    wait_for("the machine dies with its supervisor", lambda: not boxes.processes(), 15)
    assert boxes.listed()["vm-1"]["state"] == "recoverable"
    assert "refs/sandbox/vm-1" not in boxes.refs()
    refused = boxes.run("drop", "vm-1")
    assert refused.code == 17
    assert "sandbox recover vm-1" in refused.said
    boxes.ok("recover", "vm-1")
    head = boxes.refs()["refs/sandbox/vm-1"]
    assert boxes.repo.git("log", "-1", "--format=%s", head) == "inside"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:loose") == "loose"
    assert boxes.run("drop", "vm-1").code == 17, "its commit is on no branch"
    boxes.ok("merge", "vm-1")
    boxes.ok("drop", "--force", "vm-1")
    assert (boxes.refs(), boxes.directories()) == ({}, [])
    assert boxes.repo.git("rev-parse", "main") == head


COMMITS, AGE = 8, 10 * SLOWNESS  # seconds; docs/how-to/recover.md
LOAD = r"""
git config gc.auto 0
echo early > early
(while :; do head -c 300000 /dev/urandom > noise; done) &
echo up
n=0; while :; do n=$((n + 1)); echo $n > count; git add count; git commit -qm "c$n"; git rev-parse HEAD; done
"""


@pytest.mark.contract
@pytest.mark.transports
def test_killed_machine_under_write_load_keeps_every_commit(boxes: Sandboxes) -> None:
    """And what nobody synced, once it has some age."""
    with boxes.started("run", "--", "sh", "-c", LOAD) as child:
        started(child)
        assert child.stdout is not None
        old, told = time.monotonic() + AGE, list[str]()
        while len(told) < COMMITS or time.monotonic() < old:
            told.append(child.stdout.readline().decode().strip())
        os.kill(boxes.only_machine(), signal.SIGKILL)
        done = boxes.finish(child)
    told += re.findall("^[0-9a-f]{40}$", done.text, re.MULTILINE)
    home = boxes.repo.git("rev-list", "sandbox/vm-1").split()
    assert set(told) <= set(home)
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:early") == "early"
    assert boxes.repo.git("fsck", "--no-dangling", "--connectivity-only") == ""
    assert done.code == 14, done.said


def test_disk_of_the_host_survives_a_second_recover(boxes: Sandboxes) -> None:
    boxes.sh(WORK)
    head = boxes.refs()["refs/sandbox/vm-1"]
    again = boxes.ok("recover", "vm-1", "--json").envelope
    assert again["data"][0]["head"] == head
    assert boxes.refs()["refs/sandbox/vm-1"] == head
    assert time.time() - boxes.listed()["vm-1"]["created"] < 3600


def test_a_machine_with_a_mount_is_rescued_and_a_damaged_disk_says_so(boxes: Sandboxes, tmp_path: Path) -> None:
    """The rescue machine has no disks but the workspace's."""
    given = tmp_path / "given"
    given.mkdir()
    done = boxes.run("run", "--mount", str(given), "--", "sh", "-ec", f"{WORK} sync; sudo poweroff -f; sleep 60")
    assert "rescue" in done.said
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    with (boxes.directory() / "workspace.ext4").open("r+b") as disk:
        disk.write(os.urandom(64 << 10))
    refs = boxes.refs()
    done = boxes.run("recover", "vm-1")
    assert (done.code, "cannot use the workspace disk" in done.said) == (15, True), done.said
    assert boxes.refs() == refs
    boxes.ok("drop", "--force", "vm-1")


ODD = r"""
printf '*.rc text working-tree-encoding=UTF-16\n' > .gitattributes; git add .; git commit -qm attributes
printf 'no bom\n' > new.rc; echo w > other
cp -p same /tmp/r; printf bbbb > same; touch -r /tmp/r same
git status --porcelain -- same > status
echo c > closed; chmod 000 closed
sudo sh -c 'umask 077; echo r > roots; mkdir -p place/sub; echo i > place/sub/inner'
mkfifo pipe
"""


def test_every_odd_file_comes_home(boxes: Sandboxes) -> None:
    """One machine for all: what git cannot convert, cannot see by its stamps, and what only root may read."""
    boxes.repo.commit("same", {"same": "aaaa"})
    os.utime(boxes.repo.path / "same", (1577836800, 1577836800))
    boxes.sh(ODD)
    wip = "refs/sandbox-wip/vm-1"
    names = boxes.repo.git("ls-tree", "-r", "--name-only", wip).splitlines()
    assert {"new.rc", "other", "closed", "roots", "place/sub/inner", "same"} <= set(names)
    assert boxes.repo.git("show", f"{wip}:same") == "bbbb"
    assert boxes.repo.git("show", f"{wip}:status") == " M same"
    assert boxes.repo.git("cat-file", "blob", f"{wip}:new.rc") == "no bom"
    assert boxes.repo.git("show", f"{wip}:closed") == "c"


def test_a_full_disk_costs_no_file(boxes: Sandboxes) -> None:
    done = boxes.run(
        "run",
        "--disk",
        "128M",
        "--",
        "sh",
        "-c",
        "echo precious >> README; cat /dev/zero > /tmp/f; cat /dev/zero > /tmp/g",
    )
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:README").endswith("precious"), done.said


def test_a_kill_after_a_commit_costs_neither_the_index_nor_files_of_some_age(boxes: Sandboxes) -> None:
    """`git commit -a` writes an index that git does not sync. The next session finds a repository that works."""
    script = "echo early > early; sleep 6; echo x >> README; git commit -qam W; echo up; sleep 600"
    with boxes.started("run", "--", "sh", "-ec", script) as child:
        started(child)
        os.kill(boxes.only_machine(), signal.SIGKILL)
        done = boxes.finish(child)
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "W", done.said
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:early") == "early"
    assert "the index is damaged" not in done.said
    boxes.ok("shell", "--detach", "vm-1")
    assert boxes.ok("exec", "vm-1", "--", "git", "diff", "--cached", "--name-only").text == ""
    # (git does not sync the working tree: README's last line may be in the commit alone)
    assert "?? early\n" in boxes.ok("exec", "vm-1", "--", "git", "status", "--porcelain").text
    boxes.ok("stop", "vm-1")
