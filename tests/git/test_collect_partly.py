"""What is sound comes, and nothing else does: not one object that only refused refs lead to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from git_sandbox.protocol.manifest import GuestHead, GuestRef, StashEntry
from support.examples import examples
from support.gitrepo import GitRepo
from support.guest import Host
from support.hostile import says
from support.packs import Object, blob, commit, pack, tag, tree

FILE = b"100644"
DIRECTORY = b"40000"
KINDS = ("sound", "sound", "sound", "ugly", "ugly person", "harmful", "deep harm", "no blob", "no tree", "malformed")
GOOD = {"sound", "ugly", "ugly person"}


@dataclass
class Made:
    """One commit: everything it brings, and whether it is fit to come by itself."""

    tip: Object
    objects: list[Object]
    parents: list[int]
    fit: bool


@dataclass
class History:
    made: list[Made] = field(default_factory=list)

    def add(self, kind: str, parents: list[int]) -> None:
        number = len(self.made)
        leaf = blob(f"leaf {number}\n".encode())
        inner = tree((FILE, b"inner", leaf))
        sent = [leaf, inner]
        rows = [(FILE, b"file", leaf), (DIRECTORY, b"sub", inner)]
        if kind == "ugly":
            rows = [(b"0100644", b"file", leaf), (DIRECTORY, b"sub", inner)]
        elif kind == "harmful":
            rows = [(FILE, b".git", leaf)]
            sent = [leaf]
        elif kind == "deep harm":
            deep = tree((DIRECTORY, b"..", inner))
            sent.append(deep)
            rows = [(FILE, b"file", leaf), (DIRECTORY, b"sub", deep)]
        top = tree(*rows)
        if kind == "no blob":
            sent.remove(leaf)
        who = b"A U Thor 1700000000 +0000" if kind == "ugly person" else b"A <a@example.com> 1700000000 +0000"
        tip = commit(top, [self.made[each].tip.oid for each in parents], who=who, message=b"%d\n" % number)
        if kind == "malformed":
            tip = Object("commit", tip.data.replace(b"tree ", b"tree x", 1))
        sent += [tip] if kind == "no tree" else [top, tip]
        self.made.append(Made(tip, sent, parents, kind in GOOD))

    def closure(self, number: int) -> set[int]:
        found, todo = set(), [number]
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo += self.made[at].parents
        return found

    def sound(self, number: int) -> bool:
        return all(self.made[each].fit for each in self.closure(number))

    def stands_for(self, number: int) -> int | None:
        """The commit itself, or the nearest sound one, by first parents first. A malformed one names none."""
        if self.sound(number):
            return number
        if b"tree x" in self.made[number].tip.data:
            return None
        below = (self.stands_for(each) for each in self.made[number].parents)
        return next((each for each in below if each is not None), None)


@st.composite
def histories(draw: st.DrawFn) -> History:
    found = History()
    for number in range(draw(st.integers(1, 8))):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        found.add(draw(st.sampled_from(KINDS)), parents)
    return found


def everything(repo: GitRepo) -> set[str]:
    return set(repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def chain(*kinds: str) -> History:
    found = History()
    for number, kind in enumerate(kinds):
        found.add(kind, [number - 1] if number else [])
    return found


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.data())
@example(chain("sound", "harmful", "sound"), None)
@example(chain("malformed", "sound"), None)
def test_every_sound_ref_and_no_other_object(history: History, data: st.DataObject | None) -> None:
    many = st.lists(st.integers(0, len(history.made) - 1), max_size=6)
    refs = data.draw(many) if data else list(range(len(history.made)))
    stash = data.draw(many) if data else []
    head = data.draw(st.integers(0, len(history.made) - 1)) if data else len(history.made) - 1
    with tempfile.TemporaryDirectory() as scratch:
        repo = GitRepo.create(Path(scratch, "repo"))
        repo.git("config", "user.name", "T")
        repo.git("config", "user.email", "t@example.com")
        repo.commit("base", {"a": "one\n"})
        host = Host(repo, Path(scratch, "quarantine"))
        before = everything(repo)
        oids = [each.tip.oid for each in history.made]
        said = says(
            None,
            head=GuestHead("refs/heads/main", oids[head]),
            refs=tuple(GuestRef(f"refs/heads/b{at}", oids[number]) for at, number in enumerate(refs)),
            stash=tuple(StashEntry(oids[number], "") for number in stash),
        )
        objects = {each.oid: each for made in history.made for each in made.objects}
        done = host.take(said, pack(*objects.values()))

        expected = {"refs/sandbox/vm-1": history.stands_for(head)}
        expected |= {f"refs/sandbox-heads/vm-1/b{at}": history.stands_for(each) for at, each in enumerate(refs)}
        stashed = [each for each in stash if history.sound(each)]
        expected |= {f"refs/sandbox-stash/vm-1/{at}": each for at, each in enumerate(stashed)}
        wanted = {name: oids[each] for name, each in expected.items() if each is not None}
        assert host.sandbox_refs() == wanted
        refused = [not history.sound(each) for each in (head, *refs, *stash)]
        assert len(done.set_aside) == sum(refused)
        came = {at for each in expected.values() if each is not None for at in history.closure(each)}
        assert everything(repo) - before == {each.oid for at in came for each in history.made[at].objects}
        if came:
            repo.git("fsck", "--no-dangling", "--connectivity-only")


@pytest.mark.long("thousands of refs are written")
def test_ten_thousand_refs_of_which_every_second_is_odd(repo: GitRepo, tmp_path: Path) -> None:
    """One walk for all of them: with one for each this takes the better part of an hour."""
    count = examples(10_000)
    host = Host(repo, tmp_path / "quarantine")
    leaf = blob(b"x\n")
    trees = [tree((FILE, b"file", leaf)), tree((FILE, b".git", leaf))]
    tips = [commit(trees[number % 2], message=b"%d\n" % number) for number in range(count)]
    refs = tuple(GuestRef(f"refs/heads/b{number}", tip.oid) for number, tip in enumerate(tips))
    done = host.take(says(None, head=GuestHead(None, tips[0].oid), refs=refs), pack(leaf, *trees, *tips))
    assert len(host.sandbox_refs()) == count // 2 + 1
    assert len(done.set_aside) == 1001
    assert f"{count // 2 - 1000} more" in str(done.set_aside[-1])


def test_a_boundary_made_inside(repo: GitRepo, tmp_path: Path) -> None:
    """What `git fetch --depth` leaves: commits whose parents nobody here has."""
    host = Host(repo, tmp_path / "quarantine")
    leaf = blob(b"x\n")
    top = tree((FILE, b"file", leaf))
    cut = commit(top, ["1" * 40])
    good = commit(top, [repo.git("rev-parse", "HEAD")])
    refs = (GuestRef("refs/heads/cut", cut.oid), GuestRef("refs/tags/t", tag(cut.oid).oid))
    done = host.take(says(good.oid, refs=refs), pack(leaf, top, cut, good, tag(cut.oid)))
    assert host.sandbox_refs() == {"refs/sandbox/vm-1": good.oid}
    assert {each.name for each in done.set_aside} == {"refs/heads/cut", "refs/tags/t"}
    assert all("is missing" in each.reason for each in done.set_aside)


@pytest.mark.parametrize(
    "content", [b"nothing\n", b"", b"1" * 40 + b"\n", bytes(41)], ids=["junk", "empty", "dangling", "zeros"]
)
def test_a_broken_ref_of_the_users_refuses_nothing(repo: GitRepo, tmp_path: Path, content: bytes) -> None:
    """`git fetch` looks at all refs when it is done, and would turn everything down."""
    host, guest = Host(repo, tmp_path / "quarantine"), repo.clone_files(tmp_path / "guest")
    repo.write(".git/refs/heads/broken", content)
    tip = guest.commit("second", {"a": "1\n"})
    guest.write("new", "n\n")
    done = host.bring_home(guest)
    assert (done.head, done.set_aside) == (tip, ())
    refs = {name: oid for name, oid in repo.refs().items() if name.startswith("refs/sandbox")}
    assert refs.keys() == {"refs/sandbox/vm-1", "refs/sandbox-heads/vm-1/main", "refs/sandbox-wip/vm-1"}
    assert repo.git("log", "-g", "--format=%H", "refs/sandbox/vm-1") == tip
    assert repo.run("show", "refs/sandbox-wip/vm-1:new").stdout == b"n\n"
    again = guest.commit("third", {"a": "2\n"})
    assert host.bring_home(guest).updated["refs/sandbox/vm-1"] == (tip, again)  # type: ignore[index]
