from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from git_sandbox import jsontext, network
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import ImageConfig, RootImage
from git_sandbox.errors import CollectError, RequirementError
from git_sandbox.git.names import SandboxId
from git_sandbox.image.guestfiles import GuestConfig, GuestMount, GuestUser
from git_sandbox.image.initrd import GuestFile
from git_sandbox.sandbox import machine_spec, machines, retrieve
from git_sandbox.sandbox.machine_spec import Hardware
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings, resolve
from git_sandbox.store import Record, SandboxHandle
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


@pytest.fixture
def box(tmp_path: Path) -> SandboxHandle:
    """With a disk over a base."""
    made = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    made.directory.base.touch()
    return made


def again(box: SandboxHandle, mode: str, like: Settings | None = None) -> object:
    nothing = cast("Any", None)
    return machines.backend_of_record(box, RECORD, nothing, mode, nothing, like=like)


def test_disk_of_a_sandbox_whose_backend_is_gone_is_read_with_another(
    box: SandboxHandle, asked: list[tuple[str, str, str]]
) -> None:
    assert again(box, "rescue") == "a backend"
    assert asked == [("firecracker", "none", "auto"), ("auto", "none", "auto")]


def test_sandbox_is_started_with_its_own_backend_or_not_at_all(
    box: SandboxHandle, asked: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(RequirementError, match="firecracker is not installed"):
        again(box, "run")
    assert asked == [("firecracker", "nat", "auto")]


def test_accelerator_of_the_command_line_counts_when_the_machine_starts(
    box: SandboxHandle, asked: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(RequirementError):
        again(box, "run", resolve({"accelerator": "kvm"})[0])
    assert asked == [("firecracker", "nat", "kvm")]


@pytest.mark.parametrize("confinement", ["yes", "no"])
def test_confinement_of_the_command_line_counts_for_the_rescue_machine_of_that_run_too(
    box: SandboxHandle, monkeypatch: pytest.MonkeyPatch, confinement: str
) -> None:
    heard: list[str] = []

    def backend(settings: Settings, *_rest: object, **_options: object) -> Any:
        heard.append(settings.confinement)
        if settings.backend == "firecracker":
            raise RequirementError("firecracker is not installed")
        return SimpleNamespace(name="qemu")

    def unconfined(_name: str, settings: Settings, **_options: object) -> tuple[str, ...]:
        heard.append(settings.confinement)
        raise RequirementError("the sandbox cannot be confined")

    monkeypatch.setattr(machines, "backend", backend)
    monkeypatch.setattr(machines, "unconfined", unconfined)
    monkeypatch.setattr("git_sandbox.sandbox.images.for_rescue", lambda *_: [None])
    way = retrieve.Import(resolve({"confinement": confinement})[0])
    monkeypatch.setattr(SandboxHandle, "repo", property(lambda _self: None))
    with pytest.raises(CollectError, match="cannot be confined"):
        way.from_disk(box, RECORD, lambda _text: None, "killed")
    assert heard == [confinement] * 3


CAN = Capabilities(emulation=True, network_device=True)


def test_a_machine_is_described_alike_ahead_of_its_disk_and_with_it(tmp_path: Path) -> None:
    made = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    settings = resolve({"cpus": "3", "memory": "1G", "net": "nat"})[0]
    record = msgspec.structs.replace(RECORD, cpus=3, memory=1024)
    planned = Hardware(settings.cpus, settings.memory, settings.net)
    assert planned == machine_spec.hardware(record, "run")
    copies = machine_spec.copies_planned(made, 12)
    ahead = machine_spec.machine(made, Image(tmp_path), CAN, "run", hardware=planned, copies=copies)
    made.directory.mounts.mkdir()
    for path in (made.directory.disk, *copies):
        path.touch()
    assert machine_spec.copies_made(made) == copies, "the tenth comes after the second"
    assert ahead == machine_spec.machine(made, Image(tmp_path), CAN, "run", hardware=planned, copies=copies)
    rescue = machine_spec.hardware(record, "rescue")
    lesser = machine_spec.machine(made, Image(tmp_path), CAN, "rescue", hardware=rescue, copies=copies)
    assert (len(lesser.disks), lesser.channels, lesser.cpus, lesser.net) == (2, ("control",), 1, network.NONE)


def test_only_a_sandbox_that_asks_for_it_has_machines_of_its_own(tmp_path: Path) -> None:
    made = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    record = msgspec.structs.replace(RECORD, virtualization=True)
    for mode, wanted in (("run", True), ("rescue", False)):
        hardware = machine_spec.hardware(record, mode)
        spec = machine_spec.machine(made, Image(tmp_path), CAN, mode, hardware=hardware, copies=[])
        assert spec.nested is wanted
    assert not machine_spec.hardware(RECORD, "run").nested


def test_the_layer_of_an_image_is_the_last_disk_and_no_rescue_needs_it(tmp_path: Path) -> None:
    made = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    (tmp_path / "layer.ext4").touch()
    image, copies = Image(tmp_path), machine_spec.copies_planned(made, 2)
    run = machine_spec.machine(made, image, CAN, "run", hardware=machine_spec.hardware(RECORD, "run"), copies=copies)
    assert (run.disks[-1].path, run.disks[-1].readonly) == (tmp_path / "layer.ext4", True)
    assert run.cmdline[-1] == "sandbox.layer=vde"
    rescue = machine_spec.hardware(RECORD, "rescue")
    lesser = machine_spec.machine(made, image, CAN, "rescue", hardware=rescue, copies=copies)
    assert (len(lesser.disks), "layer" in " ".join(lesser.cmdline)) == (2, False)


def told_to(box: SandboxHandle, mode: str, root: RootImage | None = None) -> dict[str, GuestFile]:
    """What a machine of this sandbox is told."""
    box.directory.keys.mkdir()
    for name in ("login.pub", "host"):
        (box.directory.keys / name).touch()
    config = GuestConfig(
        "vm-1", "run", GuestUser.current(), "/w", "", {}, env={"A": "1"}, auto_push=True,
        mounts=(GuestMount("given", "/given"),),
    )  # fmt: skip
    box.directory.config.write_bytes(jsontext.encode(config))
    return machine_spec.personal(box, RECORD, mode, CAN, root)


@pytest.fixture
def root(tmp_path: Path) -> RootImage:
    place = tmp_path / "root"
    place.mkdir()
    (place / "config.json").write_bytes(jsontext.encode(ImageConfig(env=("PATH=/opt/bin", "LANG=C", "A=image"))))
    return RootImage(place)


@pytest.mark.parametrize("mode", ["run", "rescue"])
def test_the_root_image_is_the_third_disk_and_no_rescue_needs_it(tmp_path: Path, root: RootImage, mode: str) -> None:
    made = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    (tmp_path / "layer.ext4").touch()
    image, copies = Image(tmp_path, root), machine_spec.copies_planned(made, 1)
    spec = machine_spec.machine(made, image, CAN, mode, hardware=machine_spec.hardware(RECORD, mode), copies=copies)
    third = [(each.path, each.readonly) for each in spec.disks[2:]]
    assert third == ([(root.rootfs, True), (copies[0], True)] if mode == "run" else [])
    told = told_to(made, mode, root)
    config = jsontext.decode(told["config.json"].content, GuestConfig)
    assert (config.root, config.path[:9]) == ((root.key, "/opt/bin:") if mode == "run" else ("", ""))
    sshd = told["sshd_config"].content
    assert (b"ChrootDirectory" in sshd, b'"LANG=C"' in sshd) == (mode == "run", mode == "run")
    assert b'"A=1"' in sshd or mode == "rescue", "the user's word counts more than the image's"
    assert b"image" not in sshd


@pytest.mark.parametrize("mode", ["run", "rescue"])
def test_a_rescue_machine_is_told_of_no_disks_but_its_own(tmp_path: Path, mode: str) -> None:
    box = SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path))
    told = told_to(box, mode)["config.json"]
    seen = jsontext.decode(told.content, GuestConfig)
    assert (seen.mode, len(seen.mounts), seen.network.device, seen.auto_push) == (mode, *[mode == "run"] * 3)
