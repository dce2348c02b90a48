"""Verifies that a repository arrives unchanged: describe it here, describe it in a sandbox, compare."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from git_sandbox import process
from git_sandbox.errors import MachineError, RepositoryError
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.image import spec
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import lifecycle, trashed
from git_sandbox.sandbox.describe_diff import compare
from git_sandbox.sandbox.options import Options
from git_sandbox.text import printable

MAX_DESCRIPTION = 512 << 20  # bytes the guest may answer
TIMEOUT = 3600.0  # seconds; every file is read


@dataclass(frozen=True)
class Verified:
    """`differences`: one line each, safe to show; none when the guest saw exactly what is here. `trash`: what of the
    repository's trash `sandbox restore` could not bring back whole, one line each.
    """

    differences: tuple[str, ...]
    files: int
    warnings: tuple[str, ...]
    trash: tuple[str, ...] = ()


def verify(repo: Repository, options: Options, progress: Progress) -> Verified:
    """Start a sandbox only to look at what arrived. It changes nothing, so it goes to the trash.

    With `ignored` not `all`, ignored files are left out of the comparison.
    """
    extra = ("--no-ignored",) if options.settings.ignored != "all" else ()
    with _listening() as (writing, answer):
        looking = dataclasses.replace(
            options, command=(protocol.COMMAND, "describe", *extra, protocol.WORKSPACE), subdirectory="", stdout=writing
        )
        finished = lifecycle.spawn(repo, looking, progress)
    progress("Comparing")
    if finished.exit_code != 0:
        raise MachineError("the guest could not describe its repository", cause=f"status {finished.exit_code}")
    here = _parsed(_describe_here(repo, extra))
    files = len(here.get("files", {}))
    return Verified(differences(here, bytes(answer)), files, finished.warnings, trashed.damage(repo))


def differences(here: dict[str, Any], answer: bytes) -> tuple[str, ...]:
    """What the guest's `answer` says otherwise than `here`. Raises MachineError when it is no description."""
    try:
        return tuple(compare(here, _parsed(answer)))
    except RecursionError as error:
        raise MachineError("the guest's description of its repository is damaged", cause=str(error)) from error


@contextlib.contextmanager
def _listening() -> Iterator[tuple[int, bytearray]]:
    """A descriptor to answer on, and what arrived there, complete when the block has ended.

    Not a file: what the repository runs in the guest (a filter, say) could fill the host's disk through it.
    """
    reading, writing = os.pipe()
    received = bytearray()

    def listen() -> None:
        with os.fdopen(reading, "rb", 0) as answer:
            while len(received) <= MAX_DESCRIPTION and (chunk := answer.read(1 << 20)):
                received.extend(chunk)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield writing, received
    finally:
        os.close(writing)
        listener.join()


def _describe_here(repo: Repository, extra: tuple[str, ...]) -> bytes:
    program = spec.data("image.toml").parent.parent / "guest" / "describe.py"
    done = process.run([sys.executable, "-I", str(program), *extra, str(repo.worktree)], timeout=TIMEOUT)
    if done.returncode != 0:
        raise RepositoryError("this repository could not be described", cause=printable(done.complaint, limit=2000))
    return done.stdout


def _parsed(raw: bytes) -> dict[str, Any]:
    # Not msgspec.json: it refuses lone surrogates, which is how names that are not UTF-8 travel.
    try:
        described = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MachineError("the guest's description of its repository is damaged", cause=str(error)) from error
    if not isinstance(described, dict):
        raise MachineError("the guest's description of its repository is damaged", cause="it is not an object")
    return described
