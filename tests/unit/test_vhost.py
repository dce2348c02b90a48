from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox.errors import RequirementError
from git_sandbox.protocol import channel
from git_sandbox.vmm import vhost


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_device_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vhost, "DEVICE", tmp_path / "none")
    assert "modprobe" in vhost.problem()
    with pytest.raises(RequirementError) as refused, vhost.reserved():
        pass
    assert "modprobe" in refused.value.cause


def test_file_that_is_no_such_device_is_refused_and_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(vhost, "DEVICE", tmp_path / "file")
    before = descriptors()
    with pytest.raises(RequirementError, match="cannot be used"), vhost.reserved():
        pass
    assert descriptors() == before


def test_nothing_is_taken_that_is_not_wanted() -> None:
    with vhost.reserved(needed=False) as address:
        assert address == vhost.Address()


@pytest.mark.skipif(vhost.problem() != "", reason=f"the host's vsock cannot be used: {vhost.problem()}")
def test_addresses_are_our_own_and_free_again_afterwards() -> None:
    with vhost.reserved() as one, vhost.reserved() as other:
        assert one.cid != other.cid
        assert min(one.cid, other.cid) > 2
    with pytest.raises(OSError, match="No such device"):
        channel.connect(channel.VSOCK, str(one.cid), 22, patience=60)
