"""Process 1 of the guest: makes the machine the user's, answers the host's channels, reaps, powers off.

Started by the initramfs with everything mounted; `/run/git-sandbox` holds this file, its siblings, `config.json` and
keys, fresh at every boot and out of reach of what an earlier boot left on the disk.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path("/run/git-sandbox")
EXPORTER = HERE / "git_sandbox/guest/exporter.py"
DISK = HERE / "disk"
REPO = DISK / "repo"
WORKSPACE = Path("/workspace")
PORT_PREFIX = "org.git-sandbox."
VSOCK_PORTS = {"ssh": 22, "control": 1024}
HOST_PORT = 1025  # vsock port on which the supervisor listens
MAX_REQUEST = 64 << 20  # bytes of one request line; the host's list of known objects is the longest part
STOP_GRACE = 2.0  # seconds for the user's processes to end
MS_BIND = 4096
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Config = dict[str, object]


def log(text: str) -> None:
    with contextlib.suppress(OSError):
        Path("/dev/console").write_text(f"git-sandbox: {text}\n")


# --- making the machine the user's -----------------------------------------------------------------------------------


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {target}: {os.strerror(code)}")


def mount_system() -> None:
    for target, kind, options in (
        ("/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
        ("/dev/shm", "tmpfs", "mode=1777"),
    ):
        Path(target).mkdir(exist_ok=True)
        mount(kind, Path(target), kind, 0, options)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            Path(f"/dev/{name}").symlink_to(target)


def tune_kernel() -> None:
    # What an editor saved should survive a killed VMM: write dirty pages out after about two seconds, not thirty.
    for name, value in (("dirty_writeback_centisecs", "100"), ("dirty_expire_centisecs", "200")):
        Path(f"/proc/sys/vm/{name}").write_text(value)
    # Ctrl-Alt-Del, which some VMMs send as a power button, becomes SIGINT to us instead of an instant reset.
    Path("/proc/sys/kernel/ctrl-alt-del").write_text("0")


def order_refs() -> None:
    """What moves a ref is on the disk when it returns: `git commit` that came back survives a killed machine.

    Git syncs objects and ref files (core.fsync), but not the rename that puts a ref file in place. The attribute makes
    the kernel do that, and directories made below inherit it; it costs two writes of the journal for each commit.
    """
    fs_ioc_getflags, fs_ioc_setflags, dirsync = 0x80086601, 0x40086602, 0x00010000
    git_dirs = [each.parent for each in (REPO / ".git").glob("modules/**/HEAD")] if (REPO / ".git").is_dir() else []
    for git_dir in (REPO / ".git", *git_dirs):
        below = [Path(each) for name in ("refs", "reftable", "worktrees") for each, _, _ in os.walk(git_dir / name)]
        for each in (git_dir, *below):
            with contextlib.suppress(OSError):
                handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    (flags,) = struct.unpack("i", fcntl.ioctl(handle, fs_ioc_getflags, b"\0" * 4))
                    fcntl.ioctl(handle, fs_ioc_setflags, struct.pack("i", flags | dirsync))
                finally:
                    os.close(handle)


def set_hostname(name: str) -> None:
    socket.sethostname(name)
    Path("/etc/hostname").write_text(name + "\n")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")


def interface_up(name: str) -> None:
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", name.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, siocgifflags, request), 16)
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh14x", name.encode(), flags | iff_up))


def configure_network(config: Config) -> None:
    interface_up("lo")
    resolv = Path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    if config["net"] == "none":
        resolv.write_text("# no network: start the sandbox with `--net nat`\n")
        return
    resolv.write_text(f"nameserver {config['dns']}\n")
    script = HERE / "dhcp.sh"
    script.write_text(
        '#!/bin/sh\n[ "$1" = bound ] || [ "$1" = renew ] || exit 0\nip addr replace "$ip/$mask" dev "$interface"\n'
        '[ -z "$router" ] || { ip route replace "$router" dev "$interface"; '
        'ip route replace default via "$router" dev "$interface"; }\n'
    )
    script.chmod(0o755)
    interface_up("eth0")
    background(["busybox", "udhcpc", "-i", "eth0", "-t", "20", "-T", "1", "-n", "-q", "-s", str(script)])


def add_user(user: dict[str, object]) -> Path:
    """Make the host's user exist with the same name, ids and sudo; returns the home directory."""
    name, uid, gid = str(user["name"]), int(str(user["uid"])), int(str(user["gid"]))
    home = Path("/root") if uid == 0 else Path("/home") / name
    if uid != 0:
        replace_line(Path("/etc/passwd"), name, f"{name}:x:{uid}:{gid}:{user['full_name']}:{home}:/bin/bash", uid)
        replace_line(Path("/etc/group"), str(user["group"]), f"{user['group']}:x:{gid}:", gid)
        replace_line(Path("/etc/shadow"), name, f"{name}:*:20000:0:99999:7:::", None)
        sudoers = Path("/etc/sudoers.d/sandbox")
        sudoers.write_text(f"#{uid} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)
    if not home.exists():
        home.mkdir(mode=0o755, parents=True)
        for each in Path("/etc/skel").iterdir():
            (home / each.name).write_bytes(each.read_bytes())
            os.chown(home / each.name, uid, gid)
        os.chown(home, uid, gid)
    return home


def replace_line(path: Path, name: str, line: str, number: int | None) -> None:
    """Put `line` into a colon-separated table instead of any that has the same name or the same id."""
    kept = [
        each
        for each in path.read_text().splitlines()
        if each.split(":")[0] != name and (number is None or each.split(":")[2] != str(number))
    ]
    path.write_text("\n".join([*kept, line]) + "\n")


def write_etc(config: Config) -> None:
    etc = config["etc"]
    assert isinstance(etc, dict)  # noqa: S101 - written by our own host side
    for name, content in etc.items():
        target = Path(str(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(base64.b64decode(str(content)))
    zone = Path("/usr/share/zoneinfo") / str(config["timezone"])
    if config["timezone"] and zone.is_file():
        Path("/etc/localtime").unlink(missing_ok=True)
        Path("/etc/localtime").symlink_to(zone)


def mount_workspace(config: Config, home: Path) -> None:
    """The repository at /workspace, and at its own host path, so that absolute paths in it keep working."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    mount(str(REPO), WORKSPACE, flags=MS_BIND)
    mirror = Path(str(config["host_path"]))
    if mirror == WORKSPACE:
        return
    for missing in [each for each in reversed([mirror, *mirror.parents]) if not each.exists()]:
        missing.mkdir()
        if home in missing.parents:
            os.chown(missing, int(user["uid"]), int(user["gid"]))
    if any(mirror.iterdir()):
        log(f"{mirror} exists in the guest: the repository is at /workspace only")
        return
    mount(str(REPO), mirror, flags=MS_BIND)


def prepare(config: Config) -> None:
    mount_system()
    tune_kernel()
    order_refs()
    set_hostname(str(config["hostname"]))
    configure_network(config)
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    home = add_user(user)
    write_etc(config)
    mount_workspace(config, home)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("halt", "poweroff", "reboot"):  # busybox tells process 1 by signal, with -f the kernel at once
        with contextlib.suppress(FileExistsError):
            Path("/usr/local/sbin", name).symlink_to("/bin/busybox")


# --- answering the host ----------------------------------------------------------------------------------------------


def background(argv: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        become(argv)
    return pid


def become(argv: list[str]) -> None:
    """Replace a forked child by a program; never returns."""
    try:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        os.setsid()
        os.execvpe(argv[0], argv, {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"})
    except OSError as error:
        log(f"{argv[0]}: {error}")
    finally:
        os._exit(127)


def serve_ssh(descriptor: int, _config: Config) -> None:
    os.set_blocking(descriptor, True)
    os.dup2(descriptor, 0)
    os.dup2(descriptor, 1)
    become(["/usr/sbin/sshd", "-i", "-e", "-f", str(HERE / "sshd_config")])


def serve_control(descriptor: int, config: Config) -> None:
    os.set_blocking(descriptor, True)
    line = read_line(descriptor)
    request = json.loads(line)
    if request["op"] == "export":
        export(descriptor, line, config)
    if request["op"] == "status":
        reply(descriptor, request, {"id": config["hostname"], "uptime": time.monotonic(), "mode": config["mode"]})
    if request["op"] == "poweroff":
        reply(descriptor, request, {"ok": True})
        os.kill(1, signal.SIGTERM)
    os._exit(0)


def read_line(descriptor: int) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        chunk = os.read(descriptor, 65536)
        if not chunk or len(received) > MAX_REQUEST:
            os._exit(0)
        received += chunk
    return received


def reply(descriptor: int, request: dict[str, object], answer: dict[str, object]) -> None:
    header, trailer = json.dumps(answer).encode(), b'{"ok":true}'
    message = f"git-sandbox {request['nonce']} {len(header)}\n".encode() + header
    message += struct.pack(">I", 0) + struct.pack(">I", len(trailer)) + trailer
    write_all(descriptor, message)


def export(descriptor: int, line: bytes, config: Config) -> None:
    """Run the exporter as the owner of the repository and pass what it says to the host."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    request = os.memfd_create("request")
    write_all(request, line)
    os.lseek(request, 0, os.SEEK_SET)
    reading, writing = os.pipe()
    uid, gid = str(user["uid"]), str(user["gid"])
    exporter = os.fork()
    if exporter == 0:
        os.dup2(request, 0)
        os.dup2(writing, 1)
        os.close(descriptor)
        become(
            ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--",
             "/usr/bin/python3", "-I", "-S", str(EXPORTER), str(REPO)]
        )  # fmt: skip
    os.close(writing)
    if not pump(reading, descriptor):
        os.killpg(exporter, signal.SIGKILL)


def pump(source: int, descriptor: int) -> bool:
    """Copy `source` to the host until its end; False when the host went away first.

    A write to a port without a host would wait for the next host, and give it the rest of this conversation.
    """
    os.set_blocking(descriptor, False)
    waiting = select.poll()
    waiting.register(descriptor, 0)  # a hang-up is always reported
    waiting.register(source, select.POLLIN)
    while True:
        if any(fd == descriptor for fd, _ in waiting.poll()):
            return False
        chunk = os.read(source, 65536)
        if not chunk:
            return True
        if not push(chunk, descriptor):
            return False


def push(chunk: bytes, descriptor: int) -> bool:
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    while chunk:
        try:
            chunk = chunk[os.write(descriptor, chunk) :]
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
        if entry.read_text().strip() == f"{PORT_PREFIX}host":
            return os.open(f"/dev/{entry.parent.name}", os.O_RDWR)
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connection.connect((socket.VMADDR_CID_HOST, HOST_PORT))
    return connection.detach()


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def watch_commits(config: Config) -> None:
    user = config["user"]
    if config.get("auto_push") and isinstance(user, dict):
        ids = [f"--reuid={user['uid']}", f"--regid={user['gid']}", "--clear-groups"]
        background(["setpriv", *ids, "--", str(HERE / "sandbox"), "watch"])


Server = Callable[[int, Config], None]
SERVERS: dict[str, Server] = {"ssh": serve_ssh, "control": serve_control}


class Loop:
    """Waits for the host on every channel and forks a server for each conversation.

    Edge-triggered: a virtio-serial port without a host at its other end is in a permanent hang-up state, which a
    level-triggered wait would report for ever.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.epoll = select.epoll()
        self.ports: dict[int, Server] = {}
        self.listeners: dict[int, tuple[socket.socket, Server]] = {}
        self.busy: dict[int, int] = {}  # descriptor of a port -> process that serves it
        self.stopping = False

    def add_ports(self) -> None:
        for entry in Path("/sys/class/virtio-ports").glob("*/name"):
            name = entry.read_text().strip()
            if name.startswith(PORT_PREFIX) and name[len(PORT_PREFIX) :] in SERVERS:
                descriptor = os.open(f"/dev/{entry.parent.name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                self.ports[descriptor] = SERVERS[name[len(PORT_PREFIX) :]]
                self.epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def add_vsock(self) -> None:
        if not Path("/dev/vsock").exists():
            return
        for name, port in VSOCK_PORTS.items():
            listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            with contextlib.suppress(OSError):  # the module is there, a device is not
                listener.bind((socket.VMADDR_CID_ANY, port))
                listener.listen(16)
                self.listeners[listener.fileno()] = (listener, SERVERS[name])
                self.epoll.register(listener.fileno(), select.EPOLLIN)

    def add_requests(self) -> None:
        """The socket on which the guest's `sandbox` command asks; every user of the guest may."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(HERE / "request"))
        (HERE / "request").chmod(0o666)
        listener.listen(16)
        self.listeners[listener.fileno()] = (listener, relay_request)
        self.epoll.register(listener.fileno(), select.EPOLLIN)

    def run(self) -> None:
        wake_read, wake_write = socket.socketpair()
        for each in (wake_read, wake_write):
            each.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self.on_signal)
        self.epoll.register(wake_read.fileno(), select.EPOLLIN)
        while not self.stopping:
            for descriptor, events in self.epoll.poll():
                if descriptor == wake_read.fileno():
                    wake_read.recv(4096)
                elif descriptor in self.listeners:
                    self.accept(descriptor)
                else:
                    self.on_port(descriptor, events)
            self.reap()

    def on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self.stopping = True

    def accept(self, descriptor: int) -> None:
        listener, server = self.listeners[descriptor]
        connection, _ = listener.accept()
        with connection:
            self.fork(server, connection.fileno())

    def on_port(self, descriptor: int, events: int) -> None:
        """Give a port with a request to a server of its own, and look away until that has ended.

        Nobody else may poll a port that a server polls: polling fetches the next buffer from the device (Linux,
        drivers/char/virtio_console.c, port_has_data), the device then sees no need to interrupt, and the server would
        sleep with its data there. Seen as sessions that stalled, one in forty under load.
        """
        if events & select.EPOLLHUP:
            # Data may have overtaken the news that the host is there (the kernel takes that one from another queue):
            # throwing it away would lose a request, serving it would end at once. The news wakes us again.
            return
        if events & select.EPOLLIN:
            self.epoll.unregister(descriptor)
            self.busy[descriptor] = self.fork(self.ports[descriptor], descriptor)

    def release(self, descriptor: int) -> None:
        """Watch a port again whose server has ended; what it left unread is thrown away if its host is gone, too."""
        del self.busy[descriptor]
        os.set_blocking(descriptor, False)
        state = select.poll()
        state.register(descriptor, select.POLLIN)
        if any(events & select.POLLHUP for _, events in state.poll(0)):
            with contextlib.suppress(OSError):
                while os.read(descriptor, 65536):
                    pass
        self.epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def fork(self, server: Server, descriptor: int) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                server(descriptor, self.config)
            except BaseException as error:  # noqa: BLE001 - a child of init must end here whatever happened
                log(f"channel: {error!r}")
            finally:
                os._exit(1)
        return pid

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                for descriptor in [port for port, server in self.busy.items() if server == pid]:
                    self.release(descriptor)


# --- the end ---------------------------------------------------------------------------------------------------------


def power_off(config: Config) -> None:
    """Ask every process to end, wait a little, write everything out, and stop the machine."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)
    deadline = time.monotonic() + STOP_GRACE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    os.sync()
    rb_power_off, rb_autoboot = 0x4321FEDC, 0x01234567
    ctypes.CDLL(None).reboot(ctypes.c_int(rb_autoboot if config.get("shutdown") == "reboot" else rb_power_off))


def main() -> None:
    config: Config = json.loads((HERE / "config.json").read_text())
    try:
        prepare(config)
        loop = Loop(config)
        loop.add_ports()
        loop.add_vsock()
        loop.add_requests()
        watch_commits(config)
        loop.run()
    except BaseException as error:  # noqa: BLE001 - process 1 must not end: the kernel would panic without a word
        log(f"init failed: {error!r}")
        sys.excepthook(type(error), error, error.__traceback__)
    power_off(config)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
