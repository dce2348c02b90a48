"""Files that never go in by the user's wish, and the note about those that did and may hold secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox import settings
from git_sandbox.git.repo import discover
from git_sandbox.workspace.secrets import suspicious
from git_sandbox.workspace.survey import CapturePolicy, survey
from support.captured import take
from support.gitrepo import GitRepo

COPIED = "files that were copied in may hold secrets: "


def names(copy: GitRepo) -> set[str]:
    found = (os.fspath(each.relative_to(copy.path)) for each in copy.path.rglob("*") if each.is_file())
    return {name for name in found if ".git/" not in name}


def notes(repo: GitRepo, policy: CapturePolicy | None = None) -> str:
    return "\n".join(survey(discover(repo.path), policy or CapturePolicy()).warnings)


@pytest.fixture
def built(repo: GitRepo) -> GitRepo:
    repo.commit("rules", {".gitignore": "build/\n.env\n", "src/.env.tracked": "tracked\n"})
    for name in (
        ".env",
        ".env.local",
        "build/.env",
        "build/deep/.env.x",
        "build/out",
        "new/.env",
        "new/file",
        "a b.pem",
    ):
        repo.write(name)
    return repo


KEPT = {"README", ".gitignore", "src/.env.tracked"}


def test_patterns_hold_everywhere_but_for_tracked_files(built: GitRepo, tmp_path: Path) -> None:
    copy, captured = take(built, tmp_path / "copy", CapturePolicy(exclude=(".env*", "*.pem")))
    assert names(copy) == KEPT | {"build/out", "new/file"}
    assert captured.skipped == ()
    assert copy.git("status", "--porcelain") == "?? new/"


def test_a_directory_and_an_exception(built: GitRepo, tmp_path: Path) -> None:
    copy, _ = take(built, tmp_path / "copy", CapturePolicy(exclude=("build/", ".env*", "!.env.local")))
    assert names(copy) == KEPT | {".env.local", "new/file", "a b.pem"}


def test_it_is_stronger_than_worktreeinclude(built: GitRepo, tmp_path: Path) -> None:
    built.write(".worktreeinclude", ".env\nbuild/\n")
    copy, _ = take(built, tmp_path / "with", CapturePolicy(ignored="none"))
    assert {".env", "build/.env", "build/out"} <= names(copy)
    copy, _ = take(built, tmp_path / "without", CapturePolicy(ignored="none", exclude=(".env*",)))
    assert names(copy) == KEPT | {".worktreeinclude", "build/out", "new/file", "a b.pem"}


def test_repositories_inside(built: GitRepo, tmp_path: Path) -> None:
    inner = GitRepo.create(built.path / "inner")
    inner.commit("first", {".env": "tracked there\n", "x": "1\n"})
    inner.write(".env.local")
    policy = CapturePolicy(exclude=(".env*",))
    copy, _ = take(built, tmp_path / "copy", policy)
    assert {name for name in names(copy) if name.startswith("inner/")} == {"inner/.env", "inner/x"}
    only = notes(built, CapturePolicy(exclude=("/.env*", "/build", "/new", "*.pem")))
    assert "inner/.env.local" not in only  # each repository reads patterns from its own top
    inner.write("deep/.env.local")
    assert notes(built, CapturePolicy(exclude=("/.env*", "/build", "/new", "*.pem"))).startswith(
        f"{COPIED}inner/deep/.env.local;"
    )


def test_no_patterns_no_change(built: GitRepo, tmp_path: Path) -> None:
    copy, _ = take(built, tmp_path / "copy")
    assert {".env", "build/deep/.env.x", "a b.pem"} <= names(copy)


def test_the_note_names_what_went_in(built: GitRepo) -> None:
    assert notes(built).startswith(f"{COPIED}.env, .env.local, a b.pem, build/.env, build/deep/.env.x and 1 more;")
    assert "tracked" not in notes(built)
    assert notes(built, CapturePolicy(exclude=(".env*",))).startswith(f"{COPIED}a b.pem;")
    assert notes(built, CapturePolicy(exclude=(".env*", "*.pem"))) == ""
    assert notes(built, CapturePolicy(ignored="none")).startswith(f"{COPIED}.env.local, a b.pem;")


def test_a_hostile_name_is_safe_to_print(repo: GitRepo) -> None:
    repo.write("x\x1b[2J\n.pem")
    assert "\x1b" not in notes(repo)
    assert "\n" not in notes(repo)


@pytest.mark.parametrize(
    "name", [".env", "a/.env.local", ".envrc", "k.pem", "id_rsa", ".npmrc", "x.tfvars", "credentials.json"]
)
def test_what_looks_like_a_secret(name: str) -> None:
    assert suspicious(name)


@pytest.mark.parametrize(
    "name", ["env", ".env.example", "id_generator.py", "id_ed25519.pub", "pem", "x.npmrc", "a.env/b"]
)
def test_what_does_not(name: str) -> None:
    assert not suspicious(name)


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.resolve()[0].exclude == ()
    monkeypatch.setenv("SANDBOX_EXCLUDE", ".env*, *.pem")
    assert settings.resolve()[0].exclude == (".env*", "*.pem")
    assert settings.resolve({"exclude": ("secrets/",)})[0].exclude == ("secrets/",)
