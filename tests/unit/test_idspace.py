"""Whose the files of a share are. What needs ids of its own runs as root, or as a user with subordinate ids."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import idspace
from git_sandbox.disk import share_dir
from git_sandbox.errors import HostResourceError, RequirementError
from git_sandbox.helpers import userns
from git_sandbox.idspace import COUNT, IdSpace
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.workspace import share

IDS = st.integers(0, 2**32 - 2)


@given(st.integers(1000, 2**31), IDS)
def test_every_id_of_the_guests_is_another_one_here_and_the_owners_is_among_them(base: int, own: int) -> None:
    rows = idspace.rows(base, own)
    assert sum(count for _, _, count in rows) == COUNT
    outside = [range(first, first + count) for _, first, count in rows]
    assert [each for part in outside for each in (part.start, part.stop - 1)] == sorted(
        each for part in outside for each in (part.start, part.stop - 1)
    )
    assert outside[0].start == base
    assert outside[-1].stop == base + COUNT
    (found,) = (first + own - inside for inside, first, count in rows if inside <= own < inside + count)
    assert found == base + idspace.slot(own)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("", None),
        ("other:100000:65536\n", None),
        ("me:100000:65536\n", 100000),
        ("1234:200000:65536\n", 200000),
        ("me:100000:1000\nme:300000:70000\n", 300000),
        ("me:100000\nme:x:65536\n# me:1:65536\n", None),
    ],
)
def test_range_is_the_first_of_ours_that_is_large_enough(tmp_path: Path, table: str, found: int | None) -> None:
    place = tmp_path / "subuid"
    place.write_text(table)
    assert idspace._range(place, 1234, "me") == found
    assert idspace._range(tmp_path / "nothing", 1234, "me") is None


@pytest.fixture
def space() -> IdSpace:
    try:
        return IdSpace.ours()
    except RequirementError as error:
        pytest.skip(f"{error.message}; {error.hint}")


@pytest.fixture
def given_away(tmp_path: Path, space: IdSpace) -> Iterator[SandboxDir]:
    """A working copy that has become the guest's."""
    directory = SandboxDir(tmp_path / "vm-1")
    directory.root.mkdir(mode=0o700)
    tree = share_dir.lay_out(directory)
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("hello")
    (tree / "deep" / "link").symlink_to("/etc/passwd")
    (tree / "deep" / "setuid").write_text("")
    (tree / "deep" / "setuid").chmod(0o4711)
    (tree / "other").hardlink_to(tree / "deep" / "file")
    before = Path("/etc/passwd").stat()
    share_dir.give(directory, space)
    after = Path("/etc/passwd").stat()
    assert (after.st_uid, after.st_ctime_ns) == (before.st_uid, before.st_ctime_ns)
    yield directory
    share_dir.remove(directory)
    assert not directory.share.exists()


def inside(directory: SandboxDir, script: str) -> subprocess.CompletedProcess[str]:
    """Run as the server does."""
    words = idspace.serve_argv(IdSpace.of(directory.share), directory.share, Path("/bin/sh"), ["sh", "-ec", script])
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_copy_belongs_to_nobody_here_and_to_its_owner_in_the_guest(given_away: SandboxDir, space: IdSpace) -> None:
    seen = given_away.share.lstat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (space.uid, space.gid, 0o700)
    done = inside(given_away, "cd /mnt; stat -c '%u:%g %a %n' deep deep/file deep/link deep/setuid; cat deep/file")
    own = f"{idspace.slot(os.getuid())}:{idspace.slot(os.getgid())}"
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows[:-1]] == [own] * 4
    assert rows[3][1] == "4711"
    assert rows[-1] == ["hello"]


def test_server_can_do_everything_in_the_tree_and_nothing_elsewhere(given_away: SandboxDir, tmp_path: Path) -> None:
    ours = tmp_path / "secret"
    ours.write_text("the user's own")
    ours.chmod(0o600)
    tmp_path.chmod(0o755)
    done = inside(given_away, "cd /mnt; chown 12:13 deep/file; chmod 0 deep; echo new > deep/fresh; rm deep/link")
    assert done.returncode == 0, done.stderr
    for script in (f"cat {ours}", f"ls {given_away.root}", f"echo > {tmp_path}/new", "cat /etc/shadow", "kill -0 1"):
        done = inside(given_away, script)
        assert done.returncode != 0, script
        assert "ermission denied" in done.stderr or "not permitted" in done.stderr


def test_server_is_not_started_for_somebody_who_has_ended(given_away: SandboxDir) -> None:
    words = idspace.serve_argv(IdSpace.of(given_away.share), given_away.share, Path("/bin/sh"), ["sh", "-c", "echo on"])
    orphan = subprocess.run(["sh", "-c", '"$@" & wait', "sh", *words], capture_output=True, text=True, check=False)
    assert (orphan.stdout, orphan.stderr) == ("", "")


def test_git_refuses_the_tree_as_somebody_elses(given_away: SandboxDir) -> None:
    tree = given_away.share / "tree"
    made = inside(given_away, "cd /mnt; mkdir -p .git/objects .git/refs; echo ref: refs/heads/x > .git/HEAD")
    assert made.returncode == 0, made.stderr
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", "-C", tree, "status"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 128
    assert "dubious ownership" in done.stderr or "Permission denied" in done.stderr


def test_interrupted_gift_can_be_removed(tmp_path: Path, space: IdSpace) -> None:
    directory = SandboxDir(tmp_path / "vm-1")
    directory.root.mkdir()
    for step in ("nothing copied", "copied", "given away in part"):
        tree = share_dir.lay_out(directory)
        if step != "nothing copied":
            (tree / "read-only").mkdir(parents=True)
            (tree / "read-only" / "file").touch()
            (tree / "read-only").chmod(0o500)
        if step == "given away in part":
            share_dir.give(directory, space)
        share_dir.remove(directory)
        assert not directory.share.exists(), step
    share_dir.remove(directory)


def test_copy_with_more_files_than_the_server_may_open_is_refused_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idspace, "files_at_once", lambda: 10_000)
    share._require_descriptors(5_000)
    with pytest.raises(HostResourceError, match="5001 files") as refused:
        share._require_descriptors(5_001)
    assert "--transport disk" in refused.value.hint
    assert "nofile" in refused.value.hint


def test_what_the_server_may_open_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, 20_000))
    monkeypatch.setattr(idspace, "_may_raise", lambda _status: False)
    assert idspace.files_at_once() == 20_000 - idspace.RESERVED
    monkeypatch.setattr(idspace, "_may_raise", lambda _status: True)
    assert idspace.files_at_once() == userns.DESCRIPTORS - idspace.RESERVED


def test_who_may_raise_a_hard_limit_is_told_by_a_capability_and_not_by_being_root() -> None:
    assert idspace._may_raise("CapInh:\t0\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n")
    assert not idspace._may_raise("CapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n")
    assert not idspace._may_raise("")
