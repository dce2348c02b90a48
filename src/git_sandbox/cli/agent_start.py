"""Before an agent starts: its manifest, the user's consent, and the settings, command and files that result."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from git_sandbox import network, settings, transports
from git_sandbox.agents import agreed, catalogue
from git_sandbox.agents.catalogue import Agent
from git_sandbox.agents.hostfiles import Chosen
from git_sandbox.cli import agent_words, common, printer
from git_sandbox.errors import UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.image import spec
from git_sandbox.image.guestfiles import UserFile
from git_sandbox.sandbox.options import Options
from git_sandbox.settings import Settings, Value
from git_sandbox.text import one_line


def options(
    repo: Repository, name: str, given: Options, values: list[Value], *, headless: bool, here: bool = True
) -> Options:
    """What `given` becomes with the agent `name`; its command has the arguments. Interactive, it has a terminal that
    outlives ours, wherever there is one. `here`: on this host, where its keys are.

    Raises UsageError without the user's consent, or where it cannot run in that way.
    """
    agent = catalogue.find(name, repo.worktree)
    manifest, arguments = agent.manifest, given.command or ()
    if headless and not manifest.command.headless:
        raise UsageError(f"the agent `{name}` has no command for a single task", hint=f"`sandbox agent {name}`")
    if not (headless or given.detached or given.tty or arguments):
        hint = f"give it a task, `sandbox run --agent {name} -- TASK`, or use --detach"
        raise UsageError(f"the agent `{name}` needs a terminal", hint=hint)
    chosen = agent_words.chosen(agent)
    _ask(agent, identity(agent, repo), chosen)
    settings = _networked(agent, _settings(agent, given.settings, values), values)
    keys = _keys(agent, settings, here=here)
    words = manifest.command.headless if headless else manifest.command.interactive
    files = [UserFile(f"~/{file.path}", file.content, file.mode) for file in chosen.files]
    files += [
        UserFile(file.path, file.content.encode(), 0o755 if file.executable else 0o644) for file in manifest.files
    ]
    terminal = given.terminal if headless else given.detached or given.tty
    return dataclasses.replace(
        given, settings=settings, keys=keys, command=(*words, *arguments), agent=name,
        files=tuple(files), terminal=terminal, detached=given.detached or terminal,
    )  # fmt: skip


def identity(agent: Agent, repo: Repository | None) -> str:
    """Of the repository whose manifest it is: agreeing to one says nothing about another's. Empty for other origins."""
    if agent.origin != catalogue.REPOSITORY or repo is None:
        return ""
    from git_sandbox import registry

    consent = registry.consent(repo)
    consent.claim()  # the repository may have its identity only now
    return consent.identity()


def show(agent: Agent, repository: str, chosen: Chosen) -> None:
    """What it would do, on standard error: also where nobody is asked, it stands in the log of whoever agreed."""
    different = agent_words.changes(agent, repository)
    if different:
        printer.line("It changed since you agreed to it:")
        for line in different:
            printer.line(f"  {line}")
    for line in agent_words.about(agent, chosen):
        printer.line(line)


def _ask(agent: Agent, repository: str, chosen: Chosen) -> None:
    """Once for each content of a manifest. No terminal never means yes."""
    if agreed.given(agent, repository):
        return
    show(agent, repository, chosen)
    if not common.interactive():
        raise UsageError(
            f"you have not agreed to what the agent `{agent.name}` asks for", hint=f"`sandbox agent trust {agent.name}`"
        )
    printer.confirm(f"Start {agent.name} with this access?")
    agreed.give(agent, repository)


def _networked(agent: Agent, settings: Settings, values: list[Value]) -> Settings:
    """It reaches what its manifest names and what the user allows, unless he says how its network is."""
    manifest = agent.manifest
    if not manifest.allow:
        return settings
    if settings.net == network.NONE and any(value.name == "net" and value.source == "default" for value in values):
        settings = dataclasses.replace(settings, net=network.ALLOW)
    if settings.net == network.NONE:
        _note(f"{agent.name} has no network: `net = none` is set")
    if settings.net != network.ALLOW:
        return settings
    return dataclasses.replace(settings, allow=tuple(dict.fromkeys((*manifest.allow, *settings.allow))))


def _keys(agent: Agent, effective: Settings, *, here: bool) -> dict[str, dict[str, object]]:
    """Those of its keys that this host has; none for another machine: they stay."""
    declared = agent.manifest.credentials
    if not declared or effective.net == network.NONE:
        return {}
    if not here:
        _note(
            f"{agent.name} gets no key: keys stay on this host; `--env NAME` passes a variable, which the guest reads"
        )
        return {}
    if effective.net != network.ALLOW:
        _note(f"{agent.name} gets no key: keys work with `--net allow` only")
        return {}
    environment = settings.environment()
    there = {
        name: credential
        for name, credential in declared.items()
        if not credential.env or environment.get(credential.env)
    }
    there = {name: credential for name, credential in there.items() if not credential.file or _is_file(credential.file)}
    if not there:
        wants = ", ".join(filter(None, (credential.env or credential.file for credential in declared.values())))
        _note(f"{agent.name} has no key: this host has none of {one_line(wants)}")
    return {name: credential.table for name, credential in there.items()}


def _is_file(path: str) -> bool:
    """False also where a directory above is locked: pathlib raises there."""
    return os.path.isfile(os.path.expanduser(path))  # noqa: PTH111, PTH113 - see above


def _note(text: str) -> None:
    printer.line(click.style(f"note: {text}", fg="yellow"))


def _settings(agent: Agent, effective: Settings, values: list[Value]) -> Settings:
    """With the agent's image, variables and resources; what the user says himself comes first."""
    manifest = agent.manifest
    default = {value.name for value in values if value.source == "default"}
    hints = {"memory": manifest.resources.memory, "cpus": manifest.resources.cpus}
    parsed = {
        name: settings.parsed(name, text, f"the manifest of {agent.name}")
        for name, text in hints.items()
        if text and name in default
    }
    env = (*(f"{name}={value}" for name, value in manifest.env.items()), *effective.env)
    effective = dataclasses.replace(effective, env=env, **parsed)
    if not manifest.install:
        return effective
    if transports.named(effective.image):
        _note(f"{agent.name} installs itself in the default image; {one_line(effective.image)} is not used")
    try:
        image = manifest.install.added_to(spec.asked(effective)).toml.encode()
    except ValueError as error:
        raise UsageError(f"cannot add everything to the image that {agent.name} installs", cause=str(error)) from error
    place = str(Path(f"{agent.path}.image"))  # no file: its content goes with it
    return dataclasses.replace(effective, image=place, packages=(), contents={**effective.contents, place: image})
