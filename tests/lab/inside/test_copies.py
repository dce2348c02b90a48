"""How disks are copied (`sandbox fork`, recovery) on file systems that few hosts have all of: each is made here."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.disk import ext4
from git_sandbox.doctor import machine

SHARING = {"btrfs": ("mkfs.btrfs", "-q"), "xfs": ("mkfs.xfs", "-q"), "ext4": ("mkfs.ext4", "-q", "-F")}
MIB = 1 << 20


@pytest.fixture(params=SHARING)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A file system of that kind, mounted."""
    image, target = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as made:
        made.truncate(512 * MIB)
    subprocess.run([*SHARING[request.param], image], check=True)
    target.mkdir()
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    try:
        yield request.param, target
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_copy_shares_blocks_where_it_can_and_is_independent(
    place: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, target = place
    source, copy = target / "source", target / "copy"
    data = random.Random(3).randbytes(16 * MIB)
    with source.open("wb") as out:
        out.write(data)
        out.truncate(128 * MIB)
        out.flush()
        os.fsync(out.fileno())
    before = os.statvfs(target).f_bfree
    ext4.copy(source, copy)
    os.sync()
    used = (before - os.statvfs(target).f_bfree) * os.statvfs(target).f_bsize
    shares = kind != "ext4"
    assert (used < 4 * MIB) is shares, f"{used} bytes for a copy on {kind}"
    assert copy.stat().st_blocks * 512 < 20 * MIB, "the hole stays one"
    with copy.open("r+b") as changed:
        changed.write(b"changed")
    assert source.read_bytes()[: 16 * MIB] == data
    assert copy.read_bytes()[7 : 16 * MIB] == data[7:]
    assert copy.stat().st_size == 128 * MIB
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(target))
    row = machine.copies()
    assert (row.verdict, row.result.startswith("reflinks")) == ("ok", shares)
