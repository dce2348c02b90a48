"""The label `devcontainer.metadata` of a prebuilt image, which configures devcontainers made from it.

Only what stays in the guest counts: user, variables and commands. Nobody has agreed to it, so it reads no variable of
this host, and ports, mounts and requirements of it are left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from git_sandbox.devcontainer import jsonc
from git_sandbox.devcontainer.commands import EVERY_START, ONCE, attribute
from git_sandbox.devcontainer.model import Command
from git_sandbox.devcontainer.plan import USER, Plan, one_variable
from git_sandbox.devcontainer.variables import Values

NAME = "devcontainer.metadata"
MAX_SNIPPETS = 100


class Snippet(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a devcontainer.json, or of a feature's description."""

    remote_user: str = ""
    container_user: str = ""
    container_env: dict[str, str] = {}
    remote_env: dict[str, str | None] = {}
    on_create_command: Command = ()
    update_content_command: Command = ()
    post_create_command: Command = ()
    post_start_command: Command = ()
    post_attach_command: Command = ()
    wait_for: str = ""


def read(label: str) -> tuple[Snippet, ...]:
    """In the order in which they count, the last most; nothing of a label that is none."""
    with contextlib.suppress(ValueError, RecursionError):
        content = jsonc.decode(label.encode("utf-8", "surrogatepass"))
        rows = content if isinstance(content, list) else [content]
        return tuple(msgspec.convert(row, Snippet) for row in rows[:MAX_SNIPPETS])
    return ()


def merged(plan: Plan, snippets: tuple[Snippet, ...]) -> Plan:
    """`plan`, whose own words count more. Raises ValueError for a text that becomes too long."""
    if not snippets:
        return plan
    replaced = Values("", plan.folder, local={}).replaced
    rows = {name: value for snippet in snippets for name, value in (snippet.container_env | snippet.remote_env).items()}
    env = {name: value if value is None else replaced(value) for name, value in rows.items()}
    env = {name: value for name, value in env.items() if one_variable(name, value or "")}
    named = [
        user for snippet in snippets for user in (snippet.container_user, snippet.remote_user) if USER.fullmatch(user)
    ]
    waits = [snippet.wait_for for snippet in snippets if snippet.wait_for]
    return replace(
        plan, env=env | dict(plan.env), user=plan.user or (named or [""])[-1],
        wait_for=plan.wait_for or (waits or [""])[-1],
    )  # fmt: skip


def commands(snippets: tuple[Snippet, ...]) -> Iterator[tuple[str, Command]]:
    """By stage, in which they run before those of features and of the file."""
    for snippet in snippets:
        for name in (*ONCE, *EVERY_START):
            command: Command = getattr(snippet, attribute(name))
            if command:
                yield name, command
