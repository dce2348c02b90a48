"""Expiry of the trash: by age, and by size, the oldest first. Only what was proved unchanged or the user dropped.

Every verb asks, so asking is one small file for all repositories: when the oldest went to the trash, and how much is
in there. A directory is looked at only when something is due.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass
from git_sandbox.trash import note
from git_sandbox.trash.note import Note, Trashed


class Summary(msgspec.Struct, frozen=True):
    """`oldest`: seconds since the epoch, None when nothing is there that may expire. `size`: bytes of all."""

    oldest: float | None
    size: int


@dataclass(frozen=True)
class Rule:
    """`age` in seconds, None for ever; `room` in bytes."""

    age: int | None
    room: int


def summarise() -> Summary:
    """Look, and write down what there is for the verbs to come. Failing to write is no failure."""
    trashed = every()
    whens = [item.when for item in trashed if item.expires]
    summary = Summary(min(whens, default=None), sum(item.size for item in trashed))
    with contextlib.suppress(OSError):
        _write(summary)
    return summary


def _write(summary: Summary) -> None:
    fresh = paths.trash_summary().with_suffix(f".{os.getpid()}")
    files.write(fresh, jsontext.encode(summary))
    fresh.replace(paths.trash_summary())


def add(new: Note) -> None:
    """Write down that one more is there, without a look at the others: there may be thousands. What two processes add
    in the same moment may count once, until `summarise`.
    """
    with contextlib.suppress(OSError, ValueError):
        known = jsontext.load(paths.trash_summary(), Summary)
        whens = [when for when in (known.oldest, new.when if new.why in note.EXPIRES else None) if when is not None]
        _write(Summary(min(whens, default=None), known.size + new.size))
        return
    summarise()


def every() -> list[Trashed]:
    """In the trash of any repository."""
    return [item for root in note.everywhere() for item in note.listed(root)]


def summary() -> Summary:
    try:
        return jsontext.load(paths.trash_summary(), Summary)
    except (OSError, ValueError):
        return summarise() if note.everywhere() else Summary(None, 0)


def pending(known: Summary, rule: Rule, now: float | None = None) -> bool:
    """Whether something is due."""
    if known.oldest is None:
        return False
    late = rule.age is not None and known.oldest + rule.age <= (time.time() if now is None else now)
    return late or known.size > rule.room


def due(listed: Iterable[Trashed], rule: Rule, now: float | None = None) -> list[Trashed]:
    """What has expired by now, the oldest first."""
    now = time.time() if now is None else now
    everything = list(listed)
    size = sum(item.size for item in everything)
    gone = []
    for item in sorted((item for item in everything if item.expires), key=lambda item: (item.when, item.id)):
        late = rule.age is not None and item.when + rule.age <= now
        if late or size > rule.room:
            gone.append(item)
            size -= item.size
    return gone


def until(trashed: Trashed, rule: Rule) -> float | None:
    """When it expires by age; None when it does not."""
    return trashed.when + rule.age if trashed.expires and rule.age is not None else None


def remove(items: Iterable[Trashed], *, patience: float = 0.0) -> list[Trashed]:
    """Delete these for good; those that could be. Waits `patience` seconds where somebody else uses the trash."""
    from git_sandbox.trash import moving  # late: seldom is anything due

    gone = []
    for item in items:
        with contextlib.suppress(SandboxError, OSError), note.locked(item.repository, patience=patience):
            if item.directory.root.is_dir():
                moving.delete(item.directory)
                gone.append(item)
            moving.sweep(item.repository)
    summarise()
    return gone


def expire(rule: Rule) -> list[Trashed]:
    """Delete what has expired, if anything has."""
    return remove(due(every(), rule)) if pending(summary(), rule) else []
