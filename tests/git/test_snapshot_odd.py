"""Worktrees that git itself lives with: each gives a tree, and says what is not in it as `git add` would have it."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.guest import stage
from support.examples import examples
from support.gitrepo import GitRepo
from support.sandboxed import capture

UTF_16 = "*.rc text working-tree-encoding=UTF-16\n"


def tree_of(repo: GitRepo, tree: str) -> dict[str, bytes]:
    rows = (row.split("\t", 1) for row in repo.git("ls-tree", "-r", "-z", tree).split("\0") if row)
    return {
        path: repo.run("cat-file", "blob", head.split()[2]).stdout if head.startswith("100") else b""
        for head, path in rows
    }


def filtered(repo: GitRepo, **settings_of_it: str) -> None:
    repo.commit("attributes", {".gitattributes": "*.bin filter=odd\n", "a.bin": "committed\n"})
    for key, value in settings_of_it.items():
        repo.git("config", f"filter.odd.{key}", value)


def test_an_encoding_that_does_not_fit_goes_raw_and_holds_up_nothing(repo: GitRepo) -> None:
    repo.commit("attributes", {".gitattributes": UTF_16})
    for number in range(9):
        repo.write(f"bad{number}.rc", f"no bom {number}\n")
    repo.write("good.rc", "bom\n".encode("utf-16"))
    repo.write("other", "w\n")
    taken = capture(repo)
    found = tree_of(repo, taken.tree)
    assert found["other"] == b"w\n"
    assert found["good.rc"] == b"bom\n"
    assert [found[f"bad{number}.rc"] for number in range(9)] == [b"no bom %d\n" % number for number in range(9)]
    assert [text for text in taken.warnings if "bad0.rc" in text and "as it is on disk" in text]


@pytest.mark.parametrize("how", [{"clean": "exit 3"}, {"process": "exit 3"}, {"clean": "no-such-program"}])
def test_a_required_filter_that_fails_holds_up_nothing(repo: GitRepo, how: dict[str, str]) -> None:
    filtered(repo, required="true", **how)
    repo.write("a.bin", "changed\n")
    repo.write("new.bin", "new\n")
    repo.write("other", "o\n")
    found = tree_of(repo, capture(repo).tree)
    assert (found["a.bin"], found["new.bin"], found["other"]) == (b"changed\n", b"new\n", b"o\n")


def test_a_filter_that_works_is_used(repo: GitRepo) -> None:
    filtered(repo, required="true", clean="tr a-z A-Z")
    repo.write("a.bin", "changed\n")
    assert tree_of(repo, capture(repo).tree)["a.bin"] == b"CHANGED\n"


def test_files_that_are_none(repo: GitRepo) -> None:
    repo.commit("more", {"was": "a file\n", "wait": "a file\n"})
    (repo.path / "was").unlink()
    os.mkfifo(repo.path / "was")
    os.mkfifo(repo.path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(repo.path / "socket"))
    repo.write("wait", "edited\n")
    taken = capture(repo)
    found = tree_of(repo, taken.tree)
    assert found.keys() == {"README", "was", "wait"}
    assert found["wait"] == b"edited\n"
    assert [text for text in taken.warnings if "was" in text and stage.SPECIAL in text]


def test_a_name_that_git_refuses(repo: GitRepo) -> None:
    repo.git("config", "core.protectNTFS", "true")
    repo.write("git~1/config", "x\n")
    repo.write("sub/.git./x", "x\n")
    repo.write("fine", "f\n")
    taken = capture(repo)
    assert tree_of(repo, taken.tree).keys() == {"README", "fine"}
    assert [text for text in taken.warnings if "git~1/config" in text and stage.UNNAMED in text]


def broken_index(repo: GitRepo) -> None:
    repo.write(".git/index", b"\0" * 413)


def truncated_index(repo: GitRepo) -> None:
    index = repo.path / ".git/index"
    index.write_bytes(index.read_bytes()[:100])


def null_entry(repo: GitRepo) -> None:
    """An entry without an object's name, as broken tools leave it."""
    import hashlib

    index = repo.path / ".git/index"
    blob = bytes.fromhex(repo.git("rev-parse", ":zz"))
    raw = index.read_bytes()[:-20].replace(blob, b"\0" * 20)
    index.write_bytes(raw + hashlib.sha1(raw, usedforsecurity=False).digest())


def file_and_directory(repo: GitRepo) -> None:
    """`d` and `d/f` at the same time: git writes no tree of that."""
    import hashlib

    index = repo.path / ".git/index"
    raw = index.read_bytes()[:-20]
    raw = raw.replace(b"zz\0", b"d\0\0", 1)  # the name, in an entry whose length has the same padding
    raw = raw.replace(struct.pack(">H", 2) + b"d\0\0", struct.pack(">H", 1) + b"d\0\0", 1)
    index.write_bytes(raw + hashlib.sha1(raw, usedforsecurity=False).digest())


@pytest.mark.parametrize("damage", [broken_index, truncated_index, null_entry, file_and_directory])
def test_a_damaged_index(repo: GitRepo, damage: Callable[[GitRepo], None]) -> None:
    repo.commit("more", {"a": "1\n", "zz": "2\n"})
    for name in ("README", "a", "zz"):  # long ago: nothing is read again only because it is young
        os.utime(repo.path / name, (1e9, 1e9))
    repo.git("update-index", "--refresh")
    repo.write("a", "edited\n")
    repo.write("new", "n\n")
    damage(repo)
    taken = capture(repo)
    assert tree_of(repo, taken.tree) == {"README": b"hello\n", "a": b"edited\n", "zz": b"2\n", "new": b"n\n"}
    assert taken.index_tree is None
    assert [text for text in taken.warnings if "index" in text]


def test_missing_and_damaged_objects_are_not_needed(repo: GitRepo) -> None:
    repo.commit("more", {"lost": "lost\n", "damaged": "damaged\n"})
    for name, content in (("lost", None), ("damaged", b"garbage")):
        blob = repo.git("rev-parse", f":{name}")
        place = repo.path / f".git/objects/{blob[:2]}/{blob[2:]}"
        place.chmod(0o600)
        place.unlink() if content is None else place.write_bytes(content)
    repo.write("new", "n\n")
    before = repo.git("write-tree", "--missing-ok")
    taken = capture(repo)
    assert taken.index_tree == before
    rows = repo.git("ls-tree", "-r", "--name-only", taken.tree).splitlines()
    assert rows == ["README", "damaged", "lost", "new"]


def test_a_submodule_without_a_repository(repo: GitRepo) -> None:
    head = repo.git("rev-parse", "HEAD")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    repo.commit("submodule")
    (repo.path / "sub").mkdir()
    assert capture(repo).tree == repo.git("rev-parse", "HEAD^{tree}")


def test_a_file_becomes_a_directory_and_a_directory_a_link(repo: GitRepo) -> None:
    repo.commit("more", {"f": "1\n", "d/x": "1\n", "d/y": "1\n"})
    (repo.path / "f").unlink()
    repo.write("f/inner", "2\n")
    shutil.rmtree(repo.path / "d")
    (repo.path / "d").symlink_to("f")
    assert tree_of(repo, capture(repo).tree) == {"README": b"hello\n", "f/inner": b"2\n", "d": b""}


def test_names_that_differ_in_case_only(repo: GitRepo) -> None:
    """`core.ignoreCase` says something of another machine's file system."""
    repo.git("config", "core.ignoreCase", "true")
    repo.commit("more", {"name": "1\n"})
    repo.write("NAME", "2\n")
    assert tree_of(repo, capture(repo).tree) == {"README": b"hello\n", "name": b"1\n", "NAME": b"2\n"}


NAMES = st.sampled_from(["a.bin", "b.rc", "c", "d/e", "d/f.bin", "-x", "new\nline", "new\nline.rc", "sp ace.bin"])


@settings(max_examples=examples(20))
@given(
    files=st.dictionaries(NAMES, st.sampled_from([b"", b"x\n", b"\xff\xfex\0", b"no bom\n"]), max_size=6),
    tracked=st.sets(NAMES),
    edits=st.dictionaries(NAMES, st.one_of(st.none(), st.binary(max_size=3)), max_size=4),
)
def test_every_file_is_in_the_tree(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    tracked: set[str],
    edits: dict[str, bytes | None],
) -> None:
    """With filters and encodings that fail for some: a walk of the worktree finds what the tree has, no more."""
    repo = GitRepo.create(tmp_path_factory.mktemp("odd") / "repo")
    for name, content in files.items():
        repo.write(name, content)
    known = sorted(tracked & files.keys())
    repo.commit("start", {name: files[name] for name in known})
    repo.write(".gitattributes", f"{UTF_16}*.bin filter=odd\n")
    repo.git("config", "filter.odd.clean", "grep -q x && exit 1; cat")
    repo.git("config", "filter.odd.required", "true")
    for name, edit in edits.items():
        if edit is None:
            (repo.path / name).unlink(missing_ok=True)
        else:
            repo.write(name, edit)
    found = tree_of(repo, capture(repo).tree)
    there = {
        os.fspath(path.relative_to(repo.path))
        for path in repo.path.rglob("*")
        if path.is_file() and ".git" not in path.parts[len(repo.path.parts) :]
    }
    assert found.keys() == there
    plain = {name for name in there if not name.endswith((".bin", ".rc"))}
    assert {name: found[name] for name in plain} == {name: Path(repo.path, name).read_bytes() for name in plain}
