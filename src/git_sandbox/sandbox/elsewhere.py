"""The capacity of other machines: queried before anything is sent, printed, and counted down as tries go there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from git_sandbox.doctor import Check, Verdict
from git_sandbox.doctor.host import MINIMUM_FREE
from git_sandbox.errors import HostResourceError, SandboxError
from git_sandbox.image import spec
from git_sandbox.jobs.result import Hello
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Progress
from git_sandbox.sandbox import hosts
from git_sandbox.settings import Settings
from git_sandbox.text import one_line


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
        return any(self._takes(slot) for slot in self.slots)

    def _takes(self, place: str) -> bool:
        return self.slots[place] > 0 and not (place in self.cold and place in self.waiting)

    def take(self) -> tuple[str, ...]:
        """The machine with the most room, then the others in case that one cannot."""
        chosen = max(filter(self._takes, self.slots), key=lambda slot: self.slots[slot])
        self.slots[chosen] -= 1
        self.waiting.add(chosen)
        return (chosen, *(slot for slot in self.slots if slot != chosen))

    def warm(self, place: str) -> None:
        """It has the files."""
        self.cold.discard(place)

    def give_back(self, place: str) -> None:
        self.slots[place] += 1
        self.waiting.discard(place)


@dataclass(frozen=True)
class Machine:
    """What the one at `place` says of itself, or why no answer. `slots`: how many machines it takes at a time;
    `ready`: whether it has their image.
    """

    place: str
    hello: Hello | None
    problem: SandboxError | None = None
    slots: int = 0
    ready: bool = False

    @property
    def words(self) -> str:
        """In one line that is safe to show."""
        if self.hello is None:
            return f"{self.place}: {self.problem.message if self.problem else 'no answer'}"
        hello = self.hello
        kvm = "KVM" if hello.kvm else "no KVM, so machines are emulated"
        image = "has the image" if self.ready else "will receive the image"
        room = f"{self.slots} at a time" if self.slots else "no room for one"
        return f"{self.place}: {hello.cpus} processors, {hello.memory} MiB free, {kvm}, {image}: {room}"


def asked(places: Sequence[str], settings: Settings, progress: Progress) -> list[Machine]:
    """What each of these machines says. Raises UsageError for what is no name of one."""
    machines = []
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        for place in dict.fromkeys(places):
            hosts.host(place)
            progress(f"Asking {place}")
            try:
                hello = hosts.ask(place, Path(scratch, "log"))
            except SandboxError as error:
                machines.append(Machine(place, None, error))
                continue
            ready = spec.asked(settings).key in hello.images
            machines.append(Machine(place, hello, None, hosts.slots(hello, settings.cpus, settings.memory), ready))
    return machines


def room(machines: Sequence[Machine], settings: Settings) -> Room:
    """Of those that answered and have some. Raises HostResourceError where no machine fits, or what the first that does
    not answer said.
    """
    able = {machine.place: machine.slots for machine in machines if machine.slots}
    if able:
        return Room(able)
    for machine in machines:
        if machine.problem is not None:
            raise machine.problem
    places = ", ".join(machine.place for machine in machines)
    raise HostResourceError(
        f"a machine with {settings.memory} MiB of memory does not fit on any of {places}",
        hint="try a smaller size: --memory 1G",
    )


def checks(machine: Machine, settings: Settings) -> Iterator[Check]:
    """Rows for `doctor --on`."""
    place, hello = machine.place, machine.hello
    if hello is None:
        error = machine.problem or SandboxError("no answer")
        cause = f" ({one_line(error.cause, limit=300)})" if error.cause else ""
        yield Check(place, Verdict.MISSING, f"{error.message}{cause}", error.hint)
        return
    yield Check(place, Verdict.OK, f"git-sandbox {one_line(hello.program, limit=40)} on {one_line(hello.host)}")
    size = f"{machine.slots} machine(s) of {settings.cpus} processor(s) and {settings.memory} MiB at a time"
    room_ = f"{hello.cpus} processors, {hello.memory} MiB of memory free: {size}"
    hint = "" if machine.slots else "use a smaller `--memory`, or stop what runs there"
    yield Check(f"{place} room", Verdict.OK if machine.slots else Verdict.MISSING, room_, hint)
    kvm = "/dev/kvm can be opened" if hello.kvm else "cannot be used: machines are emulated, several times slower"
    yield Check(f"{place} KVM", Verdict.OK if hello.kvm else Verdict.NOTE, kvm)
    image = "present" if machine.ready else "missing: the first job sends it"
    yield Check(f"{place} image", Verdict.OK if machine.ready else Verdict.NOTE, image)
    low = hello.free < MINIMUM_FREE >> 20
    yield Check(f"{place} disk space", Verdict.NOTE if low else Verdict.OK, f"{hello.free} MiB free for its state")
