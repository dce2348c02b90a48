"""The configuration in a copy: no secret, nothing that works on the host only, and git still reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.survey import CapturePolicy
from support.captured import take
from support.gitrepo import GitRepo

SECRET = "hunter2"  # noqa: S105 - looked for, never used
TRAPS = {
    "remote.origin.url": f"https://user:{SECRET}@host.invalid/a.git",
    "remote.origin.pushurl": f"https://{SECRET}@host.invalid/a.git",
    "credential.helper": f"!echo password={SECRET}",
    "http.extraHeader": f"Authorization: {SECRET}",
    "http.https://host.invalid/.extraHeader": f"AUTHORIZATION: basic {SECRET}",
    "http.cookieFile": f"/{SECRET}",
    "http.proxy": f"http://u:{SECRET}@proxy.invalid",
    f"url.https://u:{SECRET}@host.invalid/.insteadOf": "https://host.invalid/",
    "sendemail.smtpPass": SECRET,
    "core.sshCommand": f"ssh -i /{SECRET}",
    "core.askPass": f"/{SECRET}",
    "include.path": f"/{SECRET}",
    "user.signingKey": SECRET,
}


def contents(directory: Path) -> str:
    files = (each for each in directory.rglob("*") if each.is_file() and each.suffix != ".sample")
    return "".join(each.read_bytes().decode("latin-1") for each in files)


def set_traps(file: Path) -> None:
    with file.open("a") as config:
        config.write(f"# the password is {SECRET}\n")
    for key, value in TRAPS.items():
        assert GitRepo(file.parent).run("config", "--file", os.fspath(file), key, value).returncode == 0


def test_no_secret_in_any_configuration_of_the_copy(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo.create(tmp_path / "library")
    library.commit("library", {"lib": "lib\n"})
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "sub")
    repo.git("clone", "-q", os.fspath(library.path), "nested")
    git_dir = repo.path / ".git"
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.write(".git/remotes/legacy", f"URL: https://u:{SECRET}@host.invalid/a\n")
    repo.write(".git/credentials", f"https://u:{SECRET}@host.invalid\n")
    for file in ("config", "config.worktree", "extra", "modules/sub/config", "../nested/.git/config"):
        set_traps(git_dir / file)
    repo.git("config", "--file", ".git/config", "--add", "include.path", "extra")
    assert SECRET in contents(repo.path)
    copy, captured = take(repo, tmp_path / "copy")
    assert SECRET not in contents(copy.path)
    assert copy.git("config", "remote.origin.url") == "https://host.invalid/a.git"
    assert copy.git("config", "include.path") == "extra"
    assert "credential.helper" in captured.settings_left_out
    assert SECRET not in " ".join([*captured.settings_left_out, *captured.warnings])
    for path in ("", "sub", "nested"):
        GitRepo(copy.path / path).git("status")


def test_what_is_harmless_stays_in_order(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("config", "--add", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    repo.git("config", "--add", "remote.origin.fetch", "+refs/pull/*:refs/pull/*")
    repo.git("config", "alias.hi", "!echo hi")
    repo.git("config", "branch.main.description", 'two\nlines "quoted"')
    (repo.path / ".git" / "config").chmod(0o600)
    before = repo.git("config", "--local", "--list", "-z")
    copy, captured = take(repo, tmp_path / "copy")
    assert copy.git("config", "--local", "--list", "-z") == before
    assert (copy.path / ".git" / "config").stat().st_mode & 0o777 == 0o600
    assert captured.settings_left_out == ()


def test_host_paths_and_the_fsmonitor(repo: GitRepo, tmp_path: Path) -> None:
    for key, value in (
        ("core.fsmonitor", "/host/watch"),
        ("core.hooksPath", "/host/hooks"),
        ("commit.template", os.fspath(repo.path / "template")),
        ("commit.gpgSign", "true"),
    ):
        repo.git("config", key, value)
    repo.write("template", "subject\n")
    copy, captured = take(repo, tmp_path / "copy")
    assert copy.git("config", "core.fsmonitor") == "false"
    assert copy.run("config", "core.hooksPath").returncode == 1
    assert copy.git("config", "commit.template") == "template"
    copy.commit("not signed, and the template is found")
    assert "core.hookspath" in captured.settings_left_out


def test_a_configuration_git_cannot_read_is_an_error_with_its_cause(repo: GitRepo, tmp_path: Path) -> None:
    found = discover(repo.path)
    repo.write(".git/config.worktree", "[broken\n")
    with pytest.raises(RepositoryError) as caught:
        capture(found, tmp_path / "copy", CapturePolicy())
    assert "bad config" in caught.value.cause
