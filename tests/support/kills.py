"""A process that is killed at a step of what it does: what is left is what a crash leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest


def killed(action: Callable[[], object]) -> None:
    """Run `action` in a process of its own, in which it is killed: else nothing is shown."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it came to its end"


def dies(monkeypatch: pytest.MonkeyPatch, place: object, name: str, count: int = 1, *, after: bool) -> None:
    """The process is killed just before, or just after, it calls `name` for the `count`-th time."""
    inner, calls = getattr(place, name), [0]

    def call(*args: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == count and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **options)
        if calls[0] == count and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    monkeypatch.setattr(place, name, call)
