"""The supervisors of parallel tries, and one reader of their events. See `parallel`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator

from git_sandbox import jsontext, process
from git_sandbox.errors import MachineError, SandboxError
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.sandbox import elsewhere, supervisor
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.supervisor import Ended, Event, Order
from git_sandbox.settings import environment

MAX_LINE = 64 << 10  # bytes of output without a line's end that are held back
HELD = 1000  # lines read and not yet shown; then whoever prints has to wait
HOME_WITHIN = 300.0  # seconds a supervisor has to bring its work home when we are told to end

Output = Callable[[str, int, bytes], None]  # whose, 1 for output or 2 for error output, one line without its end


@dataclass(frozen=True)
class Failure:
    kind: str
    message: str
    cause: str
    hint: str
    exit_code: int


@dataclass(frozen=True)
class Try:
    """What became of one of them. `index`: from 1 on, as in its name. `id` None: it failed before it had one. `ended`
    None: it failed, or was left running (`supervisor`).
    """

    index: int
    id: str | None
    exit_code: int
    detached: bool = False
    ended: Ended | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Ran:
    """`interrupted`: number of the signal that ended them, 0 for none. `warned`: warnings that were printed already."""

    tries: tuple[Try, ...]
    interrupted: int = 0
    warned: frozenset[str] = frozenset()

    @property
    def exit_code(self) -> int:
        """0 when all ended with 0, else that of the first, by index, that did not."""
        if self.interrupted:
            return 128 + self.interrupted
        return next((attempt.exit_code for attempt in self.tries if attempt.exit_code != 0), 0)


@dataclass
class _Worker:
    index: int
    pid: int
    attached: bool
    open_pipes: int = 0
    id: str | None = None
    booting: bool = True
    result: Try | None = None
    place: str = ""  # the machine it was sent to
    child: process.Child | None = None  # as long as it runs and is ours

    @property
    def label(self) -> str:
        return self.id or f"#{self.index}"


Said = tuple[_Worker, int, bytes | None]  # 0: an event, 1 or 2: a line of output; None: that pipe's end


@dataclass
class Crowd:
    where: Callable[[], Repository]
    waiting: list[Options]
    stack: contextlib.ExitStack
    progress: Progress
    output: Output
    room: elsewhere.Room | None = None  # on other machines
    at_once: int | None = None
    events: queue.Queue[Said] = field(default_factory=lambda: queue.Queue(HELD))
    workers: list[_Worker] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)
    running: dict[int, contextlib.ExitStack] = field(default_factory=dict)  # by index: what ends with each
    booting: int = 0
    ended: int = 0

    def live(self) -> list[Try]:
        boots = max(2, len(os.sched_getaffinity(0)))
        self.waiting.reverse()
        while self.waiting or self.running:
            while self.waiting and self._may_start(boots):
                self._start(self.waiting.pop())
            self._hear(*self.events.get())
        return [worker.result or _silent(worker) for worker in self.workers]

    def _may_start(self, boots: int) -> bool:
        if self.at_once is not None and len(self.running) >= self.at_once:
            return False
        return self.room.free if self.room else self.booting < boots

    def end(self) -> None:
        """Have all that run bring their work home, and wait for them."""
        self.waiting.clear()
        self.progress("Interrupted: bringing all work home first (press Ctrl-C again to leave it on the disks)")
        for index in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.workers[index - 1].pid, signal.SIGTERM)

    def _start(self, options: Options) -> None:
        if self.room:
            options = dataclasses.replace(options, on=self.room.take())
        order = Order(os.fspath(self.where().worktree), options, attached=not options.detached)
        own = self.stack.enter_context(contextlib.ExitStack())
        place = options.on[0] if options.on else ""
        if options.detached:
            pid, pipe = supervisor.launch(order)
            worker, pipes = _Worker(len(self.workers) + 1, pid, attached=False, place=place), [pipe]
        else:
            child, pipes = self._attached(order, own)
            worker = _Worker(len(self.workers) + 1, child.pid, attached=True, place=place, child=child)
        self.workers.append(worker)
        self.running[worker.index] = own
        self.booting += 1
        for channel, descriptor in enumerate(pipes):
            worker.open_pipes += 1
            threading.Thread(target=_read, args=(worker, channel, descriptor, self.events), daemon=True).start()

    def _attached(self, order: Order, own: contextlib.ExitStack) -> tuple[process.Child, list[int]]:
        """A supervisor whose command speaks to us: descriptors of its events, its output and its error output.

        When we are killed it is told to end, and brings its work home.
        """
        pairs = [os.pipe() for _ in range(4)]
        (status, tell), (out_, out), (err_, err), (order_, give) = pairs
        with contextlib.ExitStack() as theirs:
            for descriptor in (tell, out, err, order_):
                theirs.callback(os.close, descriptor)
            child = own.enter_context(
                process.spawn(
                    supervisor.argv(tell), env=environment(), stdin=order_, stdout=out, stderr=err, pass_fds=[tell],
                    grace=HOME_WITHIN, tidies=True,
                )
            )  # fmt: skip
        with os.fdopen(give, "wb") as stdin, contextlib.suppress(BrokenPipeError):
            stdin.write(jsontext.encode(order))
        return child, [status, out_, err_]

    def _hear(self, worker: _Worker, channel: int, line: bytes | None) -> None:
        if line is None:
            worker.open_pipes -= 1
            if not worker.open_pipes:
                self._gone(worker)
        elif channel == 0:
            self._event(worker, jsontext.decode(line, Event))
        else:
            self.progress("")
            self.output(worker.label, channel, line)

    def _gone(self, worker: _Worker) -> None:
        """Its pipes are closed, so it is at its end, and nothing of it stays: there may be thousands."""
        self._booted(worker)
        if self.room:
            self.room.give_back(worker.place)
        with self.running.pop(worker.index):
            if worker.child is not None:
                worker.child.wait(HOME_WITHIN)
                worker.child = None

    def _booted(self, worker: _Worker) -> None:
        self.booting -= worker.booting
        worker.booting = False

    def _event(self, worker: _Worker, event: Event) -> None:
        if event.progress:
            of = f"{self.ended} of {len(self.workers) + len(self.waiting)} ended"
            self.progress(f"{of}; {worker.label}: {event.progress}")
        for warning in event.notice or ():
            if warning not in self.warned:  # all copy the same repository, and would all say the same
                self.output(worker.label, 2, f"warning: {warning}".encode("utf-8", "replace"))
            self.warned.add(warning)
        if event.ready is not None:
            worker.id = event.ready
            self._booted(worker)
            if self.room:
                self.room.warm(worker.place)
            if not worker.attached:
                worker.result = Try(worker.index, event.ready, 0, detached=True)
        if event.ended is not None:
            worker.id = event.ended.id
            worker.result = Try(worker.index, worker.id, event.ended.exit_code, ended=event.ended)
        if event.error is not None:
            worker.result = _failed(worker, supervisor.failure(*event.error))
        self.ended += bool(event.ended or event.error)


def _failed(worker: _Worker, error: SandboxError) -> Try:
    failure = Failure(error.kind, error.message, error.cause, error.hint, error.exit_code)
    return Try(worker.index, worker.id, error.exit_code, failure=failure)


def _silent(worker: _Worker) -> Try:
    hint = "`sandbox ls` shows what can be recovered"
    return _failed(worker, MachineError("its supervisor ended unexpectedly", hint=hint))


def _read(worker: _Worker, channel: int, descriptor: int, events: queue.Queue[Said]) -> None:
    with os.fdopen(descriptor, "rb", 0) as pipe:
        for line in lines(iter(lambda: pipe.read(65536), b""), 0 if channel == 0 else MAX_LINE):
            events.put((worker, channel, line))
    events.put((worker, channel, None))


def lines(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    """Lines without their ends; one of more than `most` bytes (0: never) comes in pieces."""
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        yield from whole
        while 0 < most <= len(held):
            yield held[:most]
            held = held[most:]
    if held:
        yield held
