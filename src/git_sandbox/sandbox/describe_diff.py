"""Compares two descriptions of a repository (see `guest/describe.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from git_sandbox.text import one_line

MAX_DIFFERENCES = 1000  # more say nothing more, and one description may come from a guest


def compare(source: Mapping[str, Any], copy: Mapping[str, Any]) -> list[str]:
    """One line for each difference, safe to show; empty when both describe the same state."""
    differences: list[str] = []
    _compare("", source, copy, differences)
    return differences[:MAX_DIFFERENCES]


def _compare(place: str, source: Any, copy: Any, differences: list[str]) -> None:
    if len(differences) >= MAX_DIFFERENCES or source == copy:
        return
    if isinstance(source, Mapping) and isinstance(copy, Mapping):
        for key in [*source, *(key for key in copy if key not in source)]:
            _compare(f"{place}: {key}" if place else str(key), source.get(key), copy.get(key), differences)
    elif isinstance(source, list) and isinstance(copy, list):
        missing, extra = _only(source, copy), _only(copy, source)
        differences.extend(one_line(f"{place}: only in the source: {value!r}", limit=500) for value in missing)
        differences.extend(one_line(f"{place}: only in the copy: {value!r}", limit=500) for value in extra)
        if not missing and not extra:
            differences.append(one_line(f"{place}: in another order", limit=500))
    else:
        differences.append(one_line(f"{place}: {source!r} became {copy!r}", limit=500))


def _only(these: list[Any], those: list[Any]) -> list[Any]:
    """What is in `these` more often than in `those`; entries are text, or lists of text as JSON has them."""
    others: dict[str, int] = {}
    for value in those:
        others[repr(value)] = others.get(repr(value), 0) + 1
    result = []
    for value in these:
        if others.get(repr(value), 0):
            others[repr(value)] -= 1
        else:
            result.append(value)
    return result
