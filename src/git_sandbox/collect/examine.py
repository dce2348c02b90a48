"""Finds faulty objects in a guest's pack, by name. No single object makes it raise.

`git fsck` looks at the pack alone, without the user's objects beside it: what is old is not judged again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from git_sandbox.collect import fsckids
from git_sandbox.collect.quarantine import Quarantine
from git_sandbox.collect.treecheck import oversized, refused
from git_sandbox.text import one_line

# For example: error in tree 1234…: hasDotgit: contains '.git'
_REPORT = re.compile(rb"^(?:error|warning) in (\w+) ([0-9a-f]{40,64}): (?:([A-Za-z0-9]+): )?(.*)$", re.MULTILINE)
_UNREADABLE = re.compile(rb"^error: ([0-9a-f]{40,64}): object corrupt or missing", re.MULTILINE)
_MAX_REASON = 300  # characters
_KINDS = {"tree", "commit", "tag"}


def examined(place: Quarantine) -> dict[str, str]:
    """Every object that must not come home by itself, and why; of the new ones, and of the user's own files those that
    the guest newly uses as `.gitmodules`.
    """
    if not place.filled:
        return {}
    faults = oversized(place)
    reports, unread = _fsck(place, place.alone)
    faults = _harmful(reports) | unread | faults
    old = _here(place, faults)
    reused = old & {name for name, msg_id in reports if msg_id.startswith("gitmodules")}
    # What is nowhere is found missing as everything else is.
    gone = {name for name, msg_id in reports if msg_id == "gitmodulesMissing"}
    return {name: why for name, why in faults.items() if name not in old | gone} | _reused(place, reused)


def _fsck(place: Quarantine, objects: Path) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Complaints by object and message id, and the objects that git could not read.

    Blobs of the latter kind are whole: git was only told something false about them by another object.
    """
    status, report = place.fsck(objects, fsckids.ignored())
    reports = {
        (name.decode(), msg_id.decode()): one_line(b"%s %s: %s %s" % (kind, name, msg_id, text), limit=_MAX_REASON)
        for kind, name, msg_id, text in _REPORT.findall(report)
    }
    corrupt = {name.decode() for name in _UNREADABLE.findall(report)}
    kinds = _kinds(place, corrupt).items()
    unread = {name: f"{kind} {name}: git cannot read it" for name, kind in kinds if kind in _KINDS}
    if status and not reports and not corrupt:
        raise refused(f"git fsck: {one_line(report[-1000:], limit=500)}")
    return reports, unread


def _harmful(reports: Mapping[tuple[str, str], str]) -> dict[str, str]:
    return {name: why for (name, msg_id), why in reports.items() if fsckids.harmful(msg_id)}


def _kinds(place: Quarantine, names: Iterable[str]) -> dict[str, str]:
    oids = list(names)
    rows = zip(oids, place.kinds(oids) if oids else (), strict=True)
    return {name: kind for name, (kind, _) in rows if kind != "missing"}


def _here(place: Quarantine, names: Iterable[str]) -> set[str]:
    """Those of `names` that the user's repository has."""
    if not (asked := "".join(f"{name}\n" for name in names).encode()):
        return set()
    rows = place.repo.git.run("cat-file", "--batch-check=%(objectname)", input=asked).decode().splitlines()
    return {row for row in rows if " " not in row}


def _reused(place: Quarantine, names: set[str]) -> dict[str, str]:
    """Files of the user's that a new tree calls `.gitmodules` and that are no fit ones, unless they were it before."""
    files = {name for name, kind in _kinds(place, names).items() if kind == "blob"}  # a directory is only ignored
    if not files:
        return {}
    reports, _ = _fsck(place, place.as_gitmodules(sorted(files)))
    faults = {name: why for name, why in _harmful(reports).items() if name in files}
    git = place.repo.git.without_broken_refs()
    words = ("log", "--all", "-1", "--format=%H")
    return {
        name: why
        for name, why in faults.items()
        if not git.try_run(*words, f"--find-object={name}", "--", ".gitmodules").stdout
    }
