"""The Python API: what the verbs of the command line do, without printing or prompting.

Results are the values the command line shows. Every failure is a `SandboxError` of the kind and with the exit code
that docs/reference/exit-codes.md lists. Settings come from the same places as for the command line; keyword arguments
take the place of options.
"""

from __future__ import annotations

from git_sandbox.api.project import Project, Ran, everywhere, open  # noqa: A004 - as in tarfile and dbm
from git_sandbox.api.sandbox import Sandbox
from git_sandbox.api.shared import Output

__all__ = ["Output", "Project", "Ran", "Sandbox", "everywhere", "open"]
