"""What is done inside the lab, decided on the host: one JSON file that `inside.py` carries out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

REPORTER = "lab_report"  # `report.py` beside the plan
HERE = "/lab"  # where the lab's disk is mounted in it
REPOSITORY = f"{HERE}/repository"
RESULTS = f"{REPOSITORY}/test-results"
# What of the host's PATH goes in, when it is there. QEMU, passt and virtiofsd are Debian's in the lab; a virtiofsd of
# the host comes before the lab's.
PROGRAMS = ("firecracker", "cloud-hypervisor", "ch-remote", "virtiofsd")
MARK = "SANDBOX_LAB"
CHOSEN = (
    "-m",
    "contract or transports or lab",
    "tests/vm",
    "tests/lab/inside",
)  # what runs there unless told otherwise
# `scripts/test --all` leaves the longest ones with QEMU to `scripts/lab`, or it would take an hour on two processors.
# Most of them run with QEMU on the host already; of those on a share, what comes home is enough here; the ways for a
# disk to show a base (tests/lab/inside/test_cow.py, three minutes each) run in `scripts/lab` only.
_LONG = (
    "traps or shells or supervisor or damaged or mounted or siblings or lays or share_the_blocks or thin_snapshots"
    " or power-off or load or its_caller or resize or two_sandboxes or two_roots"
)
_BY_HAND = "works_on_a_share or with_nesting"  # no part of what CI has time for
_ON_THE_HOST = "qemu and not share and (everything or from_inside or names_that_are_allowed)"
_LONG_ON_A_SHARE = "load or exact or share_of"
_LEFT_OUT = f"(qemu and ({_LONG})) or (qemu-share and ({_LONG_ON_A_SHARE})) or leaks or full_disk or ({_ON_THE_HOST})"
BRIEF = ("-k", f"not ({_LEFT_OUT} or {_BY_HAND})")
WORKERS = 2  # tests at a time
ENVIRONMENT = {
    "CI": "true",  # the same examples each time (tests/conftest.py)
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": f"{HERE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec",
    "PYTHONPATH": "/run/git-sandbox",
    "USER": "root",
    "XDG_CACHE_HOME": f"{HERE}/cache",
    # KVM is what is tested, so it is asked for: with the probe's word for "no" everything would pass in emulation.
    MARK: "yes",
    "SANDBOX_ACCELERATOR": "kvm",
    "SANDBOX_BOOT_TIMEOUT": "600",
    "SANDBOX_CPUS": "1",
    "SANDBOX_MEMORY": "512M",
    "SANDBOX_TEST_SLOWNESS": "4",  # tests/support/vm.py
}
TEST_TIMEOUT = 1800  # seconds for one test, on two cores that others use as well


class Plan(msgspec.Struct, frozen=True):
    argv: tuple[str, ...]
    token: str = ""  # filled in by `machine.run`: what the lab's last word must contain
    env: dict[str, str] = msgspec.field(default_factory=ENVIRONMENT.copy)
    cwd: str = REPOSITORY
    terminal: tuple[int, int] | None = None  # rows and columns: `argv` gets a terminal of that size
    results: str = RESULTS


def pytest(arguments: Sequence[str], *, workers: int) -> Plan:
    """Run pytest in the lab's copy of the repository."""
    argv = (
        "python3", "-m", "pytest", "-p", REPORTER, "-p", "no:cacheprovider", "--color=no",
        "-n", str(workers), "--dist", "worksteal", "--timeout", str(TEST_TIMEOUT), *arguments,
    )  # fmt: skip
    return Plan(argv)


def command(argv: Sequence[str]) -> Plan:
    return Plan(tuple(argv))


def shell(rows: int, columns: int, term: str) -> Plan:
    return Plan(("bash", "-i"), env=ENVIRONMENT | {"TERM": term}, terminal=(rows, columns))


class Event(msgspec.Struct, frozen=True):
    """One line of the lab's report. `ready`: the lab is up; `test`: one has ended; `end`: all is done."""

    event: str
    test: str = ""  # pytest's node id
    outcome: str = ""  # passed | failed | skipped
    seconds: float = 0.0
    text: str = ""  # why it failed or was skipped
    code: int = -1  # of `argv`
    token: str = ""
    facts: dict[str, str] = {}  # of `ready`: what this lab has


class Outcome(msgspec.Struct, frozen=True):
    """What came out of the lab. `code` is the command's."""

    code: int
    seconds: float  # from the start of QEMU


def inside() -> bool:
    """Whether this process runs in the lab."""
    return os.environ.get(MARK) == "yes"
