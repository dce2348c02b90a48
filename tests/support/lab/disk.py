"""The lab's second disk: the repository under test, the guest image, the VMMs of this host, and room to work in."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from git_sandbox import process
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import HostResourceError, SandboxError
from git_sandbox.text import printable
from support.lab import plan

REPOSITORY = Path(__file__).parents[3]
PARTS = ("bench", "pyproject.toml", "scripts", "src", "tests")
LITTER = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
SIZE = 12 << 30  # bytes, sparse


def make(target: Path, guest: Image, repository: Path) -> None:
    """Write the file system `target`. Raises HostResourceError when the host's disk is full."""
    with tempfile.TemporaryDirectory(prefix="stage-", dir=target.parent) as scratch:
        staging = Path(scratch)
        _stage(staging, guest, repository)
        done = process.run(argv(staging, target), timeout=600)
    if done.returncode != 0:
        complaint = printable(done.complaint, limit=1000)
        if "No space left" in complaint:
            raise HostResourceError(f"the disk below {target.parent} is full", hint="free some space, then try again")
        raise SandboxError("cannot make the lab's disk", cause=complaint)


def argv(staging: Path, target: Path) -> list[str]:
    """Under fakeroot, so that everything is root's in the lab whoever makes it."""
    return [
        "fakeroot", "--", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", "size=16",
        "-L", "lab", "-E", "lazy_itable_init=1,nodiscard", "-d", str(staging), str(target), f"{SIZE >> 10}k",
    ]  # fmt: skip


def _stage(staging: Path, guest: Image, repository: Path) -> None:
    staging.chmod(0o755)
    for name, mode in (("system", 0o755), ("tmp", 0o1777), ("bin", 0o755)):
        (staging / name).mkdir()
        (staging / name).chmod(mode)
    inside = staging / Path(plan.REPOSITORY).name
    inside.mkdir()
    for name in PARTS:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, inside / name, ignore=LITTER, symlinks=True)
        else:
            shutil.copy(source, inside / name)
    images = staging / "cache" / "git-sandbox" / "images" / guest.root.name
    images.mkdir(parents=True)
    for each in guest.root.iterdir():
        _link(each, images / each.name)
    for program in plan.PROGRAMS:
        if found := shutil.which(program):
            _link(Path(found).resolve(), staging / "bin" / program)


def _link(source: Path, target: Path) -> None:
    """The same file under another name where that can be done: mke2fs only reads it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
