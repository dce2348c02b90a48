"""What goes to the trash comes back whole: with its commits, reflogs and files, whatever happened in between."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from git_sandbox import claims, files, idspace, paths, store
from git_sandbox.disk import share_dir
from git_sandbox.errors import HostResourceError, RequirementError, SandboxError, StateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import SandboxId
from git_sandbox.git.repo import discover
from git_sandbox.idspace import IdSpace
from git_sandbox.sandbox import expiring, listing, trashed
from git_sandbox.sandbox.remove import drop
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import SandboxHandle, State
from git_sandbox.trash import expiry, moving, note, objects
from git_sandbox.trash.expiry import Rule
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo
from support.kills import dies, killed

NAME = SandboxId("vm-1")


def refs_of(host: GitRepo, name: str = "vm-1") -> dict[str, str]:
    roots = ("refs/sandbox/", "refs/sandbox-")
    return {ref: value for ref, value in host.refs().items() if ref.startswith(roots) and name in ref.split("/")}


def root_of(host: GitRepo) -> Path:
    return store.state_directory(discover(host.path))


def gc(host: GitRepo) -> None:
    host.git("reflog", "expire", "--expire=now", "--all")
    host.git("gc", "-q", "--prune=now")


def state_of(host: GitRepo, name: str = "vm-1") -> tuple[object, ...]:
    """All there is of a sandbox, wherever it is."""
    place = root_of(host) / name
    files = {path.relative_to(place): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
    return refs_of(host, name), files


def full(host: GitRepo) -> Sandbox:
    """A sandbox with a commit on HEAD, one on another branch, uncommitted work, a reflog and files of all kinds."""
    host.write("mine", "uncommitted when it started\n")
    made = worked(host, "vm-1", {"a": "1\n"})
    made.guest.git("switch", "-q", "-c", "side")
    made.work("aside", {"b": "aside\n"})
    made.guest.git("switch", "-q", "-")
    made.guest.write("loose", "not committed\n")
    made.home()
    old = host.git("commit-tree", "HEAD^{tree}", "-m", "only in the reflog")
    now = host.git("rev-parse", "refs/sandbox/vm-1")
    host.git("update-ref", "--create-reflog", "refs/sandbox/vm-1", old)
    host.git("update-ref", "refs/sandbox/vm-1", now)
    place = root_of(host) / "vm-1"
    place.joinpath("workspace.ext4").write_bytes(b"disk")
    inner = GitRepo.create(place / "nested/inner")
    inner.commit("inside", {"x": "1\n"})
    inner.path.joinpath(".git").rename(place / "nested/inner.git")
    place.joinpath("console.log").write_text("booted\n")
    store.entries(made.repo)  # who looks notes the refs
    return made


def test_dropped_by_force_pruned_and_restored(repo: GitRepo) -> None:
    full(repo)
    before, log = state_of(repo), repo.git("reflog", "show", "--format=%H", "refs/sandbox/vm-1").split()
    kept = {*before[0].values(), *log}  # type: ignore[attr-defined]
    found = drop(discover(repo.path), "vm-1", force=True)
    assert found.expires
    assert found.expires == pytest.approx(time.time() + 7 * 86400, abs=60)
    assert refs_of(repo) == {}
    assert not (root_of(repo) / "vm-1").exists()
    gc(repo)
    assert repo.run("cat-file", "-e", log[-1]).returncode != 0, "else nothing is proved"
    back = trashed.restore(discover(repo.path), "vm-1")
    assert (back.state, back.missing) == (State.STOPPED, {})
    assert state_of(repo) == before
    assert repo.git("reflog", "show", "--format=%H", "refs/sandbox/vm-1").split()[:1] == log[:1]
    for each in kept:
        repo.git("rev-list", "--objects", each)
    assert repo.git("show", "refs/sandbox-wip/vm-1:loose") == "not committed"
    assert repo.git("show", "refs/sandbox-base/vm-1:mine") == "uncommitted when it started"
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""
    assert note.listed(root_of(repo)) == []


def test_merged_dropped_and_then_the_branch_is_deleted(repo: GitRepo) -> None:
    made = worked(repo, "vm-1", {"a": "1\n"})
    repo.git("switch", "-q", "-c", "feature")
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/vm-1")
    repo.git("switch", "-q", "main")
    drop(made.repo, "vm-1", force=False)
    repo.git("branch", "-D", "feature")
    gc(repo)
    assert trashed.restore(made.repo, "vm-1").missing == {}
    assert repo.git("show", "refs/sandbox/vm-1:a") == "1"


def test_a_base_that_was_rewritten_before_the_drop_goes_along(repo: GitRepo) -> None:
    made = worked(repo, "vm-1", {"a": "1\n"})
    repo.git("commit", "-q", "--amend", "-m", "rewritten")
    drop(made.repo, "vm-1", force=True)
    gc(repo)
    assert trashed.restore(made.repo, "vm-1").missing == {}
    assert repo.git("log", "--format=%s", "refs/sandbox/vm-1").splitlines() == ["work of vm-1", "first"]


def test_a_base_that_was_pruned_after_the_drop_leaves_the_disk(repo: GitRepo) -> None:
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    repo.git("commit", "-q", "--amend", "-m", "rewritten")
    gc(repo)
    back = trashed.restore(made.repo, "vm-1")
    assert back.state is State.RECOVERABLE, "what is on the disk has to come home again"
    assert "refs/sandbox/vm-1" in back.missing
    assert (root_of(repo) / "vm-1/workspace.ext4").read_bytes() == b"disk"
    assert list((root_of(repo) / "vm-1/trash").iterdir()), "the pack stays while nothing else has it"
    assert repo.git("fsck", "--connectivity-only", "--no-dangling") == ""


def test_only_refs_are_left_of_it(repo: GitRepo) -> None:
    made = worked(repo, "vm-1", {"a": "1\n"})
    files.remove_tree(root_of(repo) / "vm-1")
    before = refs_of(repo)
    drop(made.repo, "vm-1", force=True)
    assert refs_of(repo) == {}
    assert [row.id for row in trashed.rows(made.repo)] == ["vm-1"]
    gc(repo)
    assert trashed.restore(made.repo, "vm-1").state is State.REFS
    assert refs_of(repo) == before
    assert not (root_of(repo) / "vm-1").exists()
    assert note.ids(root_of(repo)) == set()


def test_only_refs_in_a_fresh_state_directory(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = worked(repo, "vm-1", {"a": "1\n"})
    before = refs_of(repo)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "fresh"))
    drop(made.repo, "vm-1", force=True)
    other = GitRepo.create(tmp_path / "other")
    other.commit("first")
    assert note.ids(root_of(other)) == set()
    assert trashed.restore(made.repo, "vm-1").state is State.REFS
    assert refs_of(repo) == before


def test_only_refs_whose_history_is_gone_stay_in_the_trash(repo: GitRepo) -> None:
    made = worked(repo, "vm-1", {"a": "1\n"})
    files.remove_tree(root_of(repo) / "vm-1")
    drop(made.repo, "vm-1", force=True)
    repo.git("commit", "-q", "--amend", "-m", "rewritten")
    gc(repo)
    with pytest.raises(StateError, match="history is gone"):
        trashed.restore(made.repo, "vm-1")
    assert note.ids(root_of(repo)) == {NAME}


def test_only_a_directory_is_left_of_it(repo: GitRepo) -> None:
    made = full(repo)
    repo.git("update-ref", "--stdin", input="".join(f"delete {ref}\n" for ref in refs_of(repo)).encode())
    gc(repo)
    store.entries(made.repo)  # else they are put back
    before = state_of(repo)
    drop(made.repo, "vm-1", force=True)
    trashed.restore(made.repo, "vm-1")
    assert state_of(repo) == before


def test_a_damaged_record(repo: GitRepo) -> None:
    made = full(repo)
    (root_of(repo) / "vm-1/record.json").write_bytes(b"{")
    before = state_of(repo)
    drop(made.repo, "vm-1", force=True)
    gc(repo)
    assert trashed.restore(made.repo, "vm-1").state is State.BROKEN
    assert state_of(repo) == before


def test_a_damaged_note_never_expires_and_gives_the_disk_back(repo: GitRepo) -> None:
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    (found,) = note.listed(root_of(repo))
    found.directory.trash_note.write_bytes(b"{")
    assert expiry.due(expiry.every(), Rule(0, 0)) == []
    assert trashed.prune([root_of(repo)], everything=True).sandboxes == []
    trashed.restore(made.repo, "vm-1")
    assert (root_of(repo) / "vm-1/workspace.ext4").read_bytes() == b"disk"


def test_an_object_that_is_missing_before_the_drop_holds_nothing_up(repo: GitRepo) -> None:
    made = full(repo)
    blob = repo.git("rev-parse", "refs/sandbox-heads/vm-1/side:b")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    drop(made.repo, "vm-1", force=True)
    (found,) = note.listed(root_of(repo))
    assert found.note
    assert found.note.parts[0].unpacked == ("refs/sandbox-heads/vm-1/side",)
    back = trashed.restore(made.repo, "vm-1")
    assert list(back.missing) == ["refs/sandbox-heads/vm-1/side"]
    assert back.refs["refs/sandbox/vm-1"] == repo.git("rev-parse", "refs/sandbox/vm-1")


def test_an_object_of_the_users_that_is_damaged_as_well_leaves_nothing_sound_out(repo: GitRepo) -> None:
    """`git rev-list` says nothing of the sandbox's then: each counted as incomplete, and none was packed."""
    made = full(repo)
    lost = repo.git("commit-tree", "-m", "lost", "HEAD^{tree}")
    repo.git("update-ref", "refs/heads/damaged", lost)
    file = repo.path / ".git/objects" / lost[:2] / lost[2:]
    file.chmod(0o600)
    file.write_bytes(b"")  # the host crashed
    blob = repo.git("rev-parse", "refs/sandbox-heads/vm-1/side:b")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    drop(made.repo, "vm-1", force=True)
    (found,) = note.listed(root_of(repo))
    assert found.note
    assert found.note.parts[0].unpacked == ("refs/sandbox-heads/vm-1/side",)


def test_what_could_not_be_restored_is_found_before_anybody_needs_it(repo: GitRepo) -> None:
    """`doctor --verify` looks into the trash, too."""
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    assert trashed.damage(made.repo) == ()
    (found,) = note.listed(root_of(repo))
    (pack,) = found.directory.trash_packs.glob("*.pack")
    whole = pack.read_bytes()
    for damaged in (whole[:-1], whole + b"x", bytes([*whole[:200], whole[200] ^ 1, *whole[201:]]), b"", None):
        pack.unlink(missing_ok=True)
        if damaged is not None:
            pack.write_bytes(damaged)
        (row,) = trashed.damage(made.repo)
        assert row.startswith("vm-1: its pack 0.pack is damaged or missing")
    pack.write_bytes(whole)
    record, told = found.directory.record.read_bytes(), found.directory.trash_note.read_bytes()
    for file, before in ((found.directory.record, record), (found.directory.trash_note, told)):
        file.write_bytes(b"{")
        (row,) = trashed.damage(made.repo)
        assert "is damaged" in row
        file.write_bytes(before)
    assert trashed.damage(made.repo) == ()


def test_a_share_goes_there_and_comes_back_as_the_guest_left_it(repo: GitRepo) -> None:
    """It belongs to nobody who could look into it here, and counts all the same."""
    try:
        space = IdSpace.ours()
    except RequirementError as error:
        pytest.skip(f"{error.message}; {error.hint}")
    made = full(repo)
    directory = SandboxDir(root_of(repo) / "vm-1")
    tree = share_dir.lay_out(directory)
    tree.joinpath("deep").mkdir(parents=True)
    tree.joinpath("deep/file").write_bytes(b"x" * (1 << 20))
    tree.joinpath("deep").chmod(0o500)
    share_dir.give(directory, space)
    before = directory.share.stat()
    drop(made.repo, "vm-1", force=True)
    (found,) = note.listed(root_of(repo))
    assert found.size > 1 << 20
    assert trashed.damage(made.repo) == ()
    assert trashed.restore(made.repo, "vm-1").state is State.STOPPED
    assert (directory.share.stat().st_ino, directory.share.stat().st_uid) == (before.st_ino, space.uid)
    seen = idspace.serve_argv(space, directory.share, Path("/bin/sh"), ["sh", "-c", "wc -c < /mnt/deep/file"])
    assert subprocess.run(seen, capture_output=True, check=True).stdout.strip() == b"1048576"
    drop(made.repo, "vm-1", force=True)
    assert trashed.prune([root_of(repo)], everything=True).freed > 1 << 20
    assert not any(root_of(repo).rglob("share"))


def test_names_in_the_trash_are_not_given_out_again(repo: GitRepo) -> None:
    first = spawn(repo, "vm-1")
    drop(first.repo, "vm-1", force=True)
    with store.create(first.repo, None) as box:
        assert box.id == "vm-2"
    for use in (lambda: spawn(repo, "vm-1"), lambda: store.find(first.repo, "vm-1")):
        with pytest.raises(StateError, match="is in the trash") as caught:
            use()
        assert "`sandbox restore vm-1`" in caught.value.hint
        assert "`sandbox prune vm-1`" in caught.value.hint
    trashed.prune([root_of(repo)], ["vm-1"])
    with store.create(first.repo, None) as box:
        assert box.id == "vm-1"


def test_a_name_that_is_in_use_is_not_overwritten(repo: GitRepo) -> None:
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    repo.git("update-ref", "refs/sandbox/vm-1", "HEAD")
    with pytest.raises(StateError, match="exists"):
        trashed.restore(made.repo, "vm-1")
    assert refs_of(repo) == {"refs/sandbox/vm-1": repo.git("rev-parse", "HEAD")}
    repo.git("update-ref", "-d", "refs/sandbox/vm-1")
    trashed.restore(made.repo, "vm-1")
    with pytest.raises(StateError, match="in the trash"):
        trashed.restore(made.repo, "vm-1")


# --- at any step ------------------------------------------------------------------------------------------------------


STEPS = [(objects, "part"), (note, "write"), (moving, "_move"), (objects, "forget")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("kind", ["whole", "refs"])
def test_killed_on_the_way_into_the_trash(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, place: object, name: str, kind: str, *, after: bool
) -> None:
    made = full(repo)
    if kind == "refs":
        files.remove_tree(root_of(repo) / "vm-1")
    before = state_of(repo)
    with monkeypatch.context() as patch:
        dies(patch, place, name, after=after)
        killed(lambda: drop(made.repo, "vm-1", force=True))
    listed = {row.id for row in listing.rows(made.repo)}
    there = {row.id for row in trashed.rows(made.repo)}
    assert sorted((*listed, *there)) == ["vm-1"], "it is in one place"
    if listed:
        assert before[0] == refs_of(repo)
        drop(made.repo, "vm-1", force=True)
    trashed.finish(made.repo)
    assert refs_of(repo) == {}, "what was left is tidied up"
    gc(repo)
    assert trashed.restore(made.repo, "vm-1").missing == {}
    assert state_of(repo) == before


BACK = [(objects, "_set"), (moving, "_move"), (moving, "_forget_note")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("place", "name"), BACK, ids=[name for _, name in BACK])
@pytest.mark.parametrize("finished", [False, True])
def test_killed_on_the_way_back(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, place: object, name: str, *, finished: bool, after: bool
) -> None:
    made = full(repo)
    before = state_of(repo)
    drop(made.repo, "vm-1", force=True)
    gc(repo)
    with monkeypatch.context() as patch:
        dies(patch, place, name, after=after)
        killed(lambda: trashed.restore(made.repo, "vm-1"))
    if finished:
        trashed.finish(made.repo)
        gc(repo)
    listed = {row.id for row in listing.rows(made.repo)}
    assert sorted((*listed, *(row.id for row in trashed.rows(made.repo)))) == ["vm-1"], "it is in one place"
    if listed:
        assert refs_of(repo) == before[0]
        drop(made.repo, "vm-1", force=True)
    trashed.restore(made.repo, "vm-1")
    assert state_of(repo) == before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["_move", "empty", "remove_tree"])
def test_killed_while_it_is_deleted(repo: GitRepo, monkeypatch: pytest.MonkeyPatch, name: str, *, after: bool) -> None:
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    with monkeypatch.context() as patch:
        dies(patch, files if name == "remove_tree" else moving, name, after=after)
        killed(lambda: trashed.prune([root_of(repo)], everything=True))
    assert note.ids(root_of(repo)) <= {NAME}, "nobody gets the name of what is not gone"
    if note.listed(root_of(repo)):
        assert trashed.restore(made.repo, "vm-1").missing == {}
        return
    with pytest.raises(StateError, match="in the trash"):
        trashed.restore(made.repo, "vm-1")
    worked(repo, "vm-3", {"a": "3\n"})
    drop(made.repo, "vm-3", force=True)
    trashed.prune([root_of(repo)], everything=True)
    assert [each for each in paths.trash_root(root_of(repo)).iterdir() if each.is_dir()] == []


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_full_disk_changes_nothing(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    made = full(repo)
    before = state_of(repo)
    run = Git.try_run

    def no_room(self: Git, *args: str, **options: object) -> object:
        if args[0] == "pack-objects":
            with Path("/dev/full").open("wb") as target:
                return run(self, *args, **{**options, "to": target})  # type: ignore[arg-type]
        return run(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Git, "try_run", no_room)
    with pytest.raises(HostResourceError, match="cannot be written to the trash"):
        drop(made.repo, "vm-1", force=True)
    assert state_of(repo) == before
    assert note.ids(root_of(repo)) == set()


def test_refs_that_cannot_be_deleted_leave_it_where_it_is(repo: GitRepo) -> None:
    made = full(repo)
    before = state_of(repo)
    lock = repo.path / ".git/refs/sandbox-base/vm-1.lock"
    lock.touch()
    with pytest.raises(SandboxError):
        drop(made.repo, "vm-1", force=True)
    assert refs_of(repo) == before[0]
    assert [row.id for row in listing.rows(made.repo)] == ["vm-1"]
    lock.unlink()
    drop(made.repo, "vm-1", force=True)
    trashed.restore(made.repo, "vm-1")
    assert state_of(repo) == before


def test_two_drops_at_the_same_time(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the lock of a directory that is somewhere else when it gets it."""
    made = full(repo)
    entry = store.find(made.repo, "vm-1")
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found: list[BaseException] = []

        def second() -> None:
            try:
                drop(made.repo, "vm-1", force=True)
            except SandboxError as error:
                found.append(error)

        monkeypatch.setattr(claims, "LOOKING", 30.0)
        other = threading.Thread(target=second)
        other.start()
        while _opened(entry.directory.lock) < 2 and other.is_alive():
            time.sleep(0.02)
        trashed.put(SandboxHandle(made.repo, entry.id, entry.directory), entry.record, note.DROPPED)
    other.join()
    assert "was dropped by another process" in str(found[0])
    assert trashed.restore(made.repo, "vm-1").state is State.STOPPED


def _opened(file: Path) -> int:
    """How many descriptors of this process are of `file`."""
    return sum(os.path.realpath(fd) == os.fspath(file) for fd in Path("/proc/self/fd").iterdir())


def test_who_expires_waits_for_nobody(repo: GitRepo) -> None:
    made = full(repo)
    drop(made.repo, "vm-1", force=True)
    with note.locked(root_of(repo)):
        assert expiry.remove(expiry.every()) == []
    assert trashed.restore(made.repo, "vm-1").missing == {}


def test_links_in_the_directory_are_not_followed(repo: GitRepo, tmp_path: Path) -> None:
    made = spawn(repo, "vm-1")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine\n")
    place = root_of(repo) / "vm-1"
    for name in ("link", "share", "nested", "trash"):
        (place / name).symlink_to(precious)
    (place / "workspace.ext4").unlink()
    (place / "workspace.ext4").symlink_to(precious / "file")
    drop(made.repo, "vm-1", force=True)
    assert trashed.prune([root_of(repo)], everything=True).kept == []
    assert (precious / "file").read_text() == "mine\n"
    assert not paths.trash_root(root_of(repo)).joinpath("vm-1").exists()


# --- what expires -----------------------------------------------------------------------------------------------------


def aged(host: GitRepo, ages: dict[str, float], why: str = note.DROPPED) -> None:
    """Sandboxes in the trash, of 1 MiB each, by how many seconds ago they went there."""
    for name, age in ages.items():
        made = spawn(host, name)
        (root_of(host) / name / "workspace.ext4").write_bytes(b"x" * (1 << 20))
        with store.open_existing(made.repo, name) as (box, entry):
            trashed.put(box, entry.record, why)
        found = note.read(root_of(host), SandboxId(name))
        assert found
        assert found.note
        fields = {each: getattr(found.note, each) for each in found.note.__struct_fields__}
        note.write(found.directory, note.Note(**fields | {"when": time.time() - age}))
    expiry.summarise()


def left(host: GitRepo) -> list[str]:
    return sorted(note.ids(root_of(host)))


def test_by_age(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(repo, {"old": 8 * 86400, "new": 6 * 86400})
    monkeypatch.setenv("SANDBOX_TRASH", "never")
    expiring.expire()
    assert left(repo) == ["new", "old"]
    monkeypatch.delenv("SANDBOX_TRASH")
    expiring.expire()
    assert left(repo) == ["new"]
    monkeypatch.setenv("SANDBOX_TRASH", "0")
    expiring.expire()
    assert left(repo) == []


def test_by_room_the_oldest_first(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(repo, {"b": 30, "c": 20, "a": 10})
    monkeypatch.setenv("SANDBOX_TRASH_SIZE", "3M")
    expiring.expire()
    assert left(repo) == ["a", "c"]
    monkeypatch.setenv("SANDBOX_TRASH_SIZE", "0")
    expiring.expire()
    assert left(repo) == []


def test_what_nobody_dropped_and_nothing_proved_stays(repo: GitRepo) -> None:
    aged(repo, {"odd": 1e9}, why="somebody thought so")
    assert expiry.due(expiry.every(), Rule(0, 0)) == []
    assert trashed.prune([root_of(repo)], everything=True).sandboxes == []
    assert [each.id for each in trashed.prune([root_of(repo)], ["odd"]).sandboxes] == ["odd"], "unless it is named"


def test_a_verb_looks_at_one_file_when_nothing_is_due(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(repo, {"new": 10})

    def walk(*_: object) -> object:
        raise AssertionError

    monkeypatch.setattr(expiry, "every", walk)
    monkeypatch.setattr(note, "everywhere", walk)
    expiring.expire()
    paths.trash_summary().unlink()
    with pytest.raises(AssertionError):
        expiring.expire()


def test_the_trash_of_a_repository_that_is_gone(repo: GitRepo, tmp_path: Path) -> None:
    aged(repo, {"old": 8 * 86400})
    root = root_of(repo)
    files.remove_tree(repo.path)
    other = GitRepo.create(tmp_path / "other")
    other.commit("first")
    expiring.expire()
    assert note.ids(root) == set()


def test_what_is_made_once_more_begins_with_nothing(repo: GitRepo) -> None:
    """Whatever file of a sandbox there is: each property of its directory that is a path below it."""
    with store.create(discover(repo.path), "again") as box:
        places = [
            getattr(box.directory, name) for name in dir(SandboxDir) if isinstance(getattr(SandboxDir, name), property)
        ]
        inside = [place for place in places if place.parent == box.directory.root]
        assert len(inside) > 20
        for place in inside:
            place.touch()
        repo.git("update-ref", f"refs/sandbox-base/{box.id}", "HEAD")
        store.delete(box, name_too=False)
        left = {place.name for place in box.directory.root.iterdir()}
        assert left == {"lock", *(place.name for place in inside if place.suffix == ".log")}
        assert not box.repo.refs(*box.refs.patterns)
