"""A guest whose machine was killed: what can still be read comes home, and what cannot is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.collect.quarantine import CollectLimits, quarantined
from git_sandbox.errors import CollectError, DamagedError
from git_sandbox.git.repo import discover
from git_sandbox.guest import damage
from git_sandbox.guest.repository import Repo
from git_sandbox.protocol import manifest, stream
from git_sandbox.sandbox import retrieve
from support.gitrepo import GitRepo
from support.guest import LIMITS, Host, export
from support.nested import Journey, served
from support.packs import blob, pack
from support.rotten import branches


def harm(guest: GitRepo, spec: str, *, leave: bytes | None = b"") -> str:
    """Truncate (or, with None, remove) a loose object."""
    oid = guest.git("rev-parse", spec)
    path = guest.path / ".git/objects" / oid[:2] / oid[2:]
    path.unlink()
    if leave is not None:
        path.write_bytes(leave)
    return oid


@pytest.mark.parametrize("leave", [b"", None, b"garbage"], ids=["empty", "gone", "garbage"])
@pytest.mark.parametrize("what", ["HEAD", "HEAD^{tree}", "HEAD:b"])
def test_a_damaged_tip_falls_back_to_the_reflog(host: Host, guest: GitRepo, what: str, leave: bytes | None) -> None:
    good = guest.commit("good", {"a": "1\n"})
    guest.git("branch", "other")
    guest.commit("lost", {"b": "2\n"})
    harm(guest, what, leave=leave)
    guest.write("b", "3\n")
    guest.git("add", "b")
    done = host.bring_home(guest)
    assert done.head == good
    assert host.sandbox_refs()[done.branches["main"]] == good
    assert host.sandbox_refs()[done.branches["other"]] == good
    assert any("refs/heads/main is damaged" in warning for warning in done.warnings)
    if leave == b"" or what == "HEAD:b":
        assert host.repo.git("show", "refs/sandbox-wip/vm-1:b") == "3"
    assert any("objects were damaged" in warning for warning in done.warnings) is (leave is not None)


@pytest.mark.parametrize("leave", [b"", None], ids=["empty", "gone"])
@pytest.mark.parametrize("what", ["HEAD^{tree}", "HEAD:b"])
def test_what_the_worktree_still_has_mends_the_commit(
    host: Host, guest: GitRepo, what: str, leave: bytes | None
) -> None:
    tip = guest.commit("lost", {"b": "2\n"})
    harm(guest, what, leave=leave)
    done = host.bring_home(guest)
    assert done.head == tip
    assert host.repo.git("show", f"{tip}:b") == "2"
    host.repo.git("fsck", "--strict", "--no-dangling")


def test_a_damaged_branch_without_reflog_does_not_stop_the_others(host: Host, guest: GitRepo) -> None:
    guest.git("switch", "-q", "-c", "broken")
    guest.commit("lost", {"b": "2\n"})
    harm(guest, "HEAD")
    (guest.path / ".git/logs/refs/heads/broken").unlink()
    guest.write(".git/HEAD", "ref: refs/heads/main\n")
    done = host.bring_home(guest)
    assert done.branches.keys() == {"main"}


def test_a_staged_file_whose_blob_was_lost(host: Host, guest: GitRepo) -> None:
    guest.write("staged", "only in the index and on disk\n")
    guest.git("add", "staged")
    harm(guest, ":staged")
    host.bring_home(guest)
    assert host.repo.git("show", "refs/sandbox-wip/vm-1:staged") == "only in the index and on disk"


def test_a_lost_stash_does_not_stop_the_others(host: Host, guest: GitRepo) -> None:
    for number in (1, 2):
        guest.write("README", f"stash {number}\n")
        guest.git("stash", "push", "-q")
    kept = guest.git("rev-parse", "stash@{0}")
    harm(guest, "stash@{1}^{tree}")
    host.bring_home(guest)
    assert host.sandbox_refs()["refs/sandbox-stash/vm-1/0"] == kept
    assert "refs/sandbox-stash/vm-1/1" not in host.sandbox_refs()


def test_an_object_that_is_being_written_is_left_alone(guest: GitRepo) -> None:
    live = guest.write(".git/objects/ab/tmp_obj_X1y2Z3", b"")
    damaged = guest.write(".git/objects/ab/" + "c" * 38, bytes(4096))
    export(guest)
    assert live.exists()
    assert not damaged.exists()


def test_a_stash_whose_line_in_the_reflog_is_lost(host: Host, guest: GitRepo) -> None:
    for number in range(3):
        guest.write("README", f"stash {number}\n")
        guest.git("stash", "push", "-q")
    log = guest.path / ".git/logs/refs/stash"
    entries = guest.git("log", "-g", "--format=%H", "refs/stash").splitlines()
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    host.bring_home(guest)
    kept = host.sandbox_refs()
    assert [kept[f"refs/sandbox-stash/vm-1/{number}"] for number in range(3)] == entries


def test_an_object_that_begins_well_and_a_branch_that_needs_it(host: Host, guest: GitRepo) -> None:
    """git reads of a blob no more than its beginning until it packs it."""
    tip = guest.commit("good", {"a": "1\n"})
    guest.git("switch", "-q", "-c", "broken")
    guest.commit("lost", {"b": "2\n" * 50})
    oid = guest.git("rev-parse", "HEAD:b")
    path = guest.path / ".git/objects" / oid[:2] / oid[2:]
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content[:-4] + bytes(4))
    guest.git("switch", "-q", "main")
    (guest.path / ".git/logs/refs/heads/broken").unlink()
    repo = Repo(str(guest.path))
    assert damage.move_away(repo) == [oid]
    assert path.with_name(path.name + damage.AWAY).exists()
    done = host.bring_home(guest)
    assert done.head == tip
    assert done.branches.keys() == {"main"}
    assert [each.name for each in done.set_aside] == ["refs/heads/broken"]


def test_of_many_refs_few_are_damaged(host: Host, guest: GitRepo) -> None:
    for number in range(20):
        guest.commit(f"c{number}", {f"f{number}": f"{number}\n"})
        guest.git("branch", f"b{number}")
        guest.git("reset", "-q", "--hard", "HEAD~1")
    damage_of = {number: guest.git("rev-parse", f"b{number}^{{tree}}") for number in (3, 11)}
    for number, oid in damage_of.items():
        (guest.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
        (guest.path / f".git/logs/refs/heads/b{number}").unlink()
    done = host.bring_home(guest)
    assert done.branches.keys() == {"main", *(f"b{number}" for number in range(20) if number not in damage_of)}
    assert {each.name for each in done.set_aside} == {f"refs/heads/b{number}" for number in damage_of}


def test_of_a_pack_that_is_damaged_the_sound_part_comes_when_asked_again(repo: GitRepo, tmp_path: Path) -> None:
    """git copies out of a pack without a look at it, so the host finds out: after the list of refs has come."""
    trip = Journey.begin(repo, tmp_path)
    bad = branches(trip.guest)
    trip.guest.write("one", "uncommitted\n")
    done = trip.home()
    assert done.collected.branches.keys() == {"bad", "one", "two"}
    assert [each.name for each in done.collected.set_aside] == ["refs/heads/bad"]
    assert done.partly
    assert any("is damaged" in text for text in done.collected.warnings)
    assert repo.refs()["refs/sandbox-heads/vm-1/bad"] == repo.git("rev-parse", "main"), "as its reflog has it"
    repo.git("fsck", "--strict", "--no-dangling")
    assert repo.git("show", "refs/sandbox-wip/vm-1:one") == "uncommitted"
    assert repo.run("cat-file", "-e", bad).returncode != 0


def test_a_damaged_pack_of_a_repository_inside_holds_up_nothing(repo: GitRepo, tmp_path: Path) -> None:
    GitRepo.create(repo.path / "inner").commit("first", {"a": "1\n"})
    trip = Journey.begin(repo, tmp_path)
    branches(trip.inside("inner"))
    trip.guest.commit("outer", {"b": "1\n"})
    done = trip.home()
    assert done.collected.head == trip.guest.git("rev-parse", "HEAD")
    (inner,) = done.nested.homes
    assert inner.collected.branches.keys() == {"bad", "one", "two"}
    assert [each.name for each in inner.collected.set_aside] == ["refs/heads/bad"]
    assert not done.nested.missing


def test_who_asks_with_care_gets_only_what_is_sound(guest: GitRepo) -> None:
    start = guest.git("rev-parse", "HEAD")
    branches(guest)
    with served(guest.path) as sock:
        for known in ([], [start]):
            reply = stream.request(sock, "export", known=known, extra={"careful": True}, limits=LIMITS)
            told = manifest.parse(reply.header, object_format="sha1")
            assert {ref.name for ref in told.refs} >= {"refs/heads/one", "refs/heads/two"}
            assert [each.name for each in told.set_aside] == ["refs/heads/bad"]
            assert b"".join(reply.chunks).startswith(b"PACK")


def test_what_is_handed_out_as_a_file_can_be_read(repo: GitRepo, guest: GitRepo, tmp_path: Path) -> None:
    """No git of the host's looks at it, so nobody would ask again."""
    start = guest.git("rev-parse", "main")
    branches(guest)
    with served(guest.path) as sock:
        file, _ = retrieve.written(sock, tmp_path / "x.bundle", object_format="sha1", base=start)
    repo.git("fetch", "-q", str(file), "refs/*:refs/raw/*")
    assert {name for name in repo.refs() if name.startswith("refs/raw/heads/")} >= {
        "refs/raw/heads/one", "refs/raw/heads/two"
    }  # fmt: skip
    repo.git("fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("beyond", ["limit", "early", "said"])
def test_a_stream_that_breaks_within_its_pack_is_no_damage(repo: GitRepo, tmp_path: Path, beyond: str) -> None:
    """The rest of it does not come: nothing can be asked behind it. Only git's own verdict says that a pack is damaged,
    and a guest's last word that it could not read one.
    """
    kind = DamagedError if beyond == "said" else CollectError
    broken = kind("the stream ended", cause=beyond)

    def pieces() -> Iterator[bytes]:
        yield pack(*(blob(f"{number}\n".encode()) for number in range(100)))[:500]
        raise broken

    place = tmp_path / "quarantine"
    with pytest.raises(CollectError) as caught, quarantined(discover(repo.path), place, CollectLimits()) as there:
        there.take(pieces())
    assert caught.value is broken


def test_a_pack_that_git_cannot_read_is_damaged_and_read_to_its_end(repo: GitRepo, tmp_path: Path) -> None:
    whole = bytearray(pack(*(blob(f"{number}\n".encode() * 50) for number in range(100))))
    whole[300:330] = bytes(30)
    left = iter([bytes(whole[at : at + 100]) for at in range(0, len(whole), 100)])
    place = tmp_path / "quarantine"
    with pytest.raises(DamagedError), quarantined(discover(repo.path), place, CollectLimits()) as there:
        there.take(left)
    assert next(left, None) is None
