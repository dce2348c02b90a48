"""Capturing in tests, with the two things every capture must leave true: the source untouched, no inode shared."""

from __future__ import annotations

import os
from pathlib import Path

from git_sandbox.git.repo import discover
from git_sandbox.guest.describe import describe
from git_sandbox.sandbox.describe_diff import compare
from git_sandbox.workspace.capture import Captured, capture
from git_sandbox.workspace.survey import CapturePolicy
from support import based
from support.gitrepo import GitRepo

Fingerprint = dict[str, tuple[int, ...]]


def fingerprint(*roots: Path) -> Fingerprint:
    """Everything lstat(2) says about every entry, but access times: reading changes those."""
    found: Fingerprint = {}
    for root in roots:
        for directory, directories, files in os.walk(root):
            for path in map(os.fspath, (Path(directory), *(Path(directory, each) for each in (*directories, *files)))):
                seen = os.lstat(path)
                found[path] = (
                    seen.st_mode, seen.st_ino, seen.st_nlink, seen.st_uid, seen.st_gid, seen.st_size, seen.st_mtime_ns,
                    seen.st_ctime_ns,
                )  # fmt: skip
    return found


def take(source: GitRepo, target: Path, policy: CapturePolicy | None = None) -> tuple[GitRepo, Captured]:
    """Capture, and prove that the source did not change in any way and lent the copy no inode."""
    repo = discover(source.path)
    roots = (source.path, repo.common_dir)
    before = fingerprint(*roots)
    captured = capture(repo, target, policy or CapturePolicy(patience=1))
    assert fingerprint(*roots) == before
    own = {(os.lstat(path).st_dev, os.lstat(path).st_ino) for path in before}
    assert not own & {(os.lstat(path).st_dev, os.lstat(path).st_ino) for path in fingerprint(target)}
    return GitRepo(target), captured


def differences(source: GitRepo, copy: GitRepo, *, ignored: bool = True) -> list[str]:
    return compare(describe(source.path, ignored=ignored), describe(copy.path, ignored=ignored))


# Why a repository is copied whole although there is a base.
OBSTACLES = {
    "a store of git's is a link",
    "a store of git's has links in it",
}  # fmt: skip


def same(source: GitRepo, target: Path) -> GitRepo:
    """Capture, and prove that git and the file system say the same of both; also of what comes through a base."""
    copy, captured = take(source, target)
    assert differences(source, copy) == []
    assert captured.skipped == ()
    assert based.through(source.path, target.with_name(f"{target.name}-based")) in {"", *OBSTACLES}
    return copy
