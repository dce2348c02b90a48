"""What is said over the real ssh, before any job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.errors import SandboxError
from git_sandbox.sandbox import hosts
from support import loopback


@pytest.fixture(autouse=True)
def _server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with loopback.served(tmp_path, monkeypatch):
        yield


def test_a_machine_says_what_it_is(tmp_path: Path) -> None:
    found = hosts.ask("ssh:there", tmp_path / "log")
    assert found.cpus >= 1
    assert found.memory == 8192 - 256


def test_a_machine_that_is_not_the_known_one_is_said_in_the_words_of_ssh(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(SandboxError, match="no worker answers at ssh:there") as caught:
        hosts.ask("ssh:there", tmp_path / "log")
    assert "Host key verification failed" in caught.value.cause
