"""Stand-ins and exporters are copies of a process that has imported what they need: that takes a new Python a third of
a second of processor time, and tests start them a thousand times.

Each process of pytest has a server of its own (`tests/conftest.py` says where its socket is), which begins with the
first use and ends with that process. Where there is none, as behind a real ssh, a program is a new Python.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

LARGEST = 1 << 17  # bytes of a request: what Linux passes in one piece, whoever asks
SUPPORT = Path(__file__).parents[1]


class Child(Protocol):
    pid: int

    def wait(self, timeout: float | None = None) -> int: ...


class Forked:
    """A child of the server's."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.pid = int(end.recv(64))

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or the negative number of a signal. Raises TimeoutError."""
        with self._end:
            self._end.settimeout(timeout)
            return int(self._end.recv(64))


def start(
    address: Path | None, words: Sequence[str], env: Mapping[str, str], *, stdin: int, stdout: int, stderr: int = 2
) -> Child:
    """`words`: the name of a program in `programs`, and its arguments. It leads a session."""
    if address is None:
        path = os.pathsep.join([os.fspath(SUPPORT), *env.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
        argv = [sys.executable, "-m", "support.forks", *words]
        return subprocess.Popen(
            argv, env={**env, "PYTHONPATH": path}, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(os.fspath(address))
        request = json.dumps({"words": [*words], "env": {**env}, "directory": os.getcwd()}).encode()  # noqa: PTH109
        socket.send_fds(end, [request], [stdin, stdout, stderr])
        return Forked(end)
    except BaseException:
        end.close()
        raise


# --- the server -------------------------------------------------------------------------------------------------------


class Server:
    """Of this process: started with the first call of `address`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None

    def address(self) -> Path:
        if self._process is None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(os.fspath(self._place))
                listener.listen(64)
                self._process = subprocess.Popen(
                    [sys.executable, "-c", f"from support import forks; forks.main({listener.fileno()})"],
                    env={**os.environ, "PYTHONPATH": os.fspath(SUPPORT)}, stdin=subprocess.PIPE, cwd="/",
                    pass_fds=[listener.fileno()],
                )  # fmt: skip
        return self._place

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            assert self._process.wait(60) == 0


server: Server | None = None
_inherited: Path | None = None  # in what a server has started


def address() -> Path | None:
    return _inherited or (server.address() if server else None)


def programs() -> dict[str, Callable[[], int]]:
    from support import guest, standin

    return {"exporter": guest.main, "standin": standin.program}


def main(descriptor: int) -> None:
    """Until nobody has the other end of stdin. A child leaves by this way, too, as its program."""
    known = programs()
    with socket.socket(fileno=descriptor) as listener:
        place = Path(listener.getsockname())
        run = _serve(listener)
    if run is not None:
        global _inherited  # noqa: PLW0603 - what it starts is started by the same server
        _inherited = place
        sys.exit(known[run]())


def _serve(listener: socket.socket) -> str | None:
    """None at the end; in a child the name of its program."""
    with selectors.DefaultSelector() as look, contextlib.ExitStack() as ends:
        look.register(0, selectors.EVENT_READ, lambda: None)
        look.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in look.select():
                if key.fileobj == 0:
                    return None
                if key.data is not None:
                    key.data()
                    continue
                end, _ = listener.accept()
                request, descriptors, *_ = socket.recv_fds(end, LARGEST, 3)
                child = os.fork()
                if not child:
                    end.close()
                    return _become(json.loads(request), descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                ends.enter_context(end)
                end.send(b"%d" % child)
                alive = os.pidfd_open(child)
                look.register(alive, selectors.EVENT_READ, functools.partial(_ended, look, alive, child, end))


def _ended(look: selectors.BaseSelector, alive: int, child: int, end: socket.socket) -> None:
    look.unregister(alive)
    os.close(alive)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError), end:  # of one that does not wait
        end.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(request: dict[str, object], descriptors: Sequence[int]) -> str:
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    words, env = request["words"], request["env"]
    assert isinstance(words, list)
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(request["directory"]))
    sys.argv[:] = words
    return str(words[0])


if __name__ == "__main__":
    sys.argv[:1] = []
    sys.exit(programs()[sys.argv[0]]())
