"""A project file may be anybody's: what works without the user's consent, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import files, paths, projectfile, settings
from git_sandbox.errors import UsageError
from git_sandbox.projectfile import Consent, ProjectFile
from git_sandbox.settings import Value


def remembered(root: Path) -> Consent:
    return Consent(lambda: root, lambda: root)


def project(root: Path, text: str, name: str = "sandbox.toml") -> ProjectFile:
    (root / name).write_text(text)
    found = projectfile.read(root, remembered(root))
    assert found is not None
    return found


def value(found: ProjectFile | None, name: str, given_: dict[str, object] | None = None) -> Value:
    return next(each for each in settings.resolve(given_, found)[1] if each.name == name)


def test_what_the_user_said_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project(tmp_path, 'memory = "4G"\nboot-timeout = 7\nexclude = ["*.iso", "data"]\n')
    assert value(found, "memory") == Value("memory", "4G", str(tmp_path / "sandbox.toml"))
    assert settings.resolve(None, found)[0].exclude == ("*.iso", "data")
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('memory = "1G"\n')
    assert value(found, "memory").text == "1G"
    monkeypatch.setenv("SANDBOX_MEMORY", "512M")
    assert value(found, "memory").text == "512M"
    assert value(found, "memory", {"memory": "3G"}).text == "3G"


FREE = [
    'net = "none"', 'on_exit = "keep"', 'dirty = "keep"', 'ignored = "none"', 'env = ["A=1", "B="]', "cpus = 3",
    'setup = "tool/setup.sh"', 'auto-push = "yes"', 'memory = "1G"',
]  # fmt: skip
HELD = [
    'net = "nat"', 'on_exit = "merge"', 'dirty = "stash"', 'dirty = "discard"', 'ignored = "all"', 'env = ["TOKEN"]',
    'env = ["A=1", "TOKEN"]', 'env = ["A=1\\nTOKEN"]', 'env = "TOKEN"', 'env_file = [".env"]', 'ssh_agent = "yes"',
    'publish = ["8080:80"]', 'image = "image.toml"', 'packages = ["jq"]', 'backend = "qemu"', 'transport = "share"',
    'accelerator = "kvm"', 'setup = "/etc/passwd"', 'setup = "../outside"', 'setup = "~/.profile"',
    'setup = ".git/config"', 'setup = "tool/../.git/config"', 'setup = "link"', 'setup = "folder/hosts"',
    'setup = "missing"', 'setup = "tool"',
    'setup = ".GIT/config"', 'disk = "1000G"',
]  # fmt: skip


def worktree(root: Path) -> Path:
    for name in ("tool/setup.sh", ".git/config", ".GIT/config", "image.toml", ".env", "~/.profile"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("true\n")
    (root.parent / "outside").write_text("true\n")
    (root / "link").symlink_to("tool/setup.sh")
    (root / "folder").symlink_to("/etc")
    return root


@pytest.mark.parametrize("line", FREE)
def test_without_consent_it_may_say(tmp_path: Path, line: str) -> None:
    found = project(worktree(tmp_path), line)
    (name,) = found.values
    seen = value(found, name)
    assert (seen.source, seen.withheld) == (str(found.path), "")


@pytest.mark.parametrize("line", HELD)
def test_without_consent_it_may_not_say(tmp_path: Path, line: str) -> None:
    found = project(worktree(tmp_path), line)
    (name,) = found.values
    seen = value(found, name)
    if line == 'setup = "~/.profile"':  # a directory of the repository that is called `~`, never the user's home
        assert seen.text == str(tmp_path / "~/.profile")
        return
    assert (seen.text, seen.source) == (settings.BY_NAME[name].default, "default")
    assert seen.withheld


def test_every_setting_was_thought_of() -> None:
    """A new one works only with consent until somebody decides otherwise, here and in its row."""
    free = {row.name for row in settings.ROWS if row.free}
    assert free == {
        "transport", "vsock", "cpus", "memory", "net", "on_exit", "dirty", "ignored", "exclude", "auto_push", "env",
        "setup", "workdir", "stop_timeout", "boot_timeout",
    }  # fmt: skip


def test_consent_is_for_one_content_and_one_repository(tmp_path: Path) -> None:
    found = project(tmp_path, 'net = "nat"\nenv_file = ["secrets"]\n')
    assert not found.trusted
    found.trust()
    assert (value(found, "net").text, value(found, "net").withheld) == ("nat", "")
    assert project(tmp_path, '# a comment\nenv-file = ["secrets"]\nnet = "nat"\n').trusted, "it says the same"
    assert not project(tmp_path, 'net = "nat"\nenv_file = ["more"]\n').trusted
    found = project(tmp_path, 'net = "nat"\nenv_file = ["secrets"]\n')
    assert found.trusted
    other = projectfile.read(tmp_path, remembered(tmp_path / "other"))
    assert other is not None
    assert not other.trusted
    found.distrust()
    assert value(found, "net").withheld == "nat"


def test_pyproject(tmp_path: Path) -> None:
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "sandbox"\n')
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "pyproject.toml").write_text("[project\nname = sandbox")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None, "another tool's mistake"
    found = project(tmp_path, '[project]\nname = "x"\n[tool.sandbox]\nmemory = "3G"\n', "pyproject.toml")
    assert value(found, "memory").text == "3G"
    with pytest.raises(UsageError):
        project(tmp_path, "[tool.sandbox]\nmemory = ", "pyproject.toml")
    assert value(project(tmp_path, 'memory = "5G"'), "memory").text == "5G", "sandbox.toml comes first"


def test_links_fifos_and_huge_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('memory = "4G"\n')
    (tmp_path / "sandbox.toml").symlink_to("elsewhere")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "sandbox.toml").unlink()
    os.mkfifo(tmp_path / "sandbox.toml")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "sandbox.toml").unlink()
    with pytest.raises(UsageError):
        project(tmp_path, "#" * (files.WRITTEN + 1))


@pytest.mark.parametrize("text", ["memory = ", 'colour = "red"', '"\\u001b[31m" = 1', "memory = [[]]"])
def test_a_bad_one_is_named_and_shown_safely(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.resolve(None, project(tmp_path, text))
    assert "sandbox.toml" in caught.value.message
    assert "\x1b" not in caught.value.message


@given(st.dictionaries(st.sampled_from(sorted(settings.BY_NAME)), st.text(max_size=9), min_size=1))
def test_nothing_it_says_reaches_beyond_the_guest(values: dict[str, str]) -> None:
    found = ProjectFile(Path("/nowhere/sandbox.toml"), values, "0", remembered(Path("/nowhere")))
    for each in settings.ROWS:
        seen = settings._of_project(each, found) if each.name in values else None
        if seen and each.name in {"env_file", "ssh_agent", "publish", "image", "packages", "backend", "accelerator"}:
            assert seen.text == each.default
        if seen and each.name == "net":
            assert seen.text.strip() == "none"
