from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from git_sandbox.cache import guest_images, root_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.cache.root_images import ImageConfig, RootInfo
from git_sandbox.errors import StateError
from git_sandbox.git.names import SandboxId
from git_sandbox.sandbox import images
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle

RECORD = Record(
    id="vm-1", worktree="/w", git_dir="/w/.git", common_dir="/w/.git", object_format="sha1", created=1.0, base=None,
    base_symref=None, snapshot="0" * 40, index_tree=None, backend="qemu", image="own", cpus=1, memory=512, net="none",
)  # fmt: skip


def built(key: str, when: float) -> None:
    place = guest_images.images_root() / key
    place.mkdir(parents=True)
    (place / "image.json").write_bytes(msgspec.json.encode(ImageInfo(key, "trixie", when, ())))


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxHandle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "workspace.ext4").write_bytes(b"")
    return SandboxHandle(cast("Any", None), SandboxId("vm-1"), SandboxDir(tmp_path / "box"))


def test_any_image_will_do_for_a_rescue_the_own_one_and_new_ones_first(box: SandboxHandle) -> None:
    with pytest.raises(StateError, match="no guest image"):
        images.for_rescue(box, RECORD)
    for number in range(6):
        built(f"other{number}", float(number))
    (guest_images.images_root() / "other5" / "image.json").write_bytes(b"{")
    found = [each.root.name for each in images.for_rescue(box, RECORD)]
    assert found == ["other4", "other3", "other2", "other1"]
    with pytest.raises(StateError, match="over which its system is laid") as caught:
        images.of(box, RECORD)
    assert "`sandbox recover vm-1`" in caught.value.hint
    built("own", 0.5)
    assert [each.root.name for each in images.for_rescue(box, RECORD)][:2] == ["own", "other4"]
    assert images.of(box, RECORD).root.name == "own"


def test_a_rescue_needs_no_root_image_and_a_session_does(box: SandboxHandle) -> None:
    built("own", 1.0)
    foreign = msgspec.structs.replace(RECORD, root="r" * 16)
    assert [each.system for each in images.for_rescue(box, foreign)] == [None]
    with pytest.raises(StateError, match="over which its system is laid") as caught:
        images.of(box, foreign)
    assert foreign.root in caught.value.cause
    with root_images.making() as place:
        (place / root_images.ROOTFS).write_bytes(b"")
        root = root_images.publish(place, RootInfo(foreign.root, 1.0), ImageConfig())
    found = images.of(box, foreign)
    assert (found.root.name, found.system) == ("own", root)
    with guest_images.use(found), pytest.raises(StateError, match="in use"):
        root_images.remove(root)


def test_without_a_disk_no_image_helps(box: SandboxHandle) -> None:
    built("own", 1.0)
    box.directory.disk.unlink()
    for asked in (images.of, images.for_rescue):
        with pytest.raises(StateError, match="no disk"):
            asked(box, RECORD)
