"""What changed in a sandbox since its start: counts and a few names, in a manifest and in a record. Separate from the
manifest, because `sandbox ls` needs nothing else of the protocol.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from git_sandbox.text import one_line

ChangeState = Literal["unchanged", "changed", "unknown"]


class Tally(msgspec.Struct, frozen=True):
    """How many, and a few of their names."""

    count: int
    names: tuple[str, ...] = ()


class Changes(msgspec.Struct, frozen=True):
    """What became different since the start, as the guest's root saw it. A tally of None is not known."""

    state: ChangeState
    reason: str = ""
    uncommitted: Tally | None = None
    ignored: Tally | None = None
    nested: Tally | None = None
    git: Tally | None = None
    outside: Tally | None = None

    def tallies(self) -> dict[str, Tally]:
        """Those that are known and not zero, by the kind of place."""
        names = ("uncommitted", "ignored", "nested", "git", "outside")
        every: dict[str, Tally | None] = {name: getattr(self, name) for name in names}
        return {name: tally for name, tally in every.items() if tally is not None and tally.count}

    def safe(self) -> Changes:
        """The same with text that is safe to print and to keep."""

        def plain(tally: Tally | None) -> Tally | None:
            return Tally(tally.count, tuple(one_line(name) for name in tally.names)) if tally else None

        counts = (self.uncommitted, self.ignored, self.nested, self.git, self.outside)
        return Changes(self.state, one_line(self.reason, limit=400), *map(plain, counts))
