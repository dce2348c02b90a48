"""One session with git-lfs and a merge that is left in the middle: bytes, branches and the merge itself come home."""

from __future__ import annotations

import hashlib

import pytest

from support.vm import Sandboxes

INSIDE = """
head -c 300000 /dev/urandom > new.bin
sha256sum < new.bin | cut -c1-64
git add new.bin && git commit -qm 'a binary'
git switch -qc topic && echo theirs > README && git commit -qam theirs
git switch -q main && echo ours > README && git commit -qam ours
! git merge topic >/dev/null
head -c 5000 /dev/zero > dirty.bin
"""


@pytest.mark.smoke
def test_content_branches_and_a_merge_in_progress_come_home(boxes: Sandboxes) -> None:
    repo = boxes.repo
    repo.git("lfs", "install", "--local")
    repo.git("lfs", "track", "*.bin")
    repo.commit("track", {".gitattributes": repo.read(".gitattributes")})
    done = boxes.run("run", "--name", "x", "--dirty", "commit", "--", "sh", "-c", INSIDE)
    assert done.code == 0, done.said
    digest = done.text.split()[0]
    assert "a merge is in progress" in done.said
    assert "unmerged: README" in done.said
    assert "new branches: topic" in done.said
    zeros = hashlib.sha256(b"\0" * 5000).hexdigest()
    for each in (digest, zeros):
        path = repo.path / ".git/lfs/objects" / each[:2] / each[2:4] / each
        assert hashlib.sha256(path.read_bytes()).hexdigest() == each
    merged = boxes.run("merge", "x")
    assert merged.code == 0, merged.said
    assert hashlib.sha256(repo.read("new.bin")).hexdigest() == digest
    assert boxes.run("branch", "x").code == 0
    assert repo.git("log", "-1", "--format=%s", "topic") == "theirs"
    assert boxes.run("merge", "--resume", "x").code == 16
    assert repo.git("rev-parse", "MERGE_HEAD") == repo.git("rev-parse", "topic")
    assert "UU README" in repo.git("status", "--porcelain").splitlines()
    assert repo.read("dirty.bin") == b"\0" * 5000
    repo.write("README", "both\n")
    repo.git("commit", "-qam", "resolved")
    ours = repo.git("rev-parse", "HEAD~1")
    assert repo.git("log", "-1", "--format=%P").split() == [ours, repo.git("rev-parse", "topic")]
