"""Limits on the work that a guest causes on its host by requests, all of them together.

The end of a sandbox, and what the user asks for (`sandbox sync`), collect in any case: those do not count.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgspec

from git_sandbox import files, jsontext
from git_sandbox.errors import CollectError
from git_sandbox.later import dataclass
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.nested import NestedRetrieval
from git_sandbox.sandbox_dir import SandboxDir

_MOST_BYTES = 4096  # of the file


class Total(msgspec.Struct, frozen=True):
    """`size`: bytes of packs and of Git LFS content. `seconds`: of conversations."""

    pushes: int = 0
    objects: int = 0
    size: int = 0
    seconds: float = 0.0


MOST = Total(pushes=20_000, objects=20_000_000, size=16 << 30, seconds=8 * 3600.0)
_WORDS = {"pushes": "pushes", "objects": "objects", "size": "bytes", "seconds": "seconds of the host's time"}


@dataclass
class Push:
    """`brought`: what came home, once it has."""

    brought: Retrieval | None = None


def so_far(directory: SandboxDir) -> Total:
    """Nothing where there was no push yet, or where the file is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return jsontext.decode(files.read(directory.pushes, _MOST_BYTES), Total)
    return Total()


@contextlib.contextmanager
def counted(directory: SandboxDir, most: Total = MOST) -> Iterator[Push]:
    """A push while the block lasts; one that fails counts, too. Raises CollectError when there were enough."""
    before, began, push = so_far(directory), time.monotonic(), Push()
    for field, words in _WORDS.items():
        took, limit = getattr(before, field), getattr(most, field)
        if took >= limit:
            cause = f"all of them together took {took:.0f} {words}, the limit is {limit:.0f}"
            hint = "the rest comes home when the sandbox ends, or with `sandbox sync` on the host"
            raise CollectError("this sandbox has pushed enough", cause=cause, hint=hint)
    try:
        yield push
    finally:
        _write(directory, _with(before, push.brought, time.monotonic() - began))


def _with(before: Total, brought: Retrieval | None, seconds: float) -> Total:
    homes: list[Retrieval | NestedRetrieval] = [brought, *brought.nested.homes] if brought else []
    return Total(
        before.pushes + 1,
        before.objects + sum(home.collected.objects + home.lfs.stored for home in homes),
        before.size + sum(home.collected.size + home.lfs.size for home in homes),
        before.seconds + seconds,
    )


def _write(directory: SandboxDir, total: Total) -> None:
    """Not durably: who takes this host's power away gains a few pushes."""
    with contextlib.suppress(OSError):  # a full disk is the next push's to say
        files.write(directory.pushes, msgspec.json.encode(total))
