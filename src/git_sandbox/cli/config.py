from __future__ import annotations

import click

from git_sandbox import paths, settings
from git_sandbox.cli import common
from git_sandbox.cli.result import Result


@click.command("config")
@common.json_option
def command(as_json: bool) -> Result:
    """Show every setting, its value and where it comes from.

    Set them in the configuration file (TOML, `net = "nat"`), by environment variables (SANDBOX_NET=nat), or by
    options of `spawn` and `run`, the latter winning over the former.
    """
    del as_json
    _, values = settings.resolve()
    rows = [(value.name.replace("_", "-"), value.text or '""', value.source) for value in values]
    table = common.table(("SETTING", "VALUE", "SOURCE"), rows)
    return Result("config", values, text=f"{table}\n\nConfiguration file: {paths.config_file()}")
