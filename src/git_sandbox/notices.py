"""Notices of what was found and repaired in passing, for the caller to show."""

from __future__ import annotations

_MOST = 100  # kept for somebody who never asks
_said: list[str] = []


def say(text: str) -> None:
    """`text` must be safe to print."""
    if text not in _said and len(_said) < _MOST:
        _said.append(text)


def heard() -> tuple[str, ...]:
    """All that was said since the last time."""
    texts = tuple(_said)
    _said.clear()
    return texts
