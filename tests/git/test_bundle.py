"""The raw work of a sandbox as a file: git in a throw-away machine reads it, this host never does."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import free_space
from git_sandbox.errors import CollectError, HostResourceError, UsageError
from git_sandbox.protocol import bundle, stream
from support.gitrepo import GitRepo
from support.guest import LIMITS, exporter


def written(guest: GitRepo, target: Path, base: str | None, *, object_format: str = "sha1") -> list[Path]:
    with exporter(guest.path) as sock:
        reply = stream.request(sock, "export", known=[base] if base else [], limits=LIMITS)
        return bundle.write(target, reply.header, reply.chunks, object_format=object_format, base=base)


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("whole", [False, True])
def test_git_fetches_all_of_it_where_nothing_is_to_be_lost(tmp_path: Path, object_format: str, *, whole: bool) -> None:
    repo = GitRepo.create(tmp_path / "repo", object_format=object_format)
    base = repo.commit("base", {"a": "one\n"})
    guest = repo.clone_files(tmp_path / "guest")
    for number in range(2):
        guest.write("a", f"stash {number}\n")
        guest.git("stash", "push", "-q")
    odd = guest.git("mktree", input=f"100644 blob {guest.git('rev-parse', 'HEAD:a')}\t.git\n".encode())
    evil = guest.git("commit-tree", "-m", "evil", "-p", "HEAD", odd)
    guest.git("update-ref", "refs/heads/evil", evil)
    tip = guest.commit("good", {"b": "2\n"})
    guest.write("b", "3\n")
    files = written(guest, tmp_path / "x.bundle", None if whole else base, object_format=object_format)
    assert [each.name for each in files] == ["x.bundle", "x.bundle.json"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}

    other = GitRepo.create(tmp_path / "other", object_format=object_format) if whole else repo
    other.git("-c", "fetch.fsckObjects=false", "fetch", "-q", str(files[0]), "refs/*:refs/raw/*", "HEAD:refs/raw/HEAD")
    assert other.refs()["refs/raw/HEAD"] == tip
    assert other.refs()["refs/raw/heads/evil"] == evil
    assert other.git("show", "refs/raw/sandbox/wip:b") == "3"
    assert other.git("show", "refs/raw/sandbox/stash/1:a") == "stash 0"


def test_nothing_new_is_a_bundle_all_the_same(repo: GitRepo, tmp_path: Path) -> None:
    base = repo.git("rev-parse", "HEAD")
    file, _ = written(repo.clone_files(tmp_path / "guest"), tmp_path / "x.bundle", base)
    repo.git("bundle", "verify", "-q", str(file))


@pytest.mark.parametrize("taken", ["x.bundle", "x.bundle.json"])
def test_nothing_is_overwritten_or_written_through_a_link(tmp_path: Path, taken: str) -> None:
    target = tmp_path / "x.bundle"
    (tmp_path / taken).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=" exists"):
        bundle.write(target, b"{}", [b"PACK"], object_format="sha1", base=None)
    assert sorted(each.name for each in tmp_path.iterdir()) == [taken]


def test_a_list_that_is_none_leaves_the_bare_pack(tmp_path: Path) -> None:
    bundle.write(tmp_path / "x", b"\x1b[31m", [b"PA", b"CK"], object_format="sha1", base=None)
    assert (tmp_path / "x").read_bytes() == b"PACK"
    assert (tmp_path / "x.json").read_bytes() == b"\x1b[31m"


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"PACK"
        raise CollectError("the guest went away")

    with pytest.raises(CollectError):
        bundle.write(tmp_path / "x", b"{}", broken(), object_format="sha1", base=None)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_while_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPARE beyond any disk stands for a full one; what is small comes all the same."""
    monkeypatch.setattr(free_space, "SPARE", 1 << 60)
    chunk = bytes(1 << 20)
    assert len(list(free_space.watched([chunk] * 15, tmp_path))) == 15
    with pytest.raises(HostResourceError, match="too small for the work"):
        bundle.write(tmp_path / "x", b"{}", [chunk] * 17, object_format="sha1", base=None)
    assert not list(tmp_path.iterdir())
