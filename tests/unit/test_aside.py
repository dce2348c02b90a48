"""Parts of a copy that are out of it for a while: nothing tells afterwards, and nothing meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.workspace.set_aside import aside


def listing(root: Path) -> dict[str, tuple[int, int, bytes]]:
    paths = [root, *root.rglob("*")]
    return {
        os.fspath(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in paths
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "copy"
    (root / "closed/away/deep").mkdir(parents=True)
    (root / "closed/away/deep/file").write_text("x")
    (root / "closed/stays").write_text("y")
    (root / "link").symlink_to("nowhere")
    for path in ("closed/away", "closed"):
        (root / path).chmod(0o555)
    for path in ("closed/away/deep", "closed/away", "closed", ""):
        os.utime(root / path, (10**9, 10**9))
    return root


def test_what_is_aside_is_gone_meanwhile_and_back_afterwards(copy: Path, tmp_path: Path) -> None:
    before = listing(copy)
    with aside(copy, ("closed/away", "link"), tmp_path / "place"):
        rest = {name: found for name, found in before.items() if name != "link" and "away" not in name}
        assert listing(copy) == rest
    assert listing(copy) == before


def test_what_fails_on_the_way_leaves_all_in_place(copy: Path, tmp_path: Path) -> None:
    before = listing(copy)
    with pytest.raises(FileNotFoundError), aside(copy, ("closed/away", "missing"), tmp_path / "place"):
        pass
    assert listing(copy) == before
