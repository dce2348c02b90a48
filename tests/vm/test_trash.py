"""Out of sight and back, with a real machine's disk: one sandbox through its whole life."""

from __future__ import annotations

import pytest

from support.vm import Sandboxes


@pytest.mark.smoke
def test_unchanged_dropped_pruned_by_git_and_restored(boxes: Sandboxes) -> None:
    done = boxes.ok("run", "--", "true")
    assert "No changes in sandbox vm-1. It is in the trash until " in done.said
    assert (boxes.refs(), boxes.directories(), boxes.trash()) == ({}, [], ["vm-1"])
    assert "`sandbox restore vm-1`" in boxes.run("shell", "--detach", "vm-1").said
    assert boxes.run("run", "--name", "vm-1", "--", "true").code == 17, "its name is taken"
    boxes.ok("restore", "vm-1")
    boxes.ok("shell", "--detach", "vm-1")
    script = "echo out >.gitignore; echo 1 >one; git add -A; git commit -qm inside; echo only >out; "
    script += "sudo sh -c 'echo sys >/etc/marker'"
    boxes.ok("exec", "vm-1", "--", "sh", "-ec", script)
    boxes.ok("stop", "vm-1")
    head = boxes.refs()["refs/sandbox/vm-1"]
    refs = boxes.refs()
    boxes.ok("merge", "--yes", "vm-1")
    refused = boxes.run("drop", "vm-1")
    assert refused.code == 17, "its commit is merged, but its disk has more"
    assert "/etc/marker" in refused.said
    boxes.repo.git("reset", "-q", "--hard", "HEAD~1")
    dropped = boxes.ok("drop", "--force", "vm-1")
    assert "/etc/marker" in dropped.text
    assert "`sandbox restore vm-1`" in dropped.text
    boxes.repo.git("reflog", "expire", "--expire=now", "--all")
    boxes.repo.git("gc", "-q", "--prune=now")
    assert boxes.repo.run("cat-file", "-e", head).returncode != 0
    boxes.ok("restore", "vm-1")
    assert refs.items() <= boxes.refs().items()
    assert boxes.repo.git("show", "refs/sandbox/vm-1:one") == "1"
    boxes.ok("rename", "vm-1", "other")
    boxes.ok("set", "other", "--cpus", "1")
    boxes.ok("shell", "--detach", "other")
    said = boxes.ok("exec", "other", "--", "sh", "-c", "cat out /etc/marker; hostname; nproc; git rev-parse HEAD")
    assert said.text == f"only\nsys\nother\n1\n{head}\n"
    boxes.ok("stop", "other")
    assert boxes.refs()["refs/sandbox/other"] == head
    boxes.ok("drop", "--force", "other")
    freed = boxes.ok("prune", "--all", "--json").envelope["data"]
    assert freed["freed"] > 0
    assert (boxes.refs(), boxes.directories(), boxes.trash()) == ({}, [], [])
