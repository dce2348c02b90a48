from __future__ import annotations

import pytest

from git_sandbox.image.cache import Image
from git_sandbox.vmm import host


def test_the_probe_finds_a_kvm_that_works(monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
    """The one way to KVM that needs no setting. On processors that are no emulation it has ten seconds."""
    monkeypatch.setattr(host, "DEADLINE", 300.0)
    proof = host.accelerator(host.BootFiles(image.kernel, image.initramfs), fresh=True)
    assert (proof.accelerator, proof.reason) == ("kvm", "a kernel booted to user space with KVM")
