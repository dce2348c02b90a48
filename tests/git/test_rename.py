"""A sandbox with another name is the same one: refs, reflogs, files, repositories inside; killed on the way, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from git_sandbox import claims, paths, renaming, sandbox_dir, store
from git_sandbox import record as noted
from git_sandbox.errors import SandboxError, StateError, UsageError
from git_sandbox.git.names import SandboxRefs, sandbox_id
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import listing, lookup, rename, trashed
from git_sandbox.sandbox.remove import drop
from git_sandbox.store import State
from git_sandbox.trash import note, objects
from support.examples import some
from support.fabricated import Sandbox, worked
from support.gitrepo import GitRepo
from support.kills import dies, killed

OLD, NEW = "vm-1", "fix-login"


def refs_of(host: GitRepo, name: str) -> dict[str, str]:
    """Without the sandbox's name, and without the copy of the record, which has it in it."""
    own = SandboxRefs(sandbox_id(name))
    found = {own.renamed(ref, sandbox_id("x")): value for ref, value in own.own(discover(host.path).refs()).items()}
    return {ref: value for ref, value in found.items() if not ref.startswith("refs/sandbox-meta/")}


def logs_of(host: GitRepo, name: str) -> dict[str, list[str]]:
    own = SandboxRefs(sandbox_id(name))
    refs = {ref: value for ref, value in own.own(discover(host.path).refs()).items() if ref != own.meta}
    logs = {ref: host.git("rev-list", "-g", ref, "--").split() or [value] for ref, value in refs.items()}
    return {own.renamed(ref, sandbox_id("x")): log for ref, log in logs.items()}


def root_of(host: GitRepo) -> Path:
    return store.state_directory(discover(host.path))


def files_of(host: GitRepo, name: str) -> dict[str, bytes]:
    place = root_of(host) / name
    changed = ("record.json", "config.json", "policy.json", "known_hosts")
    found = {str(path.relative_to(place)): path for path in sorted(place.rglob("*")) if path.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if path.name not in changed and "nested" not in key}


def full(host: GitRepo) -> Sandbox:
    """A commit on HEAD, one on another branch, uncommitted work, reflogs, files, a submodule with work of its own."""
    made = worked(host, OLD, {"a": "1\n"})
    made.guest.git("switch", "-q", "-c", "side/way")
    made.work("aside", {"b": "aside\n"})
    made.guest.write("loose", "not committed\n")
    made.home()
    for value in (host.git("commit-tree", "HEAD^{tree}", "-m", "before"), host.git("rev-parse", "refs/sandbox/vm-1")):
        host.git("update-ref", "--create-reflog", "refs/sandbox/vm-1", value)
    directory = sandbox_dir.SandboxDir(root_of(host) / OLD)
    directory.nested.mkdir()
    for place in (directory.nested / "inner", host.path / "sub"):
        inner = GitRepo.create(place)
        inner.git("update-ref", "--create-reflog", "refs/sandbox/vm-1", inner.commit("inside", {"x": "1\n"}))
    (directory.nested / "inner/.git").rename(directory.nested / "inner.git")
    directory.config.write_text('{"hostname": "vm-1", "mode": "run"}')
    directory.egress_view.mkdir()
    directory.egress.write_text('{"sandbox": "vm-1", "rules": []}')
    directory.keys.mkdir()
    (directory.keys / "known_hosts").write_text("sandbox-vm-1 ssh-ed25519 AAAA\n")
    directory.console.write_text("booted\n")
    fork = worked(host, "copy", {"c": "1\n"})
    inside = store.NestedRecord(
        "sub/.git", "sub", os.fspath(host.path / "sub/.git"), os.fspath(host.path / "sub"), None, None
    )
    for name, fields in ((fork.record.id, {"origin": OLD}), (OLD, {"nested": (inside,)})):
        with store.open_existing(made.repo, name) as (box, entry):
            assert entry.record
            box.save(msgspec.structs.replace(entry.record, **fields))
    store.entries(made.repo)  # who looks notes the refs
    return made


@pytest.fixture
def before(repo: GitRepo) -> tuple[object, ...]:
    full(repo)
    return refs_of(repo, OLD), logs_of(repo, OLD), files_of(repo, OLD)


def whole(host: GitRepo, name: str, before: tuple[object, ...]) -> None:
    """Everything of it has that name, and nothing has the other one."""
    other = OLD if name == NEW else NEW
    assert (refs_of(host, name), logs_of(host, name), files_of(host, name)) == before
    assert refs_of(host, other) == {}
    assert not (root_of(host) / other).exists()
    assert not (root_of(host) / paths.RENAMING).exists()
    entry = store.find(discover(host.path), name)
    assert (entry.state, entry.id) == (State.STOPPED, name)
    assert entry.record
    assert entry.record.id == name
    assert {SandboxRefs(sandbox_id(name)).name} == {sandbox_id(ref.split("/")[2]) for ref in entry.record.home}
    copies = lookup.from_refs(discover(host.path), [entry])
    assert [(key, copy.id) for key, copy in copies.items()] == [(name, name)]
    for inner in (host.path / "sub/.git", entry.directory.nested / "inner.git"):
        listed = subprocess.run(
            ["git", "--git-dir", inner, "for-each-ref", "--format=%(refname)", "refs/sandbox"],
            stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
        assert listed.stdout.split() == [f"refs/sandbox/{name}"]
    assert json.loads(entry.directory.config.read_text())["hostname"] == name
    assert json.loads(entry.directory.egress.read_text())["sandbox"] == name
    known = (entry.directory.keys / "known_hosts").read_text()
    assert known in (f"sandbox-{name} ssh-ed25519 AAAA\n", "* ssh-ed25519 AAAA\n")
    fork = store.find(discover(host.path), "copy").record
    assert fork
    assert fork.origin == name
    assert host.git("fsck", "--connectivity-only", "--no-dangling") == ""


def test_it_is_the_same_sandbox_under_another_name(repo: GitRepo, before: tuple[object, ...]) -> None:
    done = rename.rename(discover(repo.path), OLD, NEW)
    assert (done.id, done.former) == (NEW, OLD)
    whole(repo, NEW, before)
    assert [row.id for row in listing.rows(discover(repo.path))] == [NEW, "copy"]
    drop(discover(repo.path), NEW, force=True)
    assert trashed.restore(discover(repo.path), NEW).missing == {}
    rename.rename(discover(repo.path), NEW, OLD)
    whole(repo, OLD, before)


def test_only_refs_are_left_of_it(repo: GitRepo) -> None:
    made = worked(repo, OLD, {"a": "1\n"})
    subprocess.run(["rm", "-r", root_of(repo) / OLD], check=True)
    before = refs_of(repo, OLD)
    rename.rename(made.repo, OLD, NEW)
    assert (refs_of(repo, NEW), refs_of(repo, OLD)) == (before, {})
    entry = store.find(made.repo, NEW)
    assert (entry.state, lookup.known(made.repo, NEW).record.id) == (State.REFS, NEW)
    assert {path.name for path in root_of(repo).iterdir()} <= {"repository.json", ".trash"}


def test_a_name_that_somebody_has_is_refused_and_nothing_changes(repo: GitRepo, before: tuple[object, ...]) -> None:
    worked(repo, "gone", {"g": "1\n"})
    drop(discover(repo.path), "gone", force=True)
    repo.git("update-ref", "refs/sandbox/refs-only", "HEAD")
    GitRepo(repo.path / "sub").git("update-ref", "refs/sandbox/in-sub", "HEAD")
    for name in ("copy", "gone", "refs-only", "in-sub"):
        with pytest.raises(StateError, match=r"exists|in the trash"):
            rename.rename(discover(repo.path), OLD, name)
    for name in ("", "-x", "A", "a/b", "x" * 41, OLD):
        with pytest.raises(UsageError):
            rename.rename(discover(repo.path), OLD, name)
    GitRepo(repo.path / "sub").git("update-ref", "-d", "refs/sandbox/in-sub")
    whole(repo, OLD, before)


def test_one_that_is_used_is_refused(repo: GitRepo, before: tuple[object, ...]) -> None:
    repository = discover(repo.path)
    directory = store.directory(repository, OLD)
    with claims.lock(directory):
        for change in (lambda: rename.rename(repository, OLD, NEW), lambda: rename.resize(repository, OLD, cpus=2)):
            with pytest.raises(StateError, match="cannot be") as running:
                change()
            assert "`sandbox stop vm-1`" in running.value.hint
        directory.recovering.touch()
        with pytest.raises(StateError, match="cannot be renamed"):
            rename.rename(repository, OLD, NEW)
    directory.recovering.unlink()
    directory.dispatch.write_text("{}")
    with pytest.raises(StateError) as away:
        rename.rename(repository, OLD, NEW)
    assert "another machine" in away.value.cause
    directory.dispatch.unlink()
    whole(repo, OLD, before)


def test_memory_and_processors_of_a_stopped_one(repo: GitRepo) -> None:
    made = worked(repo, OLD, {"a": "1\n"})
    assert rename.resize(made.repo, OLD, memory=4096) == rename.Sized(OLD, 1, 4096)
    assert rename.resize(made.repo, OLD, cpus=3) == rename.Sized(OLD, 3, 4096)
    record = store.find(made.repo, OLD).record
    assert record
    assert (record.cpus, record.memory) == (3, 4096)
    (store.directory(made.repo, OLD).disk).unlink()
    with pytest.raises(StateError, match="no disk"):
        rename.resize(made.repo, OLD, cpus=2)


# --- killed -----------------------------------------------------------------------------------------------------------


STEPS = [
    (claims, "claim", 1), *((noted, "replace", count) for count in range(1, 7)), (note, "sync", 3),
    *((step, name, count) for step, name in ((objects, "_set"), (objects, "forget")) for count in (1, 2, 3)),
    (noted, "tag", 1), (renaming, "_carry_out", 1), (renaming, "_rename_origin", 1),
]  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", some(STEPS), ids=lambda step: f"{step[1]}-{step[2]}")
def test_killed_on_the_way_it_has_one_name_and_is_whole(
    repo: GitRepo, before: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, step: tuple[object, str, int],
    *, after: bool,
) -> None:  # fmt: skip
    place, name, count = step
    with monkeypatch.context() as patch:
        dies(patch, place, name, count, after=after)
        killed(lambda: rename.rename(discover(repo.path), OLD, NEW))
    names = {row.id for row in listing.rows(discover(repo.path))} - {"copy"}
    assert len(names) == 1
    whole(repo, names.pop(), before)


@pytest.mark.parametrize("name", ["_set", "forget"])
def test_killed_while_git_changes_refs(
    repo: GitRepo, before: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One transaction on loose files is not done at once: some of the refs are there, with some of their past."""
    inner = getattr(objects, name)

    def half(git: object, refs: dict[str, Iterable[str]], *more: object) -> None:
        if refs:
            some = dict(sorted(refs.items())[: len(refs) // 2])
            some = some if name == "forget" else {key: list(values)[:1] for key, values in some.items()}
            inner(git, some, *more)
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(objects, name, half)
        killed(lambda: rename.rename(discover(repo.path), OLD, NEW))
    store.entries(discover(repo.path))
    whole(repo, NEW, before)


def test_what_cannot_be_finished_now_is_finished_later(
    repo: GitRepo, before: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "_set", full_disk)
        with pytest.raises((OSError, SandboxError)):
            rename.rename(discover(repo.path), OLD, NEW)
        assert {entry.id for entry in store.entries(discover(repo.path))} >= {NEW}
    store.entries(discover(repo.path))
    whole(repo, NEW, before)
