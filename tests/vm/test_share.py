"""What holds for a shared working copy only. The rest of the contract runs on it, too (marker `transports`)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.vm import Sandboxes, wait_for

WORK = "echo one > one; git add one; git commit -qm live; git config core.fsmonitor 'touch MARKER'; chmod -R a+rwX ."


@pytest.mark.transports
def test_share_of_a_running_machine_is_the_guests_and_its_commits_come_home(boxes: Sandboxes, tmp_path: Path) -> None:
    boxes.ok("spawn", "-d")
    marker = tmp_path / "marker"
    boxes.ok("exec", "vm-1", "--", "sh", "-ec", WORK.replace("MARKER", str(marker)))
    boxes.ok("sync", "vm-1")
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "live"
    share = boxes.directory() / "share"
    assert share.stat().st_uid not in (0, os.getuid())
    assert share.stat().st_mode & 0o777 == 0o700
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    looked = subprocess.run(
        ["git", "-C", share / "tree", "status"], env=env, capture_output=True, text=True, check=False
    )
    assert looked.returncode == 128
    assert re.search("dubious ownership|Permission denied", looked.stderr)
    assert not marker.exists()
    servers = [pid for pid, name in boxes.processes().items() if name == "virtiofsd"]
    assert servers
    for pid in servers:
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{share.stat().st_uid}\t" in status
        assert re.search(r"Seccomp:\t[02]", status)
    assert any("Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text() for pid in servers)
    refused = boxes.run("fork", "vm-1")
    assert (refused.code, "works on a share" in refused.said) == (17, True)
    boxes.ok("stop", "vm-1")
    wait_for("the supervisor is gone with all it started", lambda: not boxes.processes())
    assert boxes.listed()["vm-1"]["state"] == "stopped"
    boxes.ok("recover", "vm-1")
    boxes.ok("drop", "--force", "vm-1")
    assert boxes.directories() == []


@pytest.mark.transports
def test_arrival_on_a_share_is_exact(boxes: Sandboxes) -> None:
    boxes.repo.commit("second", {"sub/file": "x\n"})
    boxes.repo.write("staged")
    boxes.repo.git("add", "staged")
    linked = boxes.repo.write("dir/untracked", mode=0o755)
    (boxes.repo.path / "hard").hardlink_to(linked)
    (boxes.repo.path / "symbolic").symlink_to("/etc/passwd")
    os.setxattr(linked, "user.note", b"kept")
    said = boxes.ok("doctor", "--verify").text
    assert said.startswith("No difference")


@pytest.mark.transports
def test_a_virtiofsd_that_dies_ends_the_machine_and_the_work_comes_home(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d")
    boxes.ok("exec", "vm-1", "--", "sh", "-ec", "echo one > one; git add one; git commit -qm one; echo two > two")
    for pid in [pid for pid, name in boxes.processes().items() if name == "virtiofsd"]:
        with contextlib.suppress(ProcessLookupError):  # the parent ends with its child
            os.kill(pid, signal.SIGKILL)
    # A rescue machine boots and exports meanwhile: minutes, where both are emulated.
    wait_for("the supervisor is gone with all it started", lambda: not boxes.processes(), seconds=300)
    assert boxes.listed()["vm-1"]["state"] == "stopped"
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "one"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:two") == "two"
