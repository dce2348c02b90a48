"""What would let a user open a device: joining its group is no advice where the group may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.vmm import device_access


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize(
    ("mode", "group", "said"),
    [
        (0o660, 54321, "(add yourself to the group `54321`)"),
        (0o600, 54321, "its mode is 0600, group 54321 (`sudo chmod 0666"),
        (0o660, 0, "its mode is 0660, group root (`sudo chmod 0666"),
        (0o640, 54321, "its mode is 0640"),
        (0o666, 0, ""),
    ],
)
def test_what_is_said_helps(tmp_path: Path, mode: int, group: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    device.touch()
    os.chown(device, 0, group)
    device.chmod(mode)
    monkeypatch.setattr(os, "access", lambda _path, _wanted: mode == 0o666)  # root may do anything
    assert said in device_access.denied(device)
    assert bool(said) is bool(device_access.denied(device))
