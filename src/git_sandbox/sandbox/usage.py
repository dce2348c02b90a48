"""The resources of running sandboxes: each supervisor with its child processes (its machine, ssh, its proxy)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from git_sandbox.later import dataclass

_PARENT, _USER, _SYSTEM, _RESIDENT = 1, 11, 12, 21  # proc(5), `stat`, counted from the state


@dataclass(frozen=True)
class Usage:
    """`cpu`: seconds of processor since they started. `memory`: bytes in RAM; what they share counts for each."""

    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class _Process:
    parent: int
    own: Usage


def look(pids: Iterable[int], proc: Path = Path("/proc")) -> dict[int, Usage]:
    """Of each of these processes that is there. Every process of this host is read once, however many are asked for."""
    roots = set(pids)
    if not roots:
        return {}
    everything = _processes(proc)
    totals = {pid: Usage() for pid in roots & everything.keys()}
    for pid, process in everything.items():
        for root in _above(pid, everything) & totals.keys():
            before = totals[root]
            totals[root] = Usage(before.cpu + process.own.cpu, before.memory + process.own.memory)
    return totals


def _above(pid: int, everything: dict[int, _Process]) -> set[int]:
    """It, its parent and so on."""
    chain: set[int] = set()
    while pid in everything and pid not in chain:
        chain.add(pid)
        pid = everything[pid].parent
    return chain


def _processes(proc: Path) -> dict[int, _Process]:
    processes = {}
    for place in proc.iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
                processes[int(place.name)] = _parsed((place / "stat").read_bytes())
    return processes


def _parsed(stat: bytes) -> _Process:
    """The name in it is anything, and may hold spaces and brackets: the fields begin after the last bracket."""
    fields = stat.rpartition(b")")[2].split()
    ticks = (int(fields[_USER]) + int(fields[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
    return _Process(int(fields[_PARENT]), Usage(ticks, int(fields[_RESIDENT]) * os.sysconf("SC_PAGE_SIZE")))
