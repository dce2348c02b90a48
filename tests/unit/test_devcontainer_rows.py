"""Every row of the tables of docs/reference/devcontainer.md is true: what a property changes, and what it does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from git_sandbox.devcontainer import agreed, features, install, properties
from git_sandbox.devcontainer.commands import EVERY_START, ONCE
from git_sandbox.devcontainer.features import Feature, Metadata, Reference
from git_sandbox.devcontainer.model import Options
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.errors import UsageError
from git_sandbox.projectfile import Consent

BUILD = {"dockerfile": "Dockerfile"}
COMMANDS = {"onCreateCommand": "true", "postStartCommand": "true"}
# By property: what a file has without it, what it has with it, and the fields of a plan that differ then.
CHANGES: Mapping[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "image": ({}, {"image": "ghcr.io/a/b:1"}, {"image"}),
    "build.dockerfile": ({}, {"build": BUILD}, {"build"}),
    "build.context": ({"build": BUILD}, {"build": {**BUILD, "context": ".."}}, {"build"}),
    "build.target": ({"build": BUILD}, {"build": {**BUILD, "target": "dev"}}, {"build"}),
    "build.args": ({"build": BUILD}, {"build": {**BUILD, "args": {"A": "1"}}}, {"build"}),
    "dockerFile": ({}, {"dockerFile": "Dockerfile"}, {"build"}),
    "context": ({"dockerFile": "Dockerfile"}, {"context": ".."}, {"build"}),
    "features": ({}, {"features": {"ghcr.io/x/y:1": {}}}, {"features"}),
    "overrideFeatureInstallOrder": ({}, {"overrideFeatureInstallOrder": ["ghcr.io/x/y"]}, {"override"}),
    "containerUser": ({}, {"containerUser": "dev"}, {"user"}),
    "remoteUser": ({"containerUser": "other"}, {"remoteUser": "dev"}, {"user"}),
    "containerEnv": ({}, {"containerEnv": {"A": "1"}}, {"env"}),
    "remoteEnv": ({}, {"remoteEnv": {"A": None}}, {"env"}),
    "workspaceFolder": ({}, {"workspaceFolder": "/code"}, {"folder", "places"}),
    "workspaceMount": ({}, {"workspaceMount": "type=bind,source=/x,target=/code"}, {"folder", "places"}),
    "mounts": ({}, {"mounts": [{"type": "volume", "target": "/data"}]}, {"places"}),
    "runArgs": ({}, {"runArgs": ["-e", "A=1"]}, {"env"}),
    "forwardPorts": ({}, {"forwardPorts": [3000]}, {"ports"}),
    "appPort": ({}, {"appPort": "8000:8010"}, {"ports"}),
    "waitFor": (COMMANDS, {"waitFor": "onCreateCommand"}, {"wait_for", "stages"}),
    "hostRequirements.cpus": ({}, {"hostRequirements": {"cpus": 4}}, {"cpus"}),
    "hostRequirements.memory": ({}, {"hostRequirements": {"memory": "8gb"}}, {"memory"}),
    "hostRequirements.storage": ({}, {"hostRequirements": {"storage": "32gb"}}, {"storage"}),
    **{name: ({}, {name: "true"}, {"stages"}) for name in (*ONCE, *EVERY_START)},
}  # fmt: skip
# What a machine of one's own has without being told: the plan is the same, and nothing is said.
ANYWAY: Mapping[str, Any] = {
    "name": "x", "init": True, "privileged": True, "capAdd": ["SYS_PTRACE"], "securityOpt": ["seccomp=unconfined"],
    "updateRemoteUserUID": False, "overrideCommand": True,
}  # fmt: skip
IGNORED: Mapping[str, dict[str, Any]] = {
    "$schema": {"$schema": "https://example.com/x"},
    "build.cacheFrom": {"build": {"cacheFrom": ["a", "b"]}},
    "build.options": {"build": {"options": ["--privileged"]}},
    "userEnvProbe": {"userEnvProbe": "loginShell"},
    "shutdownAction": {"shutdownAction": "none"},
    "portsAttributes": {"portsAttributes": {"3000": {"label": "web", "onAutoForward": "openBrowserOnce"}}},
    "otherPortsAttributes": {"otherPortsAttributes": {"onAutoForward": "ignore", "protocol": "https"}},
    "initializeCommand": {"initializeCommand": {"a": "touch /tmp/x", "b": ["touch", "/tmp/y"]}},
    "hostRequirements.gpu": {"hostRequirements": {"gpu": {"cores": 1, "memory": "1gb"}}},
    "secrets": {"secrets": {"TOKEN": {"description": "of x", "documentationUrl": "https://example.com"}}},
    "customizations": {"customizations": {"vscode": {"extensions": ["a.b"], "settings": {"x": [1, {"y": None}]}}}},
}
REFUSED: Mapping[str, Any] = {"dockerComposeFile": "compose.yaml", "service": "app", "runServices": ["db"]}


def plan(root: Path, table: Mapping[str, Any]) -> Plan:
    place = root / ".devcontainer"
    place.mkdir(exist_ok=True)
    (place / "Dockerfile").write_text("FROM scratch\n")
    (place / "devcontainer.json").write_text(json.dumps(table))
    consent = Consent(lambda: root, lambda: root, lambda: "0123")
    return agreed.read(root, ".devcontainer/devcontainer.json", consent).plan({})


def differing(one: Any, other: Any) -> set[str]:
    names = [field.name for field in dataclasses.fields(Plan)]
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def test_no_row_is_left_out() -> None:
    """By state, so that a property that is done otherwise from now on is looked at here."""
    rows = {state: {row.name for row in properties.ROWS if row.state == state} for state in properties.STATES}
    done = rows[properties.UNDERSTOOD] | rows[properties.APPROXIMATED]
    assert done == CHANGES.keys() | ANYWAY.keys()
    assert rows[properties.IGNORED] == IGNORED.keys()
    assert rows[properties.REFUSED] == REFUSED.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_understood_is_in_the_plan_and_nothing_else_changes(tmp_path: Path, name: str) -> None:
    without, table, fields = CHANGES[name]
    before, after = plan(tmp_path, without), plan(tmp_path, without | table)
    assert differing(before, after) == fields
    assert after.notes == ()


@pytest.mark.parametrize("name", ANYWAY)
def test_what_a_machine_has_anyway_changes_nothing(tmp_path: Path, name: str) -> None:
    assert plan(tmp_path, {name: ANYWAY[name]}) == plan(tmp_path, {})


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_ignored_changes_nothing_and_is_said_where_somebody_might_miss_it(tmp_path: Path, name: str) -> None:
    row, made = properties.BY_NAME[name], plan(tmp_path, IGNORED[name])
    assert differing(plan(tmp_path, {}), made) == ({"notes"} if row.reported else set())
    assert made.notes == ((f"{name} does nothing here: {row.text}",) if row.reported else ())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_an_error_with_the_next_step(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="several containers") as caught:
        plan(tmp_path, {name: REFUSED[name]})
    assert "--devcontainer none" in caught.value.hint


# --- of a feature ---

FEATURE_CHANGES: Mapping[str, tuple[Any, str]] = {
    "options": ({"v": {"type": "string", "default": "1"}}, "variables"),
    "containerEnv": ({"A": "1"}, "containerfile"),
    "dependsOn": ({"ghcr.io/x/zz": {}}, "order"),
    "installsAfter": (["ghcr.io/x/zz"], "order"),
    "legacyIds": (["old"], "order"),
    **dict.fromkeys((*ONCE, *EVERY_START), ("true", "commands")),
    "entrypoint": ("/x.sh", "notes"),
    "mounts": ([{"type": "volume", "source": "x", "target": "/x"}], "notes"),
}  # fmt: skip
FEATURE_SILENT: Mapping[str, Any] = {
    "id": "another", "version": "2.0.0", "name": "X", "description": "x", "documentationURL": "https://example.com",
    "licenseURL": "https://example.com", "keywords": ["x"], "deprecated": True, "customizations": {"vscode": {}},
    **{name: value for name, value in ANYWAY.items() if name in ("init", "privileged", "capAdd", "securityOpt")},
}  # fmt: skip


def effects(**table: Any) -> dict[str, object]:
    """Of a feature `aa` that says this, beside `zz`, and `0`, which comes after the one that is also called `old`."""
    metadata = features.metadata(json.dumps({"id": "aa", "version": "1.0.0", **table}).encode(), "aa")
    own = Feature(Reference("ghcr.io/x/aa", "ghcr.io/x/aa"), metadata, "0")
    return {
        "variables": own.environment,
        "containerfile": install.containerfile("scratch", [own]),
        "order": list(names(metadata)),
        "commands": list(install.commands([own])),
        "notes": [note.partition(" of the feature")[0] for note in install.notes([own])],
    }


def names(metadata: Metadata) -> Iterator[str]:
    """In which order they are installed: by their names, but for what they say themselves."""

    def load(reference: Reference) -> tuple[Metadata, str]:
        if reference.name.endswith("/aa"):
            return metadata, "a"
        if reference.name.endswith("/0"):
            return features.metadata(b'{"id": "0", "installsAfter": ["ghcr.io/x/old"]}', "0"), "b"
        return features.metadata(b'{"id": "zz"}', "zz"), "z"

    asked: dict[str, Options] = {"ghcr.io/x/aa": {}, "ghcr.io/x/zz": {}, "ghcr.io/x/0": {}}
    for feature in features.ordered(asked, (), "f", load):
        yield feature.reference.name


def test_no_row_of_a_feature_is_left_out() -> None:
    rows = {row.name for row in properties.FEATURE_ROWS}
    assert rows == FEATURE_CHANGES.keys() | FEATURE_SILENT.keys()
    assert {row.name for row in properties.FEATURE_ROWS if row.reported} == {
        name for name, (_, effect) in FEATURE_CHANGES.items() if effect == "notes"
    }


@pytest.mark.parametrize("name", FEATURE_CHANGES)
def test_what_a_feature_says_has_one_effect(name: str) -> None:
    value, effect = FEATURE_CHANGES[name]
    before, after = effects(), effects(**{name: value})
    assert {key for key in before if before[key] != after[key]} == {effect}


@pytest.mark.parametrize("name", FEATURE_SILENT)
def test_what_a_feature_says_for_others_has_none(name: str) -> None:
    assert effects(**{name: FEATURE_SILENT[name]}) == effects()
