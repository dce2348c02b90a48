"""What a guest says of its repository is read with limits, and names of any bytes are compared."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import pytest

from git_sandbox.errors import MachineError
from git_sandbox.guest.describe import describe
from git_sandbox.sandbox import verify
from support.gitrepo import GitRepo


def test_names_that_are_no_utf8_are_compared(repo: GitRepo) -> None:
    repo.write(os.fsdecode(b"inv\xffalid"))
    here = describe(repo.path)
    assert verify.differences(here, json.dumps(here).encode()) == ()
    there = {**here, "files": {}}
    assert any("inv" in line for line in verify.differences(here, json.dumps(there).encode()))


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b"\xff", b"7" * 10_000, b'{"files":' + b"[" * 200_000, b'{"a":' * 100_000]
)
def test_an_answer_that_is_no_description(answer: bytes) -> None:
    with pytest.raises(MachineError, match="damaged"):
        verify.differences({}, answer)


def pour(descriptor: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(descriptor, b"x" * 65536)


def test_an_endless_answer_is_read_to_the_limit_and_then_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MAX_DESCRIPTION", 3 << 20)
    with verify._listening() as (writing, received):
        flood = threading.Thread(target=pour, args=(writing,))
        flood.start()
        flood.join(20)
        assert not flood.is_alive()
    assert len(received) <= 5 << 20
