"""The only module that runs git on the host.

Git runs on the user's own repository and on directories made by us, never inside a tree a guest can write.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from git_sandbox import process
from git_sandbox.errors import RepositoryError, SandboxError
from git_sandbox.git import bounds
from git_sandbox.git.bounds import Bounds
from git_sandbox.guest import waiting
from git_sandbox.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MINIMUM_VERSION = (2, 39, 4)  # upload-pack, clone and config fixes of May 2024 (CVE-2024-32002, -32004, -32465)
TIMEOUT = 600.0  # seconds; a git that takes longer hangs on a lock, a FIFO or a network

# No hooks, no fsmonitor daemon, no automatic gc or maintenance, no submodule recursion, no prompts: plumbing only does
# what it is told. Each has bitten somebody (facts: `git fetch` ran a submodule fetch, `merge` ran a tracked hook).
_QUIET_CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=true", "gc.auto=0", "maintenance.auto=false",
    "submodule.recurse=false", "advice.addEmbeddedRepo=false", "core.splitIndex=false", "color.ui=false",
    "core.pager=cat", "log.showSignature=false", "diff.external=", "core.safecrlf=false",
)  # fmt: skip
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ADVICE": "0",
}
# Where the user's git finds its configuration, and what `git -c` or the environment adds to it.
CONFIGURED = re.compile(r"GIT_CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+)|GIT_ATTR_NOSYSTEM")
# Nothing of the user's configuration reaches a repository that is ours alone (quarantine, staging).
HERMETIC = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_PARAMETERS": "",
}  # fmt: skip


class Git(msgspec.Struct, frozen=True):
    """A git repository as git sees it, and the way to run commands in it.

    `git_dir` is always passed explicitly, so discovery never wanders into a directory we did not choose.
    `bounds`: what a git may cost that reads objects, which may be a guest's; None: `bounds.REVIEW`.
    """

    git_dir: Path
    worktree: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    bounds: Bounds | None = None
    confinement: tuple[str, ...] = ()  # the words that run git where it sees its files only, see `confine.argv`

    def with_env(self, **extra: str) -> Git:
        """The same repository with more environment variables, e.g. GIT_INDEX_FILE."""
        return msgspec.structs.replace(self, env=(*self.env, *extra.items()))

    def within(self, limits: Bounds) -> Git:
        """The same repository, where reading may cost more, or less."""
        return msgspec.structs.replace(self, bounds=limits)

    def without_broken_refs(self) -> Git:
        """The same, for a question about all refs at which git would end: one of the user's leads to nothing.

        Only for questions in which a ref less is the careful answer, such as what no ref reaches. Not for everything:
        programs that git starts (filters, hooks) have this in their environment, and a `git gc` among them would prune.
        """
        return self.with_env(GIT_REF_PARANOIA="0")

    def argv(self, *args: str) -> list[str]:
        config = [word for item in _QUIET_CONFIG for word in ("-c", item)]
        place = [f"--git-dir={self.git_dir}"] + ([f"--work-tree={self.worktree}"] if self.worktree else [])
        return [*self.confinement, "git", *place, *config, *bounds.config(args), *args]

    def environment(self) -> dict[str, str]:
        return process.environment(process.inherited(CONFIGURED) | _ENVIRONMENT | dict(self.env))

    def try_run(
        self,
        *args: str,
        input: bytes | None = None,
        feed: Iterable[bytes] | None = None,
        timeout: float = TIMEOUT,
        limits: process.Limits | None = None,
        output: int | None = None,
        to: IO[bytes] | None = None,
    ) -> process.Completed:
        """Run and return, whatever the exit status. `output`: bytes it may say. `to`: a file for standard output.

        Raises LimitError when it costs more than its bounds; with `limits` those hold instead, and a git that met
        them has failed like any other.
        """
        own = bounds.of(args, self.bounds)
        most = own.output if output is None and limits is None and to is None else output
        try:
            done = process.run(
                self.argv(*args),
                cwd=self.worktree or self.git_dir,
                env=self.environment(),
                input=input,
                feed=feed,
                timeout=timeout,
                limits=own.limits() if limits is None else limits,
                output=most,
                to=to,
                nudge=waiting.release,
                reads=bounds.listens(args) and not self.confinement,
            )
        except process.FloodError:
            raise bounds.too_much(args, msgspec.structs.replace(own, output=most)) from None
        if limits is None:
            bounds.check(args, own, done)
        return done

    def answering(
        self, *args: str, limits: process.Limits, complaints: IO[bytes]
    ) -> contextlib.AbstractContextManager[process.Child]:
        """Run as long as the block lasts, see `process.answering`."""
        cwd = self.worktree or self.git_dir
        return process.answering(
            self.argv(*args), cwd=cwd, env=self.environment(), limits=limits, complaints=complaints
        )

    def run(
        self, *args: str, input: bytes | None = None, ok: tuple[int, ...] = (0,), timeout: float = TIMEOUT
    ) -> bytes:
        """Standard output; RepositoryError when git ends with a status not in `ok`."""
        done = self.try_run(*args, input=input, timeout=timeout)
        if done.returncode not in ok:
            raise RepositoryError(f"git {args[0]} failed", cause=printable(done.complaint, limit=2000))
        return done.stdout

    def foreground(self, *args: str, input: bytes = b"") -> process.Completed:
        """Run with the user's terminal, agents and keys at hand: for what is signed."""
        env = process.asking() | self.environment()
        return process.foreground(
            self.argv(*args), cwd=self.worktree or self.git_dir, env=env, input=input, timeout=TIMEOUT
        )

    def beginning(self, *args: str, most: int) -> tuple[bytes, bool]:
        """The first `most` bytes of standard output, and whether that is all. For text a guest can make endless."""
        cwd = self.worktree or self.git_dir
        own = bounds.of(args, self.bounds)
        done, whole = process.beginning(self.argv(*args), most, cwd=cwd, env=self.environment(), limits=own.limits())
        bounds.check(args, own, done)
        if done.returncode:
            raise RepositoryError(f"git {bounds.verb(args)} failed", cause=printable(done.complaint, limit=2000))
        return done.stdout, whole

    def line(self, *args: str, input: bytes | None = None) -> str:
        """Standard output as text without its last newline."""
        return self.run(*args, input=input).decode("utf-8", "surrogateescape").removesuffix("\n")

    def test(self, *args: str) -> bool:
        """True for exit status 0, False for 1; RepositoryError otherwise."""
        done = self.try_run(*args)
        if done.returncode not in (0, 1):
            raise RepositoryError(f"git {args[0]} failed", cause=printable(done.complaint, limit=2000))
        return done.returncode == 0


def discover(start: Path, *args: str, env: Mapping[str, str] | None = None) -> process.Completed:
    """`git -C start …` with discovery: only for finding the user's repository from where they stand."""
    return process.run(
        ["git", "-C", str(start), *args],
        env=process.environment(process.inherited(CONFIGURED) | _ENVIRONMENT | dict(env or {})),
        timeout=60,
    )


def credential(description: bytes, *, timeout: float, output: int) -> str:
    """What the user's credential helpers say to `git credential fill`, without asking the user; empty for nothing.

    In no repository: what a repository's configuration says of helpers does not count.
    """
    try:
        done = process.run(
            ["git", "-C", "/", "-c", "credential.interactive=false", "-c", "core.askPass=", "credential", "fill"],
            env=process.asking() | process.environment(process.inherited(CONFIGURED) | _ENVIRONMENT),
            input=description,
            timeout=timeout,
            output=output,
        )
    except SandboxError:
        return ""
    return done.text if done.returncode == 0 else ""
