"""What of a sandbox is on its disk only, in words: `transport.manifest.Changes`, as the record keeps it."""

from __future__ import annotations

import shlex

from git_sandbox.transport.manifest import Changes, Tally

NAMED = 3  # names shown of each kind; `--json` has a few more
_WORDS = {"ignored": "ignored", "nested": "in repositories inside", "outside": "outside the workspace"}
_INSIDE = "/workspace/"


def sentence(changes: Changes | None) -> str:
    """A list of what git does not bring home; empty when there is nothing of the kind."""
    tallies = _only_there(changes)
    return ", ".join(f"{each.count} {_WORDS[kind]} ({_names(each)})" for kind, each in tallies.items())


def count(changes: Changes | None) -> int:
    return sum(each.count for each in _only_there(changes).values())


def lines(name: str, changes: Changes | None, *, nothing_else: bool = False) -> list[str]:
    """Where that is, until when, and what gets it. `nothing_else`: nothing else came of the sandbox, so what git keeps
    for itself is named, too.
    """
    if changes is None:
        return []
    said = []
    if found := sentence(changes):
        said += [f"Only on the sandbox's disk, until you drop it: {found}.", f"  Get it: {_ways(name, changes)}"]
    elif nothing_else and changes.git and changes.git.count:
        said.append(f"Kept until you drop it: {changes.git.count} changed in .git ({_names(changes.git)}).")
    if changes.state == "unknown":
        said.append(f"Whether anything else changed is not known ({changes.reason}): the sandbox is kept.")
    return said


def _only_there(changes: Changes | None) -> dict[str, Tally]:
    return {kind: each for kind, each in changes.tallies().items() if kind in _WORDS} if changes else {}


def _names(tally: Tally) -> str:
    more = ", …" if tally.count > len(tally.names[:NAMED]) else ""
    return ", ".join(tally.names[:NAMED]) + more


def _ways(name: str, changes: Changes) -> str:
    first = next((each.names[0] for each in _only_there(changes).values() if each.names), "")
    path = first if first.startswith("/") else _INSIDE + first
    copy = f" or `sandbox cp {name}:{shlex.quote(path.rstrip('/'))} .`" if first else ""
    return f"`sandbox shell {name}`{copy}"
