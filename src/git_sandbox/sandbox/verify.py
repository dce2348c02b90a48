"""Proof that a repository arrives as it is: describe it here, describe it in a sandbox, compare."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from typing import Any

import msgspec

from git_sandbox import process
from git_sandbox.errors import MachineError, RepositoryError
from git_sandbox.git.compare import compare
from git_sandbox.git.repo import Repository
from git_sandbox.image import spec
from git_sandbox.sandbox import story
from git_sandbox.sandbox.options import Options, Progress
from git_sandbox.text import printable

DESCRIBE = "/run/git-sandbox/describe.py"
MAX_DESCRIPTION = 512 << 20  # bytes the guest may answer
TIMEOUT = 3600.0  # seconds; every file is read


@dataclasses.dataclass(frozen=True)
class Verified:
    """`differences`: one line each, safe to show; none when the guest saw exactly what is here."""

    differences: tuple[str, ...]
    files: int
    warnings: tuple[str, ...]


def verify(repo: Repository, options: Options, progress: Progress) -> Verified:
    """Start a sandbox only to look at what arrived. It changes nothing, so nothing is kept of it.

    With `ignored` not `all`, ignored files are left out of the comparison.
    """
    extra = ("--no-ignored",) if options.settings.ignored != "all" else ()
    with tempfile.TemporaryFile(prefix="git-sandbox-") as answer:
        looking = dataclasses.replace(
            options, command=("python3", "-I", DESCRIBE, *extra, "/workspace"), subdirectory="", stdout=answer.fileno()
        )
        finished = story.spawn(repo, looking, progress)
        progress("Comparing")
        if finished.exit_code != 0:
            raise MachineError("the guest could not describe its repository", cause=f"status {finished.exit_code}")
        answer.seek(0)
        there = _parsed(answer.read(MAX_DESCRIPTION))
    here = _parsed(_describe_here(repo, extra))
    return Verified(tuple(compare(here, there)), len(here.get("files", {})), finished.warnings)


def _describe_here(repo: Repository, extra: tuple[str, ...]) -> bytes:
    program = spec.data("image.toml").parent.parent / "guest" / "describe.py"
    done = process.run([sys.executable, "-I", str(program), *extra, str(repo.worktree)], timeout=TIMEOUT)
    if done.returncode != 0:
        raise RepositoryError("this repository could not be described", cause=printable(done.complaint, limit=2000))
    return done.stdout


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MachineError("the guest's description of its repository is damaged", cause=str(error)) from error
