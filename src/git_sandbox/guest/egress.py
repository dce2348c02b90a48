"""The route out for programs that ignore proxy variables: outgoing connections are redirected to the host's proxy.

TCP is redirected here (nftables), its name is found, and the proxy is asked for it as any program could. This is for
comfort: what may be reached the host decides, and without all of this nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from git_sandbox.guest import destination, netlink, synthetic
from git_sandbox.guest.common import Config, fork_task, log

DEVICE, OWN = "sandbox0", "198.18.0.1"  # the default route leads there, and redirected packets come from there
TABLE = "git-sandbox"
TCP_PORT, DNS_PORT = 3129, 3153
DNS = 53
DUMMY = "dummy"  # a device of no hardware's that throws away what reaches it
ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST, linux/netfilter_ipv4.h
PACKET_INFO = 8  # IP_PKTINFO, linux/in.h
MOST = 1000  # connections at a time
CHUNK = 64 << 10  # bytes
HEAD = 32 << 10  # bytes of the proxy's answer
FIRST_WORDS = 0.5  # seconds for a program that connected to a bare address to say more; servers may speak first
DECIDES = 120.0  # seconds: the host may have to ask its own proxy


def begin(config: Config, kind: str = DUMMY) -> bool:
    """Lead what leaves this machine here. False where that cannot be done: programs use the variables then.

    `kind`: of the device that the default route leads to.
    """
    network = config["network"]
    assert isinstance(network, dict)  # noqa: S101 - written by our own host side
    proxy = int(str(network["proxy"]))
    try:
        tcp, dns = listeners()
        redirect(kind)
    except OSError as error:
        log(f"programs reach the proxy only through their own proxy settings: {error}")
        return False
    relay = Relay(proxy)

    def serve() -> None:
        threading.Thread(target=relay.serve_names, args=(dns,), daemon=True).start()
        relay.serve(tcp)

    fork_task(serve)
    for connection in (tcp, dns):
        connection.close()
    return True


def listeners() -> tuple[socket.socket, socket.socket]:
    """Before anything is led here. At every address: containers come by that of their bridge."""
    tcp = socket.create_server(("0.0.0.0", TCP_PORT), backlog=256)  # noqa: S104
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.setsockopt(socket.IPPROTO_IP, PACKET_INFO, 1)
    dns.bind(("0.0.0.0", DNS_PORT))  # noqa: S104
    return tcp, dns


def redirect(kind: str) -> None:
    """A default route, and what takes its packets off it. Raises OSError."""
    netlink.add_device(DEVICE, kind)
    netlink.add_address(DEVICE, OWN)
    out, udp, icmp = (
        netlink.goes_out_by(DEVICE), netlink.of_protocol(netlink.UDP), netlink.of_protocol(netlink.ICMP),
    )  # fmt: skip
    netlink.add_chain(TABLE, "output", netlink.Hook("nat", "output"), rules(out))
    netlink.add_default_route(DEVICE, OWN)
    with contextlib.suppress(OSError):  # else it would not be answered: the same, later
        refused = [out + udp + netlink.for_port(DNS_PORT, to=False) + netlink.reject(), out + icmp + netlink.reject()]
        netlink.add_chain(TABLE, "refuse", netlink.Hook("filter", "output"), refused)
    with contextlib.suppress(OSError):  # of containers
        inside = rules(netlink.would_go_out_by(DEVICE))
        netlink.add_chain(TABLE, "prerouting", netlink.Hook("nat", "prerouting"), inside)


def rules(which: bytes) -> list[bytes]:
    tcp, udp = netlink.of_protocol(netlink.TCP), netlink.of_protocol(netlink.UDP)
    return [which + tcp + netlink.redirect(TCP_PORT), which + udp + netlink.for_port(DNS) + netlink.redirect(DNS_PORT)]


class Relay:
    """`proxy`: port of this machine's loopback that leads to the host's."""

    def __init__(self, proxy: int) -> None:
        self.proxy = proxy
        self.names = synthetic.Names()
        self.lock = threading.Lock()
        self.room = threading.BoundedSemaphore(MOST)

    def serve_names(self, dns: socket.socket) -> None:
        while True:
            with contextlib.suppress(OSError):
                query, ancillary, _, whom = dns.recvmsg(4096, 64)
                with self.lock:
                    data = synthetic.answer(query, self.names)
                if data:
                    dns.sendmsg([data], from_where_it_came(ancillary), 0, whom)

    def serve(self, tcp: socket.socket) -> None:
        while True:
            try:
                connection, _ = tcp.accept()
            except OSError:  # no descriptors, or it is gone already
                time.sleep(0.05)
                continue
            if not self.room.acquire(blocking=False):
                refuse(connection)
                continue
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self.connect(connection)
        finally:
            self.room.release()

    def connect(self, connection: socket.socket) -> None:
        address, port = original_destination(connection)
        if port == TCP_PORT and address == connection.getsockname()[0]:
            return  # nobody sent it here
        if port == DNS:
            self.answer_names(connection)
            return
        name = self.name(address, connection)
        refusal = self.pass_on(connection, f"{name}:{port}") if name else b""
        if refusal is not None:
            say_so(connection, refusal)

    def pass_on(self, connection: socket.socket, place: str) -> bytes | None:
        """None when that is over. Else what the proxy says instead, nothing where nobody is there."""
        try:
            with socket.create_connection(("127.0.0.1", self.proxy), DECIDES) as way:
                ahead, refusal = ask(way, place)
                if refusal:
                    return refusal
                way.settimeout(None)
                connection.sendall(ahead)
                both_ways(connection, way)
                return None
        except OSError:
            return b""

    def name(self, address: str, connection: socket.socket) -> str:
        """What the host is asked for: a name, the address itself, or nothing for one that has no name any more."""
        with self.lock:
            entry = self.names.name(address)
        return entry or destination.name(first_words(connection)) or ("" if synthetic.ours(address) else address)

    def answer_names(self, connection: socket.socket) -> None:
        """DNS over TCP, each message after its length."""
        connection.settimeout(10.0)
        stream = connection.makefile("rb")
        while len(head := stream.read(2)) == 2:  # noqa: PLR2004 - its length
            with self.lock:
                data = synthetic.answer(stream.read(int.from_bytes(head, "big")), self.names)
            connection.sendall(len(data).to_bytes(2, "big") + data)


def from_where_it_came(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Who asks takes an answer from the address only that was asked."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, PACKET_INFO):
            return [(level, kind, struct.pack("=i4s4s", 0, data[8:12], bytes(4)))]
    return []


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Where it was to go before it was redirected."""
    raw = connection.getsockopt(socket.SOL_IP, ORIGINAL_DESTINATION, 16)
    port, address = struct.unpack_from(">2xH4s", raw)
    return socket.inet_ntoa(address), port


def first_words(connection: socket.socket) -> bytes:
    """What the program sends first, without taking it; as much of it as is there in time."""
    deadline = time.monotonic() + FIRST_WORDS
    seen = b""
    while not destination.complete(seen) and len(seen) < destination.MOST and time.monotonic() < deadline:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            more = connection.recv(destination.MOST, socket.MSG_PEEK)
        except TimeoutError:
            break
        if not more or more == seen:
            time.sleep(0.01)
        if not more:
            break
        seen = more
    connection.settimeout(None)
    return seen


def ask(way: socket.socket, place: str) -> tuple[bytes, bytes]:
    """What came after the proxy's yes; or its refusal, whole. Raises OSError when it says neither."""
    way.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode("ascii"))
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = way.recv(CHUNK)
        if not chunk or len(received) > HEAD:
            raise ConnectionError("the proxy does not answer")
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] == [b"200"]:
        return rest, b""
    while len(received) < HEAD and (chunk := way.recv(CHUNK)):
        received += chunk
    return b"", received


def say_so(connection: socket.socket, refusal: bytes) -> None:
    """Who speaks HTTP gets the proxy's words; anybody else a connection that breaks."""
    if refusal and destination.is_http(first_words(connection)):
        connection.sendall(refusal)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1.0)
        with contextlib.suppress(OSError):
            while connection.recv(CHUNK):  # else what we said is lost with what nobody read
                pass
    else:
        refuse(connection)


def refuse(connection: socket.socket) -> None:
    """Reset it at once."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def both_ways(one: socket.socket, other: socket.socket) -> None:
    """Until both have ended."""
    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    """To its end, and tell the other side of that; when one side breaks, both do."""
    try:
        while chunk := source.recv(CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def warm_up() -> None:
    """Have the kernel load what `redirect` needs, and leave nothing else of it behind. For a template."""
    with contextlib.suppress(OSError):
        try:
            redirect(DUMMY)
        finally:
            undo()


def undo() -> None:
    for remove, name in ((netlink.remove_table, TABLE), (netlink.remove_device, DEVICE)):
        with contextlib.suppress(OSError):
            remove(name)
