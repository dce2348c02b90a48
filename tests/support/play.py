"""Plays attacks against an installed `sandbox`, with real git and real machines; one line for each: held or BROKEN.

    scripts/attack                 all of them, in one machine and the one that rescues it
    scripts/attack --without-vm    those that need no machine
    scripts/attack --list          what there is

`SANDBOX` names the command under attack; without it that of the repository's .venv, else the one on PATH. Everything
happens in a scratch directory with a state directory of its own; only the guest image in the cache is shared. Ends with
1 when an attack gets through, with 2 when one could not be played. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.attacks import INSIDE, WITHOUT, Attack
from support.drill import (
    MACHINE,
    SECRET,
    BrokenError,
    Drill,
    NotPlayedError,
    prepared,
)

LONGEST = "1800"  # seconds: then the machine ends by itself, whatever became of the drill


@contextlib.contextmanager
def machine(drill: Drill) -> Iterator[None]:
    """A running sandbox. Not restored: a restored one has the exporter in memory, where root cannot replace it."""
    given = {"SANDBOX_STRIPE_KEY": SECRET, "DRILL_TOKEN": SECRET}
    drill.ready("run", "--detach", "--warm", "no", "--memory", "512M", "--", "sleep", LONGEST, env=given)
    try:
        yield
    finally:
        drill.sandbox("stop", MACHINE)


def play(drill: Drill, name: str, function: Attack) -> str:
    started = time.monotonic()
    try:
        function(drill)
    except BrokenError as error:
        verdict, why = "BROKEN", f": {error}"
    except NotPlayedError as error:
        verdict, why = "not played", f": {error}"
    else:
        verdict, why = "held", ""
    drill.marker.unlink(missing_ok=True)
    print(f"{verdict:10}  {name}{why}  ({time.monotonic() - started:.0f} s)", flush=True)  # noqa: T201
    return verdict


def main(words: Sequence[str]) -> int:
    if "--help" in words or "-h" in words:
        print(__doc__)  # noqa: T201
        return 0
    if "--list" in words:
        print("\n".join([*WITHOUT, *INSIDE]))  # noqa: T201
        return 0
    command = os.environ.get("SANDBOX") or shutil.which("sandbox")
    if not command:
        print("error: there is no `sandbox` to attack", file=sys.stderr)  # noqa: T201
        return 2
    top = Path(tempfile.mkdtemp(prefix="drill-", dir="/tmp"))  # short: a socket's path may have 107 bytes
    try:
        return _summary(_all(prepared(command, top), without="--without-vm" in words))
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _all(drill: Drill, *, without: bool) -> list[str]:
    verdicts = [play(drill, name, function) for name, function in WITHOUT.items()]
    if without:
        return verdicts
    try:
        with machine(drill):
            verdicts += [play(drill, name, function) for name, function in INSIDE.items()]
    except (BrokenError, NotPlayedError) as error:
        verdicts.append("not played" if isinstance(error, NotPlayedError) else "BROKEN")
        print(f"{verdicts[-1]:10}  the machine they are played in: {error}")  # noqa: T201
    return verdicts


def _summary(verdicts: list[str]) -> int:
    counts = {each: verdicts.count(each) for each in ("held", "BROKEN", "not played")}
    print(", ".join(f"{count} {each}" for each, count in counts.items()))  # noqa: T201
    return 1 if counts["BROKEN"] else 2 if counts["not played"] else 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was started is ended first
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
