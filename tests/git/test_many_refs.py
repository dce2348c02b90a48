"""More refs than may come home: those that went in do not count."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from git_sandbox.protocol import manifest, stream
from support.gitrepo import GitRepo
from support.guest import LIMITS, Host, exporter

TAGS = 100_500
SECONDS = 60.0  # with each of them asked for by itself it takes an hour


def tagged(repo: GitRepo, count: int) -> dict[str, str]:
    """Tags in packed-refs, on three commits and on a tree, as some projects have them."""
    tips = [repo.commit(f"c{at}", {"a": f"{at}\n"}) for at in range(3)] + [repo.git("rev-parse", "HEAD^{tree}")]
    rows = {f"refs/tags/v{number:06}": tips[number % 4] for number in range(count)}
    lines = "".join(f"{oid} {name}\n" for name, oid in sorted(rows.items()))
    repo.write(".git/packed-refs", f"# pack-refs with: peeled fully-peeled sorted \n{lines}")
    repo.git("pack-refs", "--all")
    return repo.refs()


def test_a_hundred_thousand_tags_and_one_commit(host: Host, tmp_path: Path) -> None:
    start = tagged(host.repo, TAGS)
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("work", {"b": "1\n"})
    guest.git("tag", "-d", "v000007")
    guest.git("tag", "new")
    begun = time.monotonic()
    done = host.bring_home(guest, given=start)
    assert time.monotonic() - begun < SECONDS
    root = "refs/sandbox-tags/vm-1/"
    assert done.set_aside == ()
    assert {name: oid for name, oid in host.sandbox_refs().items() if name.startswith(root)} == {f"{root}new": tip}
    assert done.head == tip


def test_only_what_differs_is_listed(host: Host, tmp_path: Path) -> None:
    """Also of refs of other kinds, which a forge makes by the thousand, and which are on no branch."""
    for number in range(20):
        host.repo.git("update-ref", f"refs/pull/{number}/head", host.repo.commit("asked for"))
        host.repo.git("reset", "-q", "--hard", "HEAD~1")
    start = tagged(host.repo, 20)
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("work", {"b": "1\n"})
    guest.git("tag", "-d", "v000007")
    guest.git("tag", "-f", "v000008")
    guest.git("update-ref", "refs/pull/4/head", new := guest.git("commit-tree", "-m", "new", "HEAD^{tree}"))
    with exporter(guest.path) as sock:
        reply = stream.request(sock, "export", known=[], extra={"start": start}, limits=LIMITS)
        said = manifest.parse(reply.header, object_format="sha1")
        assert list(reply.chunks)
    assert {ref.name: ref.oid for ref in said.refs} == {
        "refs/heads/main": tip,
        "refs/tags/v000008": tip,
        "refs/pull/4/head": new,
    }
    assert said.removed == ("refs/tags/v000007",)
    ended = {ref.name: ref.oid for ref in said.since(start).refs}
    assert ended == guest.refs()


def test_a_branch_that_goes_back_to_where_it_began_is_followed(host: Host, tmp_path: Path) -> None:
    start = tagged(host.repo, 3)
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("work", {"b": "1\n"})
    host.bring_home(guest, given=start)
    assert host.sandbox_refs()["refs/sandbox-heads/vm-1/main"] == tip
    guest.git("reset", "-q", "--hard", "HEAD~1")
    done = host.bring_home(guest, given=start)
    assert host.sandbox_refs()["refs/sandbox-heads/vm-1/main"] == start["refs/heads/main"]
    assert "refs/sandbox-heads/vm-1/main" not in done.stale


def test_more_new_refs_than_are_looked_at(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first come, the others are counted: nothing is refused for them."""
    monkeypatch.setattr(manifest, "MAX_REFS", 200)
    start = tagged(host.repo, 3)
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("work", {"b": "1\n"})
    lines = [f"{tip} refs/tags/n{number:06}\n" for number in range(250)]
    packed = guest.read(".git/packed-refs").decode()
    guest.write(".git/packed-refs", packed.split("\n")[0].replace(" sorted", "") + "\n" + "".join(lines))
    done = host.bring_home(guest, given=start)
    assert done.head == tip
    assert len([name for name in host.sandbox_refs() if "-tags/" in name]) == 199  # and a branch
    assert any("are examined" in each.reason for each in done.set_aside)
