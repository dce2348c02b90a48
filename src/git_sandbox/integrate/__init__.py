"""From `refs/sandbox/<id>` into the user's checkout: look first (`plan`), merge all or nothing, and undo."""

from git_sandbox.integrate.decide import BaseRecord
from git_sandbox.integrate.merge import Merged, create_branch, merge
from git_sandbox.integrate.modes import Mode, Relation, Request
from git_sandbox.integrate.plan import Blocked, Plan, plan, relation_only
from git_sandbox.integrate.risky import Risk
from git_sandbox.integrate.undo import Undone, undo

__all__ = [
    "BaseRecord", "Blocked", "Merged", "Mode", "Plan", "Relation", "Request", "Risk", "Undone",
    "create_branch", "merge", "plan", "relation_only", "undo",
]  # fmt: skip
