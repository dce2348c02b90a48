"""`sandbox cp`: which side is the guest's, and moving what arrived into place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import HostResourceError, SandboxError, StateError, UsageError
from git_sandbox.sandbox import copy
from git_sandbox.sandbox.copy import Place
from git_sandbox.session import Session


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("vm-1:a", Place("vm-1", "a")), ("vm-1:", Place("vm-1", "")), ("vm-1:/x:y", Place("vm-1", "/x:y")),
        ("a", Place(None, "a")), ("./a:b", Place(None, "./a:b")), ("/a:b", Place(None, "/a:b")),
        ("A:b", Place(None, "A:b")),
    ],
)  # fmt: skip
def test_side(text: str, place: Place) -> None:
    assert copy.parse(text) == place


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("vm-1:a", "vm-2:b")])
def test_exactly_one_side_is_a_sandbox(source: str, target: str) -> None:
    with pytest.raises(UsageError):
        copy.plan(source, target)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_scp_has_nothing_to_expand(path: str) -> None:
    full = copy.remote(path)
    assert full.startswith("/")
    rest = full
    for escaped in ("\\\\", "\\*", "\\?", "\\[", "\\]"):
        rest = rest.replace(escaped, "")
    assert not set(rest) & set("*?[]\\")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_directory_merges_and_files_replace(tmp_path: Path) -> None:
    new = tree(tmp_path / "new", {"a": "new", "sub/b": "new"})
    old = tree(tmp_path / "old", {"a": "old", "sub/c": "old"})
    copy.put(new, old)
    assert {each.name: each.read_text() for each in old.rglob("*") if each.is_file()} == {
        "a": "new", "b": "new", "c": "old",
    }  # fmt: skip


def test_link_in_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tree(tmp_path, {"precious": "mine"}) / "precious"
    (tmp_path / "out").symlink_to(precious)
    copy.put(tree(tmp_path / "new", {"out": "guest"}) / "out", tmp_path / "out")
    assert precious.read_text() == "mine"
    assert (tmp_path / "out").read_text() == "guest"
    assert not (tmp_path / "out").is_symlink()


def test_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", {"keep": "mine"})
    target = tree(tmp_path / "target", {"x": "1"})
    (target / "sub").symlink_to(outside)
    with pytest.raises(StateError, match="symbolic link"):
        copy.put(tree(tmp_path / "new", {"sub/keep": "guest"}), target)
    assert (outside / "keep").read_text() == "mine"


def test_file_does_not_replace_a_directory_nor_the_reverse(tmp_path: Path) -> None:
    tree(tmp_path, {"new/x": "1", "old/x/y": "1", "file": "1"})
    with pytest.raises(StateError, match="is a directory"):
        copy.put(tmp_path / "new", tmp_path / "old")
    with pytest.raises(StateError, match="not a directory"):
        copy.put(tmp_path / "new", tmp_path / "file")


@pytest.mark.parametrize(
    ("files", "name"), [({"a/.git/config": "x"}, "a"), ({"b/.GIT": "gitdir: x"}, "b"), ({"config": "x"}, ".git")]
)
def test_a_repository_is_not_copied_out(tmp_path: Path, files: dict[str, str], name: str) -> None:
    with pytest.raises(StateError, match="git repository"):
        copy.refuse_repositories(tree(tmp_path / "new", files), name)
    copy.refuse_repositories(tree(tmp_path / "fine", {"gitignore/.gitignore": "x"}), "fine")


def test_a_bare_repository_and_a_file_that_points_to_one_are_refused(tmp_path: Path) -> None:
    bare = tree(tmp_path / "new", {"deep/cache/HEAD": "ref: x", "deep/cache/objects/x": "", "deep/cache/refs/x": ""})
    with pytest.raises(StateError, match="deep/cache"):
        copy.refuse_repositories(bare, "new")
    pointer = tree(tmp_path, {"arrived": "gitdir: /somewhere"}) / "arrived"
    with pytest.raises(StateError, match="git repository"):
        copy.refuse_repositories(pointer, ".git")


@pytest.mark.parametrize("said", [">&2", ""])
def test_a_guest_that_makes_scp_complain_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    (tmp_path / "scp").write_text(f"#!/bin/sh\nyes {said}\n")
    (tmp_path / "scp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="said more than"):
        copy.download(Session("vm-1", tmp_path / "config", lambda: False), "x", tmp_path / "x")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["scp"]


def _scp(monkeypatch: pytest.MonkeyPatch, tools: Path, script: str) -> Session:
    """A session whose scp is `script`: `$to` is where the guest's file goes."""
    tools.mkdir()
    (tools / "scp").write_text(f"#!/bin/sh\nfor to; do :; done\n{script}\n")
    (tools / "scp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return Session("vm-1", tools / "config", lambda: False)


@pytest.mark.parametrize(
    "script",
    [
        'yes > "$to"',
        'mkdir "$to"; i=0; while :; do i=$((i + 1)); : > "$to/$i"; done',
        'head -c 2000000 /dev/zero > "$to"',
    ],
    ids=["a file without end", "files without end", "just too large, and at once"],
)
def test_more_than_the_limit_is_stopped_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    session = _scp(monkeypatch, tmp_path / "tools", script)
    with pytest.raises(StateError, match="more than 1 MiB came") as caught:
        copy.download(session, "x", tmp_path / "x", 1 << 20)
    assert "--limit" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["tools"]


def test_the_hosts_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _scp(monkeypatch, tmp_path / "tools", 'yes > "$to"')
    monkeypatch.setattr(copy, "SPARE", 1 << 60)
    with pytest.raises(HostResourceError, match="free"):
        copy.download(session, "x", tmp_path / "x")
    assert [each.name for each in tmp_path.iterdir()] == ["tools"]


def test_what_is_within_the_limit_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _scp(monkeypatch, tmp_path / "tools", 'head -c 1000000 /dev/zero > "$to"; sleep 0.5')
    assert copy.download(session, "x", tmp_path / "x", 1 << 20).stat().st_size == 1_000_000
