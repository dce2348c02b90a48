"""The servers on each channel between host and guest. Every server runs in its own process."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

from git_sandbox.guest import changes, clock, opener, ownership, processes, protocol, sessions
from git_sandbox.guest.common import (
    HERE,
    REPO,
    SCRATCH,
    Config,
    become,
    close_others,
    fork_task,
    shed,
    write_all,
)
from git_sandbox.guest.relay import relay
from git_sandbox.guest.system import device

SSHD = ["/usr/sbin/sshd", "-i", "-e", "-f", str(HERE / protocol.SSHD_CONFIG)]
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
FROZEN_AT_MOST = 600  # seconds
WAIT_AT_MOST = 10.0  # seconds for one look at who is still there
ENDED = HERE / "ended"  # there are to be no more sessions
START_REFS = HERE / protocol.START_REFS


def serve_ssh(descriptor: int, _config: Config) -> None:
    if ENDED.exists():
        os.set_blocking(descriptor, True)
        while os.read(descriptor, 65536):  # until whoever asks has gone
            pass
        return
    if is_socket(descriptor):  # vsock: nothing is wrong with polling that (see relay)
        os.dup2(descriptor, 0)
        os.dup2(descriptor, 1)
        become(SSHD)
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(writing)
        relay(reading, descriptor)
        os._exit(0)
    os.set_blocking(descriptor, False)
    os.dup2(descriptor, 0)
    os.dup2(writing, 1)
    become(SSHD)


def is_socket(descriptor: int) -> bool:
    """Whether a connection is vsock's. Otherwise it is a port, which stays when a conversation is over."""
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


def serve_control(descriptor: int, config: Config) -> None:
    """One request of a port, whose next one gets a server of its own; all there are on a connection."""
    answer_control(descriptor, config)
    while is_socket(descriptor):
        answer_control(descriptor, config)
    os._exit(0)


def answer_control(descriptor: int, config: Config) -> None:
    os.set_blocking(descriptor, True)
    line = read_line(descriptor)
    request = json.loads(line)
    if request["op"] in (protocol.EXPORT, protocol.LFS):
        if isinstance(there := request.get("time"), float):
            sessions.tell_time(there)
            line = clock.compared(line, there)
        if request.get("end"):
            processes.kill()  # so that nothing is written meanwhile
        export(descriptor, line, config)
    if request["op"] == protocol.STATUS:
        reply(descriptor, request, {"id": config["hostname"], "uptime": time.monotonic(), "mode": config["mode"]})
    if request["op"] in (protocol.FREEZE, protocol.THAW):
        freeze(descriptor, request)
    if request["op"] in (protocol.TERMINATE, protocol.KILL):
        end_programs(descriptor, request)
    if request["op"] == protocol.POWEROFF:
        reply(descriptor, request, {"ok": True})
        os.kill(1, signal.SIGTERM)


def end_programs(descriptor: int, request: dict[str, object]) -> None:
    """`terminate`: ask the user's programs to end (`first`), wait up to `wait` seconds, say who is left; from then on
    there are no new sessions. `kill`: end them.
    """
    ENDED.touch()
    if request["op"] == protocol.KILL:
        left = processes.kill()
    else:
        if request.get("first"):
            processes.ask()
        left = processes.wait(min(float(str(request.get("wait", 0))), WAIT_AT_MOST))
    reply(descriptor, request, processes.named(left))


def freeze(descriptor: int, request: dict[str, object]) -> None:
    """Hold the workspace's file system still, all of it written out, until the host says `thaw`, goes away, or has had
    its time. The answer to `thaw` tells whether it was still held: only then is a copy of the disk whole.
    """
    if request["op"] == protocol.THAW:
        reply(descriptor, request, {"held": False})
        return
    disk = os.open(REPO.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.ioctl(disk, FIFREEZE, 0)
    try:
        reply(descriptor, request, {"held": True})
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        events = waiting.poll(FROZEN_AT_MOST * 1000)
    finally:
        fcntl.ioctl(disk, FITHAW, 0)
    if events and events[0][1] & select.POLLIN:
        reply(descriptor, json.loads(read_line(descriptor)), {"held": True})


def read_line(descriptor: int) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        chunk = os.read(descriptor, 65536)
        if not chunk or len(received) > protocol.MAX_REQUEST:
            os._exit(0)
        received += chunk
    return received


def reply(descriptor: int, request: dict[str, object], answer: dict[str, object]) -> None:
    header, trailer = json.dumps(answer).encode(), b'{"ok":true}'
    message = f"{protocol.GREETING} {request['nonce']} {len(header)}\n".encode() + header
    message += struct.pack(">I", 0) + struct.pack(">I", len(trailer)) + trailer
    write_all(descriptor, message)


def export(descriptor: int, line: bytes, config: Config) -> None:
    """Run the exporter as the owner of the repository and pass what it says to the host."""
    os.set_blocking(descriptor, False)
    if not push(b"\n", descriptor):  # a sign of life
        os._exit(0)
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    request = os.memfd_create("request")
    asked = json.loads(line)
    whole = asked["op"] == protocol.EXPORT and "git_dir" not in asked
    if whole:
        line = changes.added(with_start(line), config)
    elif asked["op"] == protocol.EXPORT and asked.get("path"):
        line = changes.added_inside(line, str(asked["path"]), config)
    write_all(request, line)
    os.lseek(request, 0, os.SEEK_SET)
    reading, writing = os.pipe()
    uid, gid = int(str(user["uid"])), int(str(user["gid"]))
    exporter = fork_task(lambda: run_exporter(request, writing, uid, gid))
    os.close(writing)
    message = pump(reading, descriptor)
    for end in (reading, request):
        os.close(end)
    if message is None:
        os.killpg(exporter, signal.SIGKILL)
        os._exit(0)
    if message == 0:  # else the host would wait for it: the kernel may have killed it for its memory
        os.set_blocking(descriptor, True)
        reply(
            descriptor,
            json.loads(line),
            {"error": "the exporter ended without an answer: the guest may be out of memory"},
        )


def with_start(line: bytes) -> bytes:
    """The host's request (a JSON object in a line) with the refs that went in, which only root may read."""
    if not START_REFS.is_file():
        return line
    return line.rstrip().removesuffix(b"}") + b', "start": ' + START_REFS.read_bytes() + b"}\n"


def run_exporter(request: int, answer: int, uid: int, gid: int) -> None:
    """In a fork of process 1, which saves starting Python once more (docs/adr/0013).

    The kernel keeps such a process from being traced, or read through /proc, by the user that it becomes.
    """
    os.setsid()
    os.dup2(request, 0)
    os.dup2(answer, 1)
    scratch, requests = own_scratch(uid, gid), root_reader(uid, gid)
    from git_sandbox.guest import exporter  # late: only a template's machine has it at hand

    shed(uid, gid, keep=requests)
    exporter.main(str(REPO), scratch=scratch, requests=requests)


def own_scratch(uid: int, gid: int) -> str | None:
    """A directory on the disk for one export; those of earlier ones go. None where the disk is full."""
    try:
        for path in SCRATCH.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        place = SCRATCH / str(os.getpid())
        place.mkdir(mode=0o700)
        os.chown(place, uid, gid)
    except OSError:
        return None
    return str(place)


def root_reader(uid: int, gid: int) -> int:
    """The exporter's end of a conversation with a process that stays root and opens what the user may not read."""
    ours, theirs = opener.pair()
    if os.fork() == 0:
        try:
            for descriptor in (0, 1):
                os.dup2(2, descriptor)  # the host waits until nobody has the exporter's output any more
            close_others(theirs.fileno())
            opener.serve(theirs, str(REPO), lambda: ownership.own(str(REPO / ".git"), uid, gid))
        finally:
            os._exit(0)
    theirs.close()
    return ours.detach()


def pump(source: int, descriptor: int) -> int | None:
    """Copy `source` to the host until its end; how many bytes, or None when the host went away first.

    A write to a port without a host would wait for the next host, and give it the rest of this conversation.
    """
    waiting = select.poll()
    waiting.register(
        descriptor, select.POLLRDHUP
    )  # vsock's word for a peer that is gone; a port's hang-up always shows
    waiting.register(source, select.POLLIN)
    sent = 0
    while True:
        if any(fd == descriptor for fd, _ in waiting.poll()):
            return None
        chunk = os.read(source, 65536)
        if not chunk:
            return sent
        if not push(chunk, descriptor):
            return None
        sent += len(chunk)


def push(chunk: bytes, descriptor: int) -> bool:
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    while chunk:
        try:
            chunk = chunk[os.write(descriptor, chunk) :]
        except ConnectionError:
            return False
        except BlockingIOError:
            if any(events & (select.POLLHUP | select.POLLERR) for _, events in room.poll()):
                return False
    return True


def relay_request(descriptor: int, _config: Config) -> None:
    """Pass one line of the `sandbox` command to the host and its answer back; one request at a time."""
    os.set_blocking(descriptor, True)
    with (HERE / "request.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = open_host()
        try:
            write_all(port, read_line(descriptor))
            write_all(descriptor, read_line(port))
        finally:
            os.close(port)


def open_host() -> int:
    """The channel on which the guest speaks first: a virtio-serial port, or vsock where the VMM has that."""
    for entry in Path("/sys/class/virtio-ports").glob("*/name"):
        if entry.read_text().strip() == f"{protocol.PORT_PREFIX}{protocol.HOST}":
            return os.open(device(entry.parent.name), os.O_RDWR)
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connection.connect((socket.VMADDR_CID_HOST, protocol.VSOCK_PORTS[protocol.HOST]))
    return connection.detach()


Server = Callable[[int, Config], None]
SERVERS: dict[str, Server] = {protocol.SSH: serve_ssh, protocol.CONTROL: serve_control}
