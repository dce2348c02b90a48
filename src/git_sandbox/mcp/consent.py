"""What needs the user's consent, and when it is given: by a rule in the user's configuration, or in answer to a
question.

A call names its needs. Each is covered by the rule of the same text in the setting `mcp_allow`, of the user's own
configuration and environment only: a repository cannot say it, whoever trusts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from git_sandbox import registry, transports
from git_sandbox.agents import agreed, catalogue
from git_sandbox.errors import UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.mcp.arguments import Start
from git_sandbox.settings import Settings
from git_sandbox.text import listed, one_line, whole

MERGE, BRANCH, DROP, SANDBOXES = "merge", "branch", "drop", "sandboxes"
WORDS = (MERGE, BRANCH, DROP, SANDBOXES)
AGENT = "agent"
# Settings that a call may ask for with consent, and the words of a rule `SETTING:VALUE`.
GATED = ("net", "allow", "key", "git_credentials", "ssh_agent", "mount", "publish", "image", "packages")
MOST_NEEDS = 25  # of one call, each shown whole
MOST_SHOWN = 60  # lines of a question


class ConsentError(UsageError):
    """Nobody consented, or nobody can be asked."""

    kind = "consent"


@dataclass(frozen=True)
class Need:
    """`rule`: what covers it in the user's configuration; empty: nothing does. `text`: what it is, safe to show.
    `once`: what a yes is remembered for until the server ends; empty: it is asked about each time.
    """

    rule: str
    text: str
    once: str = ""


@dataclass(frozen=True)
class Question:
    """`text` says all that is agreed to. `rules` that would answer it once and for all."""

    text: str
    rules: tuple[str, ...]


def rules(allowed: Iterable[str]) -> frozenset[str]:
    """Those of the user's configuration. Raises UsageError for one that covers nothing: it would be no rule at all."""
    configured = frozenset(rule.strip() for rule in allowed)
    for rule in configured:
        setting, colon, value = rule.partition(":")
        if rule not in WORDS and not (colon and value and setting in (AGENT, *GATED)):
            raise UsageError(
                f"`{one_line(rule, limit=60)}` is not a rule of mcp-allow",
                hint=f"use {', '.join(WORDS)}, agent:NAME, or SETTING:VALUE with one of {', '.join(GATED)}",
            )
    return configured


def of_settings(call: Start, configured: Settings) -> list[Need]:
    """What a new sandbox would have beyond what its user has configured for all of his."""
    known = _configured(configured)
    needs = [(name, value) for name, values in _asked(call).items() for value in values if value not in known[name]]
    return [Need(f"{name}:{value}", f"{name.replace('_', '-')}: {whole(value)}") for name, value in needs]


def of_agent(repo: Repository, name: str) -> Need:
    """To give an agent a task. Its user has to have agreed to its manifest: an agent on the host cannot.

    Raises UsageError where there is no such agent, ConsentError without that.
    """
    agent = catalogue.find(name, repo.worktree)
    of = registry.consent(repo).identity() if agent.origin == catalogue.REPOSITORY else ""
    if not agreed.given(agent, of):
        raise ConsentError(
            f"the user has not agreed to what agent `{name}` asks for", hint=f"`sandbox agent trust {name}`"
        )
    manifest = agent.manifest
    reaches, keys = listed(manifest.allow) or "nothing", listed(tuple(manifest.credentials)) or "none"
    return Need(f"{AGENT}:{name}", f"agent {name} ({agent.origin}): reaches {reaches}; keys: {keys}")


def _asked(call: Start) -> dict[str, tuple[str, ...]]:
    net = call.net if call.net != "none" and not (call.net == "allow" and call.allow) else None
    credentials = call.git_credentials if call.git_credentials != "none" else None
    return {
        "net": (net,) if net else (), "allow": tuple(call.allow), "key": tuple(call.key),
        "git_credentials": (credentials,) if credentials else (), "ssh_agent": ("yes",) if call.ssh_agent else (),
        "mount": tuple(call.mount), "publish": tuple(call.publish), "image": (call.image,) if call.image else (),
        "packages": tuple(call.packages),
    }  # fmt: skip


def _configured(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {
        "net": (settings.net.name,), "allow": settings.allow if settings.net.name == "allow" else (),
        "key": settings.key, "git_credentials": (settings.git_credentials,), "ssh_agent": (settings.ssh_agent,),
        "mount": settings.mount, "publish": settings.publish, "image": (settings.image,),
        "packages": settings.packages,
    }  # fmt: skip


def also(call: Start, configured: Settings) -> tuple[str, ...]:
    """What a sandbox with that network has beside what was asked for: the names and keys that are configured."""
    if configured.net.name == "allow" or not (call.allow or call.net == "allow" or call.key):
        return ()
    names = [*configured.allow, *(f"key {name}" for name in configured.key)]
    return (f"  and what is configured: {one_line(', '.join(names))}",) if names else ()


def real(text: str, root: Path) -> str:
    """The path that a host's file or directory has without links: what is shown is what is used. Names of images that
    are none stay. Raises UsageError.
    """
    if transports.named(text):
        return transports.absolute(text, root)
    try:
        return os.path.realpath(root / Path(text).expanduser())
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"`{one_line(text, limit=60)}` cannot be a path") from error


def question(intro: str, needs: Iterable[Need], details: Iterable[str], worktree: Path) -> Question:
    """What the user is asked. `intro`, `details`: safe to show; beyond a screen of them, how many more there are.

    Raises ConsentError for more than somebody reads.
    """
    asked = tuple(needs)
    if len(set(asked)) > MOST_NEEDS:
        raise ConsentError(f"a call must not need consent for more than {MOST_NEEDS} things")
    lines = [f"An agent on this computer asks to {intro}", f"in {whole(str(worktree))}."]
    lines += ["", *(f"- {need.text}" for need in asked), *details]
    hidden = len(lines) - MOST_SHOWN
    lines = [*lines[:MOST_SHOWN], f"… and {hidden} more lines"] if hidden > 0 else lines
    return Question("\n".join(lines), tuple(need.rule for need in asked if need.rule))


def refused(asked: Question, why: str) -> ConsentError:
    """`why`: of nobody who can be asked, or who said no."""
    ways = ", ".join(f"`{one_line(rule)}`" for rule in asked.rules)
    hint = f"the user can always allow it with {ways} in mcp-allow of the configuration file" if ways else ""
    return ConsentError("not done: the user's consent is required", cause=f"{why}\n{asked.text}", hint=hint)
