"""What Firecracker and Cloud Hypervisor are told, so that a machine is saved and others start from it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from git_sandbox.errors import MachineError
from git_sandbox.vmm import cloud_hypervisor, cloud_hypervisor_state, firecracker, firecracker_state, launch
from git_sandbox.vmm.cloud_hypervisor import CloudHypervisor
from git_sandbox.vmm.firecracker import Firecracker
from git_sandbox.vmm.machine import Disk, MachineSpec, Saved, Snapshotting, can_save
from support.machines import running
from support.specs import specs

PLACE = Path("/cache/template")
MADE, FOUND = Saved(PLACE, restore=False), Saved(PLACE, restore=True)
VSOCK = Path("/run/x/vsock")
SPEC = MachineSpec(
    "sandbox-vm-1", Path("/k"), Path("/i"), ("quiet",), (Disk(Path("/root.ext4"), readonly=True), Disk(Path("/mine")))
)


def saved(how: Saved) -> MachineSpec:
    return dataclasses.replace(SPEC, saved=how)


def test_firecracker_knows_what_is_a_sandboxs_own_by_relative_names_only() -> None:
    described = firecracker.begin(firecracker_state.relative(saved(MADE)), firecracker_state.VSOCK, "m")
    said = msgspec.json.encode([call.body for call in described]).decode()
    assert '"path_on_host":"disk1"' in said
    assert '"path_on_host":"/root.ext4"' in said
    assert '"uds_path":"vsock"' in said
    assert "/mine" not in said
    assert firecracker_state.names(saved(FOUND)) == {"disk1": Path("/mine")}


def test_firecracker_that_is_restored_is_described_by_the_snapshot_alone() -> None:
    metrics, load, resume = firecracker.begin(saved(FOUND), VSOCK, "m")
    assert metrics.path == "/metrics"
    assert (load.method, load.path) == ("PUT", "/snapshot/load")
    assert load.body == {
        "snapshot_path": f"{PLACE}/state",
        "mem_backend": {"backend_type": "File", "backend_path": f"{PLACE}/memory"},
    }  # fmt: skip
    assert (resume.method, resume.path, resume.body) == ("PATCH", "/vm", {"state": "Resumed"})


def test_firecracker_is_paused_and_saved_whole() -> None:
    pause, create = firecracker_state.save_calls(MADE)
    assert (pause.method, pause.path, pause.body) == ("PATCH", "/vm", {"state": "Paused"})
    assert isinstance(create.body, dict)
    assert create.body["snapshot_type"] == "Full"


@given(specs())
def test_what_is_not_saved_keeps_its_own_paths(spec: MachineSpec) -> None:
    assert firecracker.begin(spec, VSOCK, "m") == firecracker.calls(spec, VSOCK, "m")
    assert cloud_hypervisor.config(spec, VSOCK, landlock=True)["landlock_rules"] == []


def test_cloud_hypervisor_shares_its_memory_when_saved_and_only_then() -> None:
    for how in (MADE, FOUND):
        memory = cloud_hypervisor.config(saved(how), VSOCK, landlock=True)["memory"]
        assert isinstance(memory, dict)
        (zone,) = memory["zones"]
        assert (zone["file"], zone["size"]) == (f"{PLACE}/memory", SPEC.memory << 20)
        assert zone["shared"] is not how.restore
        assert memory["size"] == 0


def test_cloud_hypervisor_may_write_to_the_template_when_it_is_made_and_not_later() -> None:
    rules = [cloud_hypervisor.config(saved(how), VSOCK, landlock=True)["landlock_rules"] for how in (MADE, FOUND)]
    assert rules == [[{"path": str(PLACE), "access": "rw"}], []]


def test_cloud_hypervisors_devices_are_found_by_the_same_names() -> None:
    made, found = (cloud_hypervisor.config(saved(how), VSOCK, landlock=True) for how in (MADE, FOUND))
    assert made["disks"] == found["disks"]
    assert made["vsock"] == found["vsock"]
    assert [each["id"] for each in made["disks"]] == ["disk0", "disk1"]  # type: ignore[attr-defined]


def test_cloud_hypervisor_gets_our_description_and_the_saved_state(tmp_path: Path) -> None:
    template, runtime = tmp_path / "template", tmp_path / "run"
    for each in (template, runtime):
        each.mkdir()
    (template / "state.json").write_bytes(b"state")
    (template / "config.json").write_bytes(b"never read")
    cloud_hypervisor_state.describe({"ours": True}, Saved(template, restore=True), runtime)
    assert sorted(each.name for each in runtime.iterdir()) == ["config.json", "state.json"]
    assert (runtime / "config.json").read_bytes() == b'{"ours":true}'
    assert (runtime / "state.json").read_bytes() == b"state"


def test_cloud_hypervisor_learns_the_size_of_the_sandboxs_disk_before_it_runs(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(5 << 20)
    sizes = cloud_hypervisor._sizes(dataclasses.replace(SPEC, disks=(SPEC.disks[0], Disk(disk))))
    restore, resize, resume = cloud_hypervisor_state.load_calls(Path("/run/x"), sizes)
    assert restore.body == {"source_url": "file:///run/x"}
    assert resize.body == {"id": "disk1", "desired_size": 5 << 20}
    assert resume.path.endswith("vm.resume")


def test_room_for_the_memory_takes_no_space(tmp_path: Path) -> None:
    how = Saved(tmp_path, restore=False)
    cloud_hypervisor_state.make_room(how, 64)
    assert (how.memory.stat().st_size, how.memory.stat().st_blocks) == (64 << 20, 0)


@pytest.mark.parametrize("backend", [Firecracker(), CloudHypervisor()], ids=lambda each: each.name)
def test_a_saved_machine_is_for_one_vmm_one_processor_and_one_shape(
    backend: Snapshotting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_save(backend)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("firecracker", "cloud-hypervisor"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    seen = {backend.fingerprint(SPEC), backend.fingerprint(dataclasses.replace(SPEC, cpus=2))}
    monkeypatch.setattr(launch, "processor", lambda: "another")
    seen.add(backend.fingerprint(SPEC))
    for name in ("firecracker", "cloud-hypervisor"):
        (programs / name).write_text("#!/bin/sh\n# newer\n")
    seen.add(backend.fingerprint(SPEC))
    assert len(seen) == 4


def test_a_machine_that_was_not_started_to_be_saved_says_so() -> None:
    with pytest.raises(MachineError, match="not started for saving"):
        running(firecracker.explain, VSOCK).save()
