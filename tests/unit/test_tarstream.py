"""The reader of layers against Python's tarfile and GNU tar, and against archives that nobody should write."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.helpers import tarstream
from git_sandbox.helpers.tarstream import Entry, TarError, TarReader
from support.examples import examples

KINDS = {
    tarfile.REGTYPE: tarstream.FILE, tarfile.DIRTYPE: tarstream.DIRECTORY, tarfile.SYMTYPE: tarstream.SYMLINK,
    tarfile.LNKTYPE: tarstream.HARDLINK, tarfile.FIFOTYPE: tarstream.FIFO, tarfile.CHRTYPE: tarstream.DEVICE,
}  # fmt: skip


def read(archive: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(archive))
    return [(entry, b"".join(reader.content())) for entry in reader]


def member(
    name: str, kind: bytes, content: bytes, link: str, numbers: tuple[int, int]
) -> tuple[tarfile.TarInfo, bytes]:
    owner, mtime = numbers
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.uid, info.gid, info.mtime = kind, link, owner, owner // 2, mtime
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content[: info.size]


NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=300)
MEMBERS = st.builds(
    member, NAMES, st.sampled_from(list(KINDS)), st.binary(max_size=1500), NAMES,
    st.tuples(st.integers(0, 3_000_000), st.integers(0, (1 << 31) - 1)),
)  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(MEMBERS, max_size=5), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_tarfile_writes_is_read(members: list[tuple[tarfile.TarInfo, bytes]], form: int) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form, encoding="utf-8") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    found = read(packed.getvalue())
    assert len(found) == len(members)
    for (entry, content), (info, written) in zip(found, members, strict=True):
        # tarfile takes the slashes at the end away.
        assert entry.name.decode().rstrip("/") == info.name.rstrip("/")
        assert (entry.kind, entry.mtime, content) == (KINDS[info.type], info.mtime, written)
        assert (entry.uid, entry.gid, entry.mode) == (info.uid, info.gid, info.mode)
        if entry.kind in (tarstream.SYMLINK, tarstream.HARDLINK):
            assert entry.link.decode() == info.linkname


@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "posix"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d" / "file").write_bytes(b"x" * 1000)
    (top / "d" / "hard").hardlink_to(top / "d" / "file")
    (top / "link").symlink_to("d/file")
    packed = subprocess.run(
        ["tar", f"--format={form}", "--sort=name", "--mtime=@1000000000", "-C", str(top), "-c", "."],
        check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    found = [(entry.name, entry.kind, entry.mtime, entry.link, content) for entry, content in read(packed)]
    assert found == [
        (b"./", "directory", 1_000_000_000, b"", b""),
        (b"./d/", "directory", 1_000_000_000, b"", b""),
        (b"./d/file", "file", 1_000_000_000, b"", b"x" * 1000),
        (b"./d/hard", "hard link", 1_000_000_000, b"./d/file", b""),
        (b"./link", "link", 1_000_000_000, b"d/file", b""),
    ]


def header(name: bytes = b"a", kind: bytes = b"0", size: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    block = bytearray(struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name, b"0644", b"0", b"0", size, b"0", b" " * 8, kind, b"", magic, b"", b"", b"0", b"0", b"",
    ))  # fmt: skip
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(*records: bytes) -> bytes:
    body = b"".join(records)
    return header(b"p", b"x", b"%o" % len(body)) + body + bytes(-len(body) % 512)


def record(text: bytes) -> bytes:
    size = len(text) + 2
    while len(b"%d %s\n" % (size, text)) != size:
        size += 1
    return b"%d %s\n" % (size, text)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "it is truncated": lambda: header(size=b"777"),
    "a header is damaged": lambda: b"x" * 512,
    "a header in the middle is damaged": lambda: header() + b"x" * 512,
    "a header is cut off": lambda: header()[:300],
    "a number is none": lambda: header(size=b"9z"),
    "a size is below zero": lambda: header(size=b"\xff" * 12),
    "a size is far too large": lambda: header(size=b"\x80" + b"\x7f" * 11),
    "an extended header of gigabytes": lambda: header(kind=b"x", size=b"77777777777"),
    "a long name of gigabytes": lambda: header(kind=b"L", size=b"77777777777"),
    "extended headers without end": lambda: pax(record(b"a=b")) * 100,
    "an extended header of nothing": lambda: pax(record(b"a=b")),
    "a record that is longer than the header": lambda: pax(b"99 a=b\n") + header(),
    "a record of no length": lambda: pax(b"0 a=b\n") + header(),
    "a record of a length with a sign": lambda: pax(b"-7 a=b\n") + header(),
    "a record without a value": lambda: pax(b"5 ab\n") + header(),
    "a record without a key": lambda: pax(b"5 =b\n") + header(),
    "a record of many digits": lambda: pax(b"9" * 5000 + b" a=b\n") + header(),
    "a size that is no number": lambda: pax(record(b"size=-1")) + header(),
    "an owner that is far too large": lambda: pax(record(b"uid=" + b"9" * 40)) + header(),
    "a time that is none": lambda: pax(record(b"mtime=nan")) + header(),
    "a sparse file": lambda: pax(record(b"GNU.sparse.major=1")) + header(),
    "an old sparse file": lambda: header(kind=b"S"),
    "a kind that nobody knows": lambda: header(kind=b"Z"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_nobody_should_write_is_refused(kind: str) -> None:
    with pytest.raises(TarError):
        read(HOSTILE[kind]())


def test_extended_attributes_are_bytes() -> None:
    value = b"\x01\0\n\xff= "
    ((entry, _),) = read(pax(record(b"SCHILY.xattr.security.capability=" + value)) + header())
    assert entry.xattrs == {"security.capability": value}


def test_what_only_the_archive_says_is_not_the_next_entrys() -> None:
    ((entry, _),) = read(
        header(b"g", b"g", b"%o" % len(record(b"path=evil"))) + record(b"path=evil").ljust(512, b"\0") + header()
    )
    assert entry.name == b"a"


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=600), st.integers(0, 1500))
def test_damage_is_an_error_or_an_archive(junk: bytes, at: int) -> None:
    whole = pax(record(b"path=b"), record(b"SCHILY.xattr.user.x=y")) + header(size=b"3") + b"abc".ljust(512, b"\0")
    with contextlib.suppress(TarError):
        read(whole[:at] + junk + whole[at + len(junk) :])
