"""Which strategy shows a base, and what each of them leaves on the disk."""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import settings
from git_sandbox.disk import cow, delta_archive, dm_snapshot, ext4, lvm_thin, reflink, workspace_disk
from git_sandbox.disk.cow import Means
from git_sandbox.doctor import Check, machine
from git_sandbox.errors import HostResourceError, RequirementError
from git_sandbox.guest import tail as guest
from git_sandbox.image import spec
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.vmm.backends import BackendNeeds
from git_sandbox.vmm.machine import Disk, MachineSpec
from git_sandbox.vmm.qemu import argv

SIZE = 128 << 20
ALL = Means(("raw", "qcow2"), linked=True, reflinks=True, layers=True, pool="vg/pool", bytes=1 << 30)
MEANS = st.builds(
    Means,
    formats=st.sampled_from([("raw",), ("raw", "qcow2")]),
    linked=st.booleans(),
    reflinks=st.booleans(),
    layers=st.booleans(),
    pool=st.just(""),
    bytes=st.sampled_from([None, 1, cow.SMALL - 1, cow.SMALL, 1 << 40]),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    staging = tmp_path / "staging"
    (ext4.staging_layout(staging)).mkdir()
    target = tmp_path / "base" / "image.ext4"
    target.parent.mkdir()
    ext4.make(staging, target, inodes=10, size=SIZE)
    return target


@pytest.fixture
def box(tmp_path: Path) -> SandboxDir:
    (tmp_path / "box").mkdir()
    return SandboxDir(tmp_path / "box")


@pytest.fixture
def change(tmp_path: Path) -> delta_archive.Tail:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x" * 100_000)
    return delta_archive.build(source, [], ["file"])


def test_the_names_are_those_of_the_setting() -> None:
    assert set(settings.COW) == {cow.AUTO, *cow.NAMES}
    assert set(workspace_disk._LAYING) | {cow.THIN} == set(cow.NAMES)


@pytest.mark.parametrize(
    ("lost", "taken"),
    [
        ({}, "thin"),
        ({"pool": ""}, "qcow2"),
        ({"pool": "", "formats": ("raw",)}, "reflink"),
        ({"pool": "", "formats": ("raw",), "reflinks": False}, "overlay"),
        ({"pool": "", "formats": ("raw",), "reflinks": False, "bytes": cow.SMALL - 1}, "copy"),
        ({"pool": "", "formats": ("raw",), "reflinks": False, "layers": False}, "copy"),
        ({"pool": "", "linked": False, "reflinks": False}, "copy"),
    ],
)
def test_auto_takes_the_first_that_works(lost: dict[str, object], taken: str) -> None:
    assert cow.choose("auto", dataclasses.replace(ALL, **lost)).strategy == taken  # type: ignore[arg-type]


def test_the_reason_says_what_is_wrong_with_the_better_ones() -> None:
    chosen = cow.choose("auto", Means(("raw",), linked=True, reflinks=False, layers=True))
    assert chosen.reason == (
        "an empty disk that the guest overlays on the base"
        " (not thin: no pool is set; not qcow2: not for this backend; "
        "not reflink: the file system cannot share blocks (Btrfs and XFS can))"
    )


def test_a_pool_that_does_not_work_is_not_passed_over() -> None:
    broken = dataclasses.replace(ALL, trouble="it is full of eels")
    with pytest.raises(RequirementError, match="vg/pool") as caught:
        cow.choose("auto", broken)
    assert caught.value.cause == "it is full of eels"
    assert cow.choose("qcow2", broken).strategy == "qcow2"


@given(wanted=st.sampled_from(settings.COW), means=MEANS)
def test_what_is_chosen_works_and_what_is_asked_for_is_taken_or_refused(wanted: str, means: Means) -> None:
    works = {each.name for each in cow.STRATEGIES if not each.lacks(means)}
    try:
        chosen = cow.choose(wanted, means).strategy
    except RequirementError:
        assert wanted not in works
        return
    assert chosen in works
    assert wanted in (cow.AUTO, chosen)


def test_means_are_tried_and_leave_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    found = cow.look(source, target, ("raw",), "", layers=True, size=None)
    assert found.linked
    assert list(source.iterdir()) == list(target.iterdir()) == []
    assert not cow.look(Path("/dev/shm"), target, ("raw",), "", layers=True, size=None).linked


def test_a_reflink_that_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    """From a file system to another one nothing can be shared, whichever they are."""
    with pytest.raises(OSError, match=r".") as caught:
        reflink.clone(Path("/proc/self/status"), tmp_path / "clone")
    assert caught.value.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strategy", [cow.QCOW2, cow.OVERLAY, cow.COPY])
def test_a_disk_is_told_by_what_is_beside_it(
    image: Path, box: SandboxDir, change: delta_archive.Tail, tmp_path: Path, strategy: str
) -> None:
    before = image.read_bytes()
    for tailed in (None, change):  # the second attempt finds what the first one left
        workspace_disk.lay(strategy, image, box, tailed)
        assert box.base.exists() is (strategy == cow.QCOW2)
        assert box.lower.exists() is (strategy == cow.OVERLAY)
        assert box.disk.stat().st_mode & 0o777 == 0o600
    shown = workspace_disk.shown(box)
    assert (shown.format, shown.block) == ("qcow2" if strategy == cow.QCOW2 else "raw", False)
    assert (shown.lower is not None) is (strategy == cow.OVERLAY)
    other = SandboxDir(tmp_path / "other")
    other.root.mkdir()
    workspace_disk.clone(box, other)
    assert other.disk.read_bytes() == box.disk.read_bytes()
    assert workspace_disk.shown(other).format == shown.format
    assert image.read_bytes() == before
    workspace_disk.discard(box)
    assert list(box.root.iterdir()) == []
    assert other.disk.exists()


@pytest.mark.parametrize("strategy", [cow.QCOW2, cow.OVERLAY, cow.COPY])
def test_a_base_that_has_gone_leaves_no_disk(box: SandboxDir, tmp_path: Path, strategy: str) -> None:
    with pytest.raises(FileNotFoundError):
        workspace_disk.lay(strategy, tmp_path / "gone", box, None)
    assert list(box.root.iterdir()) == []


def test_an_overlays_store_can_never_be_full(image: Path, box: SandboxDir, change: delta_archive.Tail) -> None:
    workspace_disk.lay(cow.OVERLAY, image, box, change)
    store = workspace_disk.shown(box).store * dm_snapshot.SECTOR
    chunks = image.stat().st_size // dm_snapshot.CHUNK
    tables = -(-chunks // 256)
    assert store > (1 + chunks + tables) * dm_snapshot.CHUNK
    assert store % (1 << 20) == 0
    with box.disk.open("rb") as file:
        assert file.read(store).count(0) == store
        assert file.read(change.size) == b"".join(change.chunks())
    assert box.disk.stat().st_size % ext4.ALIGNMENT == 0
    assert box.disk.stat().st_blocks * 512 < 2 * change.size + ext4.ALIGNMENT


@given(size=st.integers(1, 1 << 44))
def test_a_store_has_room_for_every_chunk(size: int) -> None:
    chunks = -(-size // dm_snapshot.CHUNK)
    assert dm_snapshot.start(size) >= (1 + chunks + -(-chunks // 256)) * dm_snapshot.CHUNK
    assert dm_snapshot.start(size) <= size + size // 128 + (4 << 20)


def test_a_store_that_the_kernel_gave_up_is_valid_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    rest = os.urandom(8184)
    path.write_bytes(struct.pack("<II", 0x70416E53, 0) + rest)
    assert dm_snapshot.revive(path)
    assert path.read_bytes() == struct.pack("<II", 0x70416E53, 1) + rest
    assert not dm_snapshot.revive(path)


@pytest.mark.parametrize("content", [b"", b"SnAp", bytes(4096), b"\xff" * 4096, struct.pack("<II", 0x70416E53, 7)])
def test_anything_else_in_a_store_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(content)
    assert not dm_snapshot.revive(path)
    assert path.read_bytes() == content


def test_the_guest_takes_the_disk_it_was_given(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device laid over a base where there is one."""
    source = tmp_path / "tailed"
    source.mkdir()
    (source / "file").write_text("x")
    ext4.beside(image, tmp_path / "laid", delta_archive.build(source, [], ["file"]))
    monkeypatch.setattr(guest, "DEVICE", image)
    monkeypatch.setattr(guest, "LAID", tmp_path / "none")
    assert not guest.apply(root=tmp_path)
    monkeypatch.setattr(guest, "LAID", tmp_path / "laid")
    (tmp_path / "root").mkdir()
    assert guest.apply(root=tmp_path / "root")
    assert (tmp_path / "root" / "file").read_text() == "x"


def test_a_pool_is_a_name_before_lvm_is_asked() -> None:
    for bad in ("pool", "vg/pool/more", "-vg/pool", "vg/--yes", "/dev/vg", "vg/po ol", "a/b;c"):
        assert "not of the form VG/POOL" in lvm_thin.trouble(bad), bad


def test_volumes_are_made_by_lvm_and_wear_a_tag() -> None:
    base, mine = lvm_thin.Volume("vg/base"), lvm_thin.Volume.beside("vg/pool", "mine")
    assert lvm_thin.snapshot(base, mine, "tag") == [
        "lvcreate", "--quiet", "--snapshot", "-kn", "-ay", "--addtag", "tag", "--name", "mine", "vg/base",
    ]  # fmt: skip
    made = lvm_thin.create("vg/pool", mine, 4096, "tag")
    assert made[:5] == ["lvcreate", "--quiet", "--yes", "--wipesignatures", "n"]
    assert made[made.index("--virtualsize") + 1] == "4096b"
    assert mine.device == Path("/dev/vg/mine")
    assert lvm_thin.tag(Path("/a")) != lvm_thin.tag(Path("/b"))


def test_a_link_leads_to_its_volume(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/vg/mine")
    assert lvm_thin.Volume.of(tmp_path / "link") == lvm_thin.Volume("vg/mine")
    directory = SandboxDir(tmp_path)
    directory.disk.symlink_to("/dev/vg/mine")
    assert directory.has_disk()
    assert workspace_disk.shown(directory).block


def test_a_volume_of_a_base_is_bound_to_the_file(image: Path) -> None:
    name = lvm_thin.base_name(image)
    moved = image.rename(image.with_name("moved"))
    assert lvm_thin.base_name(moved) == name
    os.utime(moved, (1, 1))
    assert lvm_thin.base_name(moved) != name


def test_copying_data_keeps_holes(tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as out:
        for at in (0, 5 << 20, 9 << 20):
            out.seek(at)
            out.write(b"data" * 1000)
        out.truncate(20 << 20)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        os.truncate(target.fileno(), 20 << 20)
        lvm_thin.copy_data(source.fileno(), target.fileno(), 20 << 20)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert (tmp_path / "target").stat().st_blocks <= (tmp_path / "source").stat().st_blocks


def test_qemu_is_told_of_a_block_device() -> None:
    disks = (Disk(Path("/root.ext4"), readonly=True), Disk(Path("/dev/dm-3"), block=True))
    made = argv(MachineSpec("x", Path("k"), Path("i"), (), disks), accelerator="tcg", descriptors={"qmp": 3})
    nodes = [word for word in made if word.startswith('{"driver"')]
    assert '"driver":"file"' in nodes[0]
    assert '"driver":"host_device"' in nodes[1]


def test_doctor_shows_what_is_taken_and_refuses_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path))
    wanted = BackendNeeds()

    def row(**given: str) -> Check:
        return machine.workspace_disks(spec.load(), wanted, settings.resolve(given)[0])

    assert row().result.startswith("qcow2: ")
    assert row(cow="overlay").result == "overlay: asked for: an empty disk that the guest overlays on the base"
    assert row(bases="no").verdict == "note"
    refused = row(cow="thin")
    assert (refused.verdict, refused.result) == ("missing", "`--cow thin` cannot be used: no pool is set")
    without = spec.load(packages=()).__class__(suite="trixie", packages=("git",), kernel={}, modules=())
    assert "no dmsetup" in machine.workspace_disks(without, wanted, settings.resolve({"cow": "overlay"})[0]).result


def test_a_full_pool_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that fails where LVM's would; what LVM itself does is tested in the lab."""
    failing = tmp_path / "lvcreate"
    failing.write_text("#!/bin/sh\necho 'pool is full' >&2\nexit 5\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(HostResourceError, match="lvcreate") as caught:
        lvm_thin._do("lvcreate")
    assert caught.value.cause == "pool is full"
