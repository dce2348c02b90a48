from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from git_sandbox import jsontext
from git_sandbox.errors import RequirementError
from git_sandbox.git.names import SandboxId
from git_sandbox.image.guestfiles import GuestConfig, GuestMount, GuestUser
from git_sandbox.paths import SandboxDir
from git_sandbox.sandbox import machines, provision
from git_sandbox.settings import Settings, resolve
from git_sandbox.store import Box, Record
from git_sandbox.vmm.machine import Capabilities

RECORD = Record(
    id="vm-1", worktree="/w", git_dir="/w/.git", common_dir="/w/.git", object_format="sha1", created=0.0, base=None,
    base_symref=None, snapshot="0" * 40, index_tree=None, backend="firecracker", image="k", cpus=1, memory=512,
    net="nat",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What `machines` looks for on a host where Firecracker is gone."""
    seen: list[tuple[str, str, str]] = []

    def backend(settings: Settings, *_rest: object, disk: str, share: bool) -> str:
        assert (disk, share) == ("qcow2", False)
        seen.append((settings.backend, settings.net.name, settings.accelerator))
        if settings.backend == "firecracker":
            raise RequirementError("firecracker is not installed")
        return "a backend"

    monkeypatch.setattr(machines, "backend", backend)
    return seen


def again(mode: str, like: Settings | None = None) -> object:
    nothing = cast("Any", None)
    return machines._again(RECORD, nothing, mode, nothing, like, disk="qcow2", share=False)


def test_disk_of_a_sandbox_whose_backend_is_gone_is_read_with_another(asked: list[tuple[str, str, str]]) -> None:
    assert again("rescue") == "a backend"
    assert asked == [("firecracker", "none", "auto"), ("auto", "none", "auto")]


def test_sandbox_is_started_with_its_own_backend_or_not_at_all(asked: list[tuple[str, str, str]]) -> None:
    with pytest.raises(RequirementError, match="firecracker is not installed"):
        again("run")
    assert asked == [("firecracker", "nat", "auto")]


def test_accelerator_of_the_command_line_counts_when_the_machine_starts(asked: list[tuple[str, str, str]]) -> None:
    with pytest.raises(RequirementError):
        again("run", resolve({"accelerator": "kvm"})[0])
    assert asked == [("firecracker", "nat", "kvm")]


@pytest.mark.parametrize("mode", ["run", "rescue"])
def test_a_rescue_machine_is_told_of_no_disks_but_its_own(tmp_path: Path, mode: str) -> None:
    box = Box(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    box.directory.keys.mkdir()
    for name in ("login.pub", "host"):
        (box.directory.keys / name).touch()
    config = GuestConfig(
        "vm-1", "run", GuestUser.current(), "/w", "", {}, env={"A": "1"}, auto_push=True,
        mounts=(GuestMount("given", "/given"),),
    )  # fmt: skip
    box.directory.config.write_bytes(jsontext.encode(config))
    told = provision.personal(box, RECORD, mode, Capabilities(emulation=True, network_device=True))["config.json"]
    seen = jsontext.decode(told.content, GuestConfig)
    assert (seen.mode, len(seen.mounts), seen.network.device, seen.auto_push) == (mode, *[mode == "run"] * 3)
