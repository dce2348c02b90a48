"""From `refs/sandbox/<id>` into the user's checkout: look first (`plan`), merge all or nothing, and undo."""

from git_sandbox.integrate.apart import Apart, Patches, explain, patches
from git_sandbox.integrate.decide import BaseRecord
from git_sandbox.integrate.merge import Merged, create_branch, merge
from git_sandbox.integrate.modes import Mode, Relation, Request
from git_sandbox.integrate.plan import Blocked, Plan, plan, relation_only
from git_sandbox.integrate.resolve import Aborted, Started, abort, start
from git_sandbox.integrate.risky import Risk
from git_sandbox.integrate.undo import Undone, undo

__all__ = [
    "Aborted", "Apart", "BaseRecord", "Blocked", "Merged", "Mode", "Patches", "Plan", "Relation", "Request", "Risk",
    "Started", "Undone", "abort", "create_branch", "explain", "merge", "patches", "plan", "relation_only", "start",
    "undo",
]  # fmt: skip
