"""Which repository a directory is, whatever happens to directories.

The oracle knows the history: each repository that was made or copied is a token of its own, which moves with its
directory. Repositories find their sandboxes by what is on the disk only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from git_sandbox import paths, registry, store
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.git import identity
from git_sandbox.git.names import oid
from git_sandbox.git.repo import Repository, discover
from support.examples import examples
from support.gitrepo import GitRepo

NAMES = ("a", "b", "c")
places = st.sampled_from(NAMES)


def sandbox(repo: Repository, name: str | None = None) -> str:
    """As a spawn leaves one behind."""
    with store.create(repo, name) as box:
        box.directory.disk.write_bytes(b"work")
        return str(box.id)


def named(where: Path) -> list[str]:
    """The sandboxes the repository at `where` sees: those with a directory."""
    return sorted(str(entry.id) for entry in store.entries(discover(where)) if entry.directory.root.is_dir())


class Histories(RuleBasedStateMachine):
    """Three places; at each a repository (a token) or nothing. What the tool is told is only a path.

    A token's sandboxes have names that no other's have. `last` is where the tool last saw it: moving or copying without
    a look between cannot be told apart by anybody when the original's place is taken by its own copy, so the machine
    looks before it lets a copy take the place of its original.
    """

    @initialize()
    def begin(self) -> None:
        self.root = Path(os.environ["IDENTITY_TEST_ROOT"], os.urandom(6).hex())
        self.root.mkdir()
        os.environ["XDG_STATE_HOME"] = str(self.root / "state")
        self.token: dict[str, int] = {}
        self.sandboxes: dict[int, set[str]] = {}
        self.worktrees: dict[str, str] = {}
        self.next, self.number = itertools.count(), itertools.count()
        self.held: dict[int, contextlib.ExitStack] = {}

    def teardown(self) -> None:
        for each in getattr(self, "held", {}).values():
            each.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def free(self, name: str) -> bool:
        return name not in self.token

    def made(self, name: str) -> None:
        self.token[name] = next(self.next)
        self.sandboxes[self.token[name]] = set()

    @rule(name=places)
    def init(self, name: str) -> None:
        if self.free(name):
            GitRepo.create(self.root / name).commit("first", {"README": "hello\n"})
            self.made(name)

    @rule(source=places, there=places)
    def clone(self, source: str, there: str) -> None:
        if not self.free(source) and self.free(there):
            subprocess.run(["git", "clone", "-q", self.root / source, self.root / there], check=True)
            self.made(there)

    @rule(source=places, there=places, hard=st.booleans())
    def copy(self, source: str, there: str, hard: bool) -> None:
        if not self.free(source) and self.free(there):
            named(self.root / source)  # the tool knows where the original is
            subprocess.run(["cp", "-al" if hard else "-a", self.root / source, self.root / there], check=True)
            self.made(there)

    @rule(source=places, there=places)
    def move(self, source: str, there: str) -> None:
        if not self.free(source) and self.free(there):
            (self.root / source).rename(self.root / there)
            self.token[there] = self.token.pop(source)
            named(self.root / there)

    @rule(source=places, there=places)
    def move_across_file_systems(self, source: str, there: str) -> None:
        if not self.free(source) and self.free(there):
            named(self.root / source)
            shutil.copytree(self.root / source, self.root / there, symlinks=True)
            shutil.rmtree(self.root / source)
            self.token[there] = self.token.pop(source)

    @rule(name=places)
    def restore_in_place(self, name: str) -> None:
        if not self.free(name):
            named(self.root / name)
            shutil.copytree(self.root / name, self.root / "backup", symlinks=True)
            shutil.rmtree(self.root / name)
            (self.root / "backup").rename(self.root / name)

    @rule(name=places)
    def remove(self, name: str) -> None:
        if not self.free(name):
            named(self.root / name)
            shutil.rmtree(self.root / name)
            del self.token[name]

    @rule(name=places)
    def spawn(self, name: str) -> None:
        if not self.free(name):
            chosen = f"s{next(self.number)}"
            sandbox(discover(self.root / name), chosen)
            self.sandboxes[self.token[name]].add(chosen)

    @precondition(lambda self: self.token)
    @rule(name=places)
    def run(self, name: str) -> None:
        """A sandbox that runs, from here on, wherever its repository goes."""
        if not self.free(name) and self.token[name] not in self.held:
            chosen, stack = f"s{next(self.number)}", contextlib.ExitStack()
            box = stack.enter_context(store.create(discover(self.root / name), chosen))
            box.directory.disk.write_bytes(b"work")
            self.held[self.token[name]] = stack
            self.sandboxes[self.token[name]].add(chosen)

    @rule(name=places, number=st.integers(0, 3))
    def worktree(self, name: str, number: int) -> None:
        if not self.free(name):
            place = self.root / f"linked-{name}-{number}-{next(self.number)}"
            subprocess.run(["git", "-C", self.root / name, "worktree", "add", "-q", "--detach", place], check=True)
            assert named(place) == sorted(self.sandboxes[self.token[name]])
            moved = place.with_name(f"{place.name}-moved")
            subprocess.run(["git", "-C", self.root / name, "worktree", "move", place, moved], check=True)
            assert named(moved) == sorted(self.sandboxes[self.token[name]])

    @invariant()
    def each_sees_its_own(self) -> None:
        for name, token in getattr(self, "token", {}).items():
            assert named(self.root / name) == sorted(self.sandboxes[token]), name
            states = {str(each.id): each.state for each in store.entries(discover(self.root / name))}
            running = [each for each, state in states.items() if state is store.State.RUNNING]
            assert len(running) == (token in self.held)

    @invariant()
    def nothing_is_lost(self) -> None:
        kept = {each.parent.name for each in paths.state_root().glob("*/*/workspace.ext4")} if self.token else set()
        assert not self.token or kept == set().union(*self.sandboxes.values())


def test_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_TEST_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Histories, settings=settings(max_examples=examples(15), stateful_step_count=12, deadline=None)
    )


def test_another_repository_at_the_same_path_sees_nothing(repo: GitRepo, tmp_path: Path) -> None:
    sandbox(discover(repo.path), "mine")
    away = tmp_path / "away"
    repo.path.rename(away)
    GitRepo.create(repo.path).commit("other", {"x": "y"})
    assert named(repo.path) == []
    with pytest.raises(StateError):
        store.find(discover(repo.path), "mine")
    sandbox(discover(repo.path), "mine")
    assert named(repo.path) == named(away) == ["mine"]
    assert len(list(paths.state_root().glob("*/mine"))) == 2


@contextlib.contextmanager
def hostile(kind: str, place: Path) -> Iterator[None]:
    others = place.parent / "elsewhere"
    others.write_text("0123456789abcdef\n")
    if kind == "link":
        place.symlink_to(others)
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "huge":
        with place.open("wb") as out:
            out.truncate(1 << 30)
    elif kind == "path":
        place.write_text("../../../../etc/passwd\n")
    elif kind == "long":
        place.write_text("0123456789abcdef0\n")
    else:
        place.write_bytes(b"\xff\0" * 20)
    yield
    assert others.read_text() == "0123456789abcdef\n"


@pytest.mark.parametrize("kind", ["link", "fifo", "huge", "path", "long", "garbage"])
def test_a_hostile_identity_is_replaced(repo: GitRepo, kind: str) -> None:
    with hostile(kind, repo.path / ".git" / identity.FILE):
        assert named(repo.path) == []
        sandbox(discover(repo.path), "mine")
        assert named(repo.path) == ["mine"]
    found = identity.read(repo.path / ".git")
    assert found is not None
    assert found != "0123456789abcdef"
    assert [each.key for each in registry.every()] == [f"repo-{found}"]


def test_an_identity_that_cannot_be_written_is_an_error_in_words(repo: GitRepo) -> None:
    (repo.path / ".git" / identity.FILE).mkdir()
    assert named(repo.path) == []
    with pytest.raises(HostResourceError, match="which identifies the repository"):
        sandbox(discover(repo.path))
    assert not list((repo.path / ".git").glob("sandbox-id.*"))


def test_two_at_the_same_time_get_one_identity(repo: GitRepo) -> None:
    found = discover(repo.path)
    roots: list[Path] = []
    threads = [threading.Thread(target=lambda: roots.append(registry.claim(found))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(roots) == 8
    assert len(set(roots)) == 1


def former(repo: GitRepo, name: str) -> Path:
    """The state directory as it was before repositories had an identity."""
    sandbox(discover(repo.path), name)
    root = registry.claim(discover(repo.path))
    (root / registry.FILE).unlink()
    (repo.path / ".git" / identity.FILE).unlink()
    old = root.with_name(paths.former_key(repo.path / ".git"))
    root.rename(old)
    return old


RECORD = (
    '{"id": "ID", "worktree": "W", "git_dir": "W/.git", "common_dir": "W/.git", "object_format": "sha1",'
    ' "created": TIME, "base": null, "base_symref": null, "snapshot": "' + "1" * 40 + '", "index_tree": null,'
    ' "backend": "qemu", "image": "k", "cpus": 1, "memory": 512, "net": "none"}'
)


def test_a_state_directory_from_before_identities_is_adopted(repo: GitRepo) -> None:
    import time

    old = former(repo, "mine")
    text = RECORD.replace("ID", "mine").replace("W/", f"{repo.path}/").replace("TIME", repr(time.time()))
    (old / "mine" / "record.json").write_text(text)
    assert named(repo.path) == ["mine"]
    assert (old / "mine" / "workspace.ext4").read_bytes() == b"work", "nothing was renamed: a machine may be using it"
    moved = repo.path.with_name("moved")
    repo.path.rename(moved)
    assert named(moved) == ["mine"]


def test_a_new_repository_does_not_adopt_what_was_at_its_path(repo: GitRepo) -> None:
    import time

    old = former(repo, "mine")
    text = RECORD.replace("ID", "mine").replace("W/", f"{repo.path}/").replace("TIME", repr(time.time()))
    (old / "mine" / "record.json").write_text(text)
    shutil.rmtree(repo.path)
    time.sleep(0.05)
    GitRepo.create(repo.path).commit("other", {"x": "y"})
    assert named(repo.path) == []
    assert (old / "mine" / "workspace.ext4").exists()


def test_an_identity_that_was_lost_is_known_by_the_copies_of_the_records(repo: GitRepo, tmp_path: Path) -> None:
    found = discover(repo.path)
    sandbox(found, "mine")
    root = registry.claim(found)
    text = RECORD.replace("ID", "mine").replace("W/", f"{repo.path}/").replace("TIME", "7.5")
    (root / "mine" / "record.json").write_text(text)
    record = store.decode(text.encode())
    assert record is not None
    with store.open_existing(found, "mine") as (box, _):
        store.pin(box, record, oid(repo.git("rev-parse", "HEAD")))
    (repo.path / ".git" / identity.FILE).write_bytes(b"\0" * 17)
    moved = tmp_path / "moved"
    repo.path.rename(moved)
    assert named(moved) == ["mine"]


def test_consent_does_not_go_to_another_repository_or_a_copy(repo: GitRepo, tmp_path: Path) -> None:
    from git_sandbox import projectfile

    def trusted(place: Path) -> bool:
        found = projectfile.read(place, registry.consent(discover(place)))
        assert found is not None
        return found.trusted

    repo.commit("asks", {"sandbox.toml": 'net = "nat"\n'})
    found = projectfile.read(repo.path, registry.consent(discover(repo.path)))
    assert found is not None
    found.trust()
    assert trusted(repo.path)
    subprocess.run(["cp", "-a", repo.path, tmp_path / "copy"], check=True)
    subprocess.run(["git", "clone", "-q", repo.path, tmp_path / "clone"], check=True)
    assert not trusted(tmp_path / "copy")
    repo.path.rename(tmp_path / "away")
    (tmp_path / "clone").rename(repo.path)
    assert not trusted(repo.path)
    assert trusted(tmp_path / "away")


def test_the_guests_copy_has_no_identity(repo: GitRepo, tmp_path: Path) -> None:
    from git_sandbox.workspace.capture import capture
    from git_sandbox.workspace.survey import CapturePolicy

    registry.claim(discover(repo.path))
    capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    assert (tmp_path / "copy" / ".git" / "HEAD").exists()
    assert not (tmp_path / "copy" / ".git" / identity.FILE).exists()
