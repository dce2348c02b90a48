"""A template's machine: booted as far as it goes without a sandbox, saved there, and adopted after it was restored.

Every restored machine is a twin of every other, down to the kernel's random state. So adoption comes before anything
else runs: fresh randomness, the right time, this sandbox's own files and keys, its disk (docs/adr/0050).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.guest.channels import MAX_REQUEST, PORT_PREFIX, reply
from git_sandbox.guest.common import DISK, HERE, PATH, UNUSABLE, log
from git_sandbox.guest.machine import mount

OUTSIDE = 3  # descriptor of the initramfs's root, left open by template-init.sh
MS_MOVE, MS_NOATIME = 8192, 1024
DRIVER = Path("/sys/bus/virtio/drivers/virtio_blk")
IDLE = 0.004  # seconds between two looks at a port without a host
# What a first session and the exporter will want to have in the page cache.
USED_SOON = (
    ("sshd", "-V"), ("bash", "-lc", "true"), ("setpriv", "true"), ("git", "version"), ("busybox", "true"), ("ls", "/"),
    ("/usr/bin/python3", "-I", "-S", str(HERE / "git_sandbox/guest/exporter.py"), "/"),
)  # fmt: skip


@dataclass(frozen=True)
class Adoption:
    """The host's request, unanswered until everything has been done."""

    port: int
    request: dict[str, object]

    def complete(self, rest: Callable[[], object]) -> None:
        try:
            rest()
        except BaseException:
            os.kill(1, signal.SIGTERM)  # without an answer the host boots the sandbox anew
            raise
        reply(self.port, self.request, {"ok": True})


def wait_for_adoption() -> Adoption:
    """Returns as process 1 of a sandbox's own machine, with the same mounts as after a cold boot."""
    warm_up()
    disk = let_go("vdb")
    port = os.open(control_port(), os.O_RDWR | os.O_CLOEXEC)
    while True:
        request = next_request(port)
        if request["op"] == "adopt":
            become_own(request, disk)
            return Adoption(port, request)
        reply(port, request, {"mode": "template"})


def warm_up() -> None:
    for each in Path("/usr/lib/openssh").iterdir():
        each.read_bytes()
    for argv in USED_SOON:
        subprocess.run(argv, env={"PATH": PATH, "HOME": "/root"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)  # fmt: skip


def let_go(name: str) -> str:
    """Take the disk away from its driver, which otherwise remembers its size; the device's name, to bring it back."""
    device = Path(f"/sys/block/{name}/device").resolve().name
    (DRIVER / "unbind").write_text(device)
    return device


def control_port() -> Path:
    while True:
        for entry in Path("/sys/class/virtio-ports").glob("*/name"):
            if entry.read_text().strip() == f"{PORT_PREFIX}control":
                return Path("/dev") / entry.parent.name
        time.sleep(0.01)


def next_request(port: int) -> dict[str, object]:
    received = b""
    while not received.endswith(b"\n") and len(received) <= MAX_REQUEST:
        chunk = os.read(port, 65536)
        received = received + chunk if chunk else b""
        if not chunk:  # no host is there, or it went away in the middle of a line
            time.sleep(IDLE)
    found: dict[str, object] = json.loads(received)
    return found


def become_own(request: dict[str, object], disk: str) -> None:
    reseed(base64.b64decode(str(request["seed"])))
    time.clock_settime(time.CLOCK_REALTIME, float(str(request["time"])))
    files = request["files"]
    assert isinstance(files, dict)  # noqa: S101 - written by our own host side
    for name, (content, mode) in files.items():
        target = HERE / name
        target.touch(mode=0o600)
        target.write_bytes(base64.b64decode(content))
        target.chmod(mode)
    (DRIVER / "bind").write_text(disk)
    enter_system()


def reseed(seed: bytes) -> None:
    """Mix `seed` into the kernel's random state and make every generator start from it anew (random(4))."""
    rnd_add_entropy, rnd_reseed = 0x40085203, 0x5207
    with Path("/dev/urandom").open("wb", buffering=0) as device:
        fcntl.ioctl(device, rnd_add_entropy, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
        fcntl.ioctl(device, rnd_reseed)


def enter_system() -> None:
    """What initramfs-init.sh does after it has mounted the image: workspace disk, overlay, switch of the root."""
    try:
        mount("/dev/vdb", DISK, "ext4", MS_NOATIME, "noinit_itable")  # else the kernel writes zeros over holes, 80 MB
    except OSError:
        log(UNUSABLE)
        raise
    os.fchdir(OUTSIDE)
    os.chroot(".")
    os.close(OUTSIDE)
    mount(f"/image{DISK}", Path("/disk"), flags=MS_MOVE)
    for name in ("upper", "work"):
        Path("/disk/system", name).mkdir(parents=True, exist_ok=True)
    layers = "lowerdir=/image,upperdir=/disk/system/upper,workdir=/disk/system/work"
    mount("overlay", Path("/root"), "overlay", 0, layers)
    for name in ("proc", "sys", "dev", "run"):
        mount(f"/image/{name}", Path("/root", name), flags=MS_MOVE)
    mount("/disk", Path(f"/root{DISK}"), flags=MS_MOVE)
    os.chdir("/root")
    mount(".", Path("/"), flags=MS_MOVE)
    os.chroot(".")
    os.chdir("/")
