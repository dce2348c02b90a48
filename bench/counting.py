"""What a command costs, counted: programs, system calls, modules, instructions, bytes written, processor time.

Clocks on a shared machine say little; these say the same at any load, but for the last two. `instructions.c` counts for
QEMU: those of a guest, and with QEMU's user emulation (Debian's package `qemu-user`) those of our own interpreter.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
STRACE, EMULATOR = "strace", f"qemu-{os.uname().machine}"
PROCESSORS = 64  # as in instructions.c
# One system call: who, when, which; a call that another one interrupts has its end on a line of its own.
_CALL = re.compile(r"(?P<pid>\d+) +(?P<time>[\d.]+) (?P<name>\w+)\((?P<rest>.*)")
_END = re.compile(r"(?P<pid>\d+) +(?P<time>[\d.]+) <\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_PROGRAM = re.compile(r'"(?P<path>[^"]*)"')
_MODULE = re.compile(r'/git_sandbox/[^"]*\.pyc"')
_RESULT = re.compile(r"\) += (?P<result>0x[0-9a-f]+|\d+)(?: |$)")
_FORKS = ("clone", "clone3", "fork", "vfork")
_VERSION_2 = (8, 2)  # from this QEMU on, plugins say that they are of version 2


class MissingError(Exception):
    """A program that counts is not here, or is not allowed to."""


@dataclass
class Calls:
    """System calls of some programs, how many of these were started, by name, and modules of ours that were read."""

    started: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    modules: int = 0

    @property
    def processes(self) -> int:
        return self.started.total()

    @property
    def total(self) -> int:
        return self.calls.total()

    def of(self, *programs: str) -> int:
        return sum(self.calls[each] for each in programs)


def can_trace() -> str:
    """Why system calls cannot be counted here; empty when they can."""
    if shutil.which(STRACE) is None:
        return f"{STRACE} is not installed"
    done = subprocess.run([STRACE, "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{STRACE} may not trace here: {done.stderr.strip()[:200]}"


def traced(
    words: Sequence[str | Path], where: Path, marks: Sequence[float] = (), env: Mapping[str, str] | None = None
) -> Calls:
    """All programs that a command starts, itself included, and their system calls. It has to end with 0."""
    with tempfile.NamedTemporaryFile(prefix="strace-") as log:
        trace(words, where, Path(log.name), env)
        with open(log.name, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            return parsed(lines, marks)[-1]


def trace(words: Sequence[str | Path], where: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
    if why := can_trace():
        raise MissingError(why)
    tracer = [STRACE, "-f", "-qq", "-ttt", "-e", "signal=none", "-e", "raw=!execve,openat", "-s", "200", "-o", log]
    done = subprocess.run(
        [*tracer, *words], cwd=where, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def parsed(lines: Iterator[str], marks: Sequence[float] = ()) -> list[Calls]:
    """What strace wrote, parted at the times `marks` (seconds since 1970), in order."""
    parts = [Calls() for _ in range(len(marks) + 1)]
    parents: dict[str, str] = {}
    names: dict[str, str] = {}
    unnamed: list[tuple[Calls, str]] = []  # of a child whose parent has not come back from the fork yet
    waiting: dict[str, str] = {}
    for line in lines:
        found = _CALL.match(line) or _END.match(line)
        if found is None:
            continue
        pid, name, rest, begins = found["pid"], found["name"], found["rest"], found.re is _CALL
        part = parts[sum(mark < float(found["time"]) for mark in marks)]
        if begins:
            unnamed.append((part, pid)) if pid not in names else part.calls.update((names[pid],))
        if (result := _RESULT.search(rest)) is None:
            waiting[pid] = rest
        elif name == "openat":
            part.modules += _MODULE.search(rest) is not None
        elif name == "execve" and result["result"] == "0":
            path = _PROGRAM.search(rest if begins else waiting.get(pid, ""))
            names[pid] = Path(path["path"]).name if path else "?"
            part.started[names[pid]] += 1
        elif name in _FORKS:
            child = str(int(result["result"], 0))
            parents[child] = pid
            names.setdefault(child, names.get(pid, "?"))
    for part, pid in unnamed:
        part.calls[names.get(parents.get(pid, pid), names.get(pid, "?"))] += 1
    return parts


def plugin(place: Path, emulator: str = EMULATOR) -> Path:
    """The compiled plugin for this QEMU. Raises MissingError where there is no compiler, or no such QEMU."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(emulator) is None:
        raise MissingError("there is no C compiler" if compiler is None else f"{emulator} is not installed")
    told = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in re.findall(r"version (\d+)\.(\d+)", told)[0])
    target = place / f"instructions-{'.'.join(map(str, version))}.so"
    if not target.exists():
        words = [compiler, "-O2", "-shared", "-fPIC", f"-DAPI={2 if version >= _VERSION_2 else 1}"]
        subprocess.run([*words, "-o", target, HERE / "instructions.c"], check=True)
    return target


@contextlib.contextmanager
def counter() -> Iterator[Path]:
    """A file for the plugin's numbers."""
    with tempfile.NamedTemporaryFile(prefix="instructions-") as file:
        file.truncate(8 * PROCESSORS)
        yield Path(file.name)


def counted(numbers: Path) -> int:
    return sum(struct.unpack(f"{PROCESSORS}Q", numbers.read_bytes()))


def instructions(words: Sequence[str | Path], where: Path, library: Path) -> int:
    """Of one Python program, without those that it starts: these run as they always do."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with counter() as numbers:
        emulated = [EMULATOR, "-plugin", f"{library},out={numbers}", sys.executable, *words]
        done = subprocess.run(emulated, cwd=where, env=env | {"PYTHONHASHSEED": "0"}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return counted(numbers)
