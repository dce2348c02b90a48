"""What is left behind: ignored files, unreadable ones, devices, our own state; and when there is no room."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from git_sandbox.errors import HostResourceError, RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.workspace import filecopy
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.survey import CapturePolicy, survey
from support.captured import differences, take
from support.gitrepo import GitRepo

NONE = CapturePolicy(ignored="none")


def names(copy: GitRepo) -> set[str]:
    return {
        os.fspath(each.relative_to(copy.path))
        for each in copy.path.rglob("*")
        if each.is_file() and not os.fspath(each.relative_to(copy.path)).startswith(".git/")
    }


@pytest.fixture
def built(repo: GitRepo) -> GitRepo:
    repo.commit("rules", {".gitignore": "build/\n*.o\n.env\n", "src/a.c": "a\n"})
    for name in ("build/out/x", "build/out/keep.env", "build/y", "src/a.o", ".env", "new", "only/z.o", "t/x.o", "t/y"):
        repo.write(name)
    repo.git("add", "-f", "t/x.o")
    return repo


def test_ignored_files_come_along_by_default(built: GitRepo, tmp_path: Path) -> None:
    copy, _ = take(built, tmp_path / "copy")
    assert differences(built, copy) == []
    assert ".env" in names(copy)


def test_ignored_none(built: GitRepo, tmp_path: Path) -> None:
    copy, captured = take(built, tmp_path / "copy", NONE)
    assert names(copy) == {"README", ".gitignore", "src/a.c", "new", "t/x.o", "t/y"}
    assert differences(built, copy, ignored=False) == []
    assert captured.skipped == ()  # left behind on request is not skipped
    assert captured.inodes < survey(discover(built.path), CapturePolicy()).inodes


def test_worktreeinclude(built: GitRepo, tmp_path: Path) -> None:
    built.write(".worktreeinclude", ".env\n*.env\nonly/\n")
    copy, _ = take(built, tmp_path / "copy", NONE)
    wanted = {"README", ".gitignore", "src/a.c", "new", "t/x.o", "t/y", ".worktreeinclude"}
    assert names(copy) == wanted | {".env", "build/out/keep.env", "only/z.o"}
    assert (copy.path / "build").stat().st_mtime_ns == (built.path / "build").stat().st_mtime_ns


def test_ignored_none_in_submodules_and_nested_repositories(built: GitRepo, tmp_path: Path) -> None:
    for path in ("nested", "build/nested"):
        nested = GitRepo.create(built.path / path)
        nested.commit("rules", {".gitignore": "*.log\n", "kept": "kept\n"})
        nested.write("a.log")
        nested.write("b.o")  # the outer rules do not reach in here
    copy, _ = take(built, tmp_path / "copy", NONE)
    assert not (copy.path / "build").exists()
    assert {each.name for each in (copy.path / "nested").iterdir()} == {".git", ".gitignore", "kept", "b.o"}


def test_our_own_state_stays_behind_when_home_is_the_worktree(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(repo.path / ".local/state"))
    repo.write(".local/state/git-sandbox/other/vm-1/workspace.ext4", "disk")
    repo.write(".local/state/editor", "kept")
    inside = repo.path / ".local/state/git-sandbox/this/vm-2/staging"
    capture(discover(repo.path), inside, CapturePolicy())
    assert (inside / ".local/state/editor").is_file()
    assert not (inside / ".local/state/git-sandbox").exists()
    elsewhere = repo.path / "inside"
    capture(discover(repo.path), elsewhere, CapturePolicy(leave_out=()))
    assert not (elsewhere / "inside").exists()
    assert (elsewhere / "README").is_file()


_CHILD = """
import json, sys
from pathlib import Path
from git_sandbox.errors import SandboxError
from git_sandbox.workspace.capture import capture
from git_sandbox.git.repo import discover
from git_sandbox.workspace.survey import CapturePolicy
try:
    policy = CapturePolicy(skip_unreadable=sys.argv[3] == "skip")
    captured = capture(discover(Path(sys.argv[1])), Path(sys.argv[2]), policy)
    print(json.dumps({"skipped": captured.skipped}))
except SandboxError as error:
    print(json.dumps({"kind": error.kind, "message": error.message, "hint": error.hint}))
"""


def unprivileged(repo: GitRepo, target: Path, mode: str) -> dict[str, str | list[str]]:
    """In a process that may not read everything: root may, so root gives that up. It stays root, because this checkout
    may be where nobody else can go."""
    wrap = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*wrap, sys.executable, "-c", _CHILD, os.fspath(repo.path), os.fspath(target), mode],
        capture_output=True,
        check=False,
        env=os.environ | {"HOME": os.fspath(target.with_name("home")), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, str | list[str]] = json.loads(done.stdout)
    return answer


def forbid(path: Path) -> None:
    path.chmod(0)


def test_unreadable_files_are_named_before_anything_is_copied(repo: GitRepo, tmp_path: Path) -> None:
    for number in range(7):
        forbid(repo.write(f"secret{number}"))
    forbid(repo.write("closed/inside").parent)
    answer = unprivileged(repo, tmp_path / "copy", "refuse")
    assert answer["kind"] == "repository"
    assert "closed, secret0" in answer["message"]
    assert "and 3 more" in answer["message"]
    assert "--skip-unreadable" in answer["hint"]
    assert not (tmp_path / "copy").exists()


def test_unreadable_files_are_skipped_on_request(repo: GitRepo, tmp_path: Path) -> None:
    forbid(repo.write("deep/secret"))
    forbid(repo.write("closed/inside").parent)
    repo.write("deep/open")
    answer = unprivileged(repo, tmp_path / "copy", "skip")
    assert answer == {"skipped": ["closed", "deep/secret"]}
    assert (tmp_path / "copy/deep/open").is_file()
    assert not (tmp_path / "copy/deep/secret").exists()


def test_unreadable_git_files_are_never_skipped(repo: GitRepo, tmp_path: Path) -> None:
    forbid(next((repo.path / ".git" / "objects").glob("??")))
    answer = unprivileged(repo, tmp_path / "copy", "skip")
    assert answer["kind"] == "repository"
    assert "git directory" in answer["message"]
    assert "chown" in answer["hint"]


def test_devices_are_left_behind_with_a_warning(repo: GitRepo, tmp_path: Path) -> None:
    try:
        os.mknod(repo.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    _, captured = take(repo, tmp_path / "copy")
    assert captured.skipped == ("null",)
    assert "null" in captured.warnings[0]
    assert not os.path.lexists(tmp_path / "copy/null")


def test_too_little_space_is_noticed_before_copying(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with repo.write("huge").open("r+b") as file:
        file.truncate(10 << 20)
        file.seek(0)
        file.write(b"x" * (1 << 20))
    real = os.statvfs(tmp_path)
    full = os.statvfs_result([*real[:4], (8 << 20) // real.f_frsize, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    monkeypatch.setattr(filecopy, "can_reflink", lambda _source, _directory: False)
    with pytest.raises(HostResourceError, match="MiB are free"):
        capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    assert not any((tmp_path / "copy").iterdir())
    monkeypatch.setattr(filecopy, "can_reflink", lambda _source, _directory: True)
    capture(discover(repo.path), tmp_path / "copy", CapturePolicy())


def test_an_occupied_target_is_refused(repo: GitRepo, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "rest").touch()
    with pytest.raises(HostResourceError, match="not empty"):
        capture(discover(repo.path), tmp_path / "copy", CapturePolicy())


_MOUNTS = """
import json, subprocess, sys
from pathlib import Path
from git_sandbox.errors import SandboxError
from git_sandbox.workspace import filecopy
from git_sandbox.workspace.capture import capture
from git_sandbox.git.repo import discover
from git_sandbox.workspace.survey import CapturePolicy, survey
worktree, target, small = map(Path, sys.argv[1:])
for place in (worktree / "mounted", small):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
(worktree / "mounted" / "inside").touch()
answer = {"mounts": survey(discover(worktree), CapturePolicy()).mounts}
capture(discover(worktree), target, CapturePolicy())
answer["copied"] = (target / "mounted" / "inside").is_file()
(target / "large").write_bytes(bytes(2 << 20))
try:
    filecopy.copy(target, small, ["large"], "--sparse=never")
except SandboxError as error:
    answer |= {"kind": error.kind, "message": error.message}
print(json.dumps(answer))
"""


def test_mount_points_are_crossed_and_a_disk_that_fills_up_is_named(repo: GitRepo, tmp_path: Path) -> None:
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host has no user namespaces: nothing can be mounted")
    for path in (repo.path / "mounted", tmp_path / "small"):
        path.mkdir()
    done = subprocess.run(
        [*unshare, sys.executable, "-c", _MOUNTS, *map(os.fspath, (repo.path, tmp_path / "copy", tmp_path / "small"))],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["mounts"] == ["mounted"]
    assert answer["copied"]
    assert answer["kind"] == "host-resource"
    assert "filled up" in answer["message"]


def test_long_lists_go_through_several_processes(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filecopy, "NAMES_PER_PROCESS", 100)
    for number in range(50):
        repo.write(f"file{number}")
    copy, _ = take(repo, tmp_path / "copy")
    assert differences(repo, copy) == []
    with pytest.raises(RepositoryError):
        filecopy._understand(["cp: something new"], tmp_path)
