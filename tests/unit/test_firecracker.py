from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from git_sandbox import network
from git_sandbox.errors import RequirementError
from git_sandbox.guest.protocol import CHANNELS, CONTROL, HOST, SSH
from git_sandbox.protocol.channel import HYBRID_VSOCK
from git_sandbox.vmm import firecracker
from git_sandbox.vmm.firecracker import Firecracker
from git_sandbox.vmm.machine import CALLS, Attachment, MachineLogs, MachineSpec
from support.machines import running
from support.specs import specs

VSOCK = Path("/run/x/vsock")


@given(specs())
def test_calls_say_everything_the_spec_says(spec: MachineSpec) -> None:
    calls = firecracker.calls(spec, VSOCK, "/proc/self/fd/7")
    bodies = {call.path: call.body for call in calls}
    assert calls == firecracker.calls(spec, VSOCK, "/proc/self/fd/7")
    assert {call.method for call in calls} == {"PUT"}
    assert calls[-1].body == {"action_type": "InstanceStart"}
    assert bodies["/machine-config"] == {"vcpu_count": min(spec.cpus, 32), "mem_size_mib": spec.memory}
    boot = bodies["/boot-source"]
    assert isinstance(boot, dict)
    assert (boot["kernel_image_path"], boot["initrd_path"]) == (str(spec.kernel), str(spec.initrd))
    assert boot["boot_args"].split()[-len(spec.cmdline) or 999 :] == list(spec.cmdline)
    assert bodies["/vsock"] == {"guest_cid": 3, "uds_path": str(VSOCK)}
    assert {"/entropy", "/metrics"} <= set(bodies)
    for call in calls:
        assert msgspec.json.decode(msgspec.json.encode(call.body)) == call.body


@given(specs())
def test_drives_keep_their_order_and_what_may_be_written(spec: MachineSpec) -> None:
    drives = [call for call in firecracker.calls(spec, VSOCK, "m") if call.path.startswith("/drives/")]
    bodies = [call.body for call in drives if isinstance(call.body, dict)]
    assert [(each["path_on_host"], each["is_read_only"]) for each in bodies] == [
        (str(disk.path), disk.readonly) for disk in spec.disks
    ]
    assert [f"/drives/{each['drive_id']}" for each in bodies] == [call.path for call in drives]
    assert not any(each["is_root_device"] for each in bodies)  # with an initrd that would add root= to the arguments
    assert all(each["cache_type"] == ("Unsafe" if each["is_read_only"] else "Writeback") for each in bodies)


@given(specs())
def test_argv_keeps_the_seccomp_filter_and_the_console_apart_from_the_log(spec: MachineSpec) -> None:
    words = firecracker.argv(spec, Path("/run/x"))
    options = dict(pairwise(words))
    assert "--no-seccomp" not in words
    assert "--seccomp-filter" not in words
    assert options["--log-path"] == "/run/x/log"
    assert options["--api-sock"] == "/run/x/api"
    assert re.fullmatch(r"[A-Za-z0-9-]{1,64}", options["--id"])


def test_guest_that_resets_its_machine_ends_firecracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    spec = MachineSpec("n", Path("/k"), Path("/i"), ("panic=-1",))
    (boot,) = (call.body for call in firecracker.calls(spec, VSOCK, "m") if call.path == "/boot-source")
    assert isinstance(boot, dict)
    assert "reboot=k" in boot["boot_args"].split()
    assert "i8042.nopnp" not in boot["boot_args"]
    assert Firecracker.capabilities.ends_by == "reboot"


@pytest.mark.parametrize(
    ("status", "words"),
    [(148, "seccomp"), (153, "command line"), (-9, "signal 9"), (137, "signal 9"), (77, "77"), (1, "log")],
)
def test_exit_statuses_have_a_meaning(status: int, words: str) -> None:
    assert words in firecracker.explain(status)


def test_every_channel_has_a_way_and_the_guest_listens_on_vsock() -> None:
    machine = running(firecracker.explain, VSOCK)
    assert machine.attachment(SSH) == Attachment(HYBRID_VSOCK, str(VSOCK), 22)
    assert machine.attachment(CONTROL) == Attachment(HYBRID_VSOCK, str(VSOCK), 1024)
    assert machine.attachment(HOST) == Attachment(CALLS, f"{VSOCK}_1025", 1025)
    assert Firecracker.capabilities.vsock == CHANNELS


def test_network_is_refused_before_anything_starts(tmp_path: Path) -> None:
    spec = MachineSpec("n", Path("/k"), Path("/i"), (), net=network.NAT)
    logs = MachineLogs(tmp_path / "c", tmp_path / "v")
    with pytest.raises(RequirementError) as refused, Firecracker().start(spec, tmp_path, logs):
        pass
    assert "qemu" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
