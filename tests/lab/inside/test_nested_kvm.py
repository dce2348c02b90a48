"""`--nested yes`: the guest of a real KVM has KVM of its own, and a processor of that one runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.kvm import HALTS
from support.vm import Sandboxes, real_cache, sandboxes

CACHE = real_cache()


@pytest.fixture
def boxes(repo: GitRepo, tmp_path: Path) -> Iterator[Sandboxes]:
    with sandboxes(repo, tmp_path / "state", CACHE) as made:
        made.env |= {"SANDBOX_BACKEND": "qemu", "SANDBOX_WARM": "no"}
        yield made


def test_a_guest_with_nesting_runs_a_processor_of_its_own(boxes: Sandboxes) -> None:
    done = boxes.run("run", "--nested", "yes", "--", "python3", "-c", HALTS)
    assert (done.code, done.text) == (0, "kvm: halted\n"), done.said
