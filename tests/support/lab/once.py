"""The lab's run for many tests of the host: what it told, as data that workers can share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from git_sandbox.errors import SandboxError
from support.lab import disk, machine, plan
from support.lab.machine import LabDiedError, Listener, Size
from support.lab.plan import Event

OUTPUT_LIMIT = 20_000  # bytes
DEADLINE = 2700.0  # seconds for each attempt, on a busy machine
KEPT = disk.REPOSITORY / "test-results" / "lab"
DIED = KEPT.with_name("lab-died")  # of the first attempt, when the lab broke


class Told(msgspec.Struct, frozen=True):
    """What the lab told, or why it did not come to that."""

    tests: tuple[Event, ...] = ()
    facts: dict[str, str] = {}
    error: str = ""
    output: str = ""  # of the pytest inside
    died: str = ""  # the last words of a first lab that broke: the tests are a second one's then

    def of(self, test: str) -> Event:
        """Fails when the lab did not say how that test went."""
        found = [each for each in self.tests if each.test == test and not self.error]
        if len(found) != 1:
            pytest.fail(f"the lab did not tell of {test}: {self.error}\n{self.output}", pytrace=False)
        return found[0]


@dataclass
class Attempt:
    """One boot of the lab, with as many of the tests as it came to."""

    tests: dict[str, Event] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    output: bytearray = field(default_factory=bytearray)
    error: str = ""
    died: bool = False

    def event(self, heard: Event) -> None:
        if heard.event == "ready":
            self.facts = heard.facts
        elif heard.event == "test":
            self.tests[heard.test] = heard


def run(tests: Sequence[str]) -> Told:
    """Boot the lab for `tests`; when it breaks, once more for those that have not passed."""
    first = attempt(tests)
    if not first.died:
        return told(first)
    shutil.rmtree(DIED, ignore_errors=True)
    if KEPT.exists():
        KEPT.rename(DIED)
    passed = {name: each for name, each in first.tests.items() if each.outcome != "failed"}
    second = attempt([each for each in tests if each not in passed])
    second.tests = passed | second.tests
    return msgspec.structs.replace(told(second), died=first.error)


def told(attempt: Attempt) -> Told:
    output = attempt.output[-OUTPUT_LIMIT:].decode("utf-8", "replace")
    return Told(tuple(attempt.tests.values()), attempt.facts, attempt.error, output)


def attempt(tests: Sequence[str]) -> Attempt:
    what = plan.pytest(tests, workers=plan.WORKERS) if tests else plan.command(["true"])
    made = Attempt()
    listener = Listener(event=made.event, output=made.output.extend)
    try:
        machine.run(what, Size(), listener, deadline=DEADLINE, keep=KEPT)
    except SandboxError as failed:
        made.error, made.died = f"{failed.message}\n{failed.cause}", isinstance(failed, LabDiedError)
    return made
