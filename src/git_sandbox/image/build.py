"""Build a guest image without root: mmdebstrap makes the tree, mke2fs the file system, in a confined namespace."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from pathlib import Path

from git_sandbox import process
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image, ImageInfo
from git_sandbox.errors import ImageError
from git_sandbox.idspace import IdSpace
from git_sandbox.image import layer, package_names, workshop
from git_sandbox.image.spec import ImageSpec, data
from git_sandbox.image.workshop import BUILD, SCRIPTS
from git_sandbox.progress import Progress

NEEDED_SPACE = 3 * 1024**3  # bytes: the packed tree, the unpacked tree and the image side by side
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # of this host, where it is Debian's kind
DPKG = Path("/var/lib/dpkg")


def ensure(spec: ImageSpec, progress: Progress, *, force: bool = False) -> Image:
    """The image for `spec`, built first when it is not there yet (or `force`); the one below it as well.

    Raises ImageError for packages that do not exist, or with the build log's tail. Nothing half-built stays behind.
    """
    present = guest_images.find(spec.key)
    if present and not force:
        return present
    package_names.require(spec, progress)
    process.require("mmdebstrap", "fakeroot", "mke2fs", "debugfs", "tar")
    base = ensure(spec.base, progress, force=force) if spec.base and workshop.namespace() else None
    progress("waiting for another build to end")  # shown only as long as there is one
    with guest_images.building() as place:
        present = guest_images.find(spec.key)  # somebody else may have built it while we waited for the lock
        if present and not force:
            return present
        return layer.build(spec, base, place, progress) if base else _build(spec, place, progress)


def _build(spec: ImageSpec, place: Path, progress: Progress) -> Image:
    workshop.require_space(NEEDED_SPACE, place)
    progress(f"fetching and unpacking Debian {spec.suite} (about {spec.download_mib} MiB)")
    space = workshop.namespace()
    if space is not None:
        _build_confined(spec, place, space, progress)
    elif spec.installs and os.getuid() == 0:
        raise ImageError(
            "root cannot build this image: its install scripts would run as root on this host",
            cause="bubblewrap and user namespaces, which would confine it, are not available here",
            hint="build it as an ordinary user, or see `sandbox doctor`",
        )
    else:
        _build_here(spec, place, progress)
    info = ImageInfo(key=spec.key, suite=spec.suite, built=time.time(), packages=spec.packages)
    return guest_images.publish(place, info)


def _build_confined(spec: ImageSpec, place: Path, space: IdSpace, progress: Progress) -> None:
    """Packages' scripts run as a root that is nobody on this host, and see the build and the host's programs only."""
    with workshop.opened(space) as tree:
        command = ["sh", "-c", CONFINED_BUILD, *_words_of(spec)]
        seen = workshop.view(tree, [(DPKG, os.fspath(DPKG))])
        workshop.logged(workshop.confined(space, command, seen), place, progress, reader=Phases(spec))
        for name in ("kernel", "initramfs", "rootfs.ext4"):
            workshop.fetch(tree / name, place / name)


# $0 on: the command that makes the tree.
CONFINED_BUILD = r"""
set -eu
umask 022
export TMPDIR=/build HOME=/tmp
"$0" "$@"
echo "I: packing the root file system"
mkdir tree; tar -C tree --exclude='./dev/*' -xf rootfs.tar; rm rootfs.tar
bytes=$(find tree -printf '%s\n' | awk '{ n += int(($1 + 4095) / 4096) * 4096 + 512 } END { printf "%.0f", n * 1.08 }')
size=$((bytes / 1024 + 32768))k
mke2fs -q -F -t ext4 -O ^has_journal,^resize_inode -m 0 -b 4096 -i 16384 -L sandbox-root -d tree rootfs.ext4 "$size"
mv sandbox-boot/kernel sandbox-boot/initramfs .
chmod 0644 kernel initramfs rootfs.ext4
"""


# How mmdebstrap begins each of its steps, and what part of a build is done by then (measured, two cores, in percent).
STEPS = {
    "running apt-get update": 1, "downloading packages": 4, "extracting archives": 7, "installing essential": 16,
    "installing remaining": 30, "creating tarball": 85, "packing the root": 88,
}  # fmt: skip


class Phases:
    """Turns what a whole build says into progress: which step, how far it is, how much is fetched, how long it took."""

    def __init__(self, spec: ImageSpec) -> None:
        self.begun, self.size = time.monotonic(), f" of {spec.download_mib} MiB" if spec.download_mib else ""

    def __call__(self, line: str) -> str:
        text = workshop.noted(line).rstrip(".")
        done = next((part for step, part in STEPS.items() if text.startswith(step)), None)
        if done is None:
            return text
        size = self.size if text.startswith("downloading") else ""
        return f"{text}{size}: {done} %, {time.monotonic() - self.begun:.0f} s"


def _words_of(spec: ImageSpec) -> list[str]:
    return mmdebstrap(spec, Path(BUILD, "rootfs.tar"), Path(BUILD), Path(SCRIPTS), mode="unshare")


def _build_here(spec: ImageSpec, place: Path, progress: Progress) -> None:
    """For hosts that let no confined root be made: mmdebstrap has a namespace of its own, fakeroot keeps the owners.

    What is not Debian's is installed in such a namespace or not at all: where there is none, mmdebstrap by itself would
    run it as this user.
    """
    tree, mode = place / "rootfs.tar", "unshare" if spec.installs else "auto"
    workshop.logged(mmdebstrap(spec, tree, place, data("boot.sh").parent, mode=mode), place, progress, under=_apart())
    progress("packing the root file system")
    workshop.logged(pack(tree, place / "rootfs.ext4", _size(tree)), place, progress)
    boot = place / "sandbox-boot"
    for name in ("kernel", "initramfs"):
        (boot / name).rename(place / name)
    boot.rmdir()
    tree.unlink()
    shutil.rmtree(place / "tree")


def _apart() -> list[str]:
    """As root, mounts in a namespace of their own, where one can be had: they go even when a build is killed.

    An ordinary user's mmdebstrap makes one itself.
    """
    apart = ["unshare", "--mount", "--"]
    return apart if os.getuid() == 0 and process.run([*apart, "true"], timeout=process.ASKED).returncode == 0 else []


def mmdebstrap(spec: ImageSpec, tree: Path, place: Path, scripts: Path, *, mode: str = "auto") -> list[str]:
    """The command that makes `tree` (a tar file) and `place`/sandbox-boot (kernel and initramfs).

    `scripts`: the directory with ours. Every value of the spec has been checked by `ImageSpec`.
    """
    excluded = ("doc", "man", "info", "locale")
    boot = shlex.join(["sh", "/tmp/boot.sh", *spec.modules])  # noqa: S108 - inside the new root
    return [
        "mmdebstrap",
        f"--mode={mode}",
        "--variant=apt",
        f"--components={spec.components}",
        f"--include={','.join((*spec.packages, spec.kernel_package))}",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude=/usr/share/{directory}/*" for directory in excluded),
        *_installing(spec, scripts),
        f"--customize-hook=upload {shlex.quote(str(scripts / 'initramfs-init.sh'))} /tmp/initramfs-init",
        f"--customize-hook=upload {shlex.quote(str(scripts / 'boot.sh'))} /tmp/boot.sh",
        f'--customize-hook=chroot "$1" {boot}',
        f"--customize-hook=copy-out /sandbox-boot {shlex.quote(str(place))}",
        # Only our own files: mmdebstrap keeps its apt configuration in the new root's /tmp, and without that its last
        # `apt-get update` works on the host: it empties root's package lists and fails for everybody else.
        '--customize-hook=rm -rf "$1"/sandbox-boot "$1"/tmp/boot.sh "$1"/tmp/initramfs-init',
        "--",
        spec.suite,
        str(tree),
        *([spec.mirror] if spec.mirror else []),
    ]


def _installing(spec: ImageSpec, scripts: Path) -> list[str]:
    """Hooks that install what is not Debian's; they trust the authorities that this host trusts."""
    if not spec.installs:
        return []
    steps = [f"upload {shlex.quote(str(scripts / 'install.sh'))} /tmp/install.sh"]
    steps += [f"upload {AUTHORITIES} /tmp/authorities.crt"] if AUTHORITIES.is_file() else []
    steps += [f'chroot "$1" {shlex.join(["sh", "/tmp/install.sh", *words])}' for words in spec.installs]  # noqa: S108
    return [f"--customize-hook={step}" for step in [*steps, 'rm -f "$1"/tmp/install.sh "$1"/tmp/authorities.crt']]


def pack(tree: Path, target: Path, size: int) -> list[str]:
    """The command that turns the tar file into an ext4 image of `size` bytes.

    In two steps because mke2fs reads tar files only since 1.47.1 (Debian 12 has 1.47.0); under fakeroot because
    that is how an ordinary user keeps root's files root's. No journal: the image is only ever read.
    """
    unpacked = tree.parent / "tree"
    make = "mke2fs -q -F -t ext4 -O ^has_journal,^resize_inode -m 0 -b 4096 -i 16384 -L sandbox-root"
    script = f'mkdir "$1" && tar -C "$1" --exclude="./dev/*" -xf "$0" && exec {make} -d "$1" "$2" "$3"'
    return ["fakeroot", "--", "sh", "-c", script, str(tree), str(unpacked), str(target), f"{size >> 10}k"]


def _size(tree: Path) -> int:
    """Bytes for a file system that holds the tar file's content: whole blocks, inodes, and some slack."""
    import tarfile  # with three compressors; nothing else here needs it

    with tarfile.open(tree) as archive:
        sizes = [member.size for member in archive]
    used = sum(-(-size // 4096) * 4096 for size in sizes) + len(sizes) * 512
    return int(used * 1.08) + (32 << 20)
