"""The lab runs once, however many of its tests were chosen and whichever workers they are spread over."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest

from support.lab import plan
from support.lab.once import Told, run

ROOT = Path(__file__).parents[2]
INNER = "inner"  # the parameter: node id of a test inside
# In the lab itself this directory's tests would start another lab; outside, those of `inside` have no KVM.
collect_ignore = ["test_lab.py"] if plan.inside() else ["inside"]


@cache
def chosen() -> tuple[str, ...]:
    """Node ids of the tests for the lab. Asked of pytest itself, once: what is collected is what is run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *plan.CHOSEN, *plan.BRIEF],
        cwd=ROOT, env=os.environ | {plan.MARK: "yes"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = tuple(line for line in done.stdout.splitlines() if "::" in line)
    if done.returncode != 0 or not found:
        raise pytest.UsageError(f"cannot collect the tests for the lab:\n{done.stdout}{done.stderr}")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if INNER in metafunc.fixturenames:
        metafunc.parametrize(INNER, chosen(), ids=[each.rpartition("/")[2] for each in chosen()])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: with several workers the others get everything else done beside it."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The first worker that gets here runs the lab, the others wait for what it writes down."""
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (place / "lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        written = place / "lab.json"
        if not written.exists():
            written.write_bytes(msgspec.json.encode(run(wanted(request.session.items))))
        return msgspec.json.decode(written.read_bytes(), type=Told)


def wanted(items: list[pytest.Item]) -> list[str]:
    calls = [item.callspec.params for item in items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    return [str(params[INNER]) for params in calls if INNER in params]
