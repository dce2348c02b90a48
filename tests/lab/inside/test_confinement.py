"""Firecracker, Cloud Hypervisor and virtiofsd, real ones on KVM, see their machine's files only; QEMU: tests/vm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.backends import ON_SHARE, absent, process, unshared
from support.confined import check_vmm
from support.gitrepo import GitRepo
from support.vm import Sandboxes, real_cache, sandboxes

pytestmark = pytest.mark.timeout(2400)
CACHE = real_cache()


@pytest.fixture(params=["firecracker", "cloud-hypervisor", f"cloud-hypervisor{ON_SHARE}"])
def confined(request: pytest.FixtureRequest, repo: GitRepo, tmp_path: Path) -> Iterator[tuple[Sandboxes, str]]:
    name = str(request.param).removesuffix(ON_SHARE)
    shares = name != request.param
    if why := absent(name) or (unshared() if shares else ""):
        pytest.skip(f"{request.param}: {why}")
    with sandboxes(repo, tmp_path / "state", CACHE) as made:
        made.env |= {"SANDBOX_BACKEND": name, "SANDBOX_CONFINEMENT": "yes", "SANDBOX_WARM": "no"}
        made.env |= {"SANDBOX_TRANSPORT": "share"} if shares else {}
        made.machine = process(name)
        yield made, name


def test_a_vmm_sees_its_machines_files_only(confined: tuple[Sandboxes, str]) -> None:
    check_vmm(*confined)
