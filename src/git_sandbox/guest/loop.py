"""The event loop of process 1: the host's channels, requests of the guest's users, exited children."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from git_sandbox.guest import sessions, start
from git_sandbox.guest.channels import SERVERS, Server, relay_request
from git_sandbox.guest.clock import Watch
from git_sandbox.guest.common import FORKED, HERE, Config, fork_task, grace, log
from git_sandbox.guest.protocol import PORT_PREFIX, VSOCK_PORTS
from git_sandbox.guest.system import device

NEWS_WITHIN = 1.0  # seconds the news that a host is there may come behind its data
PORTS_WITHIN = 10.0  # seconds for every port to have a name


def hung_up(descriptor: int) -> bool:
    """Whether a port has no host at its other end, as far as the kernel has heard."""
    state = select.poll()
    state.register(descriptor, select.POLLIN)
    return any(events & select.POLLHUP for _, events in state.poll(0))


def over_vsock(config: Config) -> list[str]:
    """The channels that are vsock ports and not virtio-serial ports."""
    setting = config.get("vsock")
    return setting if isinstance(setting, list) else []


def listen_on_vsock(channel: str) -> socket.socket:
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, VSOCK_PORTS[channel]))
    listener.listen(16)
    return listener


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
        self.left: dict[int, float] = {}  # ports whose host is gone -> when what it left unread is thrown away
        self.clock = Watch()
        self.stopping = False

    @classmethod
    def on_every_channel(cls, config: Config, but: Iterable[str] = ()) -> Self:
        loop = cls(config)
        loop.add_ports(but)
        loop.add_vsock()
        loop.add_requests()
        for number in (loop.clock.descriptor, loop.clock.asked):
            loop.epoll.register(number, select.EPOLLIN)
        loop.watch_sessions()
        return loop

    def add_ports(self, but: Iterable[str] = ()) -> None:
        for name, port in self.find_ports().items():
            if name not in but:
                self.add_port(name, os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def add_port(self, name: str, descriptor: int, busy: int | None = None) -> None:
        """`busy`: the process that serves this port now, and that has to end first."""
        self.ports[descriptor] = SERVERS[name]
        if busy is None:
            self.epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)
        else:
            self.busy[descriptor] = busy

    def find_ports(self) -> dict[str, Path]:
        """Our ports by name. The device tells the names after the ports: on a busy host that takes a while."""
        everything = Path("/sys/class/virtio-ports")
        deadline = time.monotonic() + PORTS_WITHIN
        while True:
            entries = list(everything.iterdir()) if everything.is_dir() else []
            named = {(path / "name").read_text().strip(): path for path in entries if (path / "name").exists()}
            if len(named) == len(entries) or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        ours = {name.removeprefix(PORT_PREFIX): path for name, path in named.items() if name.startswith(PORT_PREFIX)}
        return {name: device(path.name) for name, path in ours.items() if name in SERVERS}

    def add_vsock(self) -> None:
        """Listen for the channels that have no port of their own, and for no others: who can reach them differs."""
        for name in over_vsock(self.config):
            listener = listen_on_vsock(name)
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

    def watch_sessions(self) -> None:
        if self.config["mode"] == "rescue":
            return
        fifo = sessions.prepare()
        fork_task(lambda: sessions.serve(fifo, grace(self.config), self.clock.ask))
        os.close(fifo)

    def run(self) -> None:
        wake_read, wake_write = socket.socketpair()
        for connection in (wake_read, wake_write):
            connection.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self.on_signal)
        self.epoll.register(wake_read.fileno(), select.EPOLLIN)
        self.reap()  # who ended before the handlers stood
        try:
            self.wait(wake_read)
        finally:
            signal.set_wakeup_fd(-1)  # children end later, too, when these sockets are closed

    def wait(self, wake_read: socket.socket) -> None:
        while not self.stopping:
            for descriptor, events in self.epoll.poll(NEWS_WITHIN if self.left else None):
                if descriptor == wake_read.fileno():
                    wake_read.recv(4096)
                elif descriptor in self.listeners:
                    self.accept(descriptor)
                elif descriptor in (self.clock.descriptor, self.clock.asked):
                    self.on_clock()
                else:
                    self.on_port(descriptor, events)
            self.reap()
            self.forget()

    def on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self.stopping = True

    def on_clock(self) -> None:
        if self.clock.correct():
            log("the clock was set")
            start.distrust()

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
            self.left.pop(descriptor, None)
            self.busy[descriptor] = self.fork(self.ports[descriptor], descriptor)

    def release(self, descriptor: int) -> None:
        """Watch a port again whose server has ended. Without a host, what was left unread is thrown away in a while.

        Not at once: it may be the request of the next host, which overtook the news that this one is there. Thrown
        away, it cost one of two forks of a busy machine two minutes and its life.
        """
        del self.busy[descriptor]
        os.set_blocking(descriptor, False)
        if hung_up(descriptor):
            self.left[descriptor] = time.monotonic() + NEWS_WITHIN
        self.epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def forget(self) -> None:
        """Throw away what hosts that are gone left unread; nobody has come after them."""
        now = time.monotonic()
        for descriptor in [port for port, until in self.left.items() if until <= now]:
            del self.left[descriptor]
            if hung_up(descriptor):
                with contextlib.suppress(OSError):
                    while os.read(descriptor, 65536):
                        pass

    def fork(self, server: Server, descriptor: int) -> int:
        self.on_clock()  # else a search for changes could begin before we have heard of it
        return fork_task(lambda: server(descriptor, self.config))

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                FORKED.discard(pid)
                for descriptor in [port for port, server in self.busy.items() if server == pid]:
                    self.release(descriptor)
