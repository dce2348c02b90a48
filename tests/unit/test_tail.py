"""The bytes behind a disk's file system, and the qcow2 image that carries them."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.disk import delta_archive, ext4, qcow2
from git_sandbox.errors import HostResourceError, SandboxError
from git_sandbox.guest import tail as guest

SIZE = 128 << 20
CLUSTER = 1 << 16


@pytest.fixture
def image(tmp_path: Path) -> Path:
    staging = tmp_path / "staging"
    (ext4.staging_layout(staging)).mkdir()
    target = tmp_path / "base.ext4"
    ext4.make(staging, target, inodes=10, size=SIZE - 5)
    return target


@pytest.fixture
def change(tmp_path: Path) -> delta_archive.Tail:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"\0" * 10_000 + b"x" * 100_000)
    return delta_archive.build(source, ["gone"], ["file"])


def shown(path: Path, position: int, size: int) -> bytes:
    """What QEMU would read from a qcow2 image above its backing file. A second look at the format, from its manual."""
    raw = path.read_bytes()
    bits, total = struct.unpack_from(">I", raw, 20)[0], struct.unpack_from(">Q", raw, 24)[0]
    (l1,) = struct.unpack_from(">Q", raw, 40)
    cluster, found = 1 << bits, b""
    while len(found) < size:
        at = position + len(found)
        assert at < total
        (l2,) = struct.unpack_from(">Q", raw, l1 + at // (cluster * cluster // 8) * 8)
        (data,) = struct.unpack_from(">Q", raw, (l2 & ~(1 << 63)) + at // cluster % (cluster // 8) * 8)
        start = (data & ~(1 << 63)) + at % cluster
        found += raw[start : start + cluster - at % cluster]
    return found[:size]


def test_disks_are_whole_clusters(image: Path) -> None:
    assert image.stat().st_size == SIZE
    with image.open("r+b", buffering=0) as device:
        assert guest.file_system_size(device) == SIZE


def test_an_overlay_shows_the_tail_behind_the_base(image: Path, change: delta_archive.Tail, tmp_path: Path) -> None:
    target = tmp_path / "overlay"
    ext4.over(image, target, change)
    raw = target.read_bytes()
    assert raw[:8] == b"QFI\xfb\0\0\0\3"
    name, length = struct.unpack_from(">QI", raw, 8)
    assert raw[name : name + length] == b"base.ext4"
    assert shown(target, SIZE, change.size) == b"".join(change.chunks())
    table, block = struct.unpack_from(">Q", raw, 48)[0], struct.unpack_from(">Q", raw, CLUSTER)[0]
    assert table == CLUSTER
    counts = struct.unpack_from(f">{CLUSTER // 2}H", raw, block)
    assert sum(counts) == len(raw) // CLUSTER
    assert target.stat().st_mode & 0o777 == 0o600


def test_the_guest_applies_a_tail_once(image: Path, change: delta_archive.Tail, tmp_path: Path) -> None:
    target, root = tmp_path / "raw", tmp_path / "root"
    root.mkdir()
    (root / "gone").mkdir()
    (root / "gone" / "inner").write_text("x")
    ext4.beside(image, target, change)
    assert guest.apply(target, root)
    assert (root / "file").read_bytes() == (change.root / "file").read_bytes()
    assert [each.name for each in root.iterdir()] == ["file"]
    (root / "file").unlink()
    assert not guest.apply(target, root)
    assert list(root.iterdir()) == []


def test_a_disk_without_a_tail_is_left_alone(image: Path, tmp_path: Path) -> None:
    ext4.beside(image, tmp_path / "raw", None)
    assert not guest.apply(tmp_path / "raw", tmp_path)
    assert not guest.apply(image, tmp_path)


def test_a_tail_cut_off_changes_no_header(image: Path, change: delta_archive.Tail, tmp_path: Path) -> None:
    """What fails half-way is applied again by the next boot."""
    target, root = tmp_path / "raw", tmp_path / "root"
    root.mkdir()
    ext4.beside(image, target, change)
    os.truncate(target, SIZE + delta_archive.BLOCK + len(change.manifest) + 100)
    with pytest.raises(EOFError):
        guest.apply(target, root)
    target.unlink()
    ext4.beside(image, target, change)
    assert guest.apply(target, root)
    assert (root / "file").stat().st_size == 110_000


def test_no_half_disk_stays(
    image: Path, change: delta_archive.Tail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(change.root / "file", 5)
    for make in (ext4.over, ext4.beside):
        with pytest.raises(SandboxError, match="changed while"):
            make(image, tmp_path / "disk", change)
        assert not (tmp_path / "disk").exists()

    def full(_self: delta_archive.Tail) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(delta_archive.Tail, "chunks", full)
    with pytest.raises(HostResourceError, match="full"):
        ext4.beside(image, tmp_path / "disk", change)


def test_qcow2_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple"):
        qcow2.create(tmp_path / "x", "base", CLUSTER + 1)
    with pytest.raises(ValueError, match="instead of"):
        qcow2.create(tmp_path / "x", "base", CLUSTER, [b"123"], 4)
