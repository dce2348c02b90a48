from __future__ import annotations

import dataclasses
from typing import Any

import click

from git_sandbox import paths, settings
from git_sandbox.cli import columns, common, configured, devcontainer_words
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.projectfile import ProjectFile
from git_sandbox.text import one_line, whole


def _hidden(name: str, text: str) -> str:
    """Environment without its values, which may be secrets."""
    if name != "env":
        return text
    lines = (line.partition("=") for line in text.splitlines())
    return " ".join(f"{one_line(name)}=…" if given else one_line(name) for name, given, _ in lines)


def _row(value: settings.Value) -> tuple[str, str, str]:
    asked = whole(_hidden(value.name, value.withheld))
    source = f"{value.source} (the repository asks for {asked}: needs --trust)" if asked else value.source
    return value.name.replace("_", "-"), one_line(_hidden(value.name, value.text)) or '""', whole(source)


def _data(value: settings.Value, devcontainer: devcontainer_words.Shown | None) -> dict[str, Any]:
    """For machines: a setting, and beside that of the devcontainer what it means here."""
    hidden = dataclasses.replace(
        value, text=_hidden(value.name, value.text), withheld=_hidden(value.name, value.withheld)
    )  # fmt: skip
    return dataclasses.asdict(hidden) | ({"file": devcontainer} if value.name == "devcontainer" else {})


@click.command("config")
@click.option(
    "--trust", is_flag=True, help="Trust this repository's project file and devcontainer.json as they are now."
)
@click.option("--distrust", is_flag=True, help="Withdraw that trust.")
@configured.setting_options("devcontainer")
@common.json_option
def command(trust: bool, distrust: bool, as_json: bool, **given: Any) -> Result:
    """Show every setting, its value and where it comes from.

    Set them by options of `spawn` and `run`, by environment variables (SANDBOX_NET=nat), in your configuration file
    (TOML, `net = "nat"`), or for a repository in its project file: `sandbox.toml` at its top, or [tool.sandbox] in its
    pyproject.toml; the first one found wins.

    What its devcontainer.json asks for takes effect only after --trust as well: image, commands, variables, ports.

    A project file comes with the repository. What reaches beyond the guest (network, ports, your ssh agent, variables
    and files of this host, images, merging) takes effect only after --trust, and only until the file or what it names
    (image spec, environment files, setup script, mounted directories) changes. This command shows what changed.

    \b
    Examples:
      sandbox config
      sandbox config --trust
      SANDBOX_MEMORY=4G sandbox config
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    project = configured.project()
    if trust and distrust:
        raise UsageError("--trust and --distrust cannot be used together")
    effective, values = settings.resolve(given, project)  # one that cannot work is named before anybody agrees to it
    if trust or distrust:
        _agree(project, effective.devcontainer, yes=trust)
        effective, values = settings.resolve(given, project)
    table = columns.table(("SETTING", "VALUE", "SOURCE"), [_row(value) for value in values])
    devcontainer = devcontainer_words.look(effective.devcontainer)
    shown = [_data(value, devcontainer) for value in values]
    rows = [f"Configuration file: {one_line(str(paths.config_file()))}", *_project(project)]
    files = "\n".join([*rows, *devcontainer_words.about(devcontainer, effective.devcontainer)])
    return Result("config", shown, text=f"{table}\n\n{files}")


def _agree(project: ProjectFile | None, devcontainer: str, *, yes: bool) -> None:
    """To all that the repository brings along, or no more. Raises UsageError where that is nothing."""
    files = [*([project] if project else []), devcontainer_words.usable(devcontainer, alone=project is None)]
    if files == [None]:
        raise UsageError("this repository has neither a project file nor a devcontainer.json")
    for file in files:
        if file is not None:
            (file.trust if yes else file.distrust)()


def _project(project: ProjectFile | None) -> list[str]:
    """Where it is, whether it is trusted, what it names, and what changed since it was. Safe to print."""
    if project is None:
        return ["Project file: none"]
    where = one_line(str(project.path))
    if project.trusted:
        return [f"Project file: {where} (trusted)", *_named(project)]
    if not project.agreed:
        return [f"Project file: {where} (not trusted: read it, then run `sandbox config --trust`)", *_named(project)]
    changed = [whole(change) for change in project.changes]
    if project.agreed.repository != project.now.repository:
        changed.append("you trusted it in another repository")
    return [
        f"Project file: {where} (changed since you trusted it: read it, then run `sandbox config --trust`)",
        *changed,
    ]


def _named(project: ProjectFile) -> list[str]:
    return [f"  {whole(line)}" for line in project.now.lines if line.startswith("file ")]
