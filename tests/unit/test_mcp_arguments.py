"""What an agent may write into a call, and the command lines of it: the parser that reads these is the oracle."""

from __future__ import annotations

import contextlib
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.cli.main import cli
from git_sandbox.errors import UsageError
from git_sandbox.mcp import arguments, command_lines, consent
from git_sandbox.mcp.catalogue import TOOLS

ODD = ("-x", "--", "--net=nat", "--yes", "=", "a=b", "-", "--json", "é", "{}", "$(id)", "%h", "`x`")
WORDS = st.lists(st.sampled_from(ODD), max_size=3)
IDS = st.sampled_from(["vm-1", "a", "0-0"])
ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ODD
)
STARTS = st.fixed_dictionaries(
    {},
    optional={
        "name": IDS, "origin": IDS, "cpus": st.integers(1, 254), "memory": st.sampled_from(["512M", "4G"]),
        "net": st.sampled_from(["none", "allow", "nat"]), "allow": WORDS, "key": WORDS, "publish": WORDS,
        "packages": WORDS, "mount": WORDS, "image": st.sampled_from(ODD), "ssh_agent": st.booleans(),
        "git_credentials": st.sampled_from(["none", "fetch", "push"]),
        "env": st.dictionaries(st.sampled_from(["A", "_B1"]), st.sampled_from(ODD)),
    },
)  # fmt: skip


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line understands."""
    with click.Context(cli) as context:
        command = cli.get_command(context, words[0])
        assert command is not None
        return dict(command.make_context(words[0], words[1:], parent=context).params)


@given(STARTS, st.lists(ANYTHING, min_size=1, max_size=4), st.booleans())
def test_every_value_of_a_new_sandbox_arrives_as_it_is(given_: dict[str, Any], command: list[str], later: bool) -> None:
    call = arguments.read(arguments.Run, {**given_, "command": command, "background": later})
    found = parsed(command_lines.run(call))
    assert (found["command_line"], found["detach"], found["as_json"]) == (tuple(command), later, True)
    assert (found["on_exit"], found["dirty"], found["agent"], found["places"]) == ("keep", "keep", None, ())
    for name in ("allow", "key", "publish", "packages"):
        assert found[name] == tuple(getattr(call, name))
    for name in ("name", "origin", "memory", "net", "image", "git_credentials"):
        assert found[name] == getattr(call, name)
    assert found["mount"] == tuple(f"{place}:ro" for place in call.mount)
    assert found["env"] == tuple(f"{name}={value}" for name, value in call.env.items())
    assert found["ssh_agent"] == ("yes" if call.ssh_agent else None)
    asked = {name for name, value in found.items() if value not in (None, (), False)}
    others = {"command_line", "detach", "as_json", "on_exit", "dirty", "tty", "cpus", "env", "mount", "ssh_agent"}
    assert asked <= {*given_} | others


@given(STARTS, IDS, ANYTHING.filter(bool), st.booleans())
def test_a_task_arrives_as_it_is_or_is_refused(given_: dict[str, Any], agent: str, task: str, later: bool) -> None:
    """One word for the agent's own program, and never an option of that."""
    called = {**given_, "agent": agent, "task": task, "background": later}
    if task.startswith("-"):
        with pytest.raises(UsageError):
            arguments.read(arguments.Agent, called)
        return
    found = parsed(command_lines.agent(arguments.read(arguments.Agent, called)))
    assert (found["agent"], found["command_line"], found["detach"]) == (agent, (task,), later)
    assert (found["on_exit"], found["dirty"], found["places"], found["allow"]) == (
        "keep", "keep", (), tuple(given_.get("allow", ())),
    )  # fmt: skip


@given(IDS, IDS)
def test_a_copy_and_what_comes_back_is_what_was_named(name: str, copy: str) -> None:
    found = parsed(command_lines.fork(arguments.read(arguments.Fork, {"id": name, "name": copy})))
    assert (found["name"], found["new"]) == (name, copy)
    assert parsed(command_lines.fork(arguments.read(arguments.Fork, {"id": name})))["new"] is None
    call = arguments.read(arguments.One, {"id": name})
    assert parsed(command_lines.restore(call))["names"] == (name,)
    found = parsed(command_lines.recover(call))
    assert (found["name"], found["into"], found["bundle"], found["place"]) == (name, None, None, None)


@given(IDS, st.lists(ANYTHING, min_size=1, max_size=4), st.none() | ANYTHING.filter(bool))
def test_a_command_inside_arrives_as_it_is(name: str, command: list[str], directory: str | None) -> None:
    call = arguments.read(arguments.Exec, {"id": name, "command": command, "directory": directory})
    found = parsed(command_lines.execute(call))
    inside = command if directory is None else ["sh", "-c", command_lines.inside([], "")[2], "sh", directory, *command]
    assert (found["name"], found["command_line"], found["tty"]) == (name, tuple(inside), False)


@given(IDS, WORDS, st.sampled_from(["merge", "base", "start", "uncommitted"]), st.integers(1, 200))
def test_looks_ask_for_what_was_named(name: str, words: list[str], what: str, limit: int) -> None:
    found = parsed(command_lines.diff(arguments.read(arguments.Diff, {"id": name, "paths": words, "what": what})))
    assert (found["name"], found["paths"], found["when"]) == (name, tuple(words), "auto")
    assert sum(found[each] for each in ("from_base", "from_start", "wip")) == (what != "merge")
    found = parsed(command_lines.log(arguments.read(arguments.Log, {"id": name, "limit": limit})))
    assert (found["name"], found["limit"]) == (name, limit)
    found = parsed(command_lines.network(arguments.read(arguments.Network, {"id": name, "allow": words})))
    assert (found["name"], found["allow"], found["follow"]) == (name, tuple(words), False)
    found = parsed(command_lines.compare(arguments.read(arguments.Compare, {"ids": [name, name]})))
    assert found["names"] == (name, name)
    found = parsed(command_lines.drop(arguments.read(arguments.Drop, {"id": name, "force": True})))
    assert (found["names"], found["force"], found["merged"]) == ((name,), True, False)


@pytest.mark.parametrize(
    "refused",
    [
        {"id": "-x"}, {"id": "--all"}, {"id": "vm-1\n"}, {"id": "key-0123456789abcdef/vm-1"}, {"id": "../x"},
        {"id": ""}, {"id": "x" * 41}, {"id": 1}, {"id": None}, {}, {"id": "vm-1", "force": True},
    ],
)  # fmt: skip
def test_what_is_no_sandbox_is_refused(refused: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not a call of this tool"):
        arguments.read(arguments.One, refused)


@pytest.mark.parametrize(
    "refused",
    [
        {"env": {"A": "x\nAWS_SECRET_ACCESS_KEY"}}, {"env": {"A\nB": "x"}}, {"env": {"": "x"}}, {"env": {"A=B": "x"}},
        {"env": ["HOME"]}, {"mount": ["/a\n/etc"]}, {"mount": ["a\0"]}, {"mount": [""]}, {"allow": ["a,b"]},
        {"allow": ["a b"]}, {"allow": ["a\n"]}, {"key": [""]}, {"memory": "2G\n"}, {"memory": "lots"}, {"cpus": 0},
        {"cpus": "1"}, {"net": "wifi"}, {"image": "x\ny"}, {"name": "A"}, {"on_exit": "merge"}, {"setup": "x"},
        {"env_file": ["/etc/passwd"]}, {"devcontainer": "x"}, {"publish": ["1:2,3:4"]}, {"packages": ["a b"]},
    ],
)  # fmt: skip
def test_what_no_setting_may_say_is_refused(refused: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        arguments.read(arguments.Start, refused)


@pytest.mark.parametrize(
    "command", [[], "ls", ["a\0"], ["\udc80"], [1], ["x"] * 1001, ["x" * (128 << 10), "y" * 9], [["x"]]], ids=repr
)
def test_what_is_no_command_is_refused(command: Any) -> None:
    with pytest.raises(UsageError):
        arguments.read(
            arguments.Run, {"command": command if command != ["x" * (128 << 10), "y" * 9] else ["x" * 131073]}
        )
    with pytest.raises(UsageError, match="Mi characters"):
        arguments.read(arguments.Run, {"command": ["x" * (128 << 10)] * 17})


@given(st.dictionaries(st.sampled_from(["id", "command", "env", "repository", "x"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6)))  # fmt: skip
def test_anything_is_a_call_or_refused(given_: dict[str, Any]) -> None:
    for tool in TOOLS.values():
        with contextlib.suppress(UsageError):
            arguments.read(tool.kind, given_)


def test_what_an_agent_reads_of_a_tool_is_plain() -> None:
    """No word that a client's own validator may not know, and every gated setting says that it is asked about."""
    known = {
        "type", "properties", "required", "additionalProperties", "description", "default", "enum", "items", "minimum",
        "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
    }  # fmt: skip
    for tool in TOOLS.values():
        schema = arguments.schema(tool.kind)
        assert (schema["type"], schema["additionalProperties"]) == ("object", False)
        assert {*schema} <= known
        for row in schema["properties"].values():
            assert {*row} <= known
    rows = arguments.schema(arguments.Start)["properties"]
    assert {name for name, row in rows.items() if row.get("description", "").startswith("asks the user: ")} == {
        *consent.GATED
    }
