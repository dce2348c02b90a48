"""Tries of one task side by side: a supervisor process for each, and one reader of all they say.

Nothing is shared between them but the repository, so one that fails disturbs no other. At most `boots` of them are on
their way to a session at the same time: more only make each other slow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

from git_sandbox import claims, jsontext, process, signals, store
from git_sandbox.errors import Interrupted, MachineError, SandboxError, StateError, UsageError
from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.sandbox import capacity, elsewhere, supervisor
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.supervisor import Ended, Event, Order
from git_sandbox.settings import environment

MAX_COUNT = 64
MAX_ELSEWHERE = 10_000
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
    """`interrupted`: number of the signal that ended them, 0 for none. `said`: warnings that were put out already."""

    tries: tuple[Try, ...]
    interrupted: int = 0
    said: frozenset[str] = frozenset()

    @property
    def exit_code(self) -> int:
        """0 when all ended with 0, else that of the first, by index, that did not."""
        if self.interrupted:
            return 128 + self.interrupted
        return next((each.exit_code for each in self.tries if each.exit_code != 0), 0)


def plan(repo: Repository, options: Options, count: int, *, share_processors: bool) -> list[Options]:
    """Options of each of `count` tries: a name, a number in its environment. Nothing is started.

    Raises UsageError for what cannot be shared, StateError for a name that is taken, HostResourceError when the host
    is too small.
    """
    wanted = options.settings
    most = MAX_ELSEWHERE if options.on else MAX_COUNT
    if not 1 <= count <= most:
        raise UsageError(f"invalid value `{count}` for --count", hint=f"use 1 to {most}")
    if wanted.publish:
        raise UsageError("--publish and --count cannot be used together", hint="a port can lead to one sandbox only")
    if wanted.on_exit in ("merge", "ask"):
        raise UsageError(
            f"--on-exit {wanted.on_exit} and --count cannot be used together", hint="`sandbox compare`, later"
        )
    names = [f"{options.name}-{number}" for number in range(1, count + 1)] if options.name else [None] * count
    _require_free(repo, [name for name in names if name])
    if not options.on:
        wanted = dataclasses.replace(wanted, cpus=capacity.processors(count)) if share_processors else wanted
        capacity.require(repo, count, wanted.memory, options.origin)
    return [
        dataclasses.replace(
            options, name=name,
            settings=dataclasses.replace(
                wanted, env=(*wanted.env, f"SANDBOX_INDEX={index}", f"SANDBOX_COUNT={count}"), on_exit="keep"
            ),
        )
        for index, name in enumerate(names, 1)
    ]  # fmt: skip


def _require_free(repo: Repository, names: list[str]) -> None:
    known = {entry.id for entry in store.entries(repo)} if names else set()
    for name in names:
        claims.require_not_trashed(store.state_directory(repo), sandbox_id(name))
        if sandbox_id(name) in known:
            raise StateError(f"a sandbox named `{name}` exists already", hint="use another name, or drop it")


def run(
    repo: Repository, each: Sequence[Options], progress: Progress, output: Output, *,
    at_once: int | None = None, room: elsewhere.Room | None = None,
) -> Ran:  # fmt: skip
    """Run all of them to their end; with `detached` options, until each has a session. In the order of `each`.
    `at_once`: how many run here at a time, None for all of them. `room`: of the machines that
    they run on, None where these have not been asked.

    A signal asks every supervisor to bring its work home and waits for that; a second one (Interrupted) leaves the work
    on their disks.
    """
    if each and each[0].on and each[0].on[0].partition(":")[0] == "ray":
        from git_sandbox.sandbox import on_ray  # late: an extra

        return on_ray.run(repo, each, progress, output)
    if each and each[0].on and room is None:
        room = elsewhere.room(elsewhere.asked(each[0].on, each[0].settings, progress), each[0].settings)
    with contextlib.ExitStack() as stack:
        crowd = _Crowd(stack.enter_context(store.followed(repo)), list(each), stack, progress, output, room, at_once)
        try:
            return Ran(tuple(crowd.live()), said=frozenset(crowd.warned))
        except Interrupted as caught:
            signals.listen_again()
            crowd.end()
            return Ran(tuple(crowd.live()), caught.signum, frozenset(crowd.warned))


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

    @property
    def label(self) -> str:
        return self.id or f"#{self.index}"


Said = tuple[_Worker, int, bytes | None]  # 0: an event, 1 or 2: a line of output; None: that pipe's end


@dataclass
class _Crowd:
    where: Callable[[], Repository]
    waiting: list[Options]
    stack: contextlib.ExitStack
    progress: Progress
    output: Output
    room: elsewhere.Room | None = None  # on other machines
    at_once: int | None = None
    said: queue.Queue[Said] = field(default_factory=lambda: queue.Queue(HELD))
    workers: list[_Worker] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)

    def live(self) -> list[Try]:
        boots = max(2, len(os.sched_getaffinity(0)))
        while self.waiting or any(worker.open_pipes for worker in self.workers):
            while self.waiting and self._may_start(boots):
                self._start(self.waiting.pop(0))
            self._hear(*self.said.get())
        return [worker.result or _silent(worker) for worker in self.workers]

    def _may_start(self, boots: int) -> bool:
        if self.room:
            return self.room.free
        full = self.at_once is not None and sum(worker.open_pipes > 0 for worker in self.workers) >= self.at_once
        return not full and sum(worker.booting for worker in self.workers) < boots

    def end(self) -> None:
        """Have all that run bring their work home, and wait for them."""
        self.waiting.clear()
        self.progress("Interrupted: bringing the work of all home first (again: leave it on their disks)")
        for worker in self.workers:
            if worker.open_pipes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)

    def _start(self, options: Options) -> None:
        if self.room:
            options = dataclasses.replace(options, on=self.room.take())
        order = Order(os.fspath(self.where().worktree), options, attached=not options.detached)
        pid, pipes = supervisor.launch(order) if options.detached else self._attached(order)
        worker = _Worker(len(self.workers) + 1, pid, order.attached, place=options.on[0] if options.on else "")
        self.workers.append(worker)
        for channel, descriptor in enumerate([pipes] if isinstance(pipes, int) else pipes):
            worker.open_pipes += 1
            threading.Thread(target=_read, args=(worker, channel, descriptor, self.said), daemon=True).start()

    def _attached(self, order: Order) -> tuple[int, list[int]]:
        """A supervisor whose command speaks to us: descriptors of its events, its output and its error output.

        When we are killed it is told to end, and brings its work home.
        """
        pairs = [os.pipe() for _ in range(4)]
        (told, tell), (out_, out), (err_, err), (order_, give) = pairs
        with contextlib.ExitStack() as theirs:
            for each in (tell, out, err, order_):
                theirs.callback(os.close, each)
            child = self.stack.enter_context(
                process.spawn(
                    supervisor.argv(tell), env=environment(), stdin=order_, stdout=out, stderr=err, pass_fds=[tell],
                    grace=HOME_WITHIN, tidies=True,
                )
            )  # fmt: skip
        with os.fdopen(give, "wb") as stdin, contextlib.suppress(BrokenPipeError):
            stdin.write(jsontext.encode(order))
        return child.pid, [told, out_, err_]

    def _hear(self, worker: _Worker, channel: int, line: bytes | None) -> None:
        if line is None:
            worker.open_pipes -= 1
            worker.booting = worker.booting and worker.open_pipes > 0
            if self.room and not worker.open_pipes:
                self.room.give_back(worker.place)
        elif channel == 0:
            self._event(worker, jsontext.decode(line, Event))
        else:
            self.progress("")
            self.output(worker.label, channel, line)

    def _event(self, worker: _Worker, event: Event) -> None:
        if event.progress:
            done = sum(each.result is not None for each in self.workers)
            self.progress(f"{done} of {len(self.workers) + len(self.waiting)} ended; {worker.label}: {event.progress}")
        for warning in event.notice or ():
            if warning not in self.warned:  # all copy the same repository, and would all say the same
                self.output(worker.label, 2, f"warning: {warning}".encode("utf-8", "replace"))
            self.warned.add(warning)
        if event.ready is not None:
            worker.id, worker.booting = event.ready, False
            if self.room:
                self.room.warm(worker.place)
            if not worker.attached:
                worker.result = Try(worker.index, event.ready, 0, detached=True)
        if event.ended is not None:
            worker.id = event.ended.id
            worker.result = Try(worker.index, worker.id, event.ended.exit_code, ended=event.ended)
        if event.error is not None:
            worker.result = _failed(worker, supervisor.failure(*event.error))


def _failed(worker: _Worker, error: SandboxError) -> Try:
    failure = Failure(error.kind, error.message, error.cause, error.hint, error.exit_code)
    return Try(worker.index, worker.id, error.exit_code, failure=failure)


def _silent(worker: _Worker) -> Try:
    hint = "`sandbox ls` shows what can be recovered"
    return _failed(worker, MachineError("its supervisor ended unexpectedly", hint=hint))


def _read(worker: _Worker, channel: int, descriptor: int, said: queue.Queue[Said]) -> None:
    with os.fdopen(descriptor, "rb", 0) as pipe:
        for line in lines(iter(lambda: pipe.read(65536), b""), 0 if channel == 0 else MAX_LINE):
            said.put((worker, channel, line))
    said.put((worker, channel, None))


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
