"""A root file system that we did not build: the sandbox's system is an overlay on it, and our programs keep their own
root.

One mount namespace, two roots. `/` of the namespace is the *system*: the overlay of the root image and of what the
sandbox changed. Sessions are there. Process 1 has changed its root to the *tools'* (`OWN`): the tools image with a
layer in memory. So have sshd, until a session begins, and the exporter: nothing of theirs comes from a stranger's
image. What they do in the system is done by forks (`system.in_system`) that open files there and run none.

sshd finds the way back by `ChrootDirectory /proc/1/fd/3`: descriptor 3 of process 1 is the namespace's root itself, and
whoever is there counts as not chrooted: user namespaces can be made, as rootless containers do.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from git_sandbox.guest import protocol
from git_sandbox.guest.common import OWN, TOOLS, T
from git_sandbox.guest.mounts import MS_BIND, MS_RDONLY, MS_REC, mount

DEVICE = "vdc"  # after tools and workspace
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
MOVED = ("proc", "sys", "dev", "run")
# What a root has at the least, below everything that the image has itself: mount points, and where programs expect a
# directory. Path and mode.
DIRECTORIES = (
    *((name, 0o755) for name in MOVED), ("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("home", 0o755),
    ("mnt", 0o755), ("workspace", 0o755), ("etc/ssl/certs", 0o755), ("usr/local/bin", 0o755), ("usr/local/sbin", 0o755),
    ("lib/modules", 0o755), ("usr/lib/modules", 0o755),
)  # fmt: skip
FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}
LINKED = ("bin/sh", "usr/bin/env")  # ours, where an image has none: nearly everything needs these two by their paths
LOCALE = "usr/lib/locale/C.utf8"  # without it a program of ours takes all text for ASCII


# Name, major and minor number (Linux, Documentation/admin-guide/devices.txt), mode.
DEVICES = (
    ("null", 1, 3, 0o666), ("zero", 1, 5, 0o666), ("full", 1, 7, 0o666), ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666), ("tty", 5, 0, 0o666), ("console", 5, 1, 0o600),
)  # fmt: skip


def lower(at: Path, tools: Path, device: Path) -> str:
    """The root image, mounted below `at`, and below it what it lacks: layers of an overlay that only reads them.

    `tools`: where the root of our own programs is. `device`: the disk of the image.
    """
    image, filling = at / "image", at / "fill"
    for path in (image, filling):
        path.mkdir(parents=True, mode=0o755)
    mount(str(device), image, "ext4", MS_RDONLY, "noload")
    mount("tmpfs", filling, "tmpfs", 0, "mode=0755")
    require_directories(image)
    fill(filling, tools, in_root(image, lacking))
    return f"{image}:{filling}"


def lacking() -> list[str]:
    """Those of LINKED that this root has not."""
    return [path for path in LINKED if not os.access(f"/{path}", os.X_OK)]


def fill(place: Path, tools: Path, linked: list[str]) -> None:
    """The same in every boot. `linked`: those of LINKED that the image lacks."""
    for path, mode in DIRECTORIES:
        (place / path).mkdir(parents=True, exist_ok=True)
        (place / path).chmod(mode)
    for path, content in FILES.items():
        (place / path).write_text(content)
    if (tools / BUNDLE).is_file():
        shutil.copyfile(tools / BUNDLE, place / BUNDLE)
    (place / LOCALE).parent.mkdir(parents=True)
    (place / LOCALE).symlink_to(TOOLS / LOCALE)
    for path in linked:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(TOOLS / "bin/busybox")


def require_directories(root: Path) -> None:
    """Raises NotADirectoryError for an image that has something else at a mount point: a link would lead us astray."""
    for name in MOVED:
        if os.path.lexists(root / name) and not stat.S_ISDIR((root / name).lstat().st_mode):
            raise NotADirectoryError(f"/{name} of the root image is not a directory")


def show_tools(root: Path, image: str) -> None:
    """Below HERE of the system: the tools as they are, to be used by everybody, and the root of our own processes."""
    tools, own = Path(f"{root}{TOOLS}"), Path(f"{root}{OWN}")
    for path in (tools, own):
        path.mkdir(mode=0o755)
    mount(image, tools, flags=MS_BIND)
    layer = Path("/own")
    layer.mkdir()
    mount("tmpfs", layer, "tmpfs", 0, "mode=0755")
    for name in ("upper", "work"):
        (layer / name).mkdir()
    mount("overlay", own, "overlay", 0, f"lowerdir={image},upperdir={layer}/upper,workdir={layer}/work")
    for name in ("proc", "sys"):
        mount(f"{root}/{name}", own / name, flags=MS_BIND | MS_REC)
    make_devices(own / "dev")
    mount(f"{root}/run", own / "run", flags=MS_BIND)
    for shown in (protocol.DISK, str(TOOLS)):
        mount(f"{root}{shown}", Path(f"{own}{shown}"), flags=MS_BIND)


def make_devices(place: Path) -> None:
    """Those that any program opens. Terminals are opened in the system: else sessions would be told another path."""
    for name, major, minor, mode in DEVICES:
        os.mknod(place / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (place / name).chmod(mode)  # the umask took some of it
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (place / name).symlink_to(target)
    for name in ("ptmx", "pts"):
        (place / name).symlink_to(f"/proc/1/fd/{protocol.SYSTEM}/dev/{name}")


def enter_tools() -> None:
    """From the system into our own root; descriptor `protocol.SYSTEM` stays behind."""
    system = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if system != protocol.SYSTEM:
        os.dup2(system, protocol.SYSTEM, inheritable=False)
        os.close(system)
    os.chroot(OWN)
    os.chdir("/")


def in_root(root: int | Path, task: Callable[[], T]) -> T:
    """What `task` returns, as JSON holds it, in a fork whose root is another. It must run no program and import
    nothing: they would be a stranger's. Raises OSError.
    """
    answer = os.memfd_create("answer")
    child = os.fork()
    if child == 0:
        layers: dict[str, Any] = {}
        try:
            sys.path.clear()
            os.chdir(root)
            os.chroot(".")
            os.chdir("/")
            layers = {"result": task()}
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            layers = {"error": f"{type(error).__name__}: {error}"}
        finally:
            os.write(answer, json.dumps(layers).encode())
            os._exit(0)
    os.waitpid(child, 0)
    with os.fdopen(answer, "rb") as file:
        file.seek(0)
        layers = json.loads(file.read() or b'{"error": "it was killed"}')
    if "error" in layers:
        raise OSError(f"in the root image: {layers['error']}")
    result: T = layers["result"]
    return result
