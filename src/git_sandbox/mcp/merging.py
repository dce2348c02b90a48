"""A merge requested by an agent: planned first, so that exactly what the user is shown is merged, and nothing that came
home in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from git_sandbox import store
from git_sandbox.errors import IntegrateError, UsageError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import merge as merges
from git_sandbox.integrate import plan as plans
from git_sandbox.integrate.modes import Mode, Request
from git_sandbox.integrate.plan import Plan
from git_sandbox.integrate.risky import Risk
from git_sandbox.later import dataclass
from git_sandbox.mcp import consent
from git_sandbox.mcp.arguments import Merge
from git_sandbox.mcp.consent import Need
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Work
from git_sandbox.sandbox import lookup
from git_sandbox.sandbox.lookup import Known
from git_sandbox.text import one_line, whole

_MODES = {
    "merge": Mode.FF_OR_MERGE, "ff-only": Mode.FF_ONLY, "no-ff": Mode.NO_FF, "squash": Mode.SQUASH,
    "rebase": Mode.REBASE,
}  # fmt: skip
SHOWN = 20  # paths of a question
_BRANCH = "refs/heads/"


@dataclass(frozen=True)
class Planned:
    """What would be merged, by its object's name: a sandbox that goes on running changes nothing of it."""

    repo: Repository
    known: Known
    request: Request
    plan: Plan

    @property
    def intro(self) -> str:
        branch = one_line((self.plan.head.symref or "the detached HEAD").removeprefix(_BRANCH))
        return f"merge sandbox {self.request.sandbox} ({self.request.target}) into {branch}"

    @property
    def needs(self) -> tuple[Need, ...]:
        """Somebody looks at files that run by themselves each time."""
        if not self.plan.possible or not self.plan.moves:
            return ()
        change = Need(consent.MERGE, f"change {len(self.plan.changed)} file(s) of the checkout")
        return (change, *risks(self.plan.risky))

    @property
    def details(self) -> tuple[str, ...]:
        message = [f"- message: {whole(self.request.message)}"] if self.request.message else []
        return (*message, *some(self.plan.changed))

    def merge(self, _work: Work) -> Answer:
        """All of it or nothing. Raises IntegrateError."""
        try:
            done = merges.merge(self.repo, self.known.base, self.request)
        finally:
            store.remember(self.repo, self.request.sandbox)
        return Answer({"result": msgspec.to_builtins(done, enc_hook=str)})


def risks(risky: Iterable[Risk]) -> list[Need]:
    """Covered by no rule."""
    return [
        Need("", f"changes a file that runs by itself: {one_line(risk.path)} {one_line(risk.reason)}") for risk in risky
    ]


def some(paths: Sequence[str]) -> tuple[str, ...]:
    """Lines of a question."""
    more = len(paths) - SHOWN
    lines = [f"  {whole(path)[:200]}" for path in paths[:SHOWN]]
    return (*lines, *([f"  and {more} more"] if more > 0 else []))


def plan(repo: Repository, call: Merge) -> Planned:
    """Raises IntegrateError where it cannot work, StateError where no commits are here."""
    if call.message and call.mode in ("ff-only", "rebase"):
        raise UsageError(f"mode {call.mode} has no message: the commits keep theirs")
    patient = repo.within(PATIENT)
    known = lookup.known(patient, call.id)
    target: Oid = lookup.require_head(known)
    request = Request(known.entry.id, target, _MODES[call.mode], (), call.message)
    planned = plans.plan(patient, known.base, request)
    if planned.conflicts:
        raise IntegrateError(
            f"merging sandbox `{call.id}` conflicts in {len(planned.conflicts)} file(s)",
            cause="\n".join(one_line(path) for path in planned.conflicts[:SHOWN]),
            hint="rebase or change it inside, or the user begins it with `sandbox merge --conflicts`",
        )
    return Planned(patient, known, request, planned)
