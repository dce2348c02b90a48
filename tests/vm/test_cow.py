"""The strategies for disks that need nothing of the host. Those that do are tested in the lab (tests/lab/inside)."""

from __future__ import annotations

import pytest

from support.cow import exercise
from support.vm import Sandboxes

pytestmark = pytest.mark.timeout(3000)  # seven machines each: three minutes in the lab, when that is idle


@pytest.mark.contract
def test_a_guest_lays_its_disk_over_the_base(large: Sandboxes) -> None:
    exercise(large, "overlay")


@pytest.mark.parametrize("strategy", ["qcow2", "copy"])
def test_disks_that_the_host_makes(large: Sandboxes, strategy: str) -> None:
    exercise(large, strategy)


def test_what_cannot_be_is_refused_before_anything_is_copied(large: Sandboxes) -> None:
    done = large.run("run", "--cow", "thin", "--", "true")
    assert done.code == 11
    assert "no pool is set" in done.said
    assert large.directories() == []
