"""Git LFS: the content that new commits point to comes home with them, proved, into the user's own store."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import StateError
from git_sandbox.git import lfs
from git_sandbox.git.lfs import Pointer, Store
from git_sandbox.git.names import SandboxRefs, sandbox_id
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import lfs as way_home
from git_sandbox.sandbox import remove
from git_sandbox.store import Entry, State
from support.gitrepo import GitRepo
from support.nested import Journey

VERSIONS = ("https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2")


def pointer(content: bytes) -> Pointer:
    return Pointer(hashlib.sha256(content).hexdigest(), len(content))


def text(each: Pointer, version: str = VERSIONS[0], extra: str = "", end: str = "\n") -> str:
    return f"version {version}{end}{extra}oid sha256:{each.oid}{end}size {each.size}{end}"


def put(repo: GitRepo, content: bytes) -> Pointer:
    """An object in the store of `repo`, as git-lfs leaves it."""
    made = pointer(content)
    git_dir = Path(repo.git("rev-parse", "--absolute-git-dir"))
    path = git_dir / "lfs/objects" / made.oid[:2] / made.oid[2:4] / made.oid
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return made


def here(repo: GitRepo, each: Pointer) -> bytes | None:
    git_dir = Path(repo.git("rev-parse", "--absolute-git-dir"))
    path = git_dir / "lfs/objects" / each.oid[:2] / each.oid[2:4] / each.oid
    return path.read_bytes() if path.exists() else None


def test_what_commits_stashes_and_uncommitted_files_point_to_comes_home(repo: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(repo, tmp_path)
    commits, branch, stash, dirty = (put(trip.guest, name) for name in (b"commit", b"branch" * 400_000, b"st", b"wip"))
    trip.guest.commit("side", {"b.bin": text(branch)})
    trip.guest.git("branch", "side")
    trip.guest.git("reset", "-q", "--hard", "HEAD~1")
    trip.guest.commit("one", {"a.bin": text(commits)})
    trip.guest.write("a.bin", text(stash))
    trip.guest.git("stash", "push", "-q")
    trip.guest.write("new.bin", text(dirty))
    brought = trip.home()
    assert brought.lfs == way_home.LfsRetrieval(stored=4, size=2_400_011)
    for each, content in ((commits, b"commit"), (branch, b"branch" * 400_000), (stash, b"st"), (dirty, b"wip")):
        assert here(repo, each) == content
        path = Store.of(trip.handle.repo).path(each.oid)
        assert path.stat().st_mode & 0o777 == 0o444
    assert not list((repo.path / ".git/lfs/tmp").iterdir())
    assert trip.home().lfs == way_home.NOTHING, "what is here is not asked for again"


def test_a_merge_checks_the_content_out_from_the_store(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("lfs", "install", "--local")
    repo.git("lfs", "track", "*.bin")
    repo.commit("tracked", {".gitattributes": repo.read(".gitattributes")})
    trip = Journey.begin(repo, tmp_path)
    content = os.urandom(100_000)
    trip.guest.commit("new", {"new.bin": content})
    assert trip.guest.git("cat-file", "-p", "HEAD:new.bin").startswith("version https://git-lfs")
    assert trip.home().lfs.stored == 1
    assert b"error" not in subprocess.run(["git", "lfs", "fsck"], cwd=repo.path, capture_output=True, check=True).stdout
    repo.git("merge", "-q", "--ff-only", "sandbox/vm-1")
    assert repo.read("new.bin") == content
    media = [line for line in repo.git("lfs", "env").splitlines() if line.startswith("LocalMediaDir=")]
    assert media == [f"LocalMediaDir={Store.of(trip.handle.repo).root / 'objects'}"]


@pytest.mark.parametrize("storage", ["", "elsewhere", "/ABSOLUTE", "a/../b"])
def test_the_store_is_where_git_lfs_has_it(repo: GitRepo, tmp_path: Path, storage: str) -> None:
    said = storage.replace("/ABSOLUTE", f"{tmp_path}/big")
    repo.git("config", "lfs.storage", said)
    repo.write(".lfsconfig", "[lfs]\n\tstorage = /nowhere\n")
    trip = Journey.begin(repo, tmp_path)
    told = next(line for line in repo.git("lfs", "env").splitlines() if line.startswith("LocalMediaDir="))
    ours = Store.of(trip.handle.repo).root / "objects"
    assert os.path.normpath(ours) == os.path.normpath(told.removeprefix("LocalMediaDir="))


def test_what_is_not_there_or_not_as_named_is_said_and_holds_up_nothing(repo: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(repo, tmp_path)
    good, absent, wrong, fifo = (
        put(trip.guest, b"good"),
        pointer(b"absent"),
        put(trip.guest, b"wrong"),
        pointer(b"f" * 9),
    )
    store = trip.guest.path / ".git/lfs/objects"
    (store / wrong.oid[:2] / wrong.oid[2:4] / wrong.oid).write_bytes(b"WRONG")
    (store / fifo.oid[:2] / fifo.oid[2:4]).mkdir(parents=True)
    os.mkfifo(store / fifo.oid[:2] / fifo.oid[2:4] / fifo.oid)
    names = {"good": good, "absent\x1b[1m": absent, "wrong": wrong, "fifo": fifo}
    trip.guest.commit("all", {f"{name}.bin": text(each) for name, each in names.items()})
    brought = trip.home()
    assert brought.collected.head == trip.guest.git("rev-parse", "HEAD")
    assert brought.lfs.stored == 1
    assert here(repo, good) == b"good"
    assert [here(repo, each) for each in (absent, wrong, fifo)] == [None, None, None]
    said = "\n".join(brought.warnings)
    assert all(f"{name}.bin" in said for name in ("wrong", "fifo"))
    assert "\x1b" not in said
    put(trip.guest, b"absent")
    put(trip.guest, b"wrong")
    assert trip.home().lfs.stored == 2, "asked for again although no commit is new"


def test_drop_refuses_while_only_the_disk_has_content(repo: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(repo, tmp_path)
    trip.guest.commit("one", {"a.bin": text(pointer(b"lost"))})
    trip.home()
    trip.handle.directory.disk.write_bytes(b"disk")
    repo.git("merge", "-q", "--ff-only", "sandbox/vm-1")
    refs = trip.handle.repo.refs(*trip.handle.refs.patterns)
    left = way_home.lacking(trip.handle.repo, refs, trip.record, trip.handle.refs)
    assert list(left.values()) == ["a.bin"]
    entry = Entry(trip.handle.id, State.STOPPED, trip.record, trip.handle.directory, refs)
    with pytest.raises(StateError, match=r"a\.bin"):
        remove._refuse_lfs(trip.handle.repo, entry, trip.record, [])
    put(repo, b"lost")
    remove._refuse_lfs(trip.handle.repo, entry, trip.record, [])


def test_what_went_in_is_nobodys_business(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("skipped", {"a.bin": text(pointer(b"on some server"))})
    trip = Journey.begin(repo, tmp_path)
    trip.guest.commit("work", {"x": "1\n"})
    assert trip.home().lfs == way_home.NOTHING


def test_content_of_a_repository_inside(repo: GitRepo, tmp_path: Path) -> None:
    inner = GitRepo.create(repo.path / "inner")
    inner.commit("first", {"a": "1\n"})
    trip = Journey.begin(repo, tmp_path)
    each = put(trip.inside("inner"), b"inside")
    trip.inside("inner").commit("lfs", {"x.bin": text(each)})
    new = GitRepo.create(trip.guest.path / "new")
    other = put(new, b"of a new one")
    new.commit("lfs", {"y.bin": text(other)})
    brought = trip.home()
    assert {home.path: home.lfs.stored for home in brought.nested.homes} == {"inner": 1, "new": 1}
    assert here(inner, each) == b"inside"
    (own,) = trip.handle.directory.nested.glob("*.git")
    assert (own / "lfs/objects" / other.oid[:2] / other.oid[2:4] / other.oid).read_bytes() == b"of a new one"


@given(
    content=st.binary(max_size=40),
    version=st.sampled_from(VERSIONS),
    end=st.sampled_from(["\n", "\r\n"]),
    extension=st.sampled_from(["", "ext-0-case sha256:" + "a" * 64]),
)
def test_pointers_of_every_version_are_read(content: bytes, version: str, end: str, extension: str) -> None:
    each = pointer(content)
    written = text(each, version, extension + end if extension else "", end)
    assert lfs.parse(written.encode()) == each


@given(st.binary(max_size=200))
def test_nothing_else_is_a_pointer(junk: bytes) -> None:
    good = text(pointer(b"x")).encode()
    assert lfs.parse(junk) is None
    assert lfs.parse(junk + b"\n" + good) is None or not junk.strip(b"\r\n")
    for broken in (
        good * 20,
        good.replace(b"sha256:", b"sha1:"),
        good.replace(b"size 1", b"size -1"),
        good + b"more x\n",
    ):
        assert lfs.parse(broken) is None


ONE, TWO = pointer(b"one"), pointer(b"second")


def told(*objects: Pointer) -> bytes:
    return json.dumps({"objects": [{"oid": each.oid, "size": each.size} for each in objects]}).encode()


def pieces(*data: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(each)) + each for each in data)


END = struct.pack(">I", 0) + struct.pack(">I", 11) + b'{"ok":true}'


@pytest.mark.parametrize(
    ("header", "body", "stored"),
    [
        (told(ONE, TWO), pieces(b"o", b"nes", b"econd") + END, 2),
        (told(TWO, ONE), pieces(b"secondone") + END, 2),
        (told(ONE), pieces(b"one") + END, 1),
        (told(ONE, TWO), pieces(b"onesecond", b"more") + END, 2),
        (told(ONE, TWO), pieces(b"one", b"sec"), 1),
        (told(ONE, TWO), pieces(b"oneSECOND") + END, 1),
        (told(ONE, ONE), pieces(b"oneone") + END, 0),
        (told(ONE, pointer(b"nobody asked")), pieces(b"onenobody asked") + END, 0),
        (told(Pointer(ONE.oid, 1 << 60)), pieces(b"one") + END, 0),
        (told(Pointer("../" * 21 + "x", 3)), pieces(b"one") + END, 0),
        (b'{"objects": [{"oid": 5}]}', END, 0),
        (b'{"error": "\\u001b[31mno"}', END, 0),
        (b"[" * 5000, END, 0),
        (b"", b"", 0),
    ],
)
def test_a_guest_that_lies_about_content(repo: GitRepo, header: bytes, body: bytes, stored: int) -> None:
    commit = repo.commit("pointers", {"1.bin": text(ONE), "2.bin": text(TWO)})
    found = discover(repo.path)
    refs = SandboxRefs(sandbox_id("vm-1"))
    repo.git("update-ref", refs.head, commit)
    ours, theirs = socket.socketpair()

    def lie() -> None:
        with theirs, theirs.makefile("rb") as lines:
            nonce = json.loads(lines.readline())["nonce"]
            theirs.sendall(f"git-sandbox {nonce} {len(header)}\n".encode() + header + body)

    with ours:
        liar = threading.Thread(target=lie)
        liar.start()
        brought = way_home.bring_home(found, refs, None, ours)
        liar.join()
    sound = [here(repo, each) for each in (ONE, TWO)]
    assert sum(each is not None for each in sound) == stored
    assert [each in (None, content) for each, content in zip(sound, (b"one", b"second"), strict=True)] == [True, True]
    assert not (repo.path / ".git/lfs/tmp").exists() or not list((repo.path / ".git/lfs/tmp").iterdir())
    assert bool(brought.missing) or stored == 2
    assert all(line.isprintable() for line in brought.missing)
