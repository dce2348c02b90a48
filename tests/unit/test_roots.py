"""A root that is not ours: what it is filled up with, what it may not have, how our programs are found there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from git_sandbox.guest import protocol, roots, tooling
from git_sandbox.guest.common import BIN, HERE, OWN, TOOLS


def tree(place: Path) -> list[tuple[str, int, str]]:
    return sorted(
        (
            os.fspath(each.relative_to(place)),
            each.lstat().st_mode,
            os.fspath(each.readlink()) if each.is_symlink() else "",
        )
        for each in place.rglob("*")
    )


def test_what_an_image_lacks_is_the_same_in_every_boot(tmp_path: Path) -> None:
    """The search for changes compares with it."""
    tools = tmp_path / "tools"
    (tools / roots.BUNDLE).parent.mkdir(parents=True)
    (tools / roots.BUNDLE).write_text("authorities")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        roots.fill(tmp_path / name, tools, list(roots.LINKED))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    one = tmp_path / "one"
    assert {each: (one / each).stat().st_mode & 0o7777 for each, _ in roots.DIRECTORIES} == dict(roots.DIRECTORIES)
    assert (one / "bin/sh").readlink() == TOOLS / "bin/busybox"
    assert (one / roots.BUNDLE).read_text() == "authorities"
    (tmp_path / "three").mkdir()
    roots.fill(tmp_path / "three", tools, [])
    assert not (tmp_path / "three/bin").exists(), "an image's own shell stays the first on the PATH"


def test_a_mount_point_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    roots.require_directories(tmp_path)
    (tmp_path / "proc").mkdir()
    roots.require_directories(tmp_path)
    (tmp_path / "dev").symlink_to("/")
    with pytest.raises(NotADirectoryError, match="/dev"):
        roots.require_directories(tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root changes its root; the VM tests do")
def test_in_another_root_nothing_of_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('/imported', 'w')")
    (tmp_path / "here").write_text("x")

    def task() -> list[str]:
        import evil  # type: ignore[import-not-found]

        return [evil.__name__]

    assert roots.in_root(tmp_path, lambda: sorted(each.name for each in Path("/").iterdir())) == ["evil.py", "here"]
    sys.path.insert(0, "/")
    try:
        with pytest.raises(OSError, match="ModuleNotFoundError"):
            roots.in_root(tmp_path, task)
    finally:
        sys.path.remove("/")
    assert not (tmp_path / "imported").exists()
    with pytest.raises(OSError, match="gone"):
        roots.in_root(tmp_path, lambda: Path("/gone").read_text())


def test_the_loader_is_the_one_that_our_programs_name() -> None:
    assert tooling.found_loader(Path(sys.executable).resolve()).startswith("/lib")
    with pytest.raises(OSError, match="names no loader"):
        tooling.found_loader(Path(__file__))


def test_git_finds_its_own_programs(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.mkdir()
    (core / "git").write_bytes(b"\x7fELF...")
    (core / "git-add").symlink_to("git")
    (core / "git-submodule").write_text("#!/bin/sh\n")
    (core / "mergetools").mkdir()
    tooling.offer_git(core, tmp_path / "offered")
    made = {each.name: os.fspath(each.readlink()) for each in (tmp_path / "offered").iterdir()}
    scripts = {name: f"{TOOLS}/usr/lib/git-core/{name}" for name in ("git-submodule", "mergetools")}
    assert made == {"git": str(tooling.RUN), "git-add": str(tooling.RUN)} | scripts


@pytest.mark.parametrize("path", ["/opt/x:/bin", "/it's:/bin"])
def test_a_login_shell_that_loses_the_path_gets_it_back(path: str) -> None:
    script = tooling.profile(path) + 'printf %s "$PATH"'
    for before, after in (("/usr/bin", path), (f"/a:{BIN}", f"/a:{BIN}")):
        done = subprocess.run(
            ["/bin/sh", "-c", script], env={"PATH": before}, capture_output=True, text=True, check=True
        )
        assert done.stdout == after


def test_places_are_below_ours() -> None:
    assert {TOOLS.parent, OWN.parent, BIN.parent} == {HERE}
    assert protocol.SYSTEM > 2
