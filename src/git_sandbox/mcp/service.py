"""A server between an agent and its user: parses calls, finds out what they need, and executes them. Knows no SDK."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from git_sandbox import files, notices, paths, projectfile, registry, settings
from git_sandbox.errors import HostResourceError, SandboxError, UsageError
from git_sandbox.later import dataclass, field
from git_sandbox.mcp import consent, repositories, results
from git_sandbox.mcp.catalogue import TOOLS
from git_sandbox.mcp.consent import Question
from git_sandbox.mcp.repositories import Served
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Work
from git_sandbox.mcp.tools import Context, Prepared
from git_sandbox.text import one_line

_OWN = ("mcp_allow", "mcp_repositories")
MOST_PENDING = 50  # questions that wait for an answer; older ones are forgotten


@dataclass
class Service:
    """`allowed`: rules of the user's configuration. `given`: what he agreed to once for this run of the server, to let
    an agent use sandboxes that he started.
    """

    served: Served
    allowed: frozenset[str] = frozenset()
    given: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, arguments: Mapping[str, object]) -> Ready:
        """A call with what it needs. Raises SandboxError for one that cannot be done."""
        tool = TOOLS.get(name)
        if tool is None:
            raise UsageError(f"there is no tool `{one_line(name, limit=60)}`")
        place = arguments.get("repository")
        repo = self.served.choose(place if isinstance(place, str) else None)
        notices.heard()  # nobody else takes them from a process that goes on
        configured, _ = settings.resolve(None, projectfile.read(repo.worktree, registry.consent(repo)))
        prepared = tool.read(Context(repo, configured), arguments)
        missing = tuple(
            need for need in prepared.needs if need.rule not in self.allowed and need.once not in self.given
        )
        asked = consent.question(prepared.intro, missing, prepared.details, repo.worktree) if missing else None
        once = frozenset(need.once for need in missing if need.once)
        return Ready(prepared, asked, once, json.dumps([name, arguments], sort_keys=True))

    def act(self, ready: Ready, work: Work) -> Answer:
        """Do what was read, and agreed to where it has a question; what went wrong is an answer, too.

        It is read again first: an answer takes time, and an agent can make a call wait for others.
        """
        try:
            again = self.read(*json.loads(ready.call))
            if again.question is not None and again.agreement != ready.agreement:
                raise consent.refused(again.question, "its effect has changed since it was asked")
            self.given |= ready.once
            return again.prepared.act(work)
        except SandboxError as error:
            return results.failure(error)
        except OSError as error:
            return results.failure(HostResourceError(files.why(error)))

    def ask_later(self, ready: Ready) -> str:
        """For a client that answers with a second call: what it has to say with it. It is good for one answer."""
        token = secrets.token_urlsafe(24)
        self.pending[token] = ready.agreement
        while len(self.pending) > MOST_PENDING:
            del self.pending[next(iter(self.pending))]
        return token

    def answers(self, token: str | None, ready: Ready) -> bool:
        """Whether a second call is the one that was asked about, to the letter."""
        return token is not None and self.pending.pop(token, None) == ready.agreement


@dataclass(frozen=True)
class Ready:
    """`question`: nothing is done before its answer. `once`: of its needs, what a yes is remembered for."""

    prepared: Prepared
    question: Question | None
    once: frozenset[str]
    call: str

    @property
    def agreement(self) -> str:
        return json.dumps([self.call, self.question.text if self.question else ""])


def service(given: tuple[str, ...]) -> Service:
    """For the repositories that the command line names, by the user's own settings. Raises SandboxError."""
    configured, values = settings.resolve()
    for value in values:
        if value.name in _OWN and value.source not in ("default", str(paths.config_file())):
            raise UsageError(
                f"{value.name.replace('_', '-')} can only be set in {paths.config_file()}",
                cause=f"set by {value.source}: an agent may write the settings of the program that starts this",
            )
    served = repositories.served(given, configured.mcp_repositories)
    return Service(served, consent.rules(configured.mcp_allow))
