"""A function call in a background thread, while the caller waits for other programs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """A call in a thread of its own. It should start nothing that needs to be stopped: nobody interrupts it."""

    def __init__(self, task: Callable[[], T]) -> None:
        self._task = task
        self._found: list[T] = []
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._task())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
            self._failed = error

    def wait(self) -> None:
        self._thread.join()

    def result(self) -> T:
        """Wait for it. Raises what it raised."""
        self.wait()
        if self._failed is not None:
            raise self._failed
        return self._found[0]
