"""The host's side of the protocol with the guest: one request line out, one bounded reply in.

The other end is hostile until shown otherwise: it may send garbage, lie about lengths, trickle, stall or never stop.
The wire format is described in `guest/exporter.py`.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from git_sandbox.errors import CollectError, DamagedError
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, field
from git_sandbox.text import one_line

_READ = 256 << 10  # bytes asked for at once
_LENGTH = struct.Struct(">I")
_MAX_DIGITS = 12
_MAX_TRAILER = 64 << 10  # bytes


@dataclass(frozen=True)
class StreamLimits:
    """Bytes and seconds. `stale`: what may lie in the channel from before; `total`: all chunks of one reply.

    A guest that says one byte now and then must not hold anybody up: the reply has to begin within `begin`, and from
    then on to come with `pace` bytes a second, in the long run.
    """

    stale: int = 64 << 20
    header: int = 32 << 20
    chunk: int = 1 << 20
    total: int = 8 << 30
    pieces: int = 1 << 20  # chunks: a billion of one byte each would keep us busy for hours
    idle: float = 600.0  # nothing at all arrives: the guest may need minutes to read a big worktree
    begin: float = 1800.0  # a large worktree is read, and a pack of it made, before the first byte
    pace: int = 64 << 10
    overall: float = 3600.0


DEFAULT_LIMITS = StreamLimits()


class _Trailer(msgspec.Struct, frozen=True):
    ok: bool
    error: str = ""


@dataclass(frozen=True)
class Reply:
    """`chunks` must be read to its end: only then has the guest said that all went well.

    Reading raises CollectError when the stream breaks a limit, ends early, or the guest reports an error.
    """

    header: bytes
    chunks: Iterator[bytes] = field(repr=False)


def request(
    sock: socket.socket,
    op: str,
    *,
    known: Iterable[str] = (),
    extra: Mapping[str, object] | None = None,
    limits: StreamLimits = DEFAULT_LIMITS,
    alive: float | None = None,
) -> Reply:
    """Ask the agent on `sock` for `op` and return its reply as soon as the header is here.

    `known` are names of objects the host has; `extra` are further members of the request. `alive`: seconds within which
    a guest that is well says something at all, if not the reply. Raises CollectError.
    The socket's timeout is changed; after an error the connection is in an unknown state and should be closed.
    """
    nonce = secrets.token_hex(16)
    wire = _Wire(sock, limits)
    message = {**(extra or {}), "op": op, "nonce": nonce, "known": list(known)}
    wire.send(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")
    if alive is not None:
        wire.more(alive)
    wire.until(limits.begin)
    length = _find_reply(wire, f"{protocol.GREETING} {nonce} ".encode("ascii"), limits.stale)
    if length > limits.header:
        raise _broken(f"the header of the reply would be {length} bytes long")
    return Reply(wire.read(length), _chunks(wire, limits))


def call(
    sock: socket.socket,
    op: str,
    *,
    extra: Mapping[str, object] | None = None,
    limits: StreamLimits = DEFAULT_LIMITS,
) -> bytes:
    """The header of the reply to a small request (`status`, `poweroff`) that is answered without chunks."""
    reply = request(sock, op, extra=extra, limits=limits)
    if next(reply.chunks, None) is not None:
        raise _broken(f"unexpected data in the reply to {op}")
    return reply.header


def _broken(why: str) -> CollectError:
    return CollectError(
        "the guest's reply is incomplete",
        cause=why,
        hint="nothing was imported; the sandbox's disk is kept: try `sandbox recover`",
    )


class _Wire:
    """A socket with a buffer and two clocks: silence, and the whole conversation."""

    def __init__(self, sock: socket.socket, limits: StreamLimits) -> None:
        self._sock = sock
        self._idle = limits.idle
        self._began = time.monotonic()
        self._overall = self._patience = limits.overall
        self.buffer = bytearray()

    def until(self, patience: float) -> None:
        """What is read next has to be here so many seconds after the beginning; never later than `overall`."""
        self._patience = min(patience, self._overall)

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def _arm(self, idle: float) -> None:
        left = self._began + self._patience - time.monotonic()
        if left <= 0:
            raise _broken(f"it took longer than {self._patience:g} s")
        self._sock.settimeout(min(idle, left))

    def send(self, data: bytes) -> None:
        self._arm(self._idle)
        try:
            self._sock.sendall(data)
        except TimeoutError:
            raise _broken("the guest does not read requests") from None
        except OSError as error:
            raise _broken(error.strerror or str(error)) from error

    def more(self, idle: float | None = None) -> None:
        """Wait for bytes, `idle` seconds at most, and append them to the buffer."""
        patience = self._idle if idle is None else idle
        self._arm(patience)
        try:
            data = self._sock.recv(_READ)
        except TimeoutError:
            self._arm(patience)  # says so if it was the deadline
            raise _broken(f"no byte arrived for {patience:g} s") from None
        except OSError as error:
            raise _broken(error.strerror or str(error)) from error
        if not data:
            raise _broken("the connection ended early")
        self.buffer += data

    def read(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        data = bytes(memoryview(self.buffer)[:count])
        del self.buffer[:count]
        return data


def _find_reply(wire: _Wire, mark: bytes, stale: int) -> int:
    """Throw away what an earlier, broken conversation left behind; return the length of the header."""
    thrown = 0
    while (start := wire.buffer.find(mark)) < 0 and thrown <= stale:
        useless = max(0, len(wire.buffer) - len(mark) + 1)  # the mark may have begun
        thrown += useless
        del wire.buffer[:useless]
        wire.more()
    if thrown + max(start, 0) > stale:
        raise _broken(f"more than {stale} bytes of other data arrived")
    del wire.buffer[: start + len(mark)]
    return _length(wire)


def _length(wire: _Wire) -> int:
    while (end := wire.buffer.find(b"\n", 0, _MAX_DIGITS + 1)) < 0:
        if len(wire.buffer) > _MAX_DIGITS:
            raise _broken("the first line of the reply is malformed")
        wire.more()
    line = wire.read(end + 1)[:-1]
    if not re.fullmatch(rb"[0-9]+", line):
        raise _broken("the first line of the reply is malformed")
    return int(line)


def _chunks(wire: _Wire, limits: StreamLimits) -> Iterator[bytes]:
    total = pieces = 0
    began = wire.elapsed()
    grace = began + 2 * limits.idle
    wire.until(grace)
    while (length := _LENGTH.unpack(wire.read(_LENGTH.size))[0]) > 0:
        total += length
        pieces += 1
        if length > limits.chunk:
            raise _broken(f"a chunk of {length} bytes was announced, the limit is {limits.chunk}")
        if pieces > limits.pieces:
            raise _broken(f"more than {limits.pieces} chunks arrived")
        if total > limits.total:
            raise CollectError(
                "the guest sent more than the limit",
                cause=f"more than {total} bytes, the limit is {limits.total}",
            )
        wire.until(grace + total / limits.pace)
        yield wire.read(length)
    _check_trailer(wire)


def _check_trailer(wire: _Wire) -> None:
    length = _LENGTH.unpack(wire.read(_LENGTH.size))[0]
    if length > _MAX_TRAILER:
        raise _broken(f"the end of the reply would be {length} bytes long")
    raw = wire.read(length)
    try:
        # json and not msgspec.json: error texts may hold bytes that are not UTF-8
        trailer = msgspec.convert(json.loads(raw), _Trailer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _broken("the end of the reply is malformed") from None
    if not trailer.ok:
        raise DamagedError("the guest reports an error", cause=one_line(trailer.error))
