"""The VM tests on a real KVM: one test here for each that runs in the lab."""

from __future__ import annotations

import pytest

from support.lab.once import Told

pytestmark = pytest.mark.timeout(2000)


def test_lab_has_what_a_host_may_lack(lab: Told) -> None:
    assert lab.outcome, lab.error
    facts = dict(lab.outcome.facts)
    wanted = ("/dev/kvm", "/dev/vhost-vsock", "/dev/net/tun", "/dev/mapper/control", "/dev/loop-control", "/dev/fuse")
    assert [name for name in wanted if facts[name] != "yes"] == []
    assert facts["nested paging"] == "Y"


def test_on_kvm(lab: Told, inner: str) -> None:
    """`inner`: what ran in the lab. Its outcome, reason and failure are this test's."""
    told = lab.of(inner)
    if told.outcome == "skipped":
        pytest.skip(f"in the lab: {told.text}")
    assert told.outcome == "passed", told.text
