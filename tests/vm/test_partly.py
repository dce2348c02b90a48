"""Odd things made inside a real machine: what is sound comes home, the rest is named, kept, and handed out raw."""

from __future__ import annotations

import stat
from pathlib import Path

from support.vm import Sandboxes

SCRIPT = r"""
echo two >>a; git add a; git commit -qm good
mkdir vendor; { printf '#'; head -c 3000 /dev/zero | tr '\0' x; echo; } >vendor/.gitattributes
tree=$(printf '100644 blob %s\t.git\n' "$(git hash-object -w a)" | git mktree)
git update-ref refs/heads/evil "$(git commit-tree -m evil -p HEAD "$tree")"
git tag new
"""


def test_one_odd_thing_holds_up_nothing(boxes: Sandboxes, tmp_path: Path) -> None:
    base = boxes.repo.git("rev-parse", "HEAD")
    tags = "".join(f"{base} refs/tags/v{number:06}\n" for number in range(3000))
    boxes.repo.write(".git/packed-refs", f"# pack-refs with: peeled fully-peeled sorted \n{tags}")
    done = boxes.ok("run", "--", "sh", "-ec", SCRIPT)
    assert "on the sandbox's disk only: refs/heads/evil" in done.said
    refs = boxes.refs()
    good = refs["refs/sandbox/vm-1"]
    assert boxes.repo.git("log", "--format=%s", f"{base}..{good}") == "good"
    assert [name for name in refs if name.startswith("refs/sandbox-tags/")] == ["refs/sandbox-tags/vm-1/new"]
    assert len(boxes.repo.git("show", "refs/sandbox-wip/vm-1:vendor/.gitattributes")) == 3001
    assert "hasDotgit" in boxes.listed()["vm-1"]["partly"][0]
    assert boxes.directory().joinpath("record.json").stat().st_size < 20_000
    boxes.repo.git("merge", "-q", "--ff-only", "refs/sandbox/vm-1")
    assert boxes.run("drop", "vm-1").code == 17
    bundle = tmp_path / "raw.bundle"
    boxes.ok("recover", "vm-1", "--bundle", str(bundle))
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert " refs/heads/evil" in boxes.repo.git("bundle", "list-heads", str(bundle))
    assert boxes.refs() == refs
    assert boxes.run("recover", "vm-1", "--bundle", str(bundle)).code == 2, "nothing is overwritten"
    boxes.ok("recover", "vm-1")
    assert "hasDotgit" in boxes.listed()["vm-1"]["partly"][0]
    boxes.ok("drop", "--force", "vm-1")
