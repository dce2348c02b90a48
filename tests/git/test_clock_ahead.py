"""A clock that is ahead of the host's is said: dates of commits, and all that `make` compares, are wrong then."""

from __future__ import annotations

import json
import time

import pytest

from git_sandbox.guest import clock
from git_sandbox.protocol import manifest, stream
from support.gitrepo import GitRepo
from support.guest import LIMITS, exporter


@pytest.mark.parametrize(("seconds", "said"), [(-3600, False), (0, False), (30, False), (120, True), (10**9, True)])
def test_the_host_hears_of_it_with_the_work(repo: GitRepo, seconds: int, said: bool) -> None:
    line = json.dumps({"op": "export", "nonce": "0", "time": time.time() - seconds}).encode() + b"\n"
    asked = json.loads(clock.compared(line, json.loads(line)["time"]))
    assert ("ahead" in asked) is said
    with exporter(repo.path) as sock:
        extra = {key: asked[key] for key in asked if key not in ("op", "nonce")}
        reply = stream.request(sock, "export", extra=extra, limits=LIMITS)
        found = manifest.parse(reply.header, object_format="sha1")
        list(reply.chunks)
    assert [f"{seconds} s ahead" in text for text in found.warnings] == [True] * said
