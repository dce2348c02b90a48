"""Strategies for disks that need what few hosts have: file systems that share blocks, and an LVM thin pool."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import paths
from git_sandbox.disk import lvm_thin
from git_sandbox.errors import HostResourceError
from support.backends import NAMES, absent, process
from support.cow import bases, enlarged, exercise, kind, own_cache
from support.gitrepo import GitRepo
from support.vm import Sandboxes, real_cache, sandboxes, wait_for

MIB = 1 << 20
pytestmark = pytest.mark.timeout(3000)  # some boot seven machines each, on processors that are emulated
SHARING = {"btrfs": ("mkfs.btrfs", "-q"), "xfs": ("mkfs.xfs", "-q")}
CACHE = real_cache()


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def mounted(place: Path, size: int, *make: str) -> Iterator[Path]:
    """A file system of that size."""
    image, target = place / "image", place / "mounted"
    with image.open("wb") as made:
        made.truncate(size)
    run(*make, image)
    target.mkdir()
    run("mount", "-o", "loop", image, target)
    try:
        yield target
    finally:
        run("umount", target)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty thin pool, VG/POOL, of a volume group of its own."""
    monkeypatch.setenv("DM_DISABLE_UDEV", "1")  # the lab has none: libdevmapper makes the nodes itself
    image, group = tmp_path / "pv", f"vg{os.getpid()}"
    with image.open("wb") as made:
        made.truncate(1536 * MIB)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        run("pvcreate", "-q", device)
        run("vgcreate", "-q", group, device)
        run("lvcreate", "-q", "--type", "thin-pool", "--size", "1400M", "--name", "pool", group)
        try:
            yield f"{group}/pool"
        finally:
            run("vgremove", "-q", "--force", "--yes", group)
    finally:
        run("losetup", "--detach", device)


@contextlib.contextmanager
def boxes_of(name: str, repo: GitRepo, place: Path) -> Iterator[Sandboxes]:
    """Sandboxes of that backend with state and cache below `place`."""
    if why := absent(name):
        pytest.skip(f"{name}: {why}")
    with sandboxes(repo, place / "state", CACHE) as made:
        made.env["SANDBOX_BACKEND"] = name
        made.machine = process(name)
        with enlarged(own_cache(made, place / "cache")) as boxes:
            yield boxes


def volumes(pool: str) -> list[str]:
    return run(
        "lvs", "--noheadings", "--options", "lv_name", "--select", "pool_lv=pool", pool.split("/", maxsplit=1)[0]
    ).split()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind_of", SHARING)
def test_disks_share_the_blocks_of_the_base(repo: GitRepo, tmp_path: Path, name: str, kind_of: str) -> None:
    with (
        mounted(tmp_path, 2048 * MIB, *SHARING[kind_of]) as place,
        boxes_of(name, repo, place) as boxes,
    ):
        exercise(boxes, "reflink")


@pytest.mark.parametrize("name", NAMES)
def test_disks_are_thin_snapshots(repo: GitRepo, tmp_path: Path, pool: str, name: str) -> None:
    with boxes_of(name, repo, tmp_path) as boxes:
        boxes.env["SANDBOX_THIN_POOL"] = pool
        exercise(boxes, "thin")
        assert [each for each in volumes(pool) if not each.startswith("sandbox-base-")] == []
        (image,) = bases(boxes)
        (base,) = volumes(pool)
        with image.open("rb") as mine, Path("/dev", pool.split("/", maxsplit=1)[0], base).open("rb") as theirs:
            while chunk := mine.read(16 * MIB):
                assert theirs.read(len(chunk)) == chunk
        row = next(row for row in boxes.run("doctor", "--json").envelope["data"] if row["name"] == "workspace disks")
        assert row["result"].startswith("thin: ")


def test_a_killed_sandbox_leaks_no_volume(repo: GitRepo, tmp_path: Path, pool: str) -> None:
    """Killed while it runs, its volume is found by drop; with its directory gone, by prune; the pool stays."""
    group = pool.split("/", maxsplit=1)[0]
    with boxes_of("qemu", repo, tmp_path) as boxes:
        boxes.env |= {"SANDBOX_THIN_POOL": pool, "SANDBOX_DISK": "256M"}
        for name in ("lost", "dropped"):
            with boxes.started("run", "--name", name, "--", "sh", "-c", "echo up; sleep 600") as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"up\n"
                child.kill()
                child.wait()
            wait_for("the machine dies with its supervisor", lambda: not boxes.processes(), 15)
        assert len(volumes(pool)) == 3
        dropped = (boxes.directory("dropped") / "workspace.ext4").readlink().name
        run("lvchange", "--activate", "n", f"{group}/{dropped}")
        boxes.ok("recover", "dropped")  # as after a boot of the host
        boxes.ok("drop", "--force", "dropped")
        assert len(volumes(pool)) == 2
        run("rm", "-r", boxes.directory("lost"))
        assert "thin volume" in boxes.ok("image", "prune").text
        assert volumes(pool) == []
        boxes.env["SANDBOX_THIN_POOL"] = f"{pool}x"
        assert boxes.run("run", "--", "true").code == 11, "it is not passed over"


def test_a_pool_is_never_filled_half(tmp_path: Path, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails leaves neither a volume nor a link; an import that died is done again; others' volumes stay."""
    for each in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{each}_HOME", os.fspath(tmp_path / each))
    group, image, link = pool.split("/", maxsplit=1)[0], tmp_path / "image", tmp_path / "box" / "workspace.ext4"
    link.parent.mkdir()
    image.write_bytes(os.urandom(4 * MIB))
    run("lvcreate", "-q", "--virtualsize", "8M", "--thinpool", pool, "--name", "sandbox-of-somebody-else")
    half = f"{lvm_thin.base_name(image)}-new"
    run(*lvm_thin.create(pool, lvm_thin.Volume(f"{group}/{half}"), 4 * MIB, lvm_thin.tag(paths.cache_root())))
    lvm_thin.lay(pool, image, link, None)
    assert half not in volumes(pool)
    assert link.read_bytes()[: 4 * MIB] == image.read_bytes()
    with pytest.raises(HostResourceError, match="lvcreate"):
        lvm_thin.lay(f"{group}/none", tmp_path / "box", tmp_path / "other" / "workspace.ext4", None)
    assert lvm_thin.strays(pool, lambda: ([], [])) == 2
    assert volumes(pool) == ["sandbox-of-somebody-else"]


def test_work_survives_a_full_disk_below_an_overlay(repo: GitRepo, tmp_path: Path) -> None:
    """The guest's kernel gives the whole store up when one write fails. What it had written is there all the same."""
    with mounted(tmp_path, 512 * MIB, "mkfs.ext4", "-q", "-F") as place, boxes_of("qemu", repo, place) as boxes:
        boxes.env |= {"SANDBOX_COW": "overlay", "SANDBOX_DISK": "1G"}
        (place / "filler").write_bytes(bytes(64 * MIB))
        fill = "head -c 900M /dev/zero | tr '\\0' x > ~/large; sync"
        done = boxes.run(
            "run", "--name", "full", "--", "sh", "-c", f"echo more > many/1/1; git commit -qam inside; {fill}"
        )
        assert done.code != 0
        assert kind(boxes.directory("full")) == "overlay"
        with (boxes.directory("full") / "workspace.ext4").open("rb") as store:
            assert struct.unpack("<II", store.read(8)) == (0x70416E53, 0), "the kernel has not given it up"
        assert "refs/sandbox/full" not in boxes.refs()
        (place / "filler").unlink()
        boxes.ok("recover", "full")
        assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/full") == "inside"
