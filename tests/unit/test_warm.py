"""When a start is warm and what it depends on; `tests/vm/test_warm` has the machines."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from git_sandbox.image import guestfiles, templates
from git_sandbox.image.cache import Image
from git_sandbox.image.initrd import GuestFile
from git_sandbox.sandbox import warm
from git_sandbox.vmm.cloud_hypervisor import CloudHypervisor
from git_sandbox.vmm.machine import CHANNELS, Capabilities, Disk, MachineLogs, MachineSpec
from git_sandbox.vmm.qemu import Qemu

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - like shutil's


class Cannot(Qemu):
    capabilities = Capabilities(emulation=True, nat=True)


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> warm.Start:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "image").mkdir()
    image = Image(tmp_path / "image")
    (image.root / "image.json").write_bytes(b"{}")
    disks = Disk(image.rootfs, readonly=True), Disk(Path("/disk"))
    spec = MachineSpec("sandbox-vm-1", image.kernel, Path("/initrd"), ("quiet",), disks, channels=CHANNELS)
    logs = MachineLogs(tmp_path / "console", tmp_path / "vmm")
    return warm.Start(Qemu(), spec, image, {"config.json": GuestFile(b"{}")}, tmp_path, logs, lambda _text: None)


def key(wanted: warm.Start) -> str:
    assert isinstance(wanted.backend, Qemu)
    return warm._key(wanted, wanted.backend)


def cold(wanted: warm.Start) -> bool:
    with contextlib.ExitStack() as stack:
        return warm.start(wanted, stack) == warm.COLD


def test_sandboxes_of_one_kind_share_a_template(wanted: warm.Start) -> None:
    spec = dataclasses.replace(
        wanted.spec, name="sandbox-two", initrd=Path("/other"), disks=(wanted.spec.disks[0], Disk(Path("/another")))
    )
    other = dataclasses.replace(wanted, spec=spec, files={"config.json": GuestFile(b"other")})
    assert key(wanted) == key(other)


@pytest.mark.parametrize(
    "change", ["cpus", "memory", "channels", "mounts", "network", "accelerator", "image", "programs"]
)
def test_other_kinds_do_not(wanted: warm.Start, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(wanted)
    match change:
        case "cpus":
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, cpus=3))
        case "memory":
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, memory=4096))
        case "channels":
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, channels=CHANNELS[:2]))
        case "mounts":
            disks = (*wanted.spec.disks, Disk(Path("/copy"), readonly=True))
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, disks=disks))
        case "network":
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, net="nat"))
        case "accelerator":
            wanted = dataclasses.replace(wanted, backend=Qemu("kvm"))
        case "image":
            (wanted.image.root / "image.json").write_bytes(b'{"built": 2}')
        case "programs":
            monkeypatch.setattr(guestfiles, "programs", lambda: {"init.py": GuestFile(b"newer")})
    assert key(wanted) != before


@pytest.mark.parametrize("why", ["backend", "no workspace", "too many disks"])
def test_what_cannot_be_warm_boots_and_leaves_no_note(wanted: warm.Start, why: str) -> None:
    match why:
        case "backend":
            wanted = dataclasses.replace(wanted, backend=Cannot())
        case "no workspace":
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, disks=wanted.spec.disks[:1]))
        case "too many disks":
            disks = (*wanted.spec.disks, Disk(Path("/copy"), readonly=True))
            wanted = dataclasses.replace(
                wanted, backend=CloudHypervisor(), spec=dataclasses.replace(wanted.spec, disks=disks)
            )
    assert cold(wanted)
    assert templates.failures() == {}


def test_who_comes_while_another_builds_boots(wanted: warm.Start) -> None:
    with templates.building():
        assert cold(wanted)
    assert templates.failures() == {}


def test_a_nearly_full_disk_is_left_alone_and_named(wanted: warm.Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 1 << 30))
    assert cold(wanted)
    (failure,) = templates.failures().values()
    assert "MiB" in failure.reason
    assert templates.every() == []


def test_after_a_failure_it_is_not_tried_again(wanted: warm.Start, monkeypatch: pytest.MonkeyPatch) -> None:
    templates.failed(key(wanted), "before")
    monkeypatch.setattr(warm, "_make", lambda *_args: pytest.fail("tried again"))
    assert cold(wanted)
