from __future__ import annotations

import pytest

from git_sandbox.cache.guest_images import Image
from git_sandbox.vmm import backends, host
from git_sandbox.vmm.backends import BackendNeeds
from support.backends import NAMES, absent


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_finds_a_kvm_that_works(monkeypatch: pytest.MonkeyPatch, image: Image, name: str) -> None:
    """The one way to KVM that needs no setting. On processors that are not emulated it has ten seconds."""
    if why := absent(name):
        pytest.skip(f"{name}: {why}")
    monkeypatch.setattr(host, "DEADLINE", 300.0)
    chosen = backends.choose(BackendNeeds(name), backends.look(BackendNeeds(name)))
    proof = backends.prove(chosen, host.BootFiles(image.kernel, image.initramfs), "auto", fresh=True)
    assert (proof.accelerator, proof.reason) == ("kvm", "a kernel booted to user space with KVM")
