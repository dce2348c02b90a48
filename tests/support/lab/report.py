"""A pytest plugin that runs inside the lab and tells the host about each test, as it ends."""

from __future__ import annotations

import json
import os

import pytest

DESCRIPTOR = "LAB_REPORT_FD"
TEXT_LIMIT = 20_000  # characters of a failure


class Reporter:
    """One event for each test: a failure in set-up or clean-up counts more than what the test itself said."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.seconds: dict[str, float] = {}
        self.worst: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.outcome != "passed" and self.worst.get(name, ("",))[0] != "failed":
            self.worst[name] = (report.outcome, _why(report))
        if report.when == "teardown":
            outcome, text = self.worst.pop(name, ("passed", ""))
            self.say(test=name, outcome=outcome, seconds=round(self.seconds.pop(name), 1), text=text)

    def say(self, **fields: object) -> None:
        os.write(self.descriptor, json.dumps({"event": "test"} | fields).encode() + b"\n")


def _why(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    sections = (f"--- {title}\n{content}" for title, content in report.sections)
    return "\n".join((report.longreprtext, *sections))[-TEXT_LIMIT:]


def pytest_configure(config: pytest.Config) -> None:
    descriptor = os.environ.get(DESCRIPTOR)
    if descriptor is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(int(descriptor)), "lab-reporter")
