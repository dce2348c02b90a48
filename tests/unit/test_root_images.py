"""Root images of the cache: what is published is found whole, and stays while something uses it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from git_sandbox.cache import guest_images, root_images
from git_sandbox.cache.root_images import ImageConfig, RootImage, RootInfo
from git_sandbox.errors import ImageError, StateError

CONFIG = ImageConfig(env=("A=\udcff b",), user="1000:staff", entrypoint=("/init",), digest="sha256:" + "0" * 64)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def published(key: str = "0123456789abcdef") -> RootImage:
    with root_images.making() as place:
        (place / root_images.ROOTFS).write_bytes(b"x" * 5000)
        return root_images.publish(place, RootInfo(key, 1.0, entries=3, content=9), CONFIG)


def test_what_is_published_is_found_with_its_description() -> None:
    assert root_images.every() == []
    image = published()
    assert root_images.every() == [image] == [root_images.find(image.key)]
    assert image.config == CONFIG
    assert (image.info.entries, image.info.content) == (3, 9)
    assert image.size >= 5000


@pytest.mark.parametrize("key", ["", "..", "../roots/0123456789abcdef", ".hidden", "nothing", "x" * 300, "\0"])
def test_a_key_is_one_name(key: str) -> None:
    shutil.copytree(published().root, root_images.images_root() / ".hidden")
    assert (root_images.find(key), guest_images.find(key)) == (None, None)


def test_one_in_use_stays() -> None:
    image = published()
    with root_images.use(image), pytest.raises(StateError, match="in use"):
        root_images.remove(image)
    root_images.remove(image)
    assert root_images.every() == []


def test_what_a_killed_import_left_goes() -> None:
    image = published()
    with root_images.making() as place:
        left = root_images.images_root() / ".build-1-1"
        (left / "tree").mkdir(parents=True)
        (left / ".lock").write_bytes(b"")
        root_images.tidy()
        assert (left.exists(), place.exists()) == (False, True), "one that is at work stays"
    assert root_images.every() == [image]


def test_a_damaged_one_is_named() -> None:
    image = published()
    (image.root / "config.json").write_bytes(b"[")
    with pytest.raises(ImageError, match=r"config\.json"):
        assert image.config
