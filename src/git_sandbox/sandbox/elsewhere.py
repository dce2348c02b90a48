"""How many tries of one task other machines take at a time: asked first, then counted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from git_sandbox.errors import HostResourceError, SandboxError
from git_sandbox.progress import Progress
from git_sandbox.sandbox import hosts
from git_sandbox.settings import Settings


@dataclass
class Room:
    """`slots`: how many more each machine takes. One that has not got the files of the first job yet is given no second
    one: it would be sent them twice.
    """

    slots: dict[str, int]
    cold: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cold = set(self.slots)

    @property
    def free(self) -> bool:
        return any(self._takes(each) for each in self.slots)

    def _takes(self, place: str) -> bool:
        return self.slots[place] > 0 and not (place in self.cold and place in self.waiting)

    def take(self) -> tuple[str, ...]:
        """The machine with the most room, then the others in case that one cannot."""
        chosen = max(filter(self._takes, self.slots), key=lambda each: self.slots[each])
        self.slots[chosen] -= 1
        self.waiting.add(chosen)
        return (chosen, *(each for each in self.slots if each != chosen))

    def warm(self, place: str) -> None:
        """It has the files."""
        self.cold.discard(place)

    def give_back(self, place: str) -> None:
        self.slots[place] += 1
        self.waiting.discard(place)


def room(places: Sequence[str], wanted: Settings, progress: Progress) -> Room:
    """Ask all of them. One that does not answer is left out, and said. Raises HostResourceError where no machine fits,
    or what the only one said.
    """
    found: dict[str, int] = {}
    failed: list[SandboxError] = []
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        for place in dict.fromkeys(places):
            progress(f"Asking {place}")
            try:
                found[place] = hosts.slots(hosts.ask(place, Path(scratch, "log")), wanted.cpus, wanted.memory)
            except SandboxError as error:
                failed.append(error)
    able = {place: count for place, count in found.items() if count}
    if able:
        return Room(able)
    if failed:
        raise failed[0]
    raise HostResourceError(
        f"a machine with {wanted.memory} MiB of memory fits on none of {', '.join(found)}", hint="try less: --memory 1G"
    )
