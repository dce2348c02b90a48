"""Saying false things to `collect`, and proof that nothing came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from git_sandbox.errors import CollectError
from git_sandbox.protocol.manifest import GuestHead, Manifest
from support.guest import Host, fingerprint

SECONDS = 30.0  # generous: an attack that works takes for ever


def says(tip: str | None, **changes: object) -> Manifest:
    values: dict[str, object] = {
        "object_format": "sha1", "head": GuestHead("refs/heads/main", tip), "refs": (), "stash": (),
        "worktree_tree": None, "wip": None, "operation": None, "warnings": (),
    }  # fmt: skip
    return Manifest(**(values | changes))  # type: ignore[arg-type]


@contextlib.contextmanager
def refusal(host: Host, match: str = "") -> Iterator[None]:
    before = fingerprint(host.repo.path / ".git")
    start = time.monotonic()
    with pytest.raises(CollectError) as caught:
        yield
    assert time.monotonic() - start < SECONDS
    assert fingerprint(host.repo.path / ".git") == before
    assert not host.quarantine.exists()
    told = f"{caught.value.message}: {caught.value.cause}"
    assert match in told
    assert told.replace("\n", "").isprintable()
