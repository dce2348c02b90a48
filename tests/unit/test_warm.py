"""When a start is warm and what it depends on; `tests/vm/test_warm` has the machines."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import namedtuple
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from git_sandbox import network
from git_sandbox.cache import templates
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.errors import MachineError
from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.image import guestfiles
from git_sandbox.image.initrd import GuestFile
from git_sandbox.sandbox import prestart, warm_start
from git_sandbox.vmm.cloud_hypervisor import CloudHypervisor
from git_sandbox.vmm.machine import Capabilities, Disk, MachineLogs, MachineSpec
from git_sandbox.vmm.qemu import Qemu

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - like shutil's


class Cannot(Qemu):
    capabilities = Capabilities(emulation=True, network_device=True)


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> warm_start.Start:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "image").mkdir()
    image = Image(tmp_path / "image")
    (image.root / "image.json").write_bytes(b"{}")
    disks = Disk(image.rootfs, readonly=True), Disk(Path("/disk"))
    spec = MachineSpec("sandbox-vm-1", image.kernel, Path("/initrd"), ("quiet",), disks, channels=CHANNELS)
    logs = MachineLogs(tmp_path / "console", tmp_path / "vmm")
    return warm_start.Start(Qemu(), spec, image, {"config.json": GuestFile(b"{}")}, tmp_path, logs, lambda _text: None)


def key(wanted: warm_start.Start) -> str:
    assert isinstance(wanted.backend, Qemu)
    return warm_start.key(wanted, wanted.backend)


def cold(wanted: warm_start.Start) -> bool:
    with contextlib.ExitStack() as stack:
        return warm_start.start(wanted, stack) is None


def test_sandboxes_of_one_kind_share_a_template(wanted: warm_start.Start) -> None:
    spec = dataclasses.replace(
        wanted.spec, name="sandbox-two", initrd=Path("/other"), disks=(wanted.spec.disks[0], Disk(Path("/another")))
    )
    other = dataclasses.replace(wanted, spec=spec, files={"config.json": GuestFile(b"other")})
    assert key(wanted) == key(other)


@pytest.mark.parametrize(
    "change", ["cpus", "memory", "channels", "mounts", "network", "accelerator", "image", "programs"]
)
def test_other_kinds_do_not(wanted: warm_start.Start, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
            wanted = dataclasses.replace(wanted, spec=dataclasses.replace(wanted.spec, net=network.NAT))
        case "accelerator":
            wanted = dataclasses.replace(wanted, backend=Qemu("kvm"))
        case "image":
            (wanted.image.root / "image.json").write_bytes(b'{"built": 2}')
        case "programs":
            monkeypatch.setattr(guestfiles, "programs", lambda: {"init.py": GuestFile(b"newer")})
    assert key(wanted) != before


def test_root_images_share_a_template_but_where_the_backend_cannot_give_other_disks(wanted: warm_start.Start) -> None:
    def over(name: str, backend: Qemu | CloudHypervisor) -> warm_start.Start:
        root = RootImage(Path("/roots", name))
        spec = dataclasses.replace(wanted.spec, disks=(*wanted.spec.disks, Disk(root.rootfs, readonly=True)))
        image = dataclasses.replace(wanted.image, system=root)
        return dataclasses.replace(wanted, backend=backend, spec=spec, image=image)

    for backend, shared in ((Qemu(), True), (CloudHypervisor(), False)):
        one, two = over("one", backend), over("two", backend)
        assert warm_start.fits(one, backend.capabilities)
        shapes = [warm_start._shape(each, Path("initrd"), Path("disks")) for each in (one, two)]
        assert (shapes[0] == shapes[1]) is shared
        assert [each.path.parent for each in shapes[0].disks[1:]] == [
            Path("disks"),
            Path("disks" if shared else "/roots/one"),
        ]


@pytest.mark.parametrize("why", ["backend", "no workspace", "too many disks"])
def test_what_cannot_be_warm_boots_and_leaves_no_note(wanted: warm_start.Start, why: str) -> None:
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


def test_who_comes_while_another_builds_boots(wanted: warm_start.Start) -> None:
    with templates.building():
        assert cold(wanted)
    assert templates.failures() == {}


def test_a_nearly_full_disk_is_left_alone_and_named(wanted: warm_start.Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 1 << 30))
    assert cold(wanted)
    (failure,) = templates.failures().values()
    assert "MiB" in failure.reason
    assert templates.every() == []


def test_after_a_failure_it_is_not_tried_again(wanted: warm_start.Start, monkeypatch: pytest.MonkeyPatch) -> None:
    templates.failed(key(wanted), "before")
    monkeypatch.setattr(warm_start, "_make", lambda *_args: pytest.fail("tried again"))
    assert cold(wanted)


class Early:
    """A machine without a machine. `fails`: where."""

    def __init__(self, fails: str) -> None:
        self.fails, self.gone = fails, False
        self.disks: tuple[Disk, ...] = ()

    def restore(self) -> None:
        if self.fails == "restore":
            raise MachineError("no state")

    def attach(self, disks: Sequence[Disk]) -> None:
        assert not self.gone
        if self.fails == "attach":
            raise MachineError("no disk")
        self.disks = tuple(disks)


class Ahead(Qemu):
    machine: Early

    @contextlib.contextmanager
    def begin(self, spec: MachineSpec, runtime: Path, logs: MachineLogs) -> Iterator[Any]:
        assert (spec.saved is not None and spec.saved.restore, runtime, logs.vmm.parent) == (True, runtime, runtime)
        try:
            yield self.machine
        finally:
            self.machine.gone = True


@pytest.fixture
def early(
    wanted: warm_start.Start, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> warm_start.Start:
    """What `wanted` asks for, with a template, of a machine that fails where the parameter says."""
    machine = Early(getattr(request, "param", ""))
    monkeypatch.setattr(Ahead, "machine", machine, raising=False)

    def call(_machine: object, op: str, *_rest: object) -> None:
        if op == machine.fails:
            raise MachineError("no answer")

    monkeypatch.setattr(warm_start, "call", call)
    wanted = dataclasses.replace(wanted, backend=Ahead())
    with templates.building() as place:
        assert place is not None
        templates.publish(place, warm_start.key(wanted, cast("Qemu", wanted.backend)), "image", "shape")
    return wanted


def test_machine_begun_ahead_gets_the_disks_when_they_are_there(early: warm_start.Start) -> None:
    with contextlib.ExitStack() as stack:
        ahead = prestart.begin(early, stack)
        assert ahead is not None
        other = dataclasses.replace(
            early,
            spec=dataclasses.replace(early.spec, disks=(early.spec.disks[0], Disk(Path("/mine"), format="qcow2"))),
        )
        warm = prestart.follow(other, ahead, stack)
        assert warm is not None
        machine, personalization = warm
        assert machine is ahead.machine
        assert Ahead.machine.disks == (Disk(Path("/mine"), format="qcow2"),)
        personalization.done()
        assert templates.remove(templates.every()[0]), "it is nobody's any more"
    assert Ahead.machine.gone


def test_nothing_is_begun_ahead_without_a_template_or_by_who_cannot(early: warm_start.Start) -> None:
    with contextlib.ExitStack() as stack:
        assert prestart.begin(dataclasses.replace(early, backend=CloudHypervisor()), stack) is None
        other = dataclasses.replace(early, spec=dataclasses.replace(early.spec, cpus=7))
        assert prestart.begin(other, stack) is None
    assert templates.failures() == {}


def test_a_cache_that_cannot_be_read_is_no_obstacle(early: warm_start.Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_key: str) -> None:
        raise PermissionError

    monkeypatch.setattr(templates, "used", refused)
    with contextlib.ExitStack() as stack:
        assert prestart.begin(early, stack) is None


@pytest.mark.parametrize("early", ["restore", "rehearse", "attach"], indirect=True)
def test_machine_that_fails_ahead_of_its_disk_is_noted_and_booted(early: warm_start.Start) -> None:
    with contextlib.ExitStack() as stack:
        ahead = prestart.begin(early, stack)
        assert ahead is not None
        assert templates.failures() == {}, "nobody has asked yet"
        assert prestart.follow(early, ahead, stack) is None
    assert list(templates.failures()) == [ahead.key]
    assert Ahead.machine.gone


@pytest.mark.parametrize("early", ["restore"], indirect=True)
def test_machine_that_nobody_wants_any_more_is_no_failure(early: warm_start.Start) -> None:
    with contextlib.ExitStack() as stack:
        assert prestart.begin(early, stack) is not None
    assert Ahead.machine.gone
    assert templates.failures() == {}


def test_another_machine_than_the_one_begun_is_started_anew(early: warm_start.Start) -> None:
    with contextlib.ExitStack() as stack:
        ahead = prestart.begin(early, stack)
        assert ahead is not None
        more = dataclasses.replace(early, spec=dataclasses.replace(early.spec, memory=4096))
        assert prestart.follow(more, ahead, stack) is None
    assert Ahead.machine.disks == ()
    assert templates.failures() == {}
