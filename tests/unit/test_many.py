"""Many sandboxes of one repository at the same moment: no two get one name, and nobody waits for another."""

from __future__ import annotations

import subprocess
import sys

from git_sandbox import store
from git_sandbox.git.repo import discover
from git_sandbox.store import State
from support.gitrepo import GitRepo

# Each claims a sandbox, says which, and holds it until its input ends.
CLAIM = """
import sys
from pathlib import Path
from git_sandbox import store
from git_sandbox.git.repo import discover
repo = discover(Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
with store.create(repo, None) as box:
    print(box.id, flush=True)
    sys.stdin.readline()
"""


def test_ids_never_clash(repo: GitRepo) -> None:
    claim = [sys.executable, "-c", CLAIM, str(repo.path)]
    children = [subprocess.Popen(claim, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    try:
        told = []
        for step in ("begin", "look"):
            for child in children:
                assert child.stdout is not None
                told.append(child.stdout.readline().strip())
            if step == "begin":
                for child in children:
                    assert child.stdin is not None
                    child.stdin.write("go\n")
                    child.stdin.flush()
        assert sorted(told[8:]) == [f"vm-{number}" for number in range(1, 9)]
        assert {entry.id: entry.state for entry in store.entries(discover(repo.path))} == dict.fromkeys(
            told[8:], State.RUNNING
        )
    finally:
        for child in children:
            child.communicate("end\n")
    assert [child.returncode for child in children] == [0] * 8
    assert store.entries(discover(repo.path)) == []
