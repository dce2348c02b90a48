from __future__ import annotations

import dataclasses

import click

from git_sandbox import paths, settings
from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.text import one_line


def _shown(value: settings.Value) -> str:
    """Environment without its values, which may be secrets."""
    if value.name != "env":
        return value.text or '""'
    return " ".join(one_line(line.split("=")[0]) + "=…" for line in value.text.splitlines()) or '""'


@click.command("config")
@common.json_option
def command(as_json: bool) -> Result:
    """Show every setting, its value and where it comes from.

    Set them in the configuration file (TOML, `net = "nat"`), by environment variables (SANDBOX_NET=nat), or by
    options of `spawn` and `run`, the latter winning over the former.

    \b
    Examples:
      sandbox config
      SANDBOX_MEMORY=4G sandbox config
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    _, values = settings.resolve()
    rows = [(value.name.replace("_", "-"), _shown(value), value.source) for value in values]
    table = common.table(("SETTING", "VALUE", "SOURCE"), rows)
    values = [dataclasses.replace(value, text=_shown(value)) if value.name == "env" else value for value in values]
    return Result("config", values, text=f"{table}\n\nConfiguration file: {paths.config_file()}")
