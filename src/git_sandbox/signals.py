"""Signals as exceptions: Ctrl-C, SIGTERM and SIGHUP unwind every `with` on the way out."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from git_sandbox.errors import Interrupted

TOGETHER = 1.0  # seconds; signals that follow the first so closely mean the same (two reflexes of one Ctrl-C, and what
# the kernel sends for every thread of a parent that was killed, prctl(2), PR_SET_PDEATHSIG)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_rearm: list[Callable[[], object]] = []  # of the block we are in: one at a time


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` in the main thread, so that every `with` unwinds.

    Further signals while unwinding are ignored: cleaning up is bounded in time by its own timeouts, and a second
    Ctrl-C in the middle of it would leave half-written state behind.
    """
    heard = -TOGETHER

    def handler(signum: int, _frame: FrameType | None) -> None:
        nonlocal heard
        if time.monotonic() < heard + TOGETHER:
            return
        heard = time.monotonic()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted(signum)

    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
    for number in _SIGNALS:
        before[number] = signal.signal(number, handler)
    _rearm.append(lambda: [signal.signal(number, handler) for number in _SIGNALS])
    try:
        yield
    finally:
        _rearm.pop()
        for number, previous in before.items():
            signal.signal(number, previous)


def wait_readable(descriptor: int) -> None:
    """Until there is something to read, or the end of it. A signal that comes just before read(2) would be heard after
    it only; one that comes just before this is heard at once. For the main thread.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        while descriptor not in select.select([descriptor, reading], [], [])[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 512)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def listen_again() -> None:
    """After an `Interrupted` that was caught: the next signal raises again, instead of being ignored, unless it
    comes within `TOGETHER`.
    """
    if _rearm:
        _rearm[-1]()
