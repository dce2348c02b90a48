"""How a sandbox ended: the same for one that ran here and one that came home from another machine (`remote`)."""

from __future__ import annotations

from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.sandbox.egress_proxy import Refused
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.store import Record


@dataclass(frozen=True)
class Finished:
    """How a sandbox ended. `kept` is False when nothing changed and nothing is left of it.

    `repo`: the repository where it is now; it may have been moved since the sandbox began.
    """

    repo: Repository
    id: str
    record: Record
    exit_code: int
    home: Retrieval
    kept: bool
    warnings: tuple[str, ...]
    interrupted: int = 0  # number of the signal that ended the session
    refused: tuple[Refused, ...] = ()  # by its network
