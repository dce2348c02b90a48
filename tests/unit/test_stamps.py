"""Rows of find(1) and of lstat(2) are the same, whatever the names; what cannot be looked at is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.workspace import stat_scan
from git_sandbox.workspace.stat_scan import Unseen, entry_of, glance, look, row

NAMES = ("plain", "-e", "sp ace", "a .", "%p", "back\\slash", "new\nline", "\udcff", "deep/er/still", ".hidden")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name.encode("utf-8", "surrogateescape").hex())
    (root / "a dir .").mkdir(mode=0o2755)
    (root / "a dir ." / "file").touch(0o600)
    (root / "link").symlink_to("deep")
    os.link(root / "plain", root / "twice")
    os.mkfifo(root / "fifo")
    os.utime(root / "plain", ns=(1, 1_234_567_890_000_000_007))
    return root


def every(root: Path) -> set[str]:
    return {os.fspath(each.relative_to(root)) for each in root.rglob("*")}


@pytest.mark.parametrize("below", ["", "x/%s \\n"])
@pytest.mark.parametrize("few", [0, 5, 1000])
def test_both_ways_to_look_give_the_same_rows(
    tree: Path, below: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_scan, "FEW", few)
    prefix = f"{below}/" if below else ""
    expected = {row(os.lstat(tree / path), prefix + path) for path in every(tree)}
    assert look(tree, [each.name for each in tree.iterdir()], below=below) == expected


def test_directories_above_and_bare_ones(tree: Path) -> None:
    paths = {entry_of(each).path for each in look(tree, ["deep/er/still", "gone", "gone/too"], ["a dir ."])}
    assert paths == {"deep", "deep/er", "deep/er/still", "a dir ."}


def test_a_row_taken_apart(tree: Path) -> None:
    seen = (tree / "plain").stat()
    found = glance(tree)
    assert found.keys() == every(tree)
    plain, directory = found["plain"], found["deep/er"]
    assert (plain.kind, plain.size, plain.links, plain.changed) == ("f", seen.st_size, 2, seen.st_ctime_ns)
    assert plain.inode == found["twice"].inode == str(seen.st_ino).encode()
    assert (directory.is_directory, plain.is_directory, found["link"].kind, found["fifo"].kind) == (
        True, False, "l", "p",
    )  # fmt: skip


def test_what_cannot_be_looked_at_is_said(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a find(1) of our own: nothing is hidden from root, who runs these tests in CI."""
    programs = tmp_path / "programs"
    programs.mkdir()
    find = programs / "find"
    monkeypatch.setattr(stat_scan, "FEW", 0)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    find.write_text("#!/bin/sh\necho \"find: './x': No such file or directory\" >&2\nexit 1\n")
    find.chmod(0o755)
    assert look(tree, ["plain"]) == set()
    find.write_text("#!/bin/sh\necho \"find: './x': Permission denied\" >&2\nexit 1\n")
    with pytest.raises(Unseen, match="Permission denied"):
        look(tree, ["plain"])


def test_a_small_tree_is_looked_at_without_a_program(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/none")
    assert {entry_of(each).path for each in look(tree, [each.name for each in tree.iterdir()])} == every(tree)
