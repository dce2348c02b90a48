"""The strategies for disks that need nothing of the host. Those that do are tested in the lab (tests/lab/inside)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cow import enlarge, exercise
from support.vm import Sandboxes

pytestmark = pytest.mark.timeout(3000)  # seven machines each: three minutes in the lab, when that is idle


@pytest.mark.contract
def test_a_guest_lays_its_disk_over_the_base(boxes: Sandboxes, tmp_path: Path) -> None:
    exercise(enlarge(boxes, tmp_path / "cache"), "overlay")


@pytest.mark.parametrize("strategy", ["qcow2", "copy"])
def test_disks_that_the_host_makes(boxes: Sandboxes, tmp_path: Path, strategy: str) -> None:
    exercise(enlarge(boxes, tmp_path / "cache"), strategy)


def test_what_cannot_be_is_refused_before_anything_is_copied(boxes: Sandboxes, tmp_path: Path) -> None:
    enlarge(boxes, tmp_path / "cache")
    done = boxes.run("run", "--cow", "thin", "--", "true")
    assert done.code == 11
    assert "no pool is set" in done.said
    assert boxes.directories() == []
