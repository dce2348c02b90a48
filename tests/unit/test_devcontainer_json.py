"""devcontainer.json as text: JSON with comments that anybody may have written, variables, and what the table says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from git_sandbox.devcontainer import discovery, jsonc, model, properties, variables
from git_sandbox.devcontainer.variables import Values
from git_sandbox.errors import UsageError
from support.examples import examples

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
# Pieces of the grammar in any order: most are no JSON, many nearly.
PIECES = st.lists(
    st.sampled_from(
        ['"', "\\", "/", "//", "/*", "*/", ",", "[", "]", "{", "}", ":", "1", '"a"', "null", "\n", " ", "\ufeff"]
    ),
    max_size=14,
).map("".join)


def strict(text: str) -> object:
    return json.loads(text)


@settings_of(max_examples=examples(300), deadline=None)
@given(VALUES, st.sampled_from([None, 2]))
def test_without_comments_it_is_json(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert jsonc.decode(text.encode()) == strict(text)


@settings_of(max_examples=examples(500), deadline=None)
@given(PIECES)
@example('"//"')
@example('["/*", "*/"]')
def test_what_json_reads_is_read_alike_and_nothing_else_gets_out(text: str) -> None:
    try:
        expected = strict(text)
    except ValueError:
        try:
            jsonc.decode(text.encode())
        except ValueError:
            return
        assert re.search(r"//|/\*|,\s*[\]}/]|^\ufeff", text), "only a comment, a comma or a mark makes the difference"
        return
    assert jsonc.decode(text.encode()) == expected


@settings_of(max_examples=examples(200), deadline=None)
@given(VALUES, st.data())
def test_comments_and_trailing_commas_change_nothing(value: object, data: st.DataObject) -> None:
    """Between any two tokens of a text that was made token by token."""

    def between() -> str:
        return data.draw(st.sampled_from(["", " ", "\n", '/* " ] */', "// , }\n", "/**/", "/*//*/"]))

    def written(each: object) -> str:
        if isinstance(each, dict | list):
            pairs = each.items() if isinstance(each, dict) else [(None, inner) for inner in each]
            parts = [
                between()
                + (f"{json.dumps(name)}{between()}:{between()}" if isinstance(each, dict) else "")
                + written(inner)
                for name, inner in pairs
            ]
            last = data.draw(st.sampled_from(["", ","])) if parts else ""
            opened, closed = "{}" if isinstance(each, dict) else "[]"
            return f"{opened}{f'{between()},'.join(parts)}{between()}{last}{between()}{closed}"
        return json.dumps(each)

    assert jsonc.decode((between() + written(value) + between()).encode()) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/* on and on", "unterminated"), ("/*/", "unterminated"),
        ("[" * 60_000, "too deeply"), ('{"a": 1, "a": 2}', "twice"),
        ("[NaN]", "NaN"), ("[" + "9" * 5000 + "]", "too large"), ('["\\u0000"]', "NUL character"),
        ('["\\ud800"]', "surrogate"),
        ("[,]", "line 1 column 2"), ('{\n// a\n"a" "b"}', "line 3"), (" " * (65 << 10), "more than 64 KiB"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        jsonc.decode(text.encode())


@pytest.mark.parametrize("piece", ["/*", '"', ",", "[1, ", "/", "//\n", '"\\', '\\"', "/* */", "[", "{}", ", //\n"])
def test_time_grows_with_the_length(piece: str) -> None:
    """Not with its square: that would be minutes."""
    begun = time.process_time()
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own reason
        jsonc.decode((piece * 65_000)[: 64 << 10].encode())
    assert time.process_time() - begun < 10


def test_the_table_has_every_property_of_the_specification() -> None:
    """Those of devContainer.base.schema.json (containers.dev), written down by hand."""
    rows = """$schema name features overrideFeatureInstallOrder secrets forwardPorts portsAttributes
    otherPortsAttributes updateRemoteUserUID containerEnv containerUser mounts init privileged capAdd
    securityOpt remoteEnv remoteUser initializeCommand onCreateCommand updateContentCommand postCreateCommand
    postStartCommand postAttachCommand waitFor userEnvProbe hostRequirements.cpus hostRequirements.memory
    hostRequirements.storage hostRequirements.gpu customizations appPort runArgs shutdownAction overrideCommand
    workspaceFolder workspaceMount build.dockerfile build.context build.target build.args build.cacheFrom
    build.options dockerFile context image dockerComposeFile service runServices"""
    names = rows.split()
    assert sorted(names) == sorted(properties.BY_NAME)
    table: dict[str, object] = {name: {} for name in names if "." not in name} | {
        "build": dict.fromkeys(["dockerfile", "context", "target", "args", "cacheFrom", "options"]),
        "hostRequirements": dict.fromkeys(["cpus", "memory", "storage", "gpu"]),
    }
    assert model.unknown(table) == []
    assert sorted(model.given(table)) == sorted(names)
    assert model.unknown({"imag": "", "build": {"dockerFile": ""}, "image": ""}) == ["build.dockerFile", "imag"]


def test_the_table_has_every_property_of_a_feature() -> None:
    """Those of devContainerFeature.schema.json (containers.dev), written down by hand."""
    rows = """capAdd containerEnv customizations description documentationURL keywords entrypoint id init installsAfter
    legacyIds dependsOn licenseURL mounts name options privileged securityOpt version deprecated onCreateCommand
    updateContentCommand postCreateCommand postStartCommand postAttachCommand"""
    assert sorted(rows.split()) == sorted(row.name for row in properties.FEATURE_ROWS)
    assert [row.name for row in properties.FEATURE_ROWS if row.reported] == ["entrypoint", "mounts"]


@pytest.mark.parametrize(
    "text", ['{"image": 1}', "[]", '{"mounts": [{}]}', '{"features": [1]}', '{"forwardPorts": {}}',
             '{"remoteEnv": ["A"]}',
             '{"runArgs": [' + "1," * 50 + '"a"]}', '{"capAdd": ' + json.dumps(["x"] * 101) + "}", "not JSON \x1b[2J"],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        model.decode(text.encode(), "a\x1bb/devcontainer.json")
    assert (caught.value.message + caught.value.cause).isprintable()


def test_customizations_are_nobodys_here() -> None:
    file, table = model.decode(json.dumps({"customizations": {"x": list(range(500))}}).encode(), "f")
    assert (file, model.unknown(table)) == (model.Devcontainer(customizations={"x": list(range(500))}), [])


KNOWN = Values("/home/me/my repo", "/workspaces/my_repo", "0a", {"A": "1", "E": ""}, {"P": "/bin"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${localEnv:A}", "1"), ("${env:A}", "1"), ("${localEnv:B}", ""), ("${localEnv:B:x y}", "x y"),
        ("${localEnv:A:x}", "1"), ("${localEnv:E:x}", ""), ("${containerEnv:P}:/opt", "/bin:/opt"),
        ("${containerEnv:Q:/d}", "/d"), ("${localWorkspaceFolder}", "/home/me/my repo"),
        ("${localWorkspaceFolderBasename}", "my repo"), ("${containerWorkspaceFolder}/x", "/workspaces/my_repo/x"),
        ("${containerWorkspaceFolderBasename}", "my_repo"), ("v-${devcontainerId}", "v-0a"),
        ("$HOME ${HOME} ${x:-y} $$ ${localEnv} ${localWorkspaceFolder:x}",) * 2,
        ("${localEnv:${localEnv:A}}", "${localEnv:1}"),
    ],
)  # fmt: skip
def test_variables(text: str, expected: str) -> None:
    assert KNOWN.replaced(text) == expected


def test_what_the_guest_has_is_left_until_it_is_known() -> None:
    early = Values("/a", "/b", local={"A": "${containerEnv:P}"})
    assert early.replaced("${containerEnv:P:x} ${localEnv:A}") == "${containerEnv:P:x} ${containerEnv:P}"
    with pytest.raises(ValueError, match="too long"):
        Values("/" + "a" * 4000, "").replaced("${localWorkspaceFolder}" * 20)


@settings_of(max_examples=examples(200), deadline=None)
@given(st.text("${}:localEnvcontainerWF AB\n\x1b", max_size=60))
def test_no_variable_is_read_that_consent_does_not_name(text: str) -> None:
    class Watched(dict[str, str]):
        def get(self, name: str, otherwise: str = "") -> str:  # type: ignore[override]
            asked.add(name)
            return otherwise

    asked: set[str] = set()
    Values("/a", "/b", local=Watched()).replaced(text)
    assert asked == variables.local_names({"x": [text]}) == variables.local_names({text: {}})


def test_an_id_is_of_one_file_of_one_repository() -> None:
    ids = {variables.identity(*each) for each in (("r", "a"), ("r", "b"), ("s", "a"))}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-v]{52}", each) for each in ids)


def test_where_a_repository_has_its_file(tmp_path: Path) -> None:
    assert discovery.places(tmp_path) == []
    for name in ("b", "a", "linked", "empty"):
        (tmp_path / ".devcontainer" / name).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / ".devcontainer" / name / "devcontainer.json").write_text("{}")
    (tmp_path / ".devcontainer/linked/devcontainer.json").symlink_to("../a/devcontainer.json")
    both = [".devcontainer/a/devcontainer.json", ".devcontainer/b/devcontainer.json"]
    assert discovery.places(tmp_path) == both
    (tmp_path / ".devcontainer.json").write_text("{}")
    assert discovery.places(tmp_path) == [".devcontainer.json"]
    (tmp_path / ".devcontainer/devcontainer.json").write_text("{}")
    assert discovery.places(tmp_path) == [".devcontainer/devcontainer.json"]
    assert discovery.named(tmp_path, ".devcontainer/a") == both[0]
    assert discovery.named(tmp_path, str(tmp_path / both[1])) == both[1]
    outside = tmp_path.parent / "devcontainer.json"
    outside.write_text("{}")
    for name in ("../devcontainer.json", str(outside), ".devcontainer/empty", "none", "~nobody-at-all/x", "a\0b"):
        with pytest.raises(UsageError, match="no devcontainer file"):
            discovery.named(tmp_path, name)


def test_a_folder_behind_a_link_has_none(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/devcontainer.json").write_text("{}")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/.devcontainer").symlink_to("../elsewhere")
    assert discovery.places(tmp_path / "repo") == []
