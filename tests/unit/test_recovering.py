"""A sandbox whose disk is being read says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox import claims, entries, store
from git_sandbox.errors import StateError
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import State


def test_it_is_recovering_as_long_as_somebody_does_it(tmp_path: Path) -> None:
    directory = SandboxDir(tmp_path / "vm-1")
    directory.root.mkdir()
    with claims.lock(directory):
        assert entries.state_of(directory, None) is State.RUNNING
        with store.recovering(directory):
            assert entries.state_of(directory, None) is State.RECOVERING
            with pytest.raises(StateError, match="being brought home"), claims.lock(directory):
                pass
        assert entries.state_of(directory, None) is State.RUNNING
        directory.recovering.touch()
    assert entries.state_of(directory, None) is State.BROKEN, "what a killed supervisor left says nothing"
