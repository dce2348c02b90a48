"""How a sandbox's disk presents the repository's base without a copy: the strategies as data, and one rule."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from git_sandbox.disk import lvm_thin, reflink
from git_sandbox.errors import RequirementError
from git_sandbox.later import dataclass

AUTO = "auto"
THIN, QCOW2, REFLINK, OVERLAY, COPY = "thin", "qcow2", "reflink", "overlay", "copy"
SMALL = 256 << 20  # bytes; a copy of a smaller base needs nothing of the guest, and can start warm. Not measured


@dataclass(frozen=True)
class Means:
    """What there is. `bytes`: of the base on disk, None when it is not known yet."""

    formats: tuple[str, ...]  # of disks, which the backend reads
    linked: bool  # cache and state are on one file system
    reflinks: bool  # which shares blocks between files
    layers: bool  # the guest image can lay an overlay
    pool: str = ""  # the thin pool that the user named
    trouble: str = ""  # why that cannot be used
    bytes: int | None = None


@dataclass(frozen=True)
class Strategy:
    """`lacks`: what of the means is missing, nothing when it works. `gives`: why it is good, for `sandbox doctor`."""

    name: str
    gives: str
    lacks: Callable[[Means], str]
    worth: Callable[[Means], bool] = lambda _means: True  # auto leaves it out where another is as good


@dataclass(frozen=True)
class Choice:
    strategy: str
    reason: str


def _thin(means: Means) -> str:
    return means.trouble if means.pool else "no pool is set"


def _apart(means: Means) -> str:
    return "" if means.linked else "cache and state are on different file systems"


def _qcow2(means: Means) -> str:
    return _apart(means) if QCOW2 in means.formats else "not for this backend"


def _reflink(means: Means) -> str:
    return "" if means.reflinks else _apart(means) or "the file system cannot share blocks (Btrfs and XFS can)"


def _overlay(means: Means) -> str:
    return _apart(means) if means.layers else "the guest image has no dmsetup and dm_snapshot"


# In the order in which `auto` tries them.
STRATEGIES = (
    Strategy(THIN, "a thin snapshot in the pool you named", _thin),
    Strategy(QCOW2, "a qcow2 image over the base", _qcow2),
    Strategy(REFLINK, "a copy that shares blocks (reflink)", _reflink),
    Strategy(
        OVERLAY,
        "an empty disk that the guest overlays on the base",
        _overlay,
        lambda means: means.bytes is None or means.bytes >= SMALL,
    ),
    Strategy(COPY, "a whole copy, without holes", lambda _means: ""),
)
NAMES = tuple(strategy.name for strategy in STRATEGIES)


def choose(setting: str, means: Means) -> Choice:
    """The one rule: what is asked for by name, or the first that works here and is worth it. Pure.

    Raises RequirementError when what is asked for does not work.
    """
    if setting != AUTO:
        asked = next(strategy for strategy in STRATEGIES if strategy.name == setting)
        if problem := asked.lacks(means):
            hint = f"`sandbox doctor` says what works here; `--cow {AUTO}` takes that"
            raise RequirementError(f"`--cow {setting}` cannot be used", cause=problem, hint=hint)
        return Choice(setting, f"asked for: {asked.gives}")
    if means.pool and means.trouble:
        hint = f"fix it, or unset it; `--cow {QCOW2}` and others need no pool"
        raise RequirementError(f"the thin pool {means.pool} cannot be used", cause=means.trouble, hint=hint)
    passed: list[str] = []
    for strategy in STRATEGIES:
        problem = strategy.lacks(means)
        if not problem and strategy.worth(means):
            return Choice(strategy.name, strategy.gives + (f" (not {'; not '.join(passed)})" if passed else ""))
        passed.append(f"{strategy.name}: {problem or f'the base has less than {SMALL >> 20} MiB'}")
    raise AssertionError  # the last one always works


def look(source: Path, target: Path, formats: tuple[str, ...], pool: str, *, layers: bool, size: int | None) -> Means:
    """What there is for bases below `source` and disks below `target`, both directories: tried, not guessed."""
    linked, reflinks = _tried(source, target)
    return Means(formats, linked, reflinks, layers, pool, lvm_thin.trouble(pool) if pool else "", size)


def _tried(source: Path, target: Path) -> tuple[bool, bool]:
    """Whether a file of `source` can be linked into `target`, and whether its blocks can be shared there."""
    linked = reflinks = False
    with (
        tempfile.TemporaryDirectory(prefix=".git-sandbox-", dir=target) as scratch,
        tempfile.NamedTemporaryFile(prefix=".git-sandbox-", dir=source) as probe,
    ):
        probe.write(b"probe")
        probe.flush()
        with contextlib.suppress(OSError):
            os.link(probe.name, Path(scratch, "link"))
            linked = True
        with contextlib.suppress(OSError):
            reflink.clone(Path(probe.name), Path(scratch, "clone"))
            reflinks = True
    return linked, reflinks
