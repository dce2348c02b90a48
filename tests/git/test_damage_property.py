"""Whatever is damaged below `.git`: every ref that does not need it comes home as it is, and what does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.gitrepo import GitRepo
from support.guest import Host, export

HARM = st.sampled_from(["zeros", "emptied", "truncated", "garbage", "removed"])


def harm(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.chmod(0o600)
    if how == "removed":
        path.unlink()
    else:
        left = {"zeros": bytes(len(content)), "emptied": b"", "truncated": content[: len(content) // 2]}
        path.write_bytes(left.get(how, b"\xff" * len(content)))


def history(place: Path) -> tuple[GitRepo, GitRepo]:
    """The host's repository, and the guest's copy with branches and tags of which each has a commit of its own."""
    repo = GitRepo.create(place / "repo")
    for key, value in (("user.name", "T"), ("user.email", "t@example.com")):
        repo.git("config", key, value)
    repo.commit("first", {"README": "hello\n"})
    guest = repo.clone_files(place / "guest")
    for number in range(4):
        guest.git("switch", "-q", "-c", f"b{number}", "main")
        guest.commit(f"c{number}", {f"f{number}": f"{number}\n", "d/same": "same\n"})
        guest.git("tag", f"t{number}")
    guest.git("switch", "-q", "main")
    guest.write("new", "n\n")
    return repo, guest


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(harmed=st.dictionaries(st.integers(0, 40), HARM, min_size=1, max_size=3))
def test_damaged_objects_cost_the_refs_that_need_them(
    tmp_path_factory: pytest.TempPathFactory, harmed: dict[int, str]
) -> None:
    place = tmp_path_factory.mktemp("damage")
    repo, guest = history(place)
    known = set(repo.git("rev-list", "--objects", "--all", "--no-object-names").split())
    pristine = guest.clone_files(place / "pristine")
    objects = sorted((guest.path / ".git/objects").glob("??/*"))
    bad = set()
    for number, how in harmed.items():
        path = objects[number % len(objects)]
        name = path.parent.name + path.name
        if name not in known and path.exists() and name not in bad:
            harm(path, how)
            bad.add(name)
    host = Host(repo, place / "quarantine")
    told, done = export(guest).manifest, host.bring_home(guest)
    refs = {name: oid for name, oid in pristine.refs().items() if name.startswith(("refs/heads/", "refs/tags/"))}
    for name, oid in refs.items():
        needs = set(pristine.git("rev-list", "--objects", "--no-object-names", name).split())
        mended = needs & bad <= {pristine.git("hash-object", "new")}
        if needs.isdisjoint(bad) or mended:
            assert repo.git("rev-parse", done.names[name]) == oid, name
        else:
            assert name in {each.name for each in told.set_aside}, name
    assert repo.git("show", "refs/sandbox-wip/vm-1:new") == "n"


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    harmed=st.dictionaries(
        st.sampled_from(["heads/b0", "heads/b1", "heads/b3", "tags/t0", "tags/t2", "heads/main"]), HARM, max_size=4
    ),
    packed=st.booleans(),
    line=st.integers(0, 9),
)
def test_damaged_refs_cost_themselves(
    tmp_path_factory: pytest.TempPathFactory, harmed: dict[str, str], packed: bool, line: int
) -> None:
    """A branch has a reflog, and comes as that says; a tag has none."""
    place = tmp_path_factory.mktemp("damage")
    repo, guest = history(place)
    before = {name: oid for name, oid in guest.refs().items() if name.startswith(("refs/heads/", "refs/tags/"))}
    lost = set()
    if packed:
        guest.git("pack-refs", "--all", "--prune")
        path = guest.path / ".git/packed-refs"
        rows = path.read_bytes().splitlines(keepends=True)
        at = 1 + line % (len(rows) - 1)
        lost = {rows[at].split()[1].decode()}
        rows[at] = bytes(len(rows[at]) - 1) + b"\n"
        path.write_bytes(b"".join(rows))
    else:
        for name, how in harmed.items():
            if how != "removed":  # that is what `git branch -D` leaves
                harm(guest.path / ".git/refs" / name, how)
                lost.add(f"refs/{name}")
    host = Host(repo, place / "quarantine")
    told, done = export(guest).manifest, host.bring_home(guest)
    for name, oid in before.items():
        if name in lost and name.startswith("refs/tags/"):
            assert name not in done.names
            assert name in {each.name for each in told.set_aside} or packed, name
        else:
            assert repo.git("rev-parse", done.names[name]) == oid, name
    assert (done.head, done.head_symref) == (before["refs/heads/main"], "refs/heads/main")
    assert repo.git("show", "refs/sandbox-wip/vm-1:new") == "n"
