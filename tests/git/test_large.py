"""Large files that nobody touches cost nothing: not in the user's repository, not in what is read or compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import jsontext, settings, store
from git_sandbox.errors import IntegrateError
from git_sandbox.git import large
from git_sandbox.git.names import SandboxId
from git_sandbox.git.repo import discover
from git_sandbox.guest import changes
from git_sandbox.image.guestfiles import GuestConfig
from git_sandbox.integrate.merge import merge
from git_sandbox.integrate.modes import Mode, Request
from git_sandbox.protocol import manifest, stream
from git_sandbox.protocol.manifest import Manifest
from git_sandbox.sandbox import lookup, provision, trashed
from git_sandbox.sandbox.remove import drop
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.workspace import nested
from git_sandbox.workspace.builder import Workspace, make
from git_sandbox.workspace.survey import CapturePolicy
from support.captured import take
from support.gitrepo import GitRepo
from support.guest import LIMITS, UNCHANGED, exporter
from support.nested import served
from support.sandboxed import Trip, capture

MIB = 1 << 20


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def started(box: SandboxHandle) -> tuple[Workspace, Record]:
    """As `prepare.prepare`, without an image."""
    chosen = settings.resolve()[0]
    made = make(box, CapturePolicy(patience=1), chosen, ("raw", "qcow2"), lambda _text: None)
    head = made.captured.head
    record = Record(
        id=box.id, worktree=os.fspath(box.repo.worktree), git_dir=os.fspath(box.repo.git_dir),
        common_dir=os.fspath(box.repo.common_dir), object_format="sha1", created=1.0, base=head.commit,
        base_symref=head.symref, snapshot=made.snapshot.tree, index_tree=made.snapshot.index_tree, backend="qemu",
        image="x", cpus=1, memory=512, net="none",
    )  # fmt: skip
    provision.pin(box, record, made.snapshot)
    provision.configure(box, record, chosen, Extras(), provision.WentIn(made.snapshot.apart))
    return made, box.save(record)


@pytest.fixture
def messy(repo: GitRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GitRepo:
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))
    repo.commit("more", {"tracked": "1\n"})
    repo.write("tracked", "dirty\n")
    repo.write("small", b"s" * 1000)
    repo.write("data.bin", os.urandom(3 * MIB))
    for number in range(12):
        repo.write(f"out/{number}", os.urandom(MIB))
    return repo


def test_the_users_repository_does_not_grow(messy: GitRepo) -> None:
    before = size_of(messy.path / ".git")
    for _ in range(3):
        with store.create(discover(messy.path), None) as box:
            made, record = started(box)
            assert lookup.base_of(box.repo, record).snapshot == made.snapshot.tree
            assert size_of(box.directory.objects) < 10 * MIB
            config = jsontext.decode(box.directory.config.read_bytes(), GuestConfig)
            assert set(config.apart) == set(made.snapshot.apart) > {"data.bin"}
            assert "small" not in config.apart
    assert size_of(messy.path / ".git") - before < 20_000
    assert messy.git("fsck", "--connectivity-only") == ""
    repo = discover(messy.path)
    for name in ("vm-1", "vm-2", "vm-3"):
        drop(repo, name, force=True)
    trashed.restore(repo, "vm-3")
    assert trashed.prune([store.state_directory(repo)], everything=True).kept == []
    assert "vm-3" in messy.git("cat-file", "tag", "refs/sandbox-meta/vm-3")
    drop(repo, "vm-3", force=True)
    trashed.prune([store.state_directory(repo)], everything=True)
    assert size_of(messy.path / ".git") - before < 100, "nothing but the repository's identity is left"


def test_what_is_kept_of_the_start_is_found_and_does_without_it_when_it_is_gone(messy: GitRepo) -> None:
    with store.create(discover(messy.path), "vm-1") as box:
        made, record = started(box)
        base = lookup.base_of(box.repo, record)
        git = base.seen_by(box.repo.git)
        assert git.run("cat-file", "blob", f"{base.snapshot}:tracked") == b"dirty\n"
        assert box.repo.resolve(f"{made.snapshot.tree}^{{tree}}") is None  # not in the user's own
        for each in box.directory.objects.rglob("*"):
            if each.is_file():
                each.unlink()
        base = lookup.base_of(box.repo, record)
        assert base.snapshot == messy.git("rev-parse", "HEAD^{tree}")
        box.directory.disk.unlink()


@pytest.mark.parametrize("touched", [False, True])
def test_a_large_file_that_went_in_may_be_replaced_unless_it_was_edited_here(repo: GitRepo, *, touched: bool) -> None:
    repo.write("data.bin", os.urandom(2 * MIB))
    trip = Trip.spawn(repo)
    stamps = large.stamps(repo.path, ["data.bin"])
    trip = Trip(trip.host, trip.guest, type(trip.base)(trip.base.commit, trip.base.snapshot, None, None, stamps))
    trip.guest.commit("work", {"data.bin": b"new\n"})
    request = Request(SandboxId("vm-1"), trip.home(), Mode.FF_OR_MERGE)
    if touched:
        repo.write("data.bin", os.urandom(2 * MIB))
        with pytest.raises(IntegrateError):
            merge(trip.repo, trip.base, request)
    else:
        merge(trip.repo, trip.base, request)
        assert repo.read("data.bin") == b"new\n"


def test_an_edit_of_a_large_tracked_file_is_never_overlooked_by_a_merge(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "CHANGED", 10)
    repo.commit("more", {"big": "x" * 100})
    repo.write("big", "y" * 100)
    assert capture(repo).tree != repo.git("rev-parse", "HEAD^{tree}")
    trip = Trip.spawn(repo)
    trip.guest.git("checkout", "-q", "--", "big")
    trip.guest.commit("work", {"big": "z" * 100})
    repo.write("big", "w" * 100)
    with pytest.raises(IntegrateError):
        trip.merge()
    assert repo.read("big") == b"w" * 100


@given(st.lists(st.integers(0, 3 * MIB), max_size=40))
def test_what_is_left_out(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """All large ones, and of the others only as many as are too much together, the largest of them."""
    top = tmp_path_factory.mktemp("sizes")
    paths = []
    for number, size in enumerate(sizes):
        path = top / str(number)
        with path.open("wb") as file:
            file.truncate(size)
        paths.append(os.fsencode(path.name))
    out = {int(path) for path in large.chooser(top, changed=True)(paths, [])}
    kept = [size for number, size in enumerate(sizes) if number not in out]
    assert out >= {number for number, size in enumerate(sizes) if size > large.LARGE}
    assert sum(kept) <= large.TOGETHER
    small = sorted(size for size in sizes if size <= large.LARGE)
    assert len(kept) == len(small) or sum(kept) + small[len(kept)] > large.TOGETHER


def test_a_linked_worktree_inside_that_nobody_touched_brings_nothing_home(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("ignore", {".gitignore": ".worktrees/\n"})
    repo.git("worktree", "add", "-q", "-b", "topic", ".worktrees/x")
    repo.git("worktree", "add", "-q", "--detach", ".worktrees/y")
    repo.write(".worktrees/x/data.bin", os.urandom(2 * MIB))
    repo.write(".worktrees/x/new", "n\n")
    copy, captured = take(repo, tmp_path / "copy")
    found = nested.worktrees(copy.path, captured.git_dirs)
    assert (set(found.states), found.apart) == ({"x", "y"}, (".worktrees/x/data.bin",))
    for each in ("x", "y"):  # in the guest it is at /workspace
        (copy.path / f".git/worktrees/{each}/gitdir").write_text(f"{copy.path}/.worktrees/{each}/.git\n")
    for touched, names in (
        ([], set()),
        ([".worktrees/x/new"], {"new"}),
        ([".worktrees/x/data.bin"], {"new", "data.bin"}),
    ):
        for name in touched:
            (copy.path / name).write_bytes(os.urandom(MIB))
        said = told(copy, apart=list(found.apart), touched=touched, worktrees=found.states)
        wips = {ref.name: ref.oid for ref in said.refs if ref.name.startswith("refs/worktrees/")}
        assert set(wips) == ({"refs/worktrees/x/wip"} if touched else set())
        for oid in wips.values():
            listed = copy.git("ls-tree", "-r", "--name-only", oid).splitlines()
            assert set(listed) == {"README", ".gitignore", *names}


def told(guest: GitRepo, *, apart: list[str], touched: list[str] | None, worktrees: object = None) -> Manifest:
    """What an exporter says that knows of these files what process 1 knows."""
    more = f', "apart": {json.dumps(apart)}, "touched": {json.dumps(touched)}'
    more += f', "worktrees": {json.dumps(worktrees or {})}'
    with exporter(guest.path, UNCHANGED + more) as sock:
        reply = stream.request(sock, "export", known=(), limits=LIMITS)
        found = manifest.parse(reply.header, object_format="sha1")
        for _ in reply.chunks:
            pass
        return found


@pytest.mark.long("files of megabytes are exported three times")
def test_the_guest_leaves_out_what_nobody_touched(messy: GitRepo, tmp_path: Path) -> None:
    with store.create(discover(messy.path), None) as box:
        made, _ = started(box)
        box.directory.disk.unlink()
    guest = messy.clone_files(tmp_path / "guest")
    apart = list(made.snapshot.apart)
    before = size_of(guest.path / ".git")
    found = told(guest, apart=apart, touched=[])
    assert (found.worktree_tree, found.left_out) == (made.snapshot.tree, ())
    assert size_of(guest.path / ".git") - before < 10 * MIB
    names = guest.git("ls-tree", "-r", "--name-only", str(found.worktree_tree)).splitlines()
    assert "data.bin" not in names
    for touched in (["data.bin"], None):  # None: nobody knows which
        found = told(guest, apart=apart, touched=touched)
        names = guest.git("ls-tree", "-r", "--name-only", str(found.worktree_tree)).splitlines()
        assert "data.bin" in names
        assert (set(apart) <= set(names)) is (touched is None)


def changed_config(apart: list[str]) -> dict[str, object]:
    return {"apart": apart}


@pytest.mark.parametrize("submodule", [False, True], ids=["clone", "submodule"])
def test_a_large_file_in_a_repository_inside_comes_home_only_when_it_is_touched(
    repo: GitRepo, tmp_path: Path, submodule: bool
) -> None:
    """Neither is it read when it goes in. What process 1 knows of the outer worktree is told of the inner one's."""
    other = GitRepo.create(tmp_path / "other")
    other.commit("first", {"a": "1\n"})
    if submodule:
        repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.path), "inner")
        repo.commit("submodule", {})
    else:
        repo.git("clone", "-q", str(other.path), "inner")
    repo.write("inner/data.bin", os.urandom(2 * MIB))
    repo.write("inner/new", "n\n")
    copy, captured = take(repo, tmp_path / "copy")
    (record,) = nested.record(copy.path, captured.git_dirs)
    assert (record.apart, nested.apart([record])) == (("data.bin",), ("inner/data.bin",))
    place, inner = {"git_dir": record.git_dir, "path": record.path}, GitRepo(copy.path / "inner")
    before = size_of(copy.path)
    for touched, names in (
        ([], ["a", "new"]),
        (["inner/new", "innermost"], ["a", "new"]),
        (["inner/data.bin"], ["a", "data.bin", "new"]),
        (None, ["a", "data.bin", "new"]),
    ):
        line = json.dumps({"op": "export", "nonce": "0", **place}).encode() + b"\n"
        config = changed_config(["data.bin", "inner/data.bin", "innermost"])
        asked = json.loads(changes.added_inside(line, "inner", config, lambda: {"touched": touched}))  # noqa: B023
        extra = {key: value for key, value in asked.items() if key not in ("op", "nonce")}
        with served(copy.path) as sock:
            reply = stream.request(sock, "export", extra=extra, limits=LIMITS)
            found = manifest.parse(reply.header, object_format="sha1")
            sent = sum(map(len, reply.chunks))
        assert inner.git("ls-tree", "-r", "--name-only", str(found.worktree_tree)).splitlines() == names
        assert (found.worktree_tree == record.snapshot, sent > MIB) == (len(names) == 2, len(names) == 3)
        if touched == []:
            assert size_of(copy.path) - before < MIB


def test_without_large_files_inside_nobody_looks() -> None:
    def look() -> dict[str, object]:
        raise AssertionError

    line, config = b'{"op": "export"}\n', changed_config(["inner2/x", "y"])
    assert changes.added_inside(line, "inner", config, look) == line
