"""The content of a layer's blob, whatever packed it: all of it, or an error; never more than the limit."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.helpers import blobs
from git_sandbox.helpers.blobs import BlobError, Unpacked
from support import oci
from support.examples import examples

MEMBERS = st.lists(st.binary(max_size=2000), min_size=1, max_size=4)


@contextlib.contextmanager
def blob(content: bytes) -> Iterator[FileIO]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "blob")
        path.write_bytes(content)
        with FileIO(path) as file:
            yield file


def whole(content: bytes, most: int = 1 << 20, size: int = 100) -> bytes:
    with blob(content) as file:
        unpacked = Unpacked(file, most)
        found = b"".join(iter(lambda: unpacked.read(size), b""))
        assert unpacked.finish() == f"sha256:{hashlib.sha256(found).hexdigest()}"
        return found


@settings(max_examples=examples(100), deadline=None)
@given(MEMBERS, st.integers(0, 600), st.integers(1, 5000))
def test_gzip_has_members_and_zeros_after_them(members: list[bytes], zeros: int, size: int) -> None:
    packed = b"".join(gzip.compress(each) for each in members) + bytes(zeros)
    assert whole(packed, size=size) == b"".join(members)


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=400), st.data())
def test_what_is_cut_off_or_damaged_is_an_error(content: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(content, mtime=0)
    cut = data.draw(st.integers(2, len(packed) - 1))
    with pytest.raises(BlobError):
        whole(packed[:cut])
    at = data.draw(st.integers(len(packed) - 8, len(packed) - 1))  # of its checksum and length
    with pytest.raises(BlobError):
        whole(packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :])


@pytest.mark.parametrize("pack", ["", "gzip", "zstd"])
def test_a_bomb_ends_at_the_limit(pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if pack == "zstd" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    packed = oci.packed(bytes(8 << 20), pack)
    with pytest.raises(BlobError, match="more than 4 MiB"):
        whole(packed, most=4 << 20, size=1 << 20)
    if pack:
        monkeypatch.setattr(blobs, "SUSPICIOUS", 1 << 20)
        with pytest.raises(BlobError, match="250 times"):
            whole(packed, most=1 << 30, size=1 << 20)
    assert len(whole(packed if not pack else oci.packed(os.urandom(4096), pack), most=8 << 20)) in (4096, 8 << 20)


@pytest.mark.parametrize("magic", [b"BZh91AY&SY", b"\xfd7zXZ\0", b"LZIP\1"])
def test_other_packers_are_named(magic: bytes) -> None:
    with pytest.raises(BlobError, match="compressed with"):
        whole(magic + bytes(100))


def test_zstd_that_is_damaged_is_an_error() -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    packed = oci.packed(os.urandom(5000), "zstd")
    with pytest.raises(BlobError, match="zstd"):
        whole(packed[:-10])


@pytest.mark.parametrize(("wrong", "said"), [("size", "its manifest says"), ("digest", "does not match its digest")])
def test_a_blob_that_is_not_what_the_manifest_says_is_refused(wrong: str, said: str) -> None:
    content = b"content"
    digest, size = f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)
    with blob(content) as file:
        blobs.check(file, digest, size)
        assert file.tell() == 0
        with pytest.raises(BlobError, match=said):
            blobs.check(
                file,
                digest.replace("sha256:", "sha256:0")[:71] if wrong == "digest" else digest,
                size + (wrong == "size"),
            )
