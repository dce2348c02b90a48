"""A merge is judged by its result: links of the tree followed, and by what the user's own git would run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from git_sandbox.integrate import content, obeyed
from git_sandbox.integrate.plan import plan
from support.examples import examples
from support.gitrepo import GitRepo
from support.sandboxed import Trip


def risky(trip: Trip) -> dict[str, str]:
    return {risk.path: risk.reason for risk in plan(trip.repo, trip.base, trip.request()).risky}


def after(repo: GitRepo, files: dict[str, str], links: dict[str, str] | None = None) -> dict[str, str]:
    """What is risky in a sandbox's commit that writes these."""
    trip = Trip.spawn(repo)
    for name, text in files.items():
        trip.guest.write(name, text, mode=0o755)
    for name, target in (links or {}).items():
        place = trip.guest.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
    trip.guest.git("-c", "core.hooksPath=/dev/null", "add", "-A")
    trip.guest.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "agent")
    return risky(trip)


# --- what the user's git would run ------------------------------------------------------------------------------------

TOOL = "tools/run"  # what each of these leads to
LEADS = {
    "included": ("config", "[include]\n\tpath = inc\n", "inc", "[core]\n\thooksPath = tools\n"),
    "condition": ("config", '[includeIf "onbranch:other"]\n\tpath = inc\n', "inc", "[core]\n\thooksPath = tools\n"),
    "filter": ("config", '[filter "x"]\n\tclean = ./tools/run --now\n', "", ""),
    "merge driver": ("config", '[merge "x"]\n\tdriver = sh tools/run %A %O %B\n', "", ""),
    "diff driver": ("config", '[diff "x"]\n\ttextconv = "sh -c tools/run"\n', "", ""),
    "alias": ("config", "[alias]\n\tx = !$PWD/tools/run\n", "", ""),
    "credential helper": ("config", "[credential]\n\thelper = !tools/run\n", "", ""),
    "fsmonitor": ("config", "[core]\n\tfsmonitor = tools/run\n", "", ""),
    "editor": ("config", "[core]\n\teditor = tools/run\n", "", ""),
    "uploadpack": ("config", '[remote "x"]\n\tuploadpack = tools/run\n', "", ""),
    "template": ("config", "[init]\n\ttemplateDir = tools\n", "", ""),
    "include": ("config", "[include]\n\tpath = ../tools/run\n", "", ""),
    "hook": ("hooks/pre-commit", '#!/bin/sh\nexec "$(git rev-parse --show-toplevel)"/tools/run "$@"\n', "", ""),
}


@pytest.mark.parametrize("case", LEADS.values(), ids=LEADS.keys())
def test_what_the_users_configuration_and_hooks_name(repo: GitRepo, case: tuple[str, str, str, str]) -> None:
    for name, text in (case[:2], case[2:]):
        if name:
            place = repo.path / ".git" / name
            place.parent.mkdir(exist_ok=True)
            with place.open("a") as out:
                out.write(text)
    found = after(repo, {TOOL: "echo\n", "other/run": "echo\n"})
    assert list(found) == [TOOL]


def test_a_file_that_a_hook_links_to_through_the_tree(repo: GitRepo) -> None:
    repo.write("scripts/check", "echo\n")
    (repo.path / "entry").symlink_to("scripts/check")
    repo.git("add", "-A")
    repo.commit("tools")
    hook = repo.path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to("../../entry")
    assert list(after(repo, {"scripts/check": "evil\n", "scripts/other": "1\n"})) == ["scripts/check"]


def test_variables_and_links_of_the_home(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    home = repo.path.parent / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".bashrc").symlink_to(repo.path / "shell/bashrc")
    (home / ".config/tool").symlink_to(repo.path / "tool")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_EDITOR", f"{repo.path}/edit/me --wait")
    monkeypatch.setenv("PATH", f"{repo.path}/bin:{os.environ['PATH']}")
    repo.git("config", "user.name", "x")
    repo.git("config", "user.email", "x@x")
    found = after(repo, {"shell/bashrc": "1", "tool/conf": "1", "edit/me": "1", "bin/ls": "1", "src/x": "1"})
    assert set(found) == {"shell/bashrc", "tool/conf", "edit/me", "bin/ls"}


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("GIT_CONFIG_GLOBAL", "conf/git", "conf/git"), ("KUBECONFIG", "deploy/kube", "deploy/kube"),
        ("AWS_CONFIG_FILE", "deploy/aws", "deploy/aws"), ("PYTHONPATH", "lib", "lib/json.py"),
        ("LD_LIBRARY_PATH", "lib/native", "lib/native/libc.so.6"), ("ZDOTDIR", "shell", "shell/rc"),
        ("INPUTRC", "conf/input", "conf/input"), ("OLDPWD", "src", ""), ("TERMINFO_DIRS", "src", ""),
    ],
)  # fmt: skip
def test_files_and_places_that_variables_name(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: str
) -> None:
    for directory in ("lib/native", "shell", "src"):
        repo.write(f"{directory}/keep", "1")
    repo.write("conf/git", "[user]\n\tname = x\n\temail = x@x\n")
    repo.git("add", "-A")
    repo.commit("places")
    place = f"{repo.path}/{value}"
    monkeypatch.setenv(name, f"/usr/share:{place}" if value in ("lib", "lib/native") else place)
    changed = {"src/x.py": "1", "lib/json.py": "1", "lib/native/libc.so.6": "1", "shell/rc": "1", "deploy/kube": "1",
               "deploy/aws": "1", "conf/input": "1", "conf/git": "[user]\n\tname = y\n"}  # fmt: skip
    expected = {path} if path else set()
    if name == "PYTHONPATH":
        expected |= {"lib/native/libc.so.6"}
    assert set(after(repo, changed)) == expected


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_are_followed_to_their_end(repo: GitRepo) -> None:
    repo.write("hooks/pre-commit", "1")
    (repo.path / "etc").symlink_to("deep/up")
    repo.commit("more")
    repo.git("config", "core.hooksPath", "hooks")
    (repo.path / ".git/info/exclude").write_text("mine\n")
    (repo.path / "mine").symlink_to("/usr")
    found = after(
        repo,
        {"deep/x": "1"},
        {
            "a": "b/c", "b": "d", "d/c": "../e", "e": "../out", "inside": "deep/x", "loop": "loop",
            "g": "deep/../.GIT/x", "h": "hooks/pre-commit", "deep/up": "..", "m": "mine/bin",
            "abs": str(repo.path / "deep/x"),
        },
    )  # fmt: skip
    assert set(found) == {"a", "d/c", "e", "loop", "g", "h", "m", "hooks/pre-commit"}


def test_a_file_under_another_name(repo: GitRepo) -> None:
    (repo.path / "CLAUDE.md").symlink_to("docs/guide.md")
    (repo.path / ".vscode").symlink_to("editor")
    (repo.path / "gradle").symlink_to("g")
    repo.write("docs/guide.md", "1")
    repo.git("add", "-A")
    repo.commit("links")
    found = after(repo, {"docs/guide.md": "2", "editor/tasks.json": "1", "g/wrapper/x.jar": "1", "docs/other.md": "1"})
    assert set(found) == {"docs/guide.md", "editor/tasks.json", "g/wrapper/x.jar"}
    assert "is also CLAUDE.md" in found["docs/guide.md"]


# --- by name and by content -------------------------------------------------------------------------------------------


REPORTED = (
    ".devcontainer.json", ".cargo/config.toml", ".helix/config.toml", ".mvn/extensions.xml", ".yarnrc", ".rvmrc",
    ".lvimrc", ".local.vimrc", "CLAUDE.md", "AGENTS.md", ".cursorrules", "opencode.json", ".aider.conf.yml",
    ".overcommit.yml", ".env", ".bazelrc", "bunfig.toml", ".Rprofile", ".pdbrc", ".irbrc", ".iex.exs", "ansible.cfg",
    "sitecustomize.py", "sub/GEMINI.md", ".github/copilot-instructions.md", "setup.py", "tailwind.config.ts",
    "web/vitest.config.mjs", "rust-toolchain", "rust-toolchain.toml", "hie.yaml", "build.gradle.kts",
    "project/plugins.sbt", "mix.exs", "Gemfile", "Directory.Build.props", "NuGet.Config", "pylintrc",
    "flake.nix", "shell.nix", "devbox.json",
)  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_what_was_reported_is_named(name: str) -> None:
    assert obeyed.runs_by_itself(name.encode())


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12))
@example("x")
def test_every_dot_file_counts_but_the_harmless(name: str) -> None:
    assert obeyed.runs_by_itself(f"a/.{name}/b".encode()) or f".{name}" in obeyed.HARMLESS


@pytest.mark.parametrize(
    "name",
    [
        "Makefile",
        "src/main.py",
        "tests/conftest.py",
        "docs/.gitkeep",
        "README.md",
        "head",
        "app.config",
        "CMakeLists.txt",
        "src/config.ts",
    ],
)
def test_what_only_its_user_runs_does_not(name: str) -> None:
    assert obeyed.runs_by_itself(name.encode()) is None


def test_every_rule_has_a_reason_and_a_source() -> None:
    assert all(rule.why and rule.source for rule in obeyed.RULES)


@pytest.mark.parametrize(
    ("name", "before", "after", "counts"),
    [
        ("package.json", b'{"version": "1"}', b'{"version": "2", "scripts": {"test": "x"}}', False),
        ("package.json", b"", b'{"scripts": {"postinstall": "x"}}', True),
        ("package.json", b"", b"[" * 50_000, True),
        ("package.json", b"", None, True),
        ("a/pyproject.toml", b"[project]\nname='x'", b"[project]\nname='y'\n[tool.ruff]\n", False),
        ("pyproject.toml", b"", b"[tool.sandbox]\nnet='nat'", True),
        ("pyproject.toml", b"", b"[build-system]\nrequires=['evil']", True),
        ("pyproject.toml", b"", b"[tool.mypy]\nplugins=['./evil.py']", True),
        ("pyproject.toml", b"", b"[tool.pylint.main]\ninit-hook='evil'", True),
        ("pyproject.toml", b"", b"[tool.mypy]\nstrict=true", False),
        ("pyproject.toml", b"", b"tool.mypy = 3", True),
        ("Cargo.toml", b"[package]\nname='x'", b"[package]\nname='x'\nversion='2'\n[dependencies]\na='1'", False),
        ("Cargo.toml", b"[package]\nname='x'", b"[package]\nname='x'\nbuild='tools/x.rs'", True),
        ("sub/Cargo.toml", b"", b"[lib]\nproc-macro=true", True),
        ("Cargo.toml", b"", b"[patch.crates-io]\nserde={path='evil'}", True),
        ("Cargo.toml", b"", b"package = 3", True),
        ("pyproject.toml", b"", b"x = 0x" + b"f" * 5000, False),
        ("pyproject.toml", b"", b"x = " + b"9" * 5000, True),
    ],
)
def test_what_is_judged_by_its_content(name: str, before: bytes, after: bytes | None, counts: bool) -> None:
    assert content.judged(name.encode())
    assert bool(content.risk(name.encode(), before, after)) is counts


# --- the property: real git says what it runs -------------------------------------------------------------------------

DIRECTORIES = ("hooks", "tools", "tools/git", "lib")
HOOK = "pre-commit"
SCRIPT = '#!/bin/sh\nreadlink -f "$0" >>"$RAN"\n'


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    configured=st.sampled_from(["", *DIRECTORIES, "link", "link/git", "./lib/../hooks"]),
    how=st.sampled_from(["config", "include", "absolute", "onbranch"]),
    link=st.sampled_from(DIRECTORIES),
    hook=st.sampled_from(["", "script", *DIRECTORIES]),
    written=st.sets(st.sampled_from(DIRECTORIES), min_size=1),
    relinked=st.booleans(),
)
def test_whatever_git_runs_after_the_merge_was_named(
    *, configured: str, how: str, link: str, hook: str, written: set[str], relinked: bool
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        repo = GitRepo.create(Path(place).resolve() / "repo")
        repo.commit("start", {"lib/x": "1"})
        _configure(repo, configured, how)
        _own_hook(repo, hook)
        trip = Trip.spawn(repo)
        for name in written:
            trip.guest.write(f"{name}/{HOOK}", SCRIPT, mode=0o755)
        (trip.guest.path / "link").symlink_to(link)
        if relinked:
            (trip.guest.path / "lib/linked").symlink_to(f"../{min(written)}/{HOOK}")
        trip.guest.git("-c", "core.hooksPath=/dev/null", "add", "-A")
        trip.guest.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "agent")
        named = set(risky(trip))
        trip.merge()
        ran = Path(place).resolve() / "ran"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAN", str(ran))
            repo.run("commit", "-q", "--allow-empty", "-m", "mine")
        executed = set(ran.read_text().splitlines()) if ran.exists() else set()
        tracked = {each for each in executed if each.startswith(f"{repo.path}/") and "/.git/" not in each}
        assert {os.path.relpath(each, repo.path) for each in tracked} <= named


def _configure(repo: GitRepo, configured: str, how: str) -> None:
    if not configured:
        return
    value = str(repo.path / configured) if how == "absolute" else configured
    if how in ("config", "absolute"):
        repo.git("config", "core.hooksPath", value)
        return
    (repo.path / ".git/inc").write_text(f"[core]\n\thooksPath = {value}\n")
    condition = (
        "include.path" if how == "include" else f"includeIf.onbranch:{repo.git('branch', '--show-current')}.path"
    )
    repo.git("config", condition, "inc")


def _own_hook(repo: GitRepo, hook: str) -> None:
    place = repo.path / ".git/hooks" / HOOK
    place.parent.mkdir(exist_ok=True)
    if hook == "script":
        place.write_text(f"#!/bin/sh\n[ ! -x tools/{HOOK} ] || exec ./tools/{HOOK}\n")
        place.chmod(0o755)
    elif hook:
        place.symlink_to(f"../../{hook}/{HOOK}")
