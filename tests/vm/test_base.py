"""The second sandbox of a repository starts from the base that the first one left."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.cow import bases, edit
from support.vm import Sandboxes


def test_the_second_sandbox_is_exact(large: Sandboxes) -> None:
    large.sh("true")
    (base,) = bases(large)
    before = base.stat().st_mtime_ns
    edit(large.repo)
    verified = large.ok("doctor", "--verify")
    assert "No difference" in verified.text
    assert bases(large) == [base], "a new base was made: the second sandbox was copied whole"
    assert base.stat().st_mtime_ns == before
    assert large.listed() == {}, "what was only looked at, over a base and in a dirty worktree, counts as changed"


def test_a_disk_outlives_the_base_it_was_laid_over(large: Sandboxes) -> None:
    large.sh("echo more > many/6/6 && git commit -qam inside && echo left > left")
    base, directory = bases(large)[0], large.directory()
    assert (directory / "base.ext4").samefile(base)
    assert (directory / "workspace.ext4").stat().st_blocks < base.stat().st_blocks
    shutil.rmtree(base.parents[1])  # what `image prune` does to it, but that would prune the real images as well
    head = large.refs()["refs/sandbox/vm-1"]
    large.repo.git("update-ref", "-d", "refs/sandbox/vm-1")
    large.ok("recover", "vm-1")
    assert large.refs()["refs/sandbox/vm-1"] == head
    large.ok("drop", "--force", "vm-1")
    assert not directory.exists()


def test_a_boot_cut_off_before_the_difference_was_applied_is_no_loss(large: Sandboxes) -> None:
    """The rescue machine finds the difference on the disk and applies it first."""
    large.sh("true")
    large.repo.write("many/2/2", "dirty\n")
    large.repo.commit("after the base", {"many/1/1": "new\n"})
    with large.started("run", "--name", "cut", "--", "true") as child:
        disk = None
        while disk is None and child.poll() is None:
            disk = next(
                (each for each in large.directories() if each.name == "cut" and (each / "record.json").exists()), None
            )
        child.kill()
        child.wait()
    assert disk is not None
    large.ok("recover", "cut")
    assert "refs/sandbox-wip/cut" not in large.refs()
    assert large.refs()["refs/sandbox/cut"] == large.repo.git("rev-parse", "HEAD").strip()


def damage(base: Path, *commands: str) -> None:
    base.chmod(0o600)
    for each in commands:
        done = subprocess.run(["/sbin/debugfs", "-w", "-R", each, base], capture_output=True, text=True, check=True)
        assert done.stderr.count("\n") == 1, done.stderr  # its version


@pytest.mark.parametrize(
    ("command", "warm"),
    [
        ("sif repo/many/2 flags 0x80010", "auto"),  # immutable: nothing in it can be replaced
        ("ssv feature_incompat 0x80000000", "no"),  # cannot be mounted
    ],
)
def test_a_base_that_the_guest_cannot_use_is_thrown_away(large: Sandboxes, command: str, warm: str) -> None:
    large.env["SANDBOX_WARM"] = warm
    large.sh("true")
    (bad,) = bases(large)
    damage(bad, command)
    large.repo.write("many/2/2", "dirty\n")
    done = large.sh("cat many/2/2; cat many/3/3 > other; git status --porcelain")
    assert done.text.splitlines() == ["dirty", " M many/2/2", "?? other"]
    assert "copied again: the guest could not read" in done.said
    (good,) = bases(large)
    assert good.parent != bad.parent
    told = large.sh("cat many/2/2")
    assert "copied again" not in told.said, "the new base is good"
    assert bases(large) == [good]


LOOK = """
cat /proc/cmdline; git status --porcelain=v2 --branch --untracked-files=all
find . -path ./.git -prune -o -printf '%y %m %TY%Tm%Td%TH%TM %P %l\\n' | LC_ALL=C sort | sed '/^d . *$/d'
find . -path ./.git -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
git log --format='%H %s' --all -- many fresh; git fsck --full --no-dangling 2>&1
"""


def test_warm_and_over_a_base_and_exact(large: Sandboxes) -> None:
    large.env["SANDBOX_ACCELERATOR"] = "tcg"
    large.sh("true")
    found = bases(large)
    edit(large.repo)
    done = large.sh(LOOK)
    cmdline, *inside = done.text.splitlines()
    assert "sandbox.mode=template" in cmdline
    outside = subprocess.run(["sh", "-ec", LOOK], cwd=large.repo.path, env=large.env, capture_output=True, check=True)
    assert inside == outside.stdout.decode().splitlines()[1:]
    assert bases(large) == found


def test_forks_of_a_disk_over_a_base(large: Sandboxes) -> None:
    """Of one that runs and, below `run --from`, of one that is stopped."""
    large.sh("true")
    large.repo.write("many/2/2", "dirty\n")
    large.ok("spawn", "-d", "--name", "one")
    large.ok("exec", "one", "--", "sh", "-ec", "echo more > many/6/6; git commit -qm inside many/6/6; echo left > left")
    large.ok("fork", "one", "--name", "two")
    large.ok("stop", "one")
    (base,) = bases(large)
    base.unlink()  # forks must not need the cache
    done = large.sh("cat many/2/2 many/3/3 many/6/6 left; git log --format=%s -1", "--from", "two", "--name", "three")
    assert done.text.split() == ["dirty", "3", "more", "left", "inside"]
    one, two, three = (large.directory(name) / "base.ext4" for name in ("one", "two", "three"))
    assert one.samefile(two)
    assert two.samefile(three)
    refs = large.refs()
    assert len({refs[f"refs/sandbox/{name}"] for name in ("one", "two", "three")}) == 1
