"""The comparison on a machine with KVM: `bench/compare --kvm`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import guests
from report import Measure

from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import RequirementError
from git_sandbox.vmm import backends
from git_sandbox.vmm.backends import AUTO, KVM, BackendNeeds, InstalledBackend
from git_sandbox.vmm.host import BootFiles

SETTINGS = {"SANDBOX_ACCELERATOR": KVM}  # so that nothing falls back to emulation and is taken for a figure with KVM


def refusal(image: Image) -> str:
    """Why this host cannot be measured; empty when a kernel has booted on its KVM just now."""
    try:
        chosen = backends.choose(BackendNeeds(), backends.look(BackendNeeds()))
        proof = backends.prove(chosen, BootFiles(image.kernel, image.initramfs), AUTO, fresh=True)
    except RequirementError as error:
        return f"{error.message}: {error.cause}"
    return "" if proof.accelerator == KVM else proof.reason


def others() -> list[InstalledBackend]:
    """VMMs beside QEMU, which all other rows are about."""
    return [found for found in backends.survey() if found.kind.name != "qemu" and found.version and not found.problem]


def rows(where: Path, runs: int) -> Iterator[Measure]:
    for found in others():
        settings = {"SANDBOX_BACKEND": found.kind.name}
        yield Measure(
            f"warm spawn with {found.kind.name}, to the guest's first word", "cold boot of the same machine", "<= 0.5",
            partial(guests.starts, where, runs, **settings),
        )  # fmt: skip


def facts() -> dict[str, str]:
    named = [f"{found.kind.name} {backends.dotted(found.version)}" for found in backends.survey() if found.version]
    return {"accelerator": "KVM, proved by booting at the start", "VMMs": ", ".join(named)}
