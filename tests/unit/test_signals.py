"""Waiting for what somebody types, in which no signal is lost (`signals.wait_readable`)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from git_sandbox import signals
from git_sandbox.errors import Interrupted


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_what_is_typed_ends_it_and_another_signal_does_not(ends: tuple[int, int]) -> None:
    reading, writing = ends
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: heard.append(number))

    def type_later() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.write(writing, b"x")

    try:
        typing = threading.Timer(0.05, type_later)
        typing.start()
        signals.wait_readable(reading)
        typing.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert os.read(reading, 10) == b"x"
    assert signal.set_wakeup_fd(-1) == -1, "as it was"


def test_a_signal_that_ends_us_ends_it(ends: tuple[int, int]) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until it is heard
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted), signals.signals_raise():
        signals.wait_readable(ends[0])
    signal.signal(signal.SIGTERM, before)
    assert signal.set_wakeup_fd(-1) == -1, "as it was"
