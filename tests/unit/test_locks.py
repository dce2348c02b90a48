"""No lock is waited for without an end, and whoever waits hears why."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import pytest

from git_sandbox import locks
from git_sandbox.errors import StateError
from git_sandbox.sandbox import retrieve
from git_sandbox.sandbox_dir import SandboxDir


@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_that_somebody_keeps(tmp_path: Path, *, shared: bool) -> None:
    heard: list[str] = []
    with (tmp_path / "lock").open("w") as mine, (tmp_path / "lock").open("r") as other:
        fcntl.flock(mine, fcntl.LOCK_EX)
        with pytest.raises(StateError) as caught:
            locks.awaited(other, within=1.0, what="talks to the guest", shared=shared, say=heard.append)
        assert (caught.value.message, heard) == (
            "another command talks to the guest", ["Waiting: another command talks to the guest"],
        )  # fmt: skip
        fcntl.flock(mine, fcntl.LOCK_UN)
        locks.awaited(other, within=1.0, what="talks to the guest", shared=shared, say=heard.append)
        assert len(heard) == 1


def test_a_conversation_waits_for_another_one_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "TAKES_TURNS", 0.5)
    directory = SandboxDir(tmp_path)
    begun = time.monotonic()
    with directory.control_lock.open("a") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="talks to the guest"), retrieve.control(directory):
            raise AssertionError
    assert time.monotonic() - begun < 30


def test_the_others_turn_ends_before_anybody_gives_up() -> None:
    assert retrieve.WHILE_IT_RUNS.overall < retrieve.TAKES_TURNS
