"""What a hostile guest sends is refused, and the user's repository is as it was, to the byte."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import free_space
from git_sandbox.collect import CollectLimits
from git_sandbox.errors import CollectError, HostResourceError
from support.gitrepo import GitRepo
from support.guest import Host, fingerprint
from support.hostile import refusal, says
from support.packs import Object, blob, commit, delta_bomb, pack, tree, tree_bomb

FILE = b"100644"
LINK = b"120000"
LEAF = blob(b"leaf\n")


@pytest.fixture
def host(repo: GitRepo, tmp_path: Path) -> Host:
    repo.commit("second", {"dir/file": "x\n"})
    return Host(repo, tmp_path / "quarantine")


def import_tree(host: Host, top: Object, *others: Object, limits: CollectLimits | None = None) -> None:
    tip = commit(top)
    host.take_all(says(tip.oid), pack(tip, top, *others), limits)


REFUSED_TREES = {
    "dot-git": tree((FILE, b".git", LEAF)),
    "dot-GiT": tree((FILE, b".GiT", LEAF)),
    "git~1": tree((FILE, b"git~1", LEAF)),
    "dot-dot": tree((b"40000", b"..", tree((FILE, b"a", LEAF)))),
    "slash": tree((FILE, b"a/b", LEAF)),
    "duplicate": tree((FILE, b"a", LEAF), (FILE, b"a", LEAF)),
    "unsorted": tree((FILE, b"b", LEAF), (FILE, b"a", LEAF)),
    "empty-name": tree((FILE, b"", LEAF)),
    "truncated": Object("tree", b"100644 a\0short"),
    "not-a-tree": Object("tree", b"nonsense"),
}


@pytest.mark.parametrize("name", REFUSED_TREES)
def test_trees_that_git_cannot_check_out_safely(host: Host, name: str) -> None:
    with refusal(host):
        import_tree(host, REFUSED_TREES[name], LEAF, tree((FILE, b"a", LEAF)))


GITMODULES = {
    "name": b'[submodule "../../x"]\n\tpath = a\n\turl = https://example.com/a\n',
    "url": b'[submodule "a"]\n\tpath = a\n\turl = -u./payload\n',
    "path": b'[submodule "a"]\n\tpath = -x\n\turl = https://example.com/a\n',
    "update": b'[submodule "a"]\n\tpath = a\n\turl = https://example.com/a\n\tupdate = !touch /tmp/owned\n',
}


@pytest.mark.parametrize("name", GITMODULES)
def test_gitmodules_that_run_things(host: Host, name: str) -> None:
    config = blob(GITMODULES[name])
    with refusal(host):
        import_tree(host, tree((FILE, b".gitmodules", config)), config)


def test_gitmodules_as_a_link(host: Host) -> None:
    with refusal(host):
        import_tree(host, tree((LINK, b".gitmodules", LEAF)), LEAF)


@pytest.mark.parametrize(
    "top",
    [
        tree((FILE, b"\x1b[31m\x07", LEAF)),
        tree((b"104755", b"a", LEAF)),
        tree((LINK, b".gitattributes", LEAF)),
        tree((LINK, b"a", blob(b"/etc/passwd"))),
    ],
    ids=["escape", "setuid", "linked-attributes", "link-out"],
)
def test_what_is_only_strange_is_imported_as_data(host: Host, top: Object) -> None:
    """git takes these from anybody; they do nothing until checked out, and `integrate` looks at links."""
    import_tree(host, top, LEAF, blob(b"/etc/passwd"))
    assert host.repo.git("rev-parse", "refs/sandbox/vm-1^{tree}") == top.oid


# --- bombs ------------------------------------------------------------------------------------------------------------


def test_delta_bomb(host: Host) -> None:
    base = blob(bytes(8 << 20))
    top = tree((FILE, b"a", base))
    tip = commit(top)
    bomb = pack(tip, top, base, delta_bomb(base, 1 << 30))
    assert len(bomb) < 100_000
    with refusal(host, "limit"):
        host.take_all(says(tip.oid), bomb, CollectLimits(alloc=64 << 20))


def test_memory_limit_holds_without_the_alloc_limit(host: Host) -> None:
    base = blob(bytes(8 << 20))
    top = tree((FILE, b"a", base))
    tip = commit(top)
    with refusal(host):
        host.take_all(says(tip.oid), pack(tip, top, base, delta_bomb(base, 1 << 30)), CollectLimits(memory=512 << 20))


def test_a_huge_file_of_zeros(host: Host) -> None:
    zeros = blob(bytes(64 << 20))
    with refusal(host, "limit"):
        import_tree(host, tree((FILE, b"a", zeros)), zeros, limits=CollectLimits(blob=32 << 20))


def test_a_huge_commit_message(host: Host) -> None:
    top = tree((FILE, b"a", LEAF))
    tip = commit(top, message=b"x" * (17 << 20))
    with refusal(host, "limit"):
        host.take_all(says(tip.oid), pack(tip, top, LEAF))


def test_a_huge_tree(host: Host) -> None:
    top = tree(*((FILE, b"%09d" % number, LEAF) for number in range(50_000)))
    with refusal(host, "limit"):
        import_tree(host, top, LEAF, limits=CollectLimits(tree=1 << 20))


def test_tree_bomb(host: Host) -> None:
    objects = tree_bomb(levels=10, width=10)
    tip = commit(objects[-1])
    bomb = pack(tip, *objects)
    assert len(bomb) < 2000
    with refusal(host, "files in all"):
        host.take_all(says(tip.oid), bomb)


def test_a_tree_bomb_made_of_the_users_own_trees(host: Host) -> None:
    host.repo.commit("wide", {f"wide/{number}": "x\n" for number in range(100)})
    own = host.repo.git("rev-parse", "HEAD:wide")
    middle = tree(*((b"40000", b"%05d" % number, own) for number in range(100)))
    top = tree(*((b"40000", b"%05d" % number, middle) for number in range(100)))
    with refusal(host, "files in all"):
        import_tree(host, top, middle, limits=CollectLimits(paths=900_000))
    import_tree(host, top, middle, limits=CollectLimits(paths=1_100_000))


def test_trees_that_name_the_same_directory_a_million_times(host: Host) -> None:
    middle = tree((FILE, b"a", LEAF))
    top = tree(*((b"40000", b"%04d" % number, middle) for number in range(1000)))
    with refusal(host, "name more than 999 directories"):
        import_tree(host, top, middle, LEAF, limits=CollectLimits(directories=999))
    import_tree(host, top, middle, LEAF, limits=CollectLimits(directories=1000))


def test_paths_that_are_few_and_very_long(host: Host) -> None:
    inner = tree((FILE, b"a" * 100, LEAF), (FILE, b"b" * 100, LEAF))
    middle = tree((b"40000", b"c" * 1000, inner), (b"40000", b"d" * 1000, inner))
    top = tree((b"40000", b"e" * 4000, middle), (FILE, b"f", LEAF))
    size = 4 * len("/".join(("e" * 4000, "d" * 1000, "a" * 100))) + 1
    with refusal(host, f"more than {size - 1} bytes in all"):
        import_tree(host, top, middle, inner, LEAF, limits=CollectLimits(path_bytes=size - 1))
    import_tree(host, top, middle, inner, LEAF, limits=CollectLimits(path_bytes=size))


def test_a_million_paths_of_a_kilobyte_each_are_refused(host: Host) -> None:
    levels = [LEAF]
    for level in range(3):
        mode = FILE if level == 0 else b"40000"
        levels.append(tree(*((mode, b"%0400d" % number, levels[-1]) for number in range(100))))
    with refusal(host, "bytes in all"):
        import_tree(host, *levels[::-1])


def test_depth_bomb(host: Host) -> None:
    objects = tree_bomb(levels=3000, width=1)
    tip = commit(objects[-1])
    with refusal(host, "levels deep"):
        host.take_all(says(tip.oid), pack(tip, *objects))


def test_a_bomb_that_nothing_leads_to_stays_behind(host: Host) -> None:
    top = tree((FILE, b"a", LEAF))
    tip = commit(top)
    bomb = tree_bomb(levels=10, width=10)
    host.take_all(says(tip.oid), pack(tip, top, *bomb))
    assert host.repo.run("cat-file", "-e", bomb[-1].oid).returncode != 0


def test_a_long_file_name(host: Host) -> None:
    with refusal(host, "file name"):
        import_tree(host, tree((FILE, b"n" * 5000, LEAF)), LEAF)


def test_more_bytes_than_the_limit(host: Host) -> None:
    noise = blob(os.urandom(20 << 20))
    top = tree((FILE, b"a", noise))
    tip = commit(top)
    whole = pack(tip, top, noise)
    pieces = (whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20))
    with refusal(host):
        host.take_all(says(tip.oid), pieces, CollectLimits(pack=1 << 20))


@pytest.mark.parametrize("size", [1 << 20, 40 << 20])
def test_the_hosts_disk_is_not_filled(host: Host, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """SPARE beyond any disk stands for one that is nearly full; small work comes home all the same."""
    monkeypatch.setattr(free_space, "SPARE", 1 << 60)
    noise = blob(os.urandom(size))
    top = tree((FILE, b"a", noise))
    tip = commit(top)
    whole = pack(tip, top, noise)
    pieces = [whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20)]
    before = fingerprint(host.repo.path / ".git")
    if size < free_space.SMALL:
        assert host.take(says(tip.oid), pieces).head == tip.oid
    else:
        with pytest.raises(HostResourceError, match="too small for the work"):
            host.take(says(tip.oid), pieces)
        assert fingerprint(host.repo.path / ".git") == before
    assert not host.quarantine.exists()


def test_a_header_that_claims_four_billion_objects(host: Host) -> None:
    with refusal(host, "claims"):
        host.take_all(says(LEAF.oid), pack(LEAF, count=0xFFFFFFFF))


def test_time_limit(host: Host) -> None:
    def trickle() -> Iterator[bytes]:
        yield pack(LEAF, count=1000)[:40]
        while True:
            time.sleep(0.05)
            yield b"\0"

    with refusal(host):
        host.take_all(says(LEAF.oid), trickle(), CollectLimits(time=1.0))


# --- broken packs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 11, 12, 30, -21, -1])
def test_a_truncated_pack(host: Host, cut: int) -> None:
    top = tree((FILE, b"a", LEAF))
    tip = commit(top)
    with refusal(host):
        host.take_all(says(tip.oid), pack(tip, top, LEAF)[:cut])


@pytest.mark.parametrize("noise", [b"garbage", b"PACK", b"\0" * 100, os.urandom(5000)], ids=len)
def test_garbage(host: Host, noise: bytes) -> None:
    with refusal(host):
        host.take_all(says(LEAF.oid), noise)


def test_a_flipped_bit(host: Host) -> None:
    top = tree((FILE, b"a", LEAF))
    tip = commit(top)
    whole = bytearray(pack(tip, top, LEAF))
    whole[40] ^= 1
    with refusal(host):
        host.take_all(says(tip.oid), bytes(whole))


def test_data_after_the_pack_is_never_stored(host: Host) -> None:
    """git stops reading at the end of the pack: what shares its last piece is dropped, more pieces are refused."""
    top = tree((FILE, b"a", LEAF))
    tip = commit(top)
    extra = os.urandom(1 << 20)
    with refusal(host, "trailing data"):
        host.take_all(says(tip.oid), [pack(tip, top, LEAF), *[extra] * 8])
    host.take_all(says(tip.oid), pack(tip, top, LEAF) + b"x" * 100)
    stored = sum(path.stat().st_size for path in (host.repo.path / ".git/objects/pack").iterdir())
    assert stored < 10_000


def test_an_error_in_the_middle_of_the_stream(host: Host) -> None:
    def fails() -> Iterator[bytes]:
        yield pack(LEAF, count=2)
        raise CollectError("the guest reports an error")

    with refusal(host, "the guest reports an error"):
        host.take_all(says(LEAF.oid), fails())


def test_an_error_after_a_whole_pack(host: Host) -> None:
    top = tree((FILE, b"a", LEAF))
    tip = commit(top)

    def fails() -> Iterator[bytes]:
        yield pack(tip, top, LEAF)
        raise CollectError("the guest reports an error")

    with refusal(host, "the guest reports an error"):
        host.take_all(says(tip.oid), fails())


MISSING = "1" * 40


def test_links_to_what_is_not_there(host: Host) -> None:
    top = tree((FILE, b"a", LEAF))
    orphan = commit(top, [MISSING])
    with refusal(host):
        host.take_all(says(orphan.oid), pack(orphan, top, LEAF))
    holed = tree((FILE, b"a", MISSING))
    tip = commit(holed)
    with refusal(host):
        host.take_all(says(tip.oid), pack(tip, holed))


def test_a_delta_against_nothing(host: Host) -> None:
    with refusal(host):
        host.take_all(says(LEAF.oid), pack(delta_bomb(blob(b"never sent"), 100)))
