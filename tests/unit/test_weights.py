"""What weighs in an image (`image/weights.py`): dpkg's lists, which are a stranger's text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import confine
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image, ImageInfo
from git_sandbox.image import weights
from git_sandbox.image.weights import Weight

STATUS = """Package: jq
Status: install ok installed
Installed-Size: 125
Version: 1.7.1-6
Description: a filter
 Installed-Size: 9999999

Package: git
Version: 1:2.47
Installed-Size: 50000

Package: meta
"""


def image(key: str, base: str = "") -> Image:
    place = guest_images.images_root() / key
    place.mkdir(parents=True)
    (place / "image.json").write_bytes(msgspec.json.encode(ImageInfo(key, "trixie", 0.0, (), base)))
    return Image(place)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_layer_weighs_what_it_adds(tmp_path: Path) -> None:
    if not confine.available():
        pytest.skip("bubblewrap does not work here")
    below, over = image("a" * 16), image("b" * 16, "a" * 16)
    (tmp_path / "tree/var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "tree/var/lib/dpkg/status").write_text(STATUS)
    make = ["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(tmp_path / "tree"), str(below.rootfs), "4M"]
    subprocess.run(make, check=True)
    (over.root / "installed").write_text(
        "125\tjq\t1.7.1-6\n50000\tgit\t1:2.47\n300\tripgrep\t14\n9000\tnode\t20\n0\tx\t1\n"
    )
    assert weights.heaviest(below, 2) == [Weight("git", "1:2.47", 50000 << 10), Weight("jq", "1.7.1-6", 125 << 10)]
    assert [each.name for each in weights.heaviest(over, 2)] == ["node", "ripgrep"]


def test_an_image_without_a_list_weighs_nothing() -> None:
    assert weights.heaviest(image("a" * 16), 5) == []
    assert weights.heaviest(image("b" * 16, "c" * 16), 5) == []


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"Package: a\n",
                b"Installed-Size: 99999999999999999999\n",
                b"\n",
                b"1\ta\t\x1b[31m\n",
                b"\t\t\n",
                b"Version: 1\n",
            ]
        )
    ).map(b"".join)
)
def test_every_text_is_a_list(text: bytes) -> None:
    for each in (*weights.from_status(text), *weights.from_rows(text)):
        assert each.size >= 0
        assert (each.name + each.version).isprintable()
