"""Build a guest image without root: mmdebstrap makes the tree, mke2fs the file system, in a confined namespace."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from git_sandbox import confine, idspace, process
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image, ImageInfo
from git_sandbox.errors import HostResourceError, ImageError, RequirementError
from git_sandbox.helpers import userns
from git_sandbox.idspace import IdSpace
from git_sandbox.image.spec import ImageSpec, data
from git_sandbox.text import one_line, printable

NEEDED_SPACE = 3 * 1024**3  # bytes: the packed tree, the unpacked tree and the image side by side
TIDYING = 60.0  # seconds an interrupted build may take to remove what it made
Progress = Callable[[str], None]


def ensure(spec: ImageSpec, progress: Progress, *, force: bool = False) -> Image:
    """The image for `spec`, built first when it is not there yet (or `force`).

    Raises ImageError with the tail of the build log; nothing half-built stays behind.
    """
    found = guest_images.find(spec.key)
    if found and not force:
        return found
    process.require("mmdebstrap", "fakeroot", "mke2fs", "tar")
    progress("waiting for another build to end")  # shown only as long as there is one
    with guest_images.building() as place:
        found = guest_images.find(spec.key)  # somebody else may have built it while we waited for the lock
        if found and not force:
            return found
        return _build(spec, place, progress)


def _build(spec: ImageSpec, place: Path, progress: Progress) -> Image:
    workshop = _workshop_root()
    for directory in {place, workshop}:
        free = shutil.disk_usage(directory).free
        if free < NEEDED_SPACE:
            raise HostResourceError(
                f"building an image needs {NEEDED_SPACE >> 30} GiB below {directory}, {free >> 20} MiB are free",
                hint="free some space, or set XDG_CACHE_HOME and TMPDIR to a larger disk",
            )
    progress(f"fetching and unpacking Debian {spec.suite} (about {spec.download_mib} MiB)")
    space = _namespace()
    if space is not None:
        _build_confined(spec, place, space, workshop, progress)
    elif spec.installs and os.getuid() == 0:
        raise ImageError(
            "root cannot build this image: what it installs would run as root of this host",
            cause="bubblewrap and user namespaces, which would confine it, are not to be had here",
            hint="build it as an ordinary user, or see `sandbox doctor`",
        )
    else:
        _build_here(spec, place, progress)
    info = ImageInfo(key=spec.key, suite=spec.suite, built=time.time(), packages=spec.packages)
    return guest_images.publish(place, info)


def _workshop_root() -> Path:
    """Where confined builds happen: not in a private home, which the namespace's root cannot enter."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp").absolute()  # noqa: S108 - mkdtemp makes a name of its own there


def _namespace() -> IdSpace | None:
    """The ids of a confined build, None where this host gives us none (then mmdebstrap's own namespace has to do)."""
    try:
        space = IdSpace.ours()
    except RequirementError:
        return None
    probe = idspace.run_argv(space, confine.argv(["true"], confine.View(root=True)), os.getpid())
    found = process.which(confine.PROGRAM) and process.run(probe, timeout=confine.PROBE_TIMEOUT).returncode == 0
    return space if found else None


def _build_confined(spec: ImageSpec, place: Path, space: IdSpace, root: Path, progress: Progress) -> None:
    """Packages' scripts run as a root that is nobody on this host, and see the build and the host's programs only."""
    prefix = (
        f"git-sandbox-build-{os.getuid()}-{hashlib.sha256(os.fsencode(guest_images.images_root())).hexdigest()[:8]}-"
    )
    for stale in root.glob(f"{prefix}*"):  # of a build that was killed: there is one at a time for each cache
        space.remove(stale)
    workshop = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        workshop.chmod(0o711)
        (workshop / userns.TREE).mkdir(mode=0o755)
        space.give(workshop)
        inside = confine.argv(["sh", "-c", CONFINED_BUILD, *_words_of(spec)], _view(workshop / userns.TREE), BUILD)
        _logged(idspace.run_argv(space, inside, os.getpid()), place, progress)
        for name in ("kernel", "initramfs", "rootfs.ext4"):
            _fetch(workshop / userns.TREE / name, place / name)
    finally:
        space.remove(workshop)


BUILD, SCRIPTS = "/build", "/scripts"  # in the view of a confined build
RESOLVER = Path("/etc/resolv.conf")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # of this host, where it is Debian's kind
# How this host reaches package registries: a build asks the same ones in the same way.
REACH = re.compile(r"(?:(?:https?|no)_proxy|pip_(?:index|extra_index)_url|npm_config_registry)", re.IGNORECASE)
MAX_PART = 64 << 30  # bytes of a file of an image
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


def _words_of(spec: ImageSpec) -> list[str]:
    return mmdebstrap(spec, Path(BUILD, "rootfs.tar"), Path(BUILD), Path(SCRIPTS), mode="unshare")


def _view(tree: Path) -> confine.View:
    resolver = RESOLVER.resolve()  # often a link into /run
    readonly = [(Path("/etc"), "/etc"), (data("boot.sh").parent, SCRIPTS), (Path("/var/lib/dpkg"), "/var/lib/dpkg")]
    if resolver != RESOLVER:
        readonly.append((resolver, os.fspath(resolver)))
    return confine.View(tuple(readonly), ((tree, BUILD),), network=True, root=True)


def _fetch(source: Path, target: Path) -> None:
    """Copy what a confined build made: a file of its own, and nothing that a link leads to."""
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as made, target.open("xb") as kept:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_PART:
            raise ImageError(f"the build left no usable {source.name}")
        shutil.copyfileobj(made, kept, 1 << 20)


def _build_here(spec: ImageSpec, place: Path, progress: Progress) -> None:
    """For hosts that let no confined root be made: mmdebstrap has a namespace of its own, fakeroot keeps the owners.

    What is not Debian's is installed in such a namespace or not at all: where there is none, mmdebstrap by itself would
    run it as this user.
    """
    tree, mode = place / "rootfs.tar", "unshare" if spec.installs else "auto"
    _logged(mmdebstrap(spec, tree, place, data("boot.sh").parent, mode=mode), place, progress, under=_apart())
    progress("packing the root file system")
    _logged(pack(tree, place / "rootfs.ext4", _size(tree)), place, progress)
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
    return apart if os.getuid() == 0 and process.run([*apart, "true"], timeout=20).returncode == 0 else []


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
        *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in excluded),
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
    return [f"--customize-hook={each}" for each in [*steps, 'rm -f "$1"/tmp/install.sh "$1"/tmp/authorities.crt']]


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


def _logged(argv: list[str], place: Path, progress: Progress, *, under: Sequence[str] = ()) -> None:
    """Run with output to `build.log`, its noteworthy lines as progress; ImageError with the log's tail on failure."""
    log = place / "build.log"
    fixed = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": _path()}
    env = process.environment(process.inherited(REACH) | fixed)
    # mmdebstrap has mounts and a whole system below TMPDIR to take away again.
    with process.spawn(
        [*under, *argv], env=env, stdout=process.PIPE, stderr=process.STDOUT, cwd=place, grace=TIDYING, tidies=True
    ) as child:
        with log.open("ab") as handle:
            for line in child.stdout:
                handle.write(line)
                if line.startswith(b"I: "):
                    progress(one_line(line[3:]))
        status = child.wait()
    if status != 0:
        tail = printable(b"\n".join(log.read_bytes().splitlines()[-15:]))
        raise ImageError(f"`{argv[0]}` failed with status {status}", cause=tail, hint=_hint(tail))
    log.unlink()


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _hint(tail: str) -> str:
    if "newuidmap" in tail or "unshare" in tail or "subuid" in tail:
        return "an ordinary user needs the package uidmap and a line of their own in /etc/subuid and /etc/subgid"
    if "Temporary failure resolving" in tail or "Could not connect" in tail:
        return "check the network, or name another `mirror` in the image spec"
    if "No space left" in tail:
        return "free some space below TMPDIR and XDG_CACHE_HOME"
    return "run `sandbox doctor`; the lines above are the end of the build's log"
