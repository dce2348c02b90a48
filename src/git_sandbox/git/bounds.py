"""Resource limits of git commands that read guest data, by command, so that none can be forgotten.

A pack of some kilobytes that the quarantine accepts can stand for a file of 100 MB of line breaks, for which `git diff`
takes 4 GB; or for a million paths. Memory is counted as the kernel does for RLIMIT_DATA (setrlimit(2)): what git
allocates, and not the packs that it maps.
"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from git_sandbox.errors import LimitError
from git_sandbox.process import Limits

if TYPE_CHECKING:
    from git_sandbox.process import Completed


class Bounds(msgspec.Struct, frozen=True):
    """`data`: bytes of memory that it allocates. `cpu`: seconds. `output`: bytes; None for one that writes files.

    Without `data` and `cpu` git runs as it is, without prlimit(1) before it, which costs a program each time.
    """

    data: int | None
    cpu: int | None
    output: int | None = None

    def limits(self) -> Limits:
        return Limits(data=self.data, cpu=self.cpu)


QUICK = Bounds(128 << 20, 4, 16 << 20)  # one of several questions of a verb that looks at all sandboxes
REVIEW = Bounds(128 << 20, 10, 32 << 20)  # to show something: what any verb does unless it says otherwise
PATIENT = Bounds(2 << 30, 600, 512 << 20)  # what somebody asked for by name: to merge, to keep, to delete
WORK = Bounds(8 << 30, 2 * 3600)  # for what writes, or reads the user's own files and index
UNBOUND = Bounds(None, None)  # for what reads no objects, but names of refs, settings and the user's own index
# A git that reads objects has REVIEW, or what its caller names; one that reads none UNBOUND; each other one WORK.
READS = frozenset((
    "cat-file", "diff", "diff-tree", "format-patch", "log", "ls-tree", "merge-base", "merge-tree", "range-diff",
    "rev-list", "rev-parse", "show",
))  # fmt: skip
_NO_OBJECTS = frozenset(("config", "for-each-ref", "ls-files", "symbolic-ref"))
_PEELS = ("--points-at", "--contains", "--merged", "--no-merged", "--no-contains")  # options with which git reads some
# A git that is told by its input what to do: with one of these options before any argument, or always.
_FROM_INPUT = ("--stdin", "--batch", "--revs")
_LISTENS = frozenset(("cat-file", "fetch", "pack-objects", "rev-list", "update-ref"))
_ALWAYS = frozenset(("mktag", "mktree"))
# Windows and caches that fit into the memory; a larger file is shown as binary, and is never split into lines.
CONFIG = (
    "core.packedGitWindowSize=8m", "core.packedGitLimit=48m", "core.deltaBaseCacheLimit=16m",
    "core.bigFileThreshold=16m",
)  # fmt: skip
_STARVED = re.compile(r"out of memory|over limit|cannot allocate memory|cannot be mapped|mmap failed", re.IGNORECASE)
_ENDED = (-signal.SIGXCPU, -signal.SIGKILL)


def verb(args: Sequence[str]) -> str:
    """Which git command `args` are, behind settings of its own."""
    words = iter(args)
    for word in words:
        if word != "-c":
            return word
        next(words, "")
    return ""


def reads(args: Sequence[str]) -> bool:
    return verb(args) in READS


def listens(args: Sequence[str]) -> bool:
    """Whether git reads its input before any object or ref: what it is to do is in there."""
    named = verb(args)
    options = itertools.takewhile(lambda arg: arg.startswith("-"), args[args.index(named) + 1 :] if named else ())
    return named in _ALWAYS or (named in _LISTENS and any(option.startswith(_FROM_INPUT) for option in options))


def of(args: Sequence[str], named: Bounds | None) -> Bounds:
    """`named`: what the caller wants for a git that reads."""
    if reads(args):
        return named or REVIEW
    plain = verb(args) in _NO_OBJECTS and not any(arg.startswith(_PEELS) for arg in args)
    return UNBOUND if plain else WORK


def config(args: Sequence[str]) -> list[str]:
    return list(itertools.chain(*(("-c", item) for item in CONFIG))) if reads(args) else []


def too_much(args: Sequence[str], bounds: Bounds) -> LimitError:
    most = "this host has" if bounds.data is None else f"{bounds.data >> 20} MiB of memory or {bounds.cpu} s"
    if bounds.output is not None:
        most += f", or prints more than {bounds.output >> 20} MiB"
    return LimitError(f"`git {verb(args)}` was stopped: its input is too large", cause=f"it needs more than {most}")


def check(args: Sequence[str], bounds: Bounds, done: Completed) -> None:
    """Raises LimitError for a git that has met one of its limits: that is no answer to what it was asked."""
    if done.returncode in _ENDED or (done.returncode and _STARVED.search(done.complaint)):
        raise too_much(args, bounds)


def batches(sizes: Iterable[tuple[str, int]], most: int) -> Iterator[list[str]]:
    """The names of `sizes` in order, as many at a time as have at most `most` bytes together, and at least one."""
    group: list[str] = []
    total = 0
    for name, size in sizes:
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group
