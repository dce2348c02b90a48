"""Ends what runs in a sandbox before its work is exported: SIGTERM, a grace period, SIGKILL.

Process 1 of the guest does it (guest/processes.py); the host keeps the time, because here are those who may shorten it.
"""

from __future__ import annotations

import threading
import time
from functools import partial

import msgspec

from git_sandbox import files, signals
from git_sandbox.background import Beside
from git_sandbox.errors import CollectError, Interrupted, SandboxError
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol import stream
from git_sandbox.sandbox import retrieve
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.text import one_line

LOOK = 0.5  # seconds of one request; whoever hurries waits no longer
LIMITS = stream.StreamLimits(header=64 << 10, idle=20.0, overall=30.0)
NAMED = 3  # programs named while they are waited for


class Left(msgspec.Struct, frozen=True):
    """Programs that have not ended: how many, and the names of some. The guest says so."""

    count: int
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """Safe to print."""
        named = [one_line(name, limit=20) for name in self.names[:NAMED]]
        return ", ".join(named) + (f" and {self.count - len(named)} more" if self.count > len(named) else "")


@dataclass
class Programs:
    """The user's programs in one sandbox. `grace`: seconds."""

    directory: SandboxDir
    grace: float
    progress: Progress

    def end(self) -> Interrupted | None:
        """All of them, so that nothing is written during the export. A signal to us shortens the grace; it is returned.

        None begins afterwards; what may have, the export kills. Raises nothing: a guest that does not answer cannot be
        asked to export either, and its disk is read afterwards.
        """
        hurry, heard = threading.Event(), None
        task = Beside(partial(self._end, hurry))  # apart, so that a signal does not cut off a conversation
        while True:
            try:
                task.result()
            except Interrupted as caught:
                heard = heard or caught
                hurry.set()
                signals.listen_again()
            except (SandboxError, OSError):
                return heard
            else:
                return heard

    def _end(self, hurry: threading.Event) -> None:
        began, first = time.monotonic(), True
        while True:
            left = self._ask(protocol.TERMINATE, first=first, wait=0.0 if hurry.is_set() else LOOK)
            over = began + shortened(self.directory, self.grace) - time.monotonic()
            if not left.count or hurry.is_set() or over <= 0:
                break
            self.progress(f"Waiting {over:.0f} s for {left.text} to end")
            first = False
        if left.count:
            self.progress(f"Killing {left.text}")
            self._ask(protocol.KILL)

    def _ask(self, op: str, **extra: object) -> Left:
        with retrieve.control(self.directory) as channel:
            header = stream.call(channel, op, extra=extra, limits=LIMITS)
        try:
            return msgspec.json.decode(header, type=Left)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CollectError(f"the guest's answer to `{op}` cannot be read") from error


def ask(directory: SandboxDir, grace: float | None) -> None:
    """Let whoever supervises the sandbox wait so many seconds, or as long as its settings say."""
    files.write(directory.stop_timeout, b"" if grace is None else f"{grace:g}".encode())


def shortened(directory: SandboxDir, grace: float) -> float:
    """`grace`, or what `sandbox stop` says instead."""
    try:
        return float(files.read(directory.stop_timeout))
    except (OSError, ValueError):
        return grace
