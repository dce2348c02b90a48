"""What of a sandbox git does not bring home and only its disk has, in one sentence."""

from __future__ import annotations

from git_sandbox.protocol.changes import Changes, Tally
from git_sandbox.text import one_line

NAMED = 3  # names shown of each kind; `--json` has a few more
_WORDS = {"ignored": "ignored", "nested": "in repositories inside", "outside": "outside the workspace"}


def sentence(changes: Changes | None) -> str:
    """A list of it; empty when there is nothing of the kind."""
    return ", ".join(f"{tally.count} {_WORDS[kind]} ({names(tally)})" for kind, tally in tallies(changes).items())


def count(changes: Changes | None) -> int:
    return sum(tally.count for tally in tallies(changes).values())


def tallies(changes: Changes | None) -> dict[str, Tally]:
    """By the kind of place."""
    return {kind: tally for kind, tally in changes.tallies().items() if kind in _WORDS} if changes else {}


def names(tally: Tally) -> str:
    more = ", …" if tally.count > len(tally.names[:NAMED]) else ""
    return ", ".join(map(one_line, tally.names[:NAMED])) + more
