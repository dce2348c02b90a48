"""Slow queries in threads, so that the screen never waits for an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class Answer:
    """`value`, or the error there was instead: its message, its cause and what may help."""

    asked: object
    value: object = None
    error: tuple[str, ...] = ()


Deliver = Callable[[Answer], object]


def answered(asked: object, call: Callable[[], object]) -> Answer:
    """What a call returns or raises."""
    try:
        return Answer(asked, call())
    except SandboxError as error:
        return Answer(asked, error=tuple(filter(None, (error.message, error.cause, error.hint))))
    except OSError as error:
        return Answer(asked, error=(str(error),))


class Lane:
    """One thread at most, and of the questions that came while it was busy only the newest is asked.

    Threads end with the program: what they do has its own limits, and leaving the screen waits for none.
    """

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._lock = threading.Lock()
        self._next: tuple[object, Callable[[], object]] | None = None
        self._busy = False
        self.asked = 0  # questions that were really asked

    @property
    def busy(self) -> bool:
        return self._busy

    def ask(self, asked: object, call: Callable[[], object]) -> None:
        with self._lock:
            self._next = (asked, call)
            if self._busy:
                return
            self._busy = True
        beside(self._work)

    def _take(self) -> tuple[object, Callable[[], object]] | None:
        with self._lock:
            taken, self._next = self._next, None
            self._busy = taken is not None
            return taken

    def _work(self) -> None:
        while question := self._take():
            self.asked += 1
            self._deliver(answered(*question))


def beside(call: Callable[[], object]) -> None:
    """In a thread that nothing waits for."""
    threading.Thread(target=call, daemon=True).start()
