"""One run of the lab for many tests of the host: what it told, as data that workers can share."""

from __future__ import annotations

import msgspec
import pytest

from git_sandbox.errors import SandboxError
from support.lab import disk, machine, plan
from support.lab.machine import Listener, Size
from support.lab.plan import Event, Outcome

OUTPUT_LIMIT = 20_000  # bytes
DEADLINE = 1800.0  # seconds, on a busy machine


class Told(msgspec.Struct, frozen=True):
    """What one run of the lab told, or why it did not come to that."""

    outcome: Outcome | None = None
    error: str = ""
    output: str = ""  # of the pytest inside

    def of(self, test: str) -> Event:
        """Fails when the lab did not say how that test went."""
        found = [each for each in self.outcome.tests if each.test == test] if self.outcome else []
        if len(found) != 1:
            pytest.fail(f"the lab did not tell of {test}: {self.error}\n{self.output}", pytrace=False)
        return found[0]


def run(tests: list[str]) -> Told:
    output = bytearray()
    what = plan.pytest(tests, workers=plan.WORKERS) if tests else plan.command(["true"])
    error, outcome = "", None
    keep = disk.REPOSITORY / "test-results" / "lab"
    try:
        outcome = machine.run(
            what,
            Size(),
            Listener(output=output.extend),
            deadline=DEADLINE,
            keep=keep,
        )
    except SandboxError as failed:
        error = f"{failed.message}\n{failed.cause}"
    return Told(outcome, error, output[-OUTPUT_LIMIT:].decode("utf-8", "replace"))
