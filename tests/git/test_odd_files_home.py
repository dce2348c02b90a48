"""No file fails the uncommitted tree: what git cannot convert comes raw, what the user cannot read root reads."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.guest import large, opener, ownership, stage, uncommitted
from git_sandbox.guest.opener import Opener
from git_sandbox.guest.repository import Repo
from git_sandbox.guest.scratch import Scratch
from git_sandbox.protocol import manifest, stream
from git_sandbox.protocol.manifest import Manifest
from support.examples import examples
from support.gitrepo import GitRepo
from support.guest import LIMITS, Host, content, export, exporter, tree_of

WIP = "refs/sandbox-wip/vm-1"


def test_an_encoding_that_does_not_fit_costs_one_file_its_conversion(host: Host, guest: GitRepo) -> None:
    guest.commit("t", {".gitattributes": "*.rc text working-tree-encoding=UTF-16\n"})
    guest.write("new.rc", "no bom\n")
    guest.write("good.rc", "bom\n".encode("utf-16"))
    guest.write("other", "w\n")
    told = export(guest).manifest
    assert (told.wip_state, told.left_out) == ("made", ())
    done = host.bring_home(guest)
    assert content(host.repo, f"{WIP}:new.rc") == b"no bom\n"
    assert content(host.repo, f"{WIP}:good.rc") == b"bom\n"
    assert content(host.repo, f"{WIP}:other") == b"w\n"
    assert any("new.rc" in warning for warning in done.warnings)


def test_a_name_that_git_refuses_and_a_file_that_became_a_pipe_are_named(host: Host, guest: GitRepo) -> None:
    guest.commit("more", {"was": "a file\n"})
    guest.write("git~1/x", "x\n")
    (guest.path / "was").unlink()
    os.mkfifo(guest.path / "was")
    guest.write("other", "w\n")
    told = export(guest).manifest
    assert told.wip_state == "partial"
    assert {each.name for each in told.left_out} == {"git~1/x", "was"}
    host.bring_home(guest)
    assert content(host.repo, f"{WIP}:other") == b"w\n"


def test_names_that_are_git_on_another_file_system_and_paths_without_end_cost_themselves(
    host: Host, guest: GitRepo
) -> None:
    """fsck would turn down a tree with such a name, and all other files with it; git goes no deeper than PATH_MAX."""
    guest.write(".g\u200cit/x", "x\n")
    (guest.path / ".git\u200cmodules").symlink_to("other")
    guest.write("other", "w\n")
    with contextlib.chdir(guest.path):
        for _ in range(20):
            os.mkdir("d" * 250)  # noqa: PTH102
            os.chdir("d" * 250)
        Path("f").touch()
    told = export(guest).manifest
    names = {each.name for each in told.left_out}
    assert {".g\u200cit/x", ".git\u200cmodules"} < names
    assert any(name.startswith("d" * 250) for name in names)
    done = host.bring_home(guest)
    assert done.set_aside == ()
    assert content(host.repo, f"{WIP}:other") == b"w\n"
    shutil.rmtree(guest.path / ("d" * 250))


def test_settings_of_the_users_file_system_hide_nothing(host: Host, guest: GitRepo) -> None:
    guest.commit("more", {"name": "1\n", "d/x": "1\n"})
    for key, value in {
        "core.ignoreCase": "true", "core.checkStat": "minimal", "core.trustctime": "false",
        "core.untrackedCache": "true", "core.precomposeUnicode": "true", "core.sparseCheckout": "true",
        "core.ignoreStat": "true",
    }.items():  # fmt: skip
        guest.git("config", key, value)
    guest.write("NAME", "2\n")
    guest.write("d/y", "2\n")
    host.bring_home(guest)
    assert {"name", "NAME", "d/x", "d/y"} <= tree_of(host.repo, WIP).keys()


@contextlib.contextmanager
def serving(top: Path) -> Iterator[Opener]:
    """Root's side in a thread."""
    ours, theirs = opener.pair()
    thread = threading.Thread(target=opener.serve, args=(theirs, os.fspath(top)))
    thread.start()
    with ours:
        yield Opener(ours)
        ours.shutdown(socket.SHUT_RDWR)
    thread.join()
    theirs.close()


def taken(
    guest: GitRepo, touched: list[str] | None = None, reader: Opener | None = None
) -> tuple[Repo, dict[str, str]]:
    """The exporter's own function, in this process; what is in the tree."""
    repo = Repo(os.fspath(guest.path), refs=True)
    repo.touched, repo.opener = touched, reader
    with Scratch() as scratch:
        tree, _ = uncommitted.uncommitted(repo, scratch, guest.git("rev-parse", "HEAD"))
        rows = repo.git("ls-tree", "-r", "-z", str(tree)).split(b"\0")[:-1]
        found = {}
        for row in rows:
            head, path = row.decode().split("\t")
            found[path] = repo.git("cat-file", "blob", head.split()[2]).decode()
    return repo, found


def test_same_size_and_same_time_is_seen_where_the_inode_was_touched(guest: GitRepo) -> None:
    guest.git("config", "core.checkStat", "minimal")
    guest.git("config", "core.trustctime", "false")
    guest.commit("v", {"v": "aaaa"})
    os.utime(guest.path / "v", (1577836800, 1577836800))
    guest.git("update-index", "--refresh")
    guest.write("v", "bbbb")
    os.utime(guest.path / "v", (1577836800, 1577836800))
    assert taken(guest)[1]["v"] == "aaaa", "else this test would prove nothing"
    assert taken(guest, ["v"])[1]["v"] == "bbbb"


def test_without_room_on_the_disk_all_is_written_to_memory(guest: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.write("new", "n\n")
    monkeypatch.setattr(uncommitted, "roomy", lambda _place: False)
    before = sorted((guest.path / ".git/objects").rglob("*"))
    assert taken(guest)[1]["new"] == "n\n"
    assert sorted((guest.path / ".git/objects").rglob("*")) == before


def test_with_too_little_memory_the_largest_stay(guest: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    guest.write("large", "x" * 5000)
    guest.write("small", "s\n")
    monkeypatch.setattr(uncommitted, "roomy", lambda _place: False)
    monkeypatch.setattr(uncommitted, "in_memory", lambda _place: True)
    monkeypatch.setattr(uncommitted, "memory_left", lambda: 1000)
    repo, found = taken(guest)
    assert found.keys() == {"README", "small"}
    assert repo.left_out == {"large": uncommitted.NO_ROOM}


def test_an_object_store_of_roots_is_no_obstacle(host: Host, guest: GitRepo) -> None:
    """As after `sudo git commit`."""
    guest.write("new", "n\n")
    store = guest.path / ".git/objects"
    shutil.rmtree(store / "info", ignore_errors=True)
    for each in (store, *store.iterdir()):
        each.chmod(0o555)
    try:
        host.bring_home(guest)
    finally:
        for each in (store, *store.iterdir()):
            each.chmod(0o755)
    assert content(host.repo, f"{WIP}:new") == b"n\n"


def test_the_opener_goes_through_no_link_and_leaves_the_worktree_by_no_name(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (top / "d/file").write_text("f")
    (top / "link").symlink_to("d")
    (top / "out").symlink_to(tmp_path)
    os.mkfifo(top / "pipe")
    with serving(top) as reader:
        kind, handle, _ = reader.open(b"d/file") or (b"", None, b"")
        assert (kind, handle is not None) == (opener.FILE, True)
        assert os.read(handle or -1, 9) == b"f"
        assert not stat.S_ISREG(os.fstat((reader.open(b"d") or (b"", -1, b""))[1] or -1).st_mode)
        assert reader.open(b"link") == (opener.LINK, None, b"d")
        assert reader.open(b"pipe") == (opener.OTHER, None, b"")
        for path in (b"link/file", b"out/secret", b"../secret", b"d/../d/file", b"/etc/passwd", b"none", b"d//file"):
            assert reader.open(path) is None, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_git_directory_of_roots_is_given_to_its_user(guest: GitRepo, tmp_path: Path) -> None:
    git_dir = guest.path / ".git"
    outside = tmp_path / "outside"
    outside.write_text("o")
    (git_dir / "link").symlink_to(outside)
    os.link(outside, git_dir / "twin")
    (git_dir / "refs").chmod(0)
    (git_dir / "HEAD").chmod(0)
    git_dir.chmod(0)
    assert ownership.own(str(git_dir), 4242, 4242) > 5
    assert {path.lstat().st_uid for path in (git_dir, git_dir / "HEAD", git_dir / "refs/heads/main")} == {4242}
    assert git_dir.stat().st_mode & 0o700 == 0o700
    assert (git_dir / "HEAD").stat().st_mode & 0o400
    assert outside.stat().st_uid == 0
    assert ownership.own(str(git_dir), 4242, 4242) == 0


def test_what_only_root_may_read_comes_raw(guest: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here everything can be read, so what git is told is a lie."""
    guest.write("closed", "c\n", mode=0o700)
    guest.write("sub/inner", "i\n")
    (guest.path / "sub/link").symlink_to("inner")
    guest.write(".git/info/exclude", "*.o\n")
    guest.write("sub/x.o", "ignored\n")
    closed = dict.fromkeys((b"closed", b"sub"), stage.UNREADABLE)
    monkeypatch.setattr(stage, "stage", lambda *_: stage.Staged(left_out=dict(closed)))
    monkeypatch.setattr(large, "careful", lambda: True)
    with serving(guest.path) as reader:
        repo, found = taken(guest, reader=reader)
    assert found == {"README": "hello\n", "closed": "c\n", "sub/inner": "i\n", "sub/link": "inner"}
    assert repo.left_out == {}


def asked(guest: GitRepo, touched: list[str] | None) -> Manifest:
    """The manifest when process 1 says what was touched."""
    with exporter(guest.path) as sock:
        reply = stream.request(sock, "export", extra={"touched": touched, "changes": None}, limits=LIMITS)
        told = manifest.parse(reply.header, object_format="sha1")
        list(reply.chunks)
    return told


def test_what_git_never_takes_is_named_unless_it_went_in_as_it_is(guest: GitRepo) -> None:
    guest.write("sub/.git/junk", "j\n")
    guest.write("file/.git", "no pointer\n")
    guest.write("git~1", "x\n")
    os.mkfifo(guest.path / "pipe")
    guest.git("worktree", "add", "-q", "linked")
    every = {"sub/.git", "file/.git", "git~1"}
    told = export(guest).manifest
    assert (told.wip_state, {each.name for each in told.left_out}) == ("partial", every)
    assert any("pipe" in warning for warning in told.warnings)
    told = asked(guest, ["sub/.git/junk", "pipe", "README"])
    assert (told.wip_state, {each.name for each in told.left_out}) == ("partial", {"sub/.git"})
    assert any("pipe" in warning for warning in told.warnings)
    told = asked(guest, ["README"])
    assert (told.left_out, [each for each in told.warnings if "pipe" in each]) == ((), [])


def test_where_it_is_not_known_what_was_touched_every_file_is_read(guest: GitRepo) -> None:
    guest.git("config", "core.checkStat", "minimal")
    guest.git("config", "core.trustctime", "false")
    guest.commit("v", {"v": "aaaa"})
    os.utime(guest.path / "v", (1577836800, 1577836800))
    guest.git("update-index", "--refresh")
    guest.write("v", "bbbb")
    os.utime(guest.path / "v", (1577836800, 1577836800))
    assert asked(guest, ["README"]).wip is None
    assert asked(guest, None).wip is not None


NAMES = st.sampled_from(
    ["a.bin", "b.rc", "c", "d/e", "d/f.bin", "-x", "new\nline", "é", "sp ace.rc", "git~1", "x.crlf"]
)
DAMAGE = st.sampled_from(["", "index", "HEAD", "config", "packed-refs", "refs/heads/main", "logs/HEAD", "info/exclude"])


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.dictionaries(NAMES, st.binary(max_size=12), max_size=5),
    edits=st.dictionaries(NAMES, st.one_of(st.none(), st.binary(max_size=12)), max_size=5),
    modes=st.dictionaries(NAMES, st.sampled_from([0o600, 0o755, 0o444]), max_size=3),
    damaged=DAMAGE,
    keep=st.integers(0, 60),
)
def test_every_files_bytes_are_in_the_tree_or_it_is_named(  # noqa: PLR0917
    tmp_path_factory: pytest.TempPathFactory,
    start: dict[str, bytes],
    edits: dict[str, bytes | None],
    modes: dict[str, int],
    damaged: str,
    keep: int,
) -> None:
    """The oracle is a walk of the files: git is not asked."""
    place = tmp_path_factory.mktemp("odd")
    repo = GitRepo.create(place / "repo")
    for key, value in (("user.name", "T"), ("user.email", "t@example.com")):
        repo.git("config", key, value)
    repo.commit("first", {"README": "hello\n"})
    host, guest = Host(repo, place / "quarantine"), repo.clone_files(place / "guest")
    sound = {name: data for name, data in start.items() if name != "git~1"}
    tip = guest.commit("start", dict(sound)) if sound else guest.git("rev-parse", "HEAD")
    attributes = "*.rc text working-tree-encoding=UTF-16\n*.bin filter=odd\n*.crlf text eol=crlf\n"
    guest.write(".gitattributes", attributes)
    guest.git("config", "filter.odd.clean", "grep -q x && exit 1; cat")
    guest.git("config", "filter.odd.required", "true")
    for name, edit in edits.items():
        if edit is None:
            (guest.path / name).unlink(missing_ok=True)
        else:
            guest.write(name, edit)
    for name, mode in modes.items():
        if (guest.path / name).is_file():
            (guest.path / name).chmod(mode)
    target = guest.path / ".git" / damaged
    if damaged and target.is_file():
        target.write_bytes(target.read_bytes()[:keep].ljust(keep, b"\0"))
    there = {
        os.fspath(path.relative_to(guest.path)): path.read_bytes()
        for path in guest.path.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(guest.path).parts
    }
    told = export(guest).manifest
    done = host.bring_home(guest)
    assert done.head == tip
    left = {each.name for each in told.left_out}
    tree = {row.split("\t")[1]: row.split()[2] for row in repo.git("ls-tree", "-rz", WIP).split("\0") if row}
    assert tree.keys() == there.keys() - left
    assert left <= {"git~1"}
    for name in tree.keys() - {each for each in there if each.endswith((".rc", ".crlf", ".bin"))}:
        assert repo.run("cat-file", "blob", tree[name]).stdout == there[name]
