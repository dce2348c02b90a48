"""The machine of a template: booted without a sandbox, saved, and personalized for a sandbox after it was restored.

Every restored machine is a twin of every other, down to the kernel's random state. So personalization comes before
anything else runs: fresh randomness, the right time, this sandbox's own files and keys, its disk (docs/adr/0012).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from git_sandbox.guest import boot, protocol
from git_sandbox.guest.channels import SSHD, reply
from git_sandbox.guest.common import FORKED, HERE, PATH, Config, fork_task
from git_sandbox.guest.loop import listen_on_vsock, over_vsock
from git_sandbox.guest.protocol import MAX_REQUEST, PORT_PREFIX

IDLE = 0.004  # seconds between two looks at a port without a host
# What a first session and the exporter will want to have in the page cache.
USED_SOON = (
    ("sshd", "-V"), ("bash", "-lc", "true"), ("setpriv", "true"), ("git", "version"), ("busybox", "true"), ("ls", "/"),
)  # fmt: skip


@dataclass(frozen=True)
class PersonalizeRequest:
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


def wait_for_sandbox(config: Config) -> PersonalizeRequest:
    """Returns as process 1 of a sandbox's own machine, with the same mounts as after a cold boot."""
    warm_up()
    disks, prewarming = boot.disks_without_driver(), Prewarming()
    with (
        RequestListener.on_vsock() if protocol.CONTROL in over_vsock(config) else RequestListener.on_port() as requests
    ):
        while True:
            descriptor, request = requests.next_request()
            if request["op"] == protocol.PERSONALIZE:
                prewarming.end()
                become_own(request, disks)
                return PersonalizeRequest(os.dup(descriptor), request)
            with contextlib.suppress(ConnectionError):  # who asked is gone
                reply(descriptor, request, {"mode": "template"})
            if request["op"] == protocol.PREWARM:
                prewarming.begin()


def warm_up() -> None:
    """Into memory with what will be wanted soon; the exporter's modules into this process's, for its forks."""
    importlib.import_module("git_sandbox.guest.exporter")
    for path in Path("/usr/lib/openssh").iterdir():
        path.read_bytes()
    for argv in USED_SOON:
        run_quietly(argv)
    from git_sandbox.guest import egress  # late: only a template's machine needs it here

    egress.warm_up()


class Prewarming:
    """What a first session runs, run for nothing while the host still copies: under emulation most of a program's first
    run is the translation of its code, and a restored machine begins without any (docs/adr/0012).

    It runs before the personalization: it has no key, and what it got of the randomness that all twins share ends with
    it.
    """

    def __init__(self) -> None:
        self.child = 0

    def begin(self) -> None:
        if not self.child:
            self.child = fork_task(self.play)
            with contextlib.suppress(OSError):  # also here: `end` must not come before it
                os.setpgid(self.child, self.child)

    def play(self) -> None:
        os.setpgid(0, 0)
        for argv in prewarmed():
            with contextlib.suppress(OSError):
                run_quietly(argv)

    def end(self) -> None:
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            FORKED.discard(self.child)
            self.child = 0


def prewarmed() -> Iterator[tuple[str, ...]]:
    """Sshd looks at its configuration and ends for want of a key, its helpers because sshd did not call them."""
    yield tuple(SSHD)
    for name in ("sshd-session", "sshd-auth"):
        if (helper := Path("/usr/lib/openssh", name)).exists():
            yield (str(helper),)
    yield "bash", "-lc", "true"


def run_quietly(argv: tuple[str, ...]) -> None:
    subprocess.run(argv, env={"PATH": PATH, "HOME": "/root"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=False)  # fmt: skip


class RequestListener:
    """Where the host comes with its requests, one after the other: a port, or connections over vsock.

    Connections do not survive that the machine is saved: the VMM resets them, and those who listen stay.
    """

    def __init__(self, listener: socket.socket | None, port: int) -> None:
        self.listener, self.current = listener, port

    @classmethod
    def on_vsock(cls) -> Self:
        return cls(listen_on_vsock(protocol.CONTROL), -1)

    @classmethod
    def on_port(cls) -> Self:
        return cls(None, os.open(control_port(), os.O_RDWR | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        if self.listener is not None:
            self.listener.close()

    def hang_up(self) -> None:
        if self.current >= 0:
            os.close(self.current)
        self.current = -1

    def next_request(self) -> tuple[int, dict[str, object]]:
        """What the next one is answered on, until the one after it is asked for; and the request."""
        received = b""
        while not received.endswith(b"\n") and len(received) <= MAX_REQUEST:
            if self.listener is not None and not received:
                self.hang_up()
                self.current = self.listener.accept()[0].detach()
            chunk = self.read()
            received = received + chunk if chunk else b""
        document: dict[str, object] = json.loads(received)
        return self.current, document

    def read(self) -> bytes:
        """Nothing: no host is there, or it went away in the middle of a line."""
        with contextlib.suppress(ConnectionError):
            if chunk := os.read(self.current, 65536):
                return chunk
        if self.listener is None:
            time.sleep(IDLE)
        return b""


def control_port() -> Path:
    while True:
        for entry in Path("/sys/class/virtio-ports").glob("*/name"):
            if entry.read_text().strip() == f"{PORT_PREFIX}control":
                return Path("/dev") / entry.parent.name
        time.sleep(0.01)


def become_own(request: dict[str, object], disks: list[str]) -> None:
    reseed(base64.b64decode(str(request["seed"])))
    time.clock_settime(time.CLOCK_REALTIME, float(str(request["time"])))
    files = request["files"]
    assert isinstance(files, dict)  # noqa: S101 - written by our own host side
    for name, (content, mode) in files.items():
        target = HERE / name
        target.touch(mode=0o600)
        target.write_bytes(base64.b64decode(content))
        target.chmod(mode)
    config = json.loads((HERE / protocol.CONFIG).read_text())
    boot.enter_system(disks, mode=protocol.RUN, foreign=bool(config.get("root")))


def reseed(seed: bytes) -> None:
    """Mix `seed` into the kernel's random state and make every generator start from it anew (random(4))."""
    rnd_add_entropy, rnd_reseed = 0x40085203, 0x5207
    with Path("/dev/urandom").open("wb", buffering=0) as device:
        fcntl.ioctl(device, rnd_add_entropy, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
        fcntl.ioctl(device, rnd_reseed)
