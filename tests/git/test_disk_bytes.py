"""A guest reads its raw disk: nothing is on it that the repository it was made from has not got now.

Each thing that is written has a mark of its own, in its content or its name. What the disk of the second sandbox shows
(the image it is laid over included) is searched for all marks; those found must be in the repository, by an independent
look at its files and at what git can still read.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox import settings as user_settings
from git_sandbox import store
from git_sandbox.cache import bases
from git_sandbox.git.repo import discover
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.workspace import base_content, builder, stat_scan
from git_sandbox.workspace.survey import CapturePolicy
from support import sparse
from support.examples import examples
from support.gitrepo import GitRepo

FORMATS = ("raw", "qcow2")
MARK = re.compile(rb"MARK[0-9]{6}X")
STRATEGIES = ("qcow2", "copy", "overlay")  # reflinks and thin volumes show the same image and the same tail
numbers = itertools.count()


def mark() -> str:
    return f"MARK{next(numbers):06}X"


@pytest.fixture(autouse=True)
def _worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(builder, "WORTH_INODES", 10)
    monkeypatch.setattr(stat_scan, "SETTLED", 0)


def present(root: Path) -> set[bytes]:
    """Marks in names, contents, targets and attributes of all files of the repository, and in its objects."""
    found: set[bytes] = set()
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            words = [os.fsencode(name), *(os.getxattr(path, each, follow_symlinks=False) for each in _attributes(path))]
            if path.is_symlink():
                words.append(os.fsencode(path.readlink()))
            elif path.is_file():
                words.append(path.read_bytes())
            found.update(each for word in words for each in MARK.findall(word))
        if ".git" in directories:
            everything = GitRepo(Path(directory)).run("cat-file", "--batch-all-objects", "--batch")
            found.update(MARK.findall(everything.stdout))
    return found


def _attributes(path: Path) -> list[str]:
    return [each for each in os.listxattr(path, follow_symlinks=False) if each.startswith("user.")]


def packed(root: Path) -> dict[bytes, str]:
    """Bytes by which a loose object or a pack is known on a disk, compressed as it is, and what it is called."""
    found = {}
    for path in root.rglob("objects/**/*"):
        if path.is_file() and re.fullmatch(r"[0-9a-f]{38}|pack-[0-9a-f]+\.pack", path.name):
            content = path.read_bytes()
            loose = len(path.name) == 38
            found[content if loose else content[-20:]] = path.parent.name + path.name if loose else path.name
    return found


def raw(directory: SandboxDir) -> bytes:
    """All that the guest can read of its disk, without the holes."""
    paths = [path for path in (directory.disk, directory.base, directory.lower) if path.exists()]
    found = [content for path in paths for _, content in sparse.extents(path)]
    return b"\0".join(found)


def disk(repo: GitRepo, cow: str, **policy: Any) -> tuple[bytes, bool]:
    """Of a new sandbox, and whether it was laid over the image of an earlier one."""
    with store.create(discover(repo.path), None) as box:
        chosen = user_settings.resolve({"cow": cow, "disk": "128M"})[0]
        made = builder.make(box, CapturePolicy(patience=1, **policy), chosen, FORMATS, lambda _text: None)
        found = raw(box.directory)
        for path in (box.directory.disk, box.directory.base, box.directory.lower):
            path.unlink(missing_ok=True)
        return found, made.base is not None


def start(path: Path) -> GitRepo:
    repo = GitRepo.create(path)
    (repo.path / ".gitattributes").write_text("*.up filter=upper\n")
    repo.git("config", "filter.upper.clean", "tr a-z A-Z")
    repo.git("config", "filter.upper.smudge", "cat")
    repo.write(".gitignore", "*.o\n/built\n")
    for name in ("a", "b", "dir/c", "dir/deep/d", "clear.up"):
        repo.write(name, f"{mark()}\n")
    repo.write("dir/large", f"{mark()}\n" * 9000)
    repo.git("add", "-A")
    repo.commit(mark())
    repo.git("gc", "-q")
    repo.commit(mark(), {"b": f"{mark()}\n"})
    repo.write("dir/c", f"dirty {mark()}\n")
    repo.write("small.o", f"{mark()}\n")
    repo.write("dump.o", f"{mark()}\n" * 30_000)
    repo.write(f"built/{mark()}/x", mark())
    repo.write("new", mark())
    repo.git("add", "new")
    repo.write("dir/plain", mark())
    for number in range(10):
        repo.write(f"built/{number}", mark())
    return repo


PATHS = ["a", "b", "new", "dir/c", "dir/deep/d", "dir/large", "small.o", "dump.o", "built/x", "built/3", "dir/plain"]


def write(repo: GitRepo, name: str, lines: int) -> None:
    repo.write(name, f"{mark()}\n" * lines)


def remove(repo: GitRepo, name: str) -> None:
    place = repo.path / name
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()


def link(repo: GitRepo, name: str, length: int) -> None:
    (repo.path / name).unlink(missing_ok=True)
    (repo.path / name).symlink_to(mark() + "-" * length)


def attribute(repo: GitRepo, name: str, length: int) -> None:
    os.setxattr(repo.path / name, "user.test", mark().encode() + b"-" * length)


def git(repo: GitRepo, *words: str) -> None:
    repo.run(*(mark() if word == "MARK" else word for word in words))


def prune(repo: GitRepo) -> None:
    repo.run("reflog", "expire", "--expire=now", "--all")
    repo.run("gc", "-q", "--prune=now")


STEPS = st.one_of(
    st.tuples(st.just(write), st.sampled_from([*PATHS, "clear.up"]), st.sampled_from([1, 9000])),
    st.tuples(st.just(remove), st.sampled_from([*PATHS, "dir", "built", "dir/deep", ".git/config", ".git/logs"])),
    st.tuples(st.just(link), st.sampled_from(PATHS), st.sampled_from([0, 200])),
    st.tuples(st.just(attribute), st.sampled_from([*PATHS, "dir"]), st.sampled_from([0, 3000])),
    st.tuples(st.just(lambda repo, name: repo.write(f"{name}/{mark()}", mark())), st.sampled_from(["dir", "built"])),
    st.tuples(st.just(lambda repo, name: (repo.path / name).rename(repo.path / mark())), st.sampled_from(PATHS)),
    st.tuples(st.just(lambda repo, name: os.link(repo.path / name, repo.path / mark())), st.sampled_from(PATHS)),
    st.tuples(st.just(prune)),
    *(st.tuples(st.just(git), *(st.just(word) for word in words.split())) for words in (
        "add -A", "add -f a new", "commit -qam MARK", "commit --amend -qm MARK", "branch MARK", "checkout -q -b MARK",
        "checkout -q main", "stash -q -u -m MARK", "stash drop -q", "reset -q --hard HEAD~1", "tag -am MARK MARK",
        "config user.nick MARK", "config --unset-all user.nick", "rm -q --cached -r dir", "repack -q -a -d",
        "prune-packed", "update-server-info", "branch -D main",
    )),
)  # fmt: skip


def act(repo: GitRepo, step: tuple[Any, ...]) -> None:
    """Git or the file system may refuse: that leaves a state, too."""
    try:
        step[0](repo, *step[1:])
    except (OSError, shutil.Error):
        return


def hidden(repo: GitRepo, before: dict[bytes, str], shown: bytes) -> list[str]:
    """What is on the disk and not in the repository."""
    marks = sorted(each.decode() for each in set(MARK.findall(shown)) - present(repo.path))
    names = repo.run("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").stdout.decode().split()
    names += [each.name for each in repo.path.rglob("objects/pack/pack-*.pack")]
    return marks + [name for content, name in before.items() if content in shown and name not in names]


@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(STEPS, max_size=5),
    st.lists(STEPS, min_size=1, max_size=4),
    st.sampled_from(STRATEGIES),
    st.sampled_from([(0, 0), (15, 500), (1000, 16 << 20)]),
)
def test_nothing_that_is_gone_is_on_a_later_disk(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[Any, ...]],
    after: list[tuple[Any, ...]],
    cow: str,
    room: tuple[int, int],
) -> None:
    repo = start(tmp_path_factory.mktemp("repo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_content, "ENTRIES", room[0])
        patch.setattr(base_content, "BYTES", room[1])
        for step in before:
            act(repo, step)
        disk(repo, cow)
        for each in range(2):  # a third one may be laid over what the second left
            kept = packed(repo.path)
            for step in after[each::2]:
                act(repo, step)
            shown, _ = disk(repo, cow)
            assert hidden(repo, kept, shown) == []
    bases.prune()


def _reworded(repo: GitRepo) -> None:
    repo.git("commit", "-q", "--amend", "-m", "other words")


ORDINARY: dict[str, Callable[[GitRepo], object]] = {
    "nothing": lambda _: None,
    "a tracked file": lambda repo: write(repo, "a", 1),
    "one that was dirty": lambda repo: write(repo, "dir/c", 1),
    "one that was dirty is as committed": lambda repo: repo.git("checkout", "--", "dir/c"),
    "a new file": lambda repo: write(repo, "dir/other", 1),
    "a new one changes": lambda repo: write(repo, "new", 1),
    "a small ignored one goes": lambda repo: remove(repo, "small.o"),
    "a large ignored one goes, within the room": lambda repo: remove(repo, "dump.o"),
    "a tracked one goes": lambda repo: remove(repo, "dir/large"),
    "a tracked directory goes": lambda repo: remove(repo, "dir/deep"),
    "staged": lambda repo: repo.git("add", "-A"),
    "commit": lambda repo: repo.git("commit", "-qam", "m"),
    "amend": _reworded,
    "branch": lambda repo: repo.git("checkout", "-qb", "side"),
    "an older commit": lambda repo: repo.git("checkout", "-q", "-f", "HEAD~1"),
    "stash": lambda repo: repo.git("stash", "-q", "-u"),
    "configuration": lambda repo: repo.git("config", "user.nick", "n"),
    "loose objects packed": lambda repo: repo.git("repack", "-q", "-d"),
}
RARE: dict[str, Callable[[GitRepo], object]] = {
    "collected": prune,
    "all in one pack": lambda repo: (repo.commit("m", {"a": "a\n"}), repo.git("repack", "-qad")),
    "an object that nothing leads to": lambda repo: repo.git("prune", "--expire=now"),
}


@pytest.mark.parametrize("step", [*ORDINARY, *RARE])
def test_when_a_new_image_is_made(tmp_path: Path, step: str) -> None:
    repo = start(tmp_path / "repo")
    if step == "an object that nothing leads to":
        repo.git("hash-object", "-w", "--stdin", input=b"nobody has this")
    first, laid = disk(repo, "qcow2")
    assert not laid
    assert len(MARK.findall(first)) > 9000, "marks are seen on a disk"
    (ORDINARY | RARE)[step](repo)
    kept = packed(repo.path)
    shown, laid = disk(repo, "qcow2")
    assert laid == (step in ORDINARY)
    assert hidden(repo, kept, shown) == []
    write(repo, "a", 1)
    assert disk(repo, "qcow2")[1]


@pytest.mark.parametrize("change", ["goes", "changes", "is added to", "not wanted", "not included"])
def test_what_is_too_large_to_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """It is in the image, and that is used as long as nothing of it went or changed."""
    monkeypatch.setattr(base_content, "ENTRIES", 5)
    repo = start(tmp_path / "repo")
    policy: dict[str, Any] = {}
    if change == "not included":
        policy["ignored"] = "none"
        repo.write(".worktreeinclude", "/built\n")
    disk(repo, "qcow2", **policy)
    match change:
        case "goes":
            remove(repo, "built/3")
        case "changes":
            write(repo, "built/3", 1)
        case "is added to":
            write(repo, "built/more", 1)
        case "not wanted":
            policy["ignored"] = "none"
        case "not included":
            repo.write(".worktreeinclude", "/other\n")
    shown, laid = disk(repo, "qcow2", **policy)
    assert laid == (change == "is added to")
    assert hidden(repo, {}, shown) == []
    if change.startswith("not"):
        built = b"".join(path.read_bytes() for path in (repo.path / "built").rglob("*") if path.is_file())
        assert not set(MARK.findall(built)) & set(MARK.findall(shown))


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(base_content, "ENTRIES", 0)
    return iter(())


@pytest.mark.usefixtures("_plain")
def test_a_committed_file_that_a_filter_changes_is_not_the_commits(tmp_path: Path) -> None:
    """Its bytes are in no object: whoever locks it again hides them."""
    repo = start(tmp_path / "repo")
    repo.write("clear.up", f"secret {mark().lower()} {mark()}\n")
    repo.git("commit", "-qm", "m", "clear.up")
    disk(repo, "qcow2")
    (repo.path / "clear.up").write_text("LOCKED\n")
    shown, laid = disk(repo, "qcow2")
    assert not laid
    assert b"secret" not in shown
