"""The options of one call: what a caller asks of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping

from git_sandbox.devcontainer.plan import Plan
from git_sandbox.image.guestfiles import UserFile
from git_sandbox.later import dataclass, field
from git_sandbox.settings import Settings


@dataclass(frozen=True)
class Options:
    """`command` None means an interactive shell; `subdirectory` is where in the worktree it starts."""

    settings: Settings
    name: str | None = None
    command: tuple[str, ...] | None = None
    subdirectory: str = ""
    skip_unreadable: bool = False
    stdin: int = 0  # descriptors for the command's standard streams
    stdout: int = 1
    stderr: int = 2
    tty: bool = False  # the command gets a terminal
    origin: str | None = None  # sandbox whose disk to begin with, instead of this repository
    detached: bool = False  # nobody is at the terminal: without a command, run until stopped
    terminal: bool = False  # a detached command has a terminal that others can attach to
    on: tuple[str, ...] = ()  # other machines to run it on, the first that can (`sandbox.hosts`)
    keys: Mapping[str, Mapping[str, object]] = field(
        default_factory=dict
    )  # its credentials, as `egress.keys` reads them
    agent: str = ""  # name of the agent whose command it is
    files: tuple[UserFile, ...] = ()  # for the guest, beside those that every one has
    plan: Plan | None = None  # of the repository's devcontainer.json
