"""A repository that is worth a base, and what every strategy for disks must be able to do with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.workspace.builder import WORTH_BYTES
from git_sandbox.workspace.stat_scan import SETTLED
from support import sparse
from support.gitrepo import GitRepo
from support.vm import Sandboxes, wait_for

FILES = 100
PAST = WORTH_BYTES + (2 << 20)  # bytes of a file that only the history has: that is enough for a base, too
TELLING = {"base.ext4": "qcow2", "lower.ext4": "overlay"}


def own_cache(boxes: Sandboxes, cache: Path) -> Sandboxes:
    """`boxes` with its own `cache`, in which the real images are."""
    own, real = cache / "git-sandbox", Path(boxes.env["XDG_CACHE_HOME"]) / "git-sandbox"
    for image in (*(real / "images").glob("[!.]*"), *real.glob("*.json")):
        target = own / image.relative_to(real)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.symlink_to(image)
    boxes.env["SANDBOX_WARM"] = "no"  # a template would be made in that cache
    boxes.env["XDG_CACHE_HOME"] = str(cache)
    return boxes


@contextlib.contextmanager
def enlarged(boxes: Sandboxes) -> Iterator[Sandboxes]:
    """`boxes` with a repository that is worth a base; none of it stays in the cache."""
    boxes.repo.commit("large", {"large": os.urandom(PAST)})
    boxes.repo.git("rm", "-q", "large")
    boxes.repo.commit("many", {f"many/{number % 20}/{number}": f"{number}\n" for number in range(FILES)})
    time.sleep(SETTLED / 1e9 + 0.1)  # the base of a younger checkout is made once more by the next spawn
    try:
        yield boxes
    finally:
        for directory in base_directories(boxes):
            shutil.rmtree(directory, ignore_errors=True)


def base_directories(boxes: Sandboxes) -> list[Path]:
    """Where the bases of this test's repositories are: they share the cache, and with it templates, with all others."""
    names = (state.name for state in boxes.state.glob("git-sandbox/*"))
    return [Path(boxes.env["XDG_CACHE_HOME"]) / "git-sandbox" / "bases" / name for name in names]


def bases(boxes: Sandboxes) -> list[Path]:
    return [image for directory in base_directories(boxes) for image in directory.glob("*/image.ext4")]


def edit(repo: GitRepo) -> None:
    """A bit of everything between base and second sandbox."""
    repo.commit("after the base", {"many/1/1": "new\n", "fresh/file": "x\n"})
    repo.write("many/2/2", "dirty\n")
    repo.write("untracked", "u\n")
    (repo.path / "many/3").rename(repo.path / "moved")
    (repo.path / "many/4/4").unlink()
    (repo.path / "many/4/24").chmod(0o755)
    (repo.path / "many/5/5").unlink()
    (repo.path / "many/5/5").symlink_to("../1/1")
    repo.git("add", "many/4")
    repo.git("gc", "-q")


def digest(path: Path) -> str:
    """Of an image's content, whose holes are not read."""
    found = hashlib.sha256()
    for at, content in sparse.extents(path):
        found.update(b"%d %d " % (at, len(content)) + content)
    return found.hexdigest()


def kind(directory: Path) -> str:
    """What the disk in a sandbox's directory is. Copies and reflinks are both raw."""
    if (directory / "workspace.ext4").is_symlink():
        return "thin"
    return next((name for file, name in TELLING.items() if (directory / file).exists()), "raw")


def exercise(boxes: Sandboxes, strategy: str) -> None:
    """Exact, apart from each other, safe from a kill, readable by rescue and fork; and nobody writes to the base."""
    boxes.env |= {"SANDBOX_COW": strategy, "SANDBOX_DISK": "256M"}
    boxes.sh("true")
    (base,) = bases(boxes)
    before = digest(base)
    edit(boxes.repo)
    assert "No difference" in boxes.ok("doctor", "--verify").text
    _side_by_side(boxes, "raw" if strategy in ("copy", "reflink") else strategy)
    boxes.ok("recover", "one")
    assert boxes.repo.git("show", "refs/sandbox/one:many/9/9") == "1"
    assert boxes.repo.git("show", "refs/sandbox-wip/one:loose") == "loose"
    assert boxes.repo.git("show", "refs/sandbox/two:many/9/9") == "2"
    boxes.sh("test $(cat many/9/9) = 1; test $(cat loose) = loose; test ! -e two", "--from", "one", "--name", "three")
    assert bases(boxes) == [base], "a new base was made: somebody copied the repository whole"
    assert digest(base) == before
    for name in boxes.listed():
        boxes.ok("drop", "--force", name)
    assert boxes.directories() == []


def _side_by_side(boxes: Sandboxes, told: str) -> None:
    """`one` is killed, VMM and all, while it runs beside `two`."""
    script = "echo 1 > many/9/9; git commit -qm one many/9/9; echo loose > loose; sync; echo up; sleep 600"
    with boxes.started("run", "--name", "one", "--", "sh", "-ec", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert kind(boxes.directory("one")) == told
        boxes.sh(
            "test $(cat many/9/9) = 9; test ! -e loose; echo 2 > many/9/9; touch two; git commit -qm two many/9/9",
            "--name", "two",
        )  # fmt: skip
        assert kind(boxes.directory("two")) == told
        child.kill()
        child.wait()
    wait_for("the machine dies with its supervisor", lambda: not boxes.processes(), 15)
    assert boxes.listed()["one"]["state"] == "recoverable"
