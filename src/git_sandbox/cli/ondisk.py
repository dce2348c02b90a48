"""Describes what of a sandbox is only on its disk: `protocol.changes.Changes`, as the record keeps it."""

from __future__ import annotations

import shlex

from git_sandbox.protocol.changes import Changes
from git_sandbox.sandbox.ondisk import count, names, sentence, tallies

__all__ = ["count", "lines", "sentence"]

_INSIDE = "/workspace/"


def lines(
    name: str, changes: Changes | None, *, nothing_else: bool = False, runs: bool = False, here: bool = True
) -> list[str]:
    """Where that is, until when, and what gets it. `nothing_else`: nothing else came of the sandbox, so what git keeps
    for itself is named, too. `runs`: the sandbox does. `here`: its disk is on this machine, and not on another one.
    """
    if changes is None:
        return []
    changes = changes.safe()  # also where it comes from a record: those are files
    parts = []
    if not here:
        text = sentence(changes)
        return [f"Only in the trash of the machine that ran it: {text}."] if text else []
    if text := sentence(changes):
        parts += [
            f"Only on the sandbox's disk, until you drop it: {text}.",
            f"  Get it: {_ways(name, changes, runs=runs)}",
        ]
    elif nothing_else and changes.git and changes.git.count:
        parts.append(f"Kept until you drop it: {changes.git.count} changed in .git ({names(changes.git)}).")
    if changes.state == "unknown":
        parts.append(f"Other changes are unknown ({changes.reason}): the sandbox is kept.")
    return parts


def _ways(name: str, changes: Changes, *, runs: bool) -> str:
    first = next((tally.names[0] for tally in tallies(changes).values() if tally.names), "")
    path = first if first.startswith("/") else _INSIDE + first
    copy = f"sandbox cp {name}:{shlex.quote(path.rstrip('/'))} ." if first else ""
    begin = "" if runs else f"sandbox shell -d {name}; "
    return f"`sandbox shell {name}`" + (f" or `{begin}{copy}`" if copy else "")
