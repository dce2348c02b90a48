"""Layers over each other: the same tree as umoci makes, whatever they hold, and nothing outside of it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from git_sandbox.helpers import flatten as layers
from git_sandbox.helpers.flatten import Total, Tree
from git_sandbox.helpers.notes import LayerError, Notes
from git_sandbox.helpers.rooted import BadNameError
from git_sandbox.helpers.tarstream import TarReader
from support import oci
from support.examples import examples
from support.oci import Member, directory, file, hardlink, symlink

Listing = dict[str, tuple[object, ...]]
FORBIDDEN = (LayerError, BadNameError)


def flatten(top: Path, *archives: bytes, most: int = 1000, content: int = 1 << 20) -> Tree:
    """All layers in `top`, which is made."""
    top.mkdir()
    tree = Tree(os.open(top, os.O_RDONLY), Total(most, content))
    before = os.umask(0)
    try:
        for each in archives:
            tree.apply(TarReader(io.BytesIO(each)))
        tree.finish()
    finally:
        os.umask(before)
        os.close(tree.root)
    return tree


def listing(top: Path, notes: Notes | None = None) -> Listing:
    """What a tree is: of each path kind, mode and content; hard links by the least name of their file. `notes`: what
    is noted about its files instead of done.
    """
    found: Listing = {}
    notes = notes or Notes()
    names: dict[int, str] = {}
    for path in sorted(top.rglob("*")):
        name, status = str(path.relative_to(top)), path.lstat()
        if name.split("/", maxsplit=1)[0] in {each.decode() for each, _ in layers.MOUNTED}:
            continue
        first = names.setdefault(status.st_ino, name)
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = str(path.readlink()) if path.is_symlink() else ""
        mtime, mode = int(status.st_mtime), stat.S_IMODE(status.st_mode)
        if 1 <= mtime <= len(notes):
            mtime, mode = notes[mtime].mtime, notes[mtime].mode
        kind = stat.S_IFMT(status.st_mode)
        found[name] = (kind, mode, content, target, mtime if stat.S_ISREG(kind) else 0, first)
    return found


def umoci(root: Path, archives: list[bytes]) -> Listing | None:
    """The tree of the oracle; None where it refuses."""
    image = oci.Layout(root / "image")
    image.image(archives, config={"Cmd": ["/x"]})
    argv = ["umoci", "unpack", "--rootless", "--image", f"{image.root}:latest", str(root / "bundle")]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    return listing(root / "bundle" / "rootfs") if done.returncode == 0 else None


NAMES = st.sampled_from(["a", "b", "c", "d\N{LATIN SMALL LETTER E WITH ACUTE}", "\udcff", "l"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
# Not `a/../b`: where `a` is a file the kernel, and we with it, do not get past it; umoci strikes `a/..` out unseen.
TARGETS = st.one_of(PATHS, st.sampled_from(["/", "/a", "../b", "../../../c", "/l", "."]))
OWNER = (os.getuid(), os.getgid())


def whiteout(path: str) -> str:
    above, _, name = path.rpartition("/")
    return f"{above}/.wh.{name}".lstrip("/")


MEMBERS = st.one_of(
    st.builds(lambda name, content: file(name, content, owner=OWNER), PATHS, st.binary(max_size=5)),
    st.builds(lambda name, mode: directory(name, mode, owner=OWNER), PATHS, st.sampled_from([0o755, 0o700, 0o1777])),
    st.builds(lambda name, target: Member(name, tarfile.SYMTYPE, link=target, owner=OWNER), PATHS, TARGETS),
    st.builds(lambda name, target: Member(name, tarfile.LNKTYPE, link=target, owner=OWNER), PATHS, PATHS),
    st.builds(lambda name: file(whiteout(name), owner=OWNER), PATHS),
    st.builds(lambda name: file(f"{name}/.wh..wh..opq", owner=OWNER), PATHS),
)
LAYERS = st.lists(st.lists(MEMBERS, max_size=7), min_size=1, max_size=4)


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
@settings(max_examples=examples(40), deadline=None)
@given(LAYERS)
def test_the_tree_is_the_one_of_umoci(members: list[list[Member]]) -> None:
    archives = [oci.layer(*each) for each in members]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        theirs = umoci(root, archives)
        ours: Listing | None = None
        with contextlib.suppress(*FORBIDDEN):
            tree = flatten(root / "ours", *archives)
            ours = listing(root / "ours", tree.notes)
        event("refused" if ours is None else "made")
        assert ours == theirs


def one(top: Path, *members: Member, **limits: int) -> Tree:
    return flatten(top, oci.layer(*members), **limits)


DEEP = "/".join(["d"] * 201)
REFUSED: dict[str, tuple[str, list[Member]]] = {
    "a name that contains `..`": ("contains `..`", [file("a/../../b")]),
    "a name of two dots": ("contains `..`", [file("..")]),
    "a name that is too long": ("too long", [file("x" * 256)]),
    "a path that is too long": ("too long", [file("/".join(["x" * 200] * 21))]),
    "directories without end": ("more than 200 deep", [file(DEEP)]),
    "directories without end through links": (
        "more than 200 deep",
        [directory("/".join(["d"] * 150)), symlink("l", "/".join(["d"] * 150)), file("l/" + "/".join(["e"] * 60))],
    ),
    "links in a circle": ("symbolic links in a chain", [symlink("a", "b"), symlink("b", "a"), file("a/x")]),
    "a hard link to nothing": ("hard link `b`", [hardlink("b", "a")]),
    "a hard link upwards": ("contains `..`", [hardlink("b", "../../etc/passwd")]),
    "a hard link to the top": ("leads to itself", [hardlink("b", "/")]),
    "a hard link to itself": ("leads to itself", [file("a"), hardlink("a", "./a")]),
    "a hard link to what it replaces": ("the file it replaces", [file("d/a"), hardlink("d", "d/a")]),
    "a hard link to a directory": ("cannot be made", [directory("d"), hardlink("b", "d")]),
    "a file that is a directory, too": ("is a file", [file("a"), file("a/b")]),
    "a whiteout of no name": ("names no file", [file("a/.wh.")]),
    "a whiteout of the directory itself": ("names no file", [file("a/.wh..")]),
    "a whiteout of the directory above": ("names no file", [file("a/.wh...")]),
    "a link to nowhere": ("target of the link", [symlink("a", "")]),
    "a link that is too long": ("target of the link", [symlink("a", "x" * 4096)]),
    "a top that is a file": ("its top-level entry is a file", [file("./")]),
    "an owner that no file system has": ("user or group above", [file("a", owner=(1 << 32, 0))]),
    "attributes that are too large": (
        "extended attributes",
        [file("a", pax={"SCHILY.xattr.user.x": "x" * 4000})],
    ),
    "an attribute with a long name": ("whose name", [file("a", pax={f"SCHILY.xattr.user.{'n' * 251}": "x"})]),
    "many attributes": ("extended attributes", [file("a", pax={f"SCHILY.xattr.user.{n}": "" for n in range(300)})]),
    "too many entries": ("more than 300 files", [file(f"f{n}") for n in range(301)]),
    "too many directories that no entry names": ("more than 300 files", [file(f"{n}/a/b/c") for n in range(80)]),
    "the same entry again and again": ("more than 300 files", [file("f")] * 301),
    "too much": ("more than 0 MiB", [file("a", b"x" * 600), file("b", b"x" * 600)]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_image_should_hold_is_refused(tmp_path: Path, kind: str) -> None:
    said, members = REFUSED[kind]
    with pytest.raises(FORBIDDEN, match=said) as caught:
        one(tmp_path / "top", *members, most=300, content=1000)
    assert str(caught.value).isprintable()


def test_a_bomb_of_a_size_is_refused_before_it_is_written(tmp_path: Path) -> None:
    header = oci.layer(file("bomb", b"x" * 512))[:1024].replace(b"00000001000\0", b"77777777777\0")
    header = header[:148] + b"        " + header[156:512]
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    with pytest.raises(LayerError, match="more than 1 MiB"):
        flatten(tmp_path / "top", header)
    assert not (tmp_path / "top" / "bomb").exists()


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("as it was")
    one(
        tmp_path / "top",
        symlink("absolute", str(outside)), file("absolute/kept", b"new"), file("absolute/.wh.other"),
        symlink("up", "../" * 20 + "outside"), file("up/kept", b"new"), file("up/.wh..wh..opq"),
        file(f"{outside}/kept", b"new"), file(f"{outside}/.wh.kept"),
        symlink("over", str(outside / "kept")), file("over", b"new"), directory("up", 0o000),
    )  # fmt: skip
    assert (outside / "kept").read_text() == "as it was"
    assert [each.name for each in outside.iterdir()] == ["kept"]
    assert (tmp_path / "top" / str(outside).lstrip("/") / "kept").read_bytes() == b"new"


def test_whatever_an_image_hides_or_has_there_the_guest_can_mount(tmp_path: Path) -> None:
    top = tmp_path / "top"
    lower = oci.layer(directory("proc"), directory("dev"), symlink("run", "/etc"), file("sys", b"x"), directory("tmp"))
    tree = flatten(top, lower, oci.layer(file(".wh.proc"), file("dev/.wh..wh..opq"), file(".wh.tmp")))
    for name, mode in layers.MOUNTED:
        status = (top / name.decode()).lstat()
        assert stat.S_ISDIR(status.st_mode)
        assert mode in (stat.S_IMODE(status.st_mode), *(each.mode for each in tree.notes))
    assert tree.total.devices == 0


def test_odd_files_stay_and_devices_go(tmp_path: Path) -> None:
    top = tmp_path / "top"
    tree = one(
        top,
        file("setuid", b"x", mode=0o4755, owner=OWNER), file("no\nbody\x1b", b"x"), file("twice", b"1"),
        Member("device", tarfile.BLKTYPE), Member("device2", tarfile.CHRTYPE),
        file("twice", b"2"), Member("fifo", tarfile.FIFOTYPE, mode=0o600, owner=OWNER),
    )  # fmt: skip
    assert stat.S_IMODE((top / "setuid").stat().st_mode) == 0o755, "never on this host"
    assert 0o4755 in [each.mode for each in tree.notes]
    assert ((top / "no\nbody\x1b").read_bytes(), (top / "twice").read_bytes()) == (b"x", b"2")
    assert stat.S_ISFIFO((top / "fifo").stat().st_mode)
    assert tree.total.devices == 2
    assert not list(top.glob("device*"))


def test_a_device_hides_the_file_that_it_replaces(tmp_path: Path) -> None:
    flatten(tmp_path / "top", oci.layer(file("a")), oci.layer(Member("a", tarfile.CHRTYPE)))
    assert not (tmp_path / "top" / "a").exists()


def test_times_of_directories_are_the_images(tmp_path: Path) -> None:
    flatten(
        tmp_path / "top",
        oci.layer(directory("d", owner=(0, 0)), file("d/a"), symlink("e", "d")),
        oci.layer(file("e/b")),
    )
    assert int((tmp_path / "top" / "d").stat().st_mtime) == 1_000_000_000
    assert {each.name for each in (tmp_path / "top" / "d").iterdir()} == {"a", "b"}
