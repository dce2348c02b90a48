"""What is left of process 1 in a fork of it that becomes a user's: nothing (docs/adr/0013)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from git_sandbox.guest.common import ENVIRONMENT, shed

UID, GID = 12345, 23456
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def own(name: str) -> dict[str, str]:
    rows = Path(f"/proc/self/{name}").read_text().splitlines()
    return {key: value.strip() for key, value in (row.split(":", 1) for row in rows)}


def tell(answer: int) -> None:
    """What the child is after `shed`. Its descriptor for that is 1, like the exporter's."""
    os.dup2(answer, 1)
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.environ["LD_PRELOAD"] = "x"
    shed(UID, GID)
    status = own("status")
    found = {
        "ids": [status[each].split() for each in ("Uid", "Gid")], "groups": status["Groups"],
        "capabilities": [status[each] for each in ("CapPrm", "CapEff", "CapAmb")],
        "descriptors": sorted(int(each) for each in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{each}")),  # noqa: PTH110, PTH208
        "memory of": Path("/proc/self/mem").stat().st_uid, "environment": dict(os.environ),
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    }  # fmt: skip
    os.write(1, json.dumps(found).encode())


def test_an_ordinary_process_of_the_user_that_he_cannot_trace() -> None:
    kept = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(kept, True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tell(writing)
        finally:
            os._exit(0)
    os.close(writing)
    os.close(kept)
    with os.fdopen(reading, "rb") as answer:
        found = json.load(answer)
    os.waitpid(child, 0)
    assert found == {
        "ids": [[str(UID)] * 4, [str(GID)] * 4], "groups": "", "capabilities": ["0" * 16] * 3,
        "descriptors": [0, 1, 2], "memory of": 0, "environment": ENVIRONMENT, "term": True,
    }  # fmt: skip
