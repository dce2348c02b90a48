"""A repository in the guest that would hold the exporter for ever, or leaves it no room."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.guest import EXPORTER, Host, content

NONCE = "ab" * 8
REQUEST = b'{"op": "export", "nonce": "%s", "known": []}\n' % NONCE.encode()


@pytest.mark.parametrize("name", ["HEAD", "config", "index", "packed-refs", "objects/info/alternates", "shallow"])
def test_a_fifo_in_place_of_a_file_of_gits_holds_up_nothing(repo: GitRepo, tmp_path: Path, name: str) -> None:
    host = Host(repo, tmp_path / "quarantine")
    guest = repo.clone_files(tmp_path / "guest")
    tip = guest.commit("inside", {"a": "1\n"})
    guest.write("new", "n\n")
    target = guest.path / ".git" / name
    target.unlink(missing_ok=True)
    os.mkfifo(target)
    done = host.bring_home(guest)
    assert (done.head, done.head_symref) == (tip, "refs/heads/main")
    assert content(repo, "refs/sandbox-wip/vm-1:new") == b"n\n"
    assert any("damaged" in warning for warning in done.warnings)


def test_a_disk_without_room_costs_the_uncommitted_files_only(repo: GitRepo, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: what is written fails, what is read does not."""
    host = Host(repo, tmp_path / "quarantine")
    guest = repo.clone_files(tmp_path / "guest")
    tip = guest.commit("committed", {"a": "1\n"})
    for number in range(30):  # an index too large to be copied
        guest.write(f"{'n' * 100}{number}", "x\n")
    guest.git("add", "-A")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(EXPORTER), str(guest.path)],
        input=REQUEST, capture_output=True, check=False, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[:500]
    assert tip.encode() in done.stdout
    assert b"uncommitted files are not exported" in done.stdout
    assert host.sandbox_refs() == {}
