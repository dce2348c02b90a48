"""A real Linux microVM around a git repository; the commits come home.

    import git_sandbox

    repo = git_sandbox.open(".")
    done = repo.run(["make", "test"], memory="4G")
    print(done.exit_code, done.stdout.decode())
    repo.sandbox(done.id).merge()

All of it is in docs/reference/python.md. Names are imported when they are first used: `import git_sandbox` alone costs
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as an interpreter to start

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from git_sandbox.api import Output, Project, Ran, Sandbox, everywhere, open  # noqa: A004 - as in tarfile, dbm
    from git_sandbox.errors import Interrupted, SandboxError
    from git_sandbox.integrate.merge import Merged
    from git_sandbox.integrate.modes import Mode
    from git_sandbox.integrate.patches import Patches
    from git_sandbox.integrate.plan import Plan
    from git_sandbox.integrate.resolve import Started
    from git_sandbox.integrate.results import Group
    from git_sandbox.integrate.review import CommitInfo, Difference, Span, Style
    from git_sandbox.integrate.siblings import Comparison
    from git_sandbox.integrate.undo import Undone
    from git_sandbox.sandbox.crowd import Try
    from git_sandbox.sandbox.everywhere import Everywhere
    from git_sandbox.sandbox.imported import Retrieval
    from git_sandbox.sandbox.listing import Row
    from git_sandbox.sandbox.remove import Dropped, Recovered
    from git_sandbox.sandbox.rename import Sized
    from git_sandbox.sandbox.trashed import Pruned
    from git_sandbox.store import State

_FROM = {
    "git_sandbox.api": ("Output", "Project", "Ran", "Sandbox", "everywhere", "open"),
    "git_sandbox.errors": ("Interrupted", "SandboxError"),
    "git_sandbox.integrate.merge": ("Merged",),
    "git_sandbox.integrate.modes": ("Mode",),
    "git_sandbox.integrate.plan": ("Plan",),
    "git_sandbox.integrate.patches": ("Patches",),
    "git_sandbox.integrate.resolve": ("Started",),
    "git_sandbox.integrate.results": ("Group",),
    "git_sandbox.integrate.review": ("CommitInfo", "Difference", "Span", "Style"),
    "git_sandbox.integrate.siblings": ("Comparison",),
    "git_sandbox.integrate.undo": ("Undone",),
    "git_sandbox.sandbox.everywhere": ("Everywhere",),
    "git_sandbox.sandbox.remove": ("Dropped", "Recovered"),
    "git_sandbox.sandbox.rename": ("Sized",),
    "git_sandbox.sandbox.trashed": ("Pruned",),
    "git_sandbox.sandbox.imported": ("Retrieval",),
    "git_sandbox.sandbox.crowd": ("Try",),
    "git_sandbox.sandbox.listing": ("Row",),
    "git_sandbox.store": ("State",),
}
_MODULES = {name: module for module, names in _FROM.items() for name in names}

__all__ = [
    "CommitInfo",
    "Comparison",
    "Difference",
    "Dropped",
    "Everywhere",
    "Group",
    "Interrupted",
    "Merged",
    "Mode",
    "Output",
    "Patches",
    "Plan",
    "Project",
    "Pruned",
    "Ran",
    "Recovered",
    "Retrieval",
    "Row",
    "Sandbox",
    "SandboxError",
    "Sized",
    "Span",
    "Started",
    "State",
    "Style",
    "Try",
    "Undone",
    "__version__",
    "everywhere",
    "open",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
