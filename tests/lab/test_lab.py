"""The VM tests on a real KVM: one test here for each that runs in the lab."""

from __future__ import annotations

import pytest

from support.lab.once import DIED, Told

pytestmark = pytest.mark.timeout(5700)  # two labs, each with its own deadline


def test_lab_has_what_a_host_may_lack(lab: Told) -> None:
    assert not lab.error, lab.error
    wanted = ("/dev/kvm", "/dev/vhost-vsock", "/dev/net/tun", "/dev/mapper/control", "/dev/loop-control", "/dev/fuse")
    assert [name for name in wanted if lab.facts[name] != "yes"] == []


def test_lab_lived_to_the_end(lab: Told) -> None:
    """A lab that broke is made good by one that does not (docs/adr/0024), and told here."""
    assert not lab.error, lab.error
    if lab.died:
        pytest.skip(f"the emulated lab died, and a second one did the rest; {DIED} has its console: {lab.died[-300:]}")


def test_on_kvm(lab: Told, inner: str) -> None:
    """`inner`: what ran in the lab. Its outcome, reason and failure are this test's."""
    told = lab.of(inner)
    if told.outcome == "skipped":
        pytest.skip(f"in the lab: {told.text}")
    assert told.outcome == "passed", told.text
