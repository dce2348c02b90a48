"""The processes of the egress proxy: the proxy itself, confined, and a separate one for secrets if there are any.

A proxy that ends before its sandbox is started again, with the same rules, log of requests and authority: connections
of that moment break, later ones wait at its socket meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from git_sandbox import bounded_log, confine, files, process
from git_sandbox.egress import confinement, service
from git_sandbox.egress.policyfile import GIT_NONE, Egress
from git_sandbox.egress.service import Order, Ready, SourcesOrder, Upstream
from git_sandbox.errors import HostResourceError, SandboxError, SessionError
from git_sandbox.later import dataclass, field
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.text import one_line

READY_WITHIN = 60.0  # seconds until the proxy serves
LOG_LIMIT = 64 << 10  # bytes of its complaints that are kept
MOST_READY = 64 << 10  # bytes of what it says then
LASTING = 10.0  # seconds: one that lived for less counts as short-lived
MOST_SHORT = 5  # short-lived ones in a row before no more are started
PAUSE = 0.1  # seconds before the next, twice as long after each
LOOKED = 2.0  # seconds between looks at how this host finds names


@dataclass
class Proxy:
    """`path`: of its socket, from the beginning: who connects before `start` waits. `secrets`: whether it needs any.
    `values`: of credentials, by the variable's name. `confinement`: as the setting says (auto | yes | no).
    """

    directory: SandboxDir
    path: Path
    listening: socket.socket
    log: IO[bytes]
    upstream: Upstream
    values: Mapping[str, str] = field(repr=False)
    secrets: bool = False
    confinement: str = "auto"
    ready: Ready | None = None  # what the first one said
    child: process.Child | None = None  # the one that runs
    deaths: list[int] = field(default_factory=list)  # exit statuses of those that were not asked to end
    bare: str = ""  # why it could not be confined
    gone: str = ""  # why no more are started
    ending: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)
    leash: int = service.NONE
    waits: bool = True  # for a connection, before the first one begins
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Once. The first proxy begins with the first connection: a start has no processor to spare for it."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, daemon=True)
            self.thread.start()

    def authority(self) -> str:
        """The certificate (PEM) of what it inspects, empty for none. Raises SessionError when it does not serve."""
        self.waits = False
        self.start()
        with self.changed:
            self.changed.wait_for(lambda: self.ready is not None or bool(self.gone), READY_WITHIN * 2)
        if self.ready is None:
            raise SessionError("the egress proxy did not start", cause=self.gone)
        return self.ready.authority

    def close(self) -> None:
        """Let it write its log of requests and end; then it is gone."""
        with self.changed:
            self.ending.set()
            self._let_go()
        if self.thread is not None:
            self.thread.join(process.STOP_GRACE)
            child = self.child
            if child is not None:
                child.stop(0)
            self.thread.join()

    def warnings(self) -> tuple[str, ...]:
        """What the user has to know, with the last line that was written; safe to print."""
        lines = [f"the egress proxy is not confined: {self.bare}"] if self.bare else []
        if self.gone:
            lines.append(f"the egress proxy ended, and the sandbox has no network any more: {self.gone}")
        elif self.deaths:
            times = "once" if len(self.deaths) == 1 else f"{len(self.deaths)} times"
            cause = self._words(self.deaths[-1])
            lines.append(f"the egress proxy ended and was started again, {times}; connections were lost: {cause}")
        return tuple(lines)

    def _words(self, status: int) -> str:
        line = ""
        with contextlib.suppress(OSError, ValueError):
            line = files.read(self.directory.egress_log, LOG_LIMIT * 2)[-1000:].decode("utf-8", "replace").strip()
        return one_line(line.rpartition("\n")[2]) or f"exit status {status}"

    def _let_go(self) -> None:
        """End the leash. With the lock held."""
        leash, self.leash = self.leash, service.NONE
        if leash != service.NONE:
            os.close(leash)

    def _run(self) -> None:
        """One proxy after the other. In one thread, which outlives each of them: they die with it (`process.spawn`)."""
        try:
            self._keep_one()
        except SandboxError as error:
            self._give_up(": ".join(filter(None, (error.message, error.cause))))
        except OSError as error:
            self._give_up(files.why(error))

    def _keep_one(self) -> None:
        short = 0
        while not self.ending.is_set():
            began, confined = time.monotonic(), self._confined()
            status = self._live(confined=confined)
            if self.ending.is_set():
                return
            if self.ready is None and confined and self.confinement != "yes":
                self.bare = self._words(status)  # this host is to blame: nobody has said anything to it yet
                continue
            self.deaths.append(status)
            short = short + 1 if time.monotonic() < began + LASTING else 1
            if self.ready is None or short > MOST_SHORT:
                self._give_up(self._words(status))
                return
            self.ending.wait(PAUSE * 2**short)

    def _confined(self) -> bool:
        """Where this host cannot confine anything, the start of the machine has said so, or refused."""
        return self.confinement != "no" and not self.bare and confine.available()

    def _give_up(self, why: str) -> None:
        """Nobody waits at the socket for ever."""
        self.listening.close()
        self.path.unlink(missing_ok=True)
        with self.changed:
            self.gone = one_line(why)
            self.changed.notify_all()

    def _live(self, *, confined: bool) -> int:
        """One proxy, from start to end; its exit status."""
        with contextlib.ExitStack() as stack:
            with self.changed:
                if self.ending.is_set():
                    return 0
                leash, self.leash = os.pipe()
            try:
                if not self._wanted(leash):
                    return 0
                channel = stack.enter_context(self._sources()) if self.secrets else service.NONE
                child = self.child = stack.enter_context(self._proxy(leash, channel, confined=confined))
            finally:
                os.close(leash)
            self._serve(child, confined=confined)
            with self.changed:
                self._let_go()
            self.child = None
            status = child.wait(process.STOP_GRACE)
            return child.stop() if status is None else status

    def _wanted(self, leash: int) -> bool:
        """Wait until somebody connects; False where the end comes first, which lets go of the leash."""
        if self.waits:
            self.waits = False
            return leash not in select.select([self.listening.fileno(), leash], [], [])[0]
        return True

    def _serve(self, child: process.Child, *, confined: bool) -> None:
        """Until it has ended, which the end of its output tells; one that does not say that it serves is ended."""
        ready = None
        with contextlib.suppress(ValueError):
            ready = service.ready(_line(child.stdout))
        if ready is None:
            child.stop()
            return
        with self.changed:
            self.ready = self.ready or ready
            self.changed.notify_all()
        while not select.select([child.stdout], [], [], LOOKED)[0]:
            if confined:
                with contextlib.suppress(OSError, ValueError):
                    confinement.copy_resolver(self.directory.egress_view)

    @contextlib.contextmanager
    def _proxy(self, leash: int, channel: int, *, confined: bool) -> Iterator[process.Child]:
        place, request_log, listening = self.directory.egress, self.directory.request_log, self.listening.fileno()
        secret = self.ready.secret if self.ready else ""
        order = Order(os.fspath(place), os.fspath(request_log), listening, self.upstream, leash, channel, secret)
        words = service.argv()
        if confined:
            confinement.copy_resolver(place.parent)
            view = confinement.view(place.parent, request_log.parent, self.upstream.authorities)
            words = confine.argv(words, confine.owned(view))
        passed = [descriptor for descriptor in (listening, leash, channel) if descriptor != service.NONE]
        with (
            _told(order.encode()) as given,
            process.spawn(words, stdin=given, stdout=process.PIPE, stderr=self.log, pass_fds=passed) as child,
        ):
            yield child

    @contextlib.contextmanager
    def _sources(self) -> Iterator[int]:
        """What has the secrets; the proxy's end of the way to it."""
        ours, proxys = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = SourcesOrder(os.fspath(self.directory.egress), ours.fileno(), self.values)
        words, env = service.argv(service.SOURCES), process.environment(process.asking())
        with proxys, contextlib.ExitStack() as stack:
            with ours, _told(order.encode()) as given:
                passed = [ours.fileno()]
                stack.enter_context(
                    process.spawn(words, env=env, stdin=given, stderr=self.log, pass_fds=passed, tidies=True)
                )
            yield proxys.fileno()


@contextlib.contextmanager
def _told(order: bytes) -> Iterator[int]:
    """A descriptor to read it from: in memory, for there are secrets in it."""
    given = os.memfd_create("order")
    try:
        while order:
            order = order[os.write(given, order) :]
        os.lseek(given, 0, os.SEEK_SET)
        yield given
    finally:
        os.close(given)


def _line(stream: IO[bytes]) -> bytes:
    """The first one; what there is of it when no more comes in time."""
    deadline = time.monotonic() + READY_WITHIN
    received = b""
    while not received.endswith(b"\n") and len(received) < MOST_READY and (left := deadline - time.monotonic()) > 0:
        if select.select([stream], [], [], left)[0]:
            chunk = os.read(stream.fileno(), 4096)
            if not chunk:
                break
            received += chunk
    return received


@contextlib.contextmanager
def served(
    directory: SandboxDir, egress: Egress, upstream: Upstream, values: Mapping[str, str], confinement: str
) -> Iterator[Proxy]:
    """The proxy of a sandbox, which ends with the block, or with us. Only where it inspects TLS it is started here.

    Raises HostResourceError where there can be no socket.
    """
    place = directory.egress_socket
    place.unlink(missing_ok=True)
    directory.request_log.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        listening = service.listen(place)
    except OSError as error:
        raise HostResourceError(f"cannot listen at {place}", cause=files.why(error)) from error
    secrets = bool(egress.credentials) or egress.git != GIT_NONE
    with contextlib.ExitStack() as stack:
        stack.callback(place.unlink, missing_ok=True)
        stack.callback(listening.close)
        log = stack.enter_context(bounded_log.log(directory.egress_log, LOG_LIMIT))
        proxy = Proxy(directory, place, listening, log, upstream, values, secrets, confinement)
        stack.callback(proxy.close)
        if egress.opens_tls:
            files.write(directory.authority, proxy.authority().encode())
        yield proxy
