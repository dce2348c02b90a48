"""The repository goes in exactly as it stands, and everything made inside comes out."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.vm import Sandboxes

WEIRD = (b"new\nline", b"\xff\xfe-latin-\xe9", b" space ", b"-dash", b'quote"\\')


def test_dirty_repository_looks_the_same_inside(boxes: Sandboxes) -> None:
    repo = boxes.repo
    repo.commit("more", {".gitignore": "*.o\n", "staged": "1\n", "edited": "1\n", "both": "1\n", "gone": "1\n"})
    for name in WEIRD:
        repo.write(os.fsdecode(name), name)
    (repo.path / "link").symlink_to("no/where")
    repo.write("staged", "2\n")
    repo.write("both", "2\n")
    repo.git("add", "staged", "both")
    repo.write("both", "3\n")
    repo.write("edited", "2\n", mode=0o755)
    (repo.path / "gone").unlink()
    repo.write("made.o", "ignored\n")
    repo.write("untracked/deep/file")
    repo.git("stash", "push", "-q", "--", "edited")
    ask = "git status --porcelain=v2 --branch --ignored --untracked-files=all -z; git ls-files -s -z; git stash list; "
    ask += "git diff | sha256sum; git diff --cached | sha256sum; cat made.o; readlink link; git for-each-ref"
    here = subprocess.run(["sh", "-ec", ask], cwd=repo.path, capture_output=True, check=True).stdout
    done = boxes.sh(ask)
    assert done.out == here
    assert "No changes" in done.said
    assert boxes.refs() == {}
    assert boxes.directories() == []


@pytest.mark.contract
@pytest.mark.transports
def test_everything_made_inside_comes_home(boxes: Sandboxes) -> None:
    repo = boxes.repo
    before = repo.refs()
    script = r"""
    echo 1 > one; git add one; git commit -qm one; git tag -a v1 -m v1; git tag light
    git checkout -q -b feature/x; echo 2 > two; git add two; git commit -qm two; git checkout -q main
    echo 3 > stashed; git add stashed; git stash -q
    printf 'odd' > "$(printf 'new\nline\377')"; git add -A; git commit -qm odd
    echo 4 > loose; echo 5 >> README
    git for-each-ref --format='%(objectname) %(refname)'; git rev-parse HEAD
    """
    done = boxes.sh(script)
    *rows, head = done.text.split("\n")[:-1]
    inside = {name: value for value, name in (row.split(" ") for row in rows)}
    home = boxes.refs()
    assert home["refs/sandbox/vm-1"] == head
    assert home["refs/sandbox-heads/vm-1/feature/x"] == inside["refs/heads/feature/x"]
    assert home["refs/sandbox-tags/vm-1/v1"] == inside["refs/tags/v1"]
    assert home["refs/sandbox-tags/vm-1/light"] == inside["refs/tags/light"]
    assert home["refs/sandbox-stash/vm-1/0"] == inside["refs/stash"]
    wip = home["refs/sandbox-wip/vm-1"]
    assert repo.git("show", f"{wip}:loose") == "4"
    assert repo.git("show", f"{wip}:README") == "hello\n5"
    assert repo.run("cat-file", "-p", b"sandbox/vm-1:new\nline\xff".decode("utf-8", "surrogateescape")).stdout == b"odd"
    assert {name: value for name, value in repo.refs().items() if not name.startswith("refs/sandbox")} == before
    assert repo.status() == ""
    assert boxes.listed()["vm-1"]["state"] == "stopped"
    merged = boxes.ok("merge", "vm-1")
    assert repo.git("rev-parse", "HEAD") == head, merged.said
    refused = boxes.run("drop", "vm-1")
    assert refused.code == 17
    boxes.ok("drop", "--force", "vm-1")
    assert (boxes.refs(), boxes.directories()) == ({}, [])
    assert repo.git("rev-parse", "HEAD") == head


def test_unborn_head_and_detached_head(boxes: Sandboxes) -> None:
    repo = boxes.repo
    first = repo.git("rev-parse", "HEAD")
    repo.commit("second", {"b": "2\n"})
    repo.git("checkout", "-q", first)
    done = boxes.sh("git symbolic-ref -q HEAD && exit 9; git rev-parse HEAD; git commit -q --allow-empty -m on-nothing")
    assert done.text.strip() == first
    assert repo.git("rev-parse", "sandbox/vm-1^") == first
    repo.git("symbolic-ref", "HEAD", "refs/heads/unborn")
    repo.git("read-tree", "--empty")
    repo.write("staged")
    repo.git("add", "staged")
    done = boxes.sh("git status --porcelain=v2 --branch | head -n 2; git commit -qm root; git rev-parse HEAD")
    oid, branch, head = done.text.splitlines()
    assert (oid, branch) == ("# branch.oid (initial)", "# branch.head unborn")
    assert repo.git("rev-parse", "sandbox/vm-2") == head
    assert repo.git("rev-list", "--count", "sandbox/vm-2") == "1"


@pytest.mark.contract
def test_two_sandboxes_at_once(boxes: Sandboxes) -> None:
    script = "echo $(hostname) > who; git add who; git commit -qm $(hostname)"
    with (
        boxes.started("run", "--name", "left", "--", "sh", "-ec", script) as one,
        boxes.started("run", "--name", "right", "--", "sh", "-ec", script) as two,
    ):
        taken = boxes.run("run", "--name", "left", "--", "true") if _exists(boxes, "left") else None
        done = [boxes.finish(one), boxes.finish(two)]
    assert [each.code for each in done] == [0, 0], [each.said for each in done]
    assert taken is None or taken.code == 17
    assert boxes.repo.git("show", "sandbox/left:who", "sandbox/right:who").split() == ["left", "right"]
    assert {name: row["state"] for name, row in boxes.listed().items()} == {"left": "stopped", "right": "stopped"}


def _exists(boxes: Sandboxes, name: str) -> bool:
    from support.vm import wait_for

    wait_for(name, lambda: any(each.name == name for each in boxes.directories()))
    return True


def test_worktrees_made_inside_and_refs_of_ones_own(boxes: Sandboxes) -> None:
    repo = boxes.repo
    boxes.sh(
        "git worktree add -q -b aside /tmp/aside; git worktree add -q --detach .inside; "
        "echo dirty > /tmp/aside/README; cd .inside; git commit -q --allow-empty -m detached; echo new > new; cd ..; "
        "git update-ref refs/mine/x $(git commit-tree -m apart HEAD^{tree})"
    )
    root = "refs/sandbox-other/vm-1"
    assert repo.git("show", f"{root}/worktrees/aside/wip:README") == "dirty"
    assert repo.git("show", f"{root}/worktrees/%2Dinside/wip:new") == "new"
    assert repo.git("log", "-1", "--format=%s", f"{root}/worktrees/%2Dinside/HEAD") == "detached"
    assert repo.git("log", "-1", "--format=%s", f"{root}/mine/x") == "apart"
    assert boxes.run("drop", "vm-1").code == 17, "these are nowhere else"
