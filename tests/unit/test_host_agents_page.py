"""What the page tells people to write into the settings of the programs that start `sandbox mcp`."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from git_sandbox import paths, settings
from git_sandbox.cli.main import cli
from git_sandbox.mcp import consent
from git_sandbox.mcp.catalogue import TOOLS

PAGE = (Path(__file__).parents[2] / "docs/how-to/host-agents.md").read_text("utf-8")
READERS = {"json": json.loads, "toml": tomllib.loads}
BLOCKS = [
    (kind, text) for kind, text in re.findall(r"^```(json|toml)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
]  # fmt: skip


def commands(value: Any) -> Iterator[list[str]]:
    """The command lines in a program's settings."""
    if isinstance(value, dict):
        if "command" in value:
            words = value["command"]
            yield [*(words if isinstance(words, list) else [words]), *value.get("args", [])]
        for inner in value.values():
            yield from commands(inner)


def test_there_is_one_for_each_of_the_usual_programs() -> None:
    names = ("Claude Code", "Claude Desktop", "Codex", "VS Code", "Zed", "Gemini", "OpenCode", "Cursor", "JetBrains")
    assert [name for name in names if name not in PAGE] == []
    assert sum(len(list(commands(READERS[kind](text)))) for kind, text in BLOCKS) == 7


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_it_can_be_read_and_names_a_command_that_exists(kind: str, text: str) -> None:
    found = READERS[kind](text)
    if "mcp_allow" in found:
        paths.config_file().parent.mkdir(parents=True)
        paths.config_file().write_text(text)
        assert settings.resolve()[0].mcp_repositories == ("/home/me/src",)
        assert consent.rules(settings.resolve()[0].mcp_allow)
        return
    ((program, verb, *rest),) = commands(found)
    assert (program, verb) == ("sandbox", "mcp")
    with click.Context(cli) as context:
        command = cli.get_command(context, verb)
        assert command is not None
        assert len(command.make_context(verb, list(rest), parent=context).params["places"]) == len(rest) // 2


def test_every_tool_and_every_gated_setting_is_on_the_page() -> None:
    assert [name for name in (*TOOLS, *consent.GATED, *consent.WORDS) if f"`{name}`" not in PAGE] == []
