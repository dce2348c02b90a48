from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from git_sandbox import network, process
from git_sandbox.errors import RequirementError
from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.vmm import cloud_hypervisor
from git_sandbox.vmm.cloud_hypervisor import CloudHypervisor
from git_sandbox.vmm.machine import MachineLogs, MachineSpec, Share
from support.machines import running
from support.specs import specs

VSOCK = Path("/run/x/vsock")


def config(spec: MachineSpec, *, landlock: bool = True) -> dict[str, Any]:
    return cloud_hypervisor.config(spec, VSOCK, landlock=landlock)


@given(specs())
def test_config_says_everything_the_spec_says(spec: MachineSpec) -> None:
    found = config(spec)
    assert found == config(spec)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    payload = found["payload"]
    assert (payload["kernel"], payload["initramfs"]) == (str(spec.kernel), str(spec.initrd))
    assert payload["cmdline"].split()[1:] == list(spec.cmdline)
    assert [(each["path"], each["readonly"]) for each in found["disks"]] == [
        (str(disk.path), disk.readonly) for disk in spec.disks
    ]
    assert found["cpus"] == {"boot_vcpus": spec.cpus, "max_vcpus": spec.cpus}
    assert found["memory"]["size"] == spec.memory << 20
    assert found["vsock"] == {"id": "vsock", "cid": 3, "socket": str(VSOCK)}


@given(specs())
def test_shared_directory_comes_with_memory_that_its_server_can_reach(spec: MachineSpec) -> None:
    assert config(spec)["memory"]["shared"] is False
    assert "fs" not in config(spec)
    sharing = dataclasses.replace(spec, share=Share("work", Path("/s")))
    found: dict[str, Any] = cloud_hypervisor.config(sharing, VSOCK, Path("/run/x/share"), landlock=True)
    assert found["memory"] == {"size": spec.memory << 20, "shared": True}
    assert [(each["tag"], each["socket"]) for each in found["fs"]] == [("work", "/run/x/share")]
    assert found | {"fs": 0, "memory": 0} == config(spec) | {"fs": 0, "memory": 0}


@given(specs())
def test_guest_cannot_choose_how_its_disks_are_read(spec: MachineSpec) -> None:
    assert {each["image_type"] for each in config(spec)["disks"]} <= {"Raw"}
    assert not any("backing_files" in each for each in config(spec)["disks"])


def test_filters_are_on() -> None:
    words = cloud_hypervisor.argv(Path("/run/x/api"), 9)
    assert words[words.index("--seccomp") + 1] == "true"
    spec = MachineSpec("n", Path("/k"), Path("/i"), ())
    assert config(spec)["landlock_enable"] is True
    assert config(spec, landlock=False)["landlock_enable"] is False
    assert [call.path for call in cloud_hypervisor.calls(config(spec))] == [
        "/api/v1/vm.create", "/api/v1/vm.boot",
    ]  # fmt: skip


def test_landlock_is_asked_of_the_kernel() -> None:
    said = Path("/sys/kernel/security/lsm")
    abi = cloud_hypervisor.landlock_abi()
    assert 0 <= abi < 100
    if said.exists() and os.access(said, os.R_OK):
        assert (abi > 0) is ("landlock" in said.read_text().split(","))


@pytest.mark.parametrize("split", [1, 30, 10_000])
def test_reset_is_the_end_of_the_machine(split: int) -> None:
    """However the stream of events is cut into pieces. The VMM here is sleep(1), the events are as it writes them."""
    events = b'{\n  "source": "vm",\n  "event": "booted"\n}\n\n{\n  "source": "vm",\n  "event": "rebooting"\n}\n\n'
    reading, writing = os.pipe()
    with process.spawn(["sleep", "600"]) as child:
        machine = running(cloud_hypervisor.explain, VSOCK, child)
        for start in range(0, len(events), split):
            os.write(writing, events[start : start + split])
        os.close(writing)
        cloud_hypervisor._end_at_reset(reading, machine)
        assert child.poll() in (-signal.SIGTERM, -signal.SIGKILL)
    os.close(reading)
    assert "the guest reset its machine" in machine.diagnosis()


def test_other_events_end_nothing() -> None:
    reading, writing = os.pipe()
    with process.spawn(["sleep", "600"]) as child:
        machine = running(cloud_hypervisor.explain, VSOCK, child)
        os.write(writing, b'{"source": "vm", "event": "booted"}\n\n')
        os.close(writing)
        cloud_hypervisor._end_at_reset(reading, machine)
        assert machine.alive()
    os.close(reading)


def test_exit_statuses_have_a_meaning() -> None:
    assert "seccomp" in cloud_hypervisor.explain(-signal.SIGSYS)
    assert "seccomp" in cloud_hypervisor.explain(128 + signal.SIGSYS), "as bubblewrap tells it"
    assert "signal 9" in cloud_hypervisor.explain(-9)
    assert "log" in cloud_hypervisor.explain(1)


def test_network_is_refused_before_anything_starts(tmp_path: Path) -> None:
    spec = MachineSpec("n", Path("/k"), Path("/i"), (), net=network.NAT)
    logs = MachineLogs(tmp_path / "c", tmp_path / "v")
    with pytest.raises(RequirementError) as refused, CloudHypervisor().start(spec, tmp_path, logs):
        pass
    assert "qemu" in refused.value.hint
    assert (CloudHypervisor.capabilities.vsock, CloudHypervisor.capabilities.ends_by) == (CHANNELS, "poweroff")
