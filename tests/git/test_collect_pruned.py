"""The files as they are at the end come, without those that cannot; also where a commit before them cannot come."""

from __future__ import annotations

import pytest

from git_sandbox.protocol.manifest import GuestHead, Wip
from support.guest import Host
from support.hostile import says
from support.packs import Object, blob, commit, pack, tree

FILE, DIRECTORY = b"100644", b"40000"
LEAF = blob(b"leaf\n")
PLAIN = tree((FILE, b"a", LEAF))
BAD = tree((FILE, b".git", LEAF))
MODULES = blob(b'[submodule "../../x"]\n\tpath = a\n\turl = https://example.com/a\n')


def files(host: Host) -> set[str]:
    return set(host.repo.git("ls-tree", "-r", "-t", "--name-only", "refs/sandbox-wip/vm-1").splitlines())


@pytest.mark.parametrize("staged", [False, True])
def test_one_uncommitted_file_holds_up_no_other(host: Host, *, staged: bool) -> None:
    good = commit(PLAIN, [host.repo.git("rev-parse", "HEAD")])
    below = tree((FILE, b"gone", "1" * 40), (FILE, b"x", LEAF))
    deep = tree((FILE, b"k", LEAF), (DIRECTORY, b"odd", BAD), (DIRECTORY, b"sub", below))
    top = tree(
        (FILE, b".gitmodules", MODULES), (FILE, b"a", LEAF), (DIRECTORY, b"d\xff\x1b", deep), (b"0100755", b"z", LEAF)
    )
    index = commit(tree((FILE, b".gitmodules", MODULES)), [good.oid])
    wip = commit(top, [good.oid, index.oid] if staged else [good.oid])
    objects = [LEAF, PLAIN, BAD, MODULES, good, below, deep, top, wip]
    objects += [index, tree((FILE, b".gitmodules", MODULES))] if staged else []
    told = Wip(wip.oid, top.oid, tree((FILE, b".gitmodules", MODULES)).oid if staged else None)
    done = host.take(says(good.oid, wip=told, worktree_tree=top.oid, wip_state="made"), pack(*objects))
    assert done.head == good.oid
    quoted = '"d\\377\\033'
    assert files(host) == {"a", "z", f'{quoted}"', f'{quoted}/k"', f'{quoted}/sub"', f'{quoted}/sub/x"'}
    assert host.repo.git("rev-parse", "refs/sandbox-wip/vm-1^@") == good.oid
    named = [each.name.removeprefix("uncommitted ").split("/", 1)[-1] for each in done.set_aside]
    assert sorted(named) == [".gitmodules", "odd", "sub/gone"]
    assert all(str(each).isprintable() for each in done.set_aside)
    host.repo.git("fsck", "--strict", "--no-dangling")
    again = host.take(says(good.oid, wip=told, worktree_tree=top.oid, wip_state="made"), pack(*objects))
    assert again.updated == {}


@pytest.mark.parametrize("before", [True, False], ids=["after a sound commit", "at once"])
def test_the_files_come_where_their_history_cannot(host: Host, *, before: bool) -> None:
    base = host.repo.git("rev-parse", "HEAD")
    good = commit(PLAIN, [base])
    bad = commit(BAD, [good.oid if before else base])
    end = tree((FILE, b"a", LEAF), (FILE, b"b", LEAF))
    tip = commit(end, [bad.oid])
    said = says(tip.oid, worktree_tree=end.oid, wip_state="none")
    done = host.take(said, pack(LEAF, PLAIN, BAD, end, bad, tip, *([good] if before else [])))
    stands = good.oid if before else base
    assert done.head == stands
    assert host.sandbox_refs()["refs/sandbox/vm-1"] == stands
    assert host.repo.git("rev-parse", "refs/sandbox-wip/vm-1^@", "refs/sandbox-wip/vm-1^{tree}").split() == [
        stands,
        end.oid,
    ]
    assert [each.name for each in done.set_aside] == ["HEAD"]
    assert host.repo.run("cat-file", "-e", bad.oid).returncode != 0


def test_an_older_one_is_not_replaced_by_less(host: Host) -> None:
    base = host.repo.git("rev-parse", "HEAD")
    first = commit(PLAIN, [base])
    host.take_all(
        says(base, wip=Wip(first.oid, PLAIN.oid, None), worktree_tree=PLAIN.oid, wip_state="made"),
        pack(LEAF, PLAIN, first),
    )
    top = tree((FILE, b".gitmodules", MODULES), (FILE, b"b", LEAF))
    wip = commit(top, [base])
    said = says(base, wip=Wip(wip.oid, top.oid, None), worktree_tree=top.oid, wip_state="made")
    host.take(said, pack(LEAF, MODULES, top, wip))
    assert files(host) == {"b"}
    assert host.sandbox_refs()[f"refs/sandbox-earlier/vm-1/{first.oid}"] == first.oid


def test_a_tree_of_which_nothing_is_left(host: Host) -> None:
    base = host.repo.git("rev-parse", "HEAD")
    wip = commit(BAD, [base])
    said = says(base, wip=Wip(wip.oid, BAD.oid, None), worktree_tree=BAD.oid, wip_state="made")
    done = host.take(said, pack(LEAF, BAD, wip))
    assert [each.name for each in done.set_aside] == ["uncommitted work"]
    assert "refs/sandbox-wip/vm-1" not in host.sandbox_refs()


def test_a_directory_of_that_name_that_was_there_before(host: Host) -> None:
    """Nobody's `.gitmodules`, and in every new tree above it."""
    old = host.repo.commit("odd", {".gitmodules/x": "y\n"})
    top: Object = tree((DIRECTORY, b".gitmodules", host.repo.git("rev-parse", "HEAD:.gitmodules")), (FILE, b"b", LEAF))
    tip = commit(top, [old])
    host.take_all(says(None, head=GuestHead(None, tip.oid)), pack(LEAF, top, tip))
