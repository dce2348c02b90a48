"""The answer to an agent: JSON of limited size, with text that is safe to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass, field
from git_sandbox.text import printable

MOST = 100_000  # characters of a result's texts
MOST_FILE = 400_000  # of one that is a file's content
MOST_ITEMS = 500  # of one list


@dataclass(frozen=True)
class Answer:
    """A result of a tool. `data`: a JSON object. `failed`: the agent is to see that it did not work."""

    data: Mapping[str, Any]
    failed: bool = False
    most: int = MOST

    @property
    def content(self) -> dict[str, Any]:
        """`data` as it goes out; `cut` names what is not whole."""
        room = _Room(self.most)
        fitted = {str(name): room.fit(value, str(name)) for name, value in self.data.items()}
        return fitted | ({"cut": sorted(room.cut)} if room.cut else {})

    @property
    def text(self) -> str:
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":"))


def failure(error: SandboxError) -> Answer:
    row = {
        "kind": error.kind, "message": error.message, "cause": error.cause, "hint": error.hint,
        "exit_code": error.exit_code,
    }  # fmt: skip
    return Answer({"errors": [row]}, failed=True)


@dataclass
class _Room:
    """`left`: characters. `cut`: where something was left out, by the names of the fields it is in."""

    left: int
    cut: set[str] = field(default_factory=set)

    def fit(self, value: object, name: str) -> object:
        match value:
            case str():
                return self._text(value, name)
            case Mapping():
                return self._mapping(value, name)
            case list() | tuple():
                return self._items(value, name)
            case _:
                self.left -= 1
                return value

    def _text(self, text: str, name: str) -> str:
        clean = printable(text)
        room = max(0, self.left)
        self.left -= len(clean)
        if len(clean) > room:
            self.cut.add(name)
            return f"{clean[:room]}…"
        return clean

    def _mapping(self, rows: Mapping[Any, object], name: str) -> dict[str, object]:
        fitted: dict[str, object] = {}
        for key, value in rows.items():
            if self.left <= 0 or len(fitted) >= MOST_ITEMS:
                self.cut.add(name)
                break
            place = self._text(str(key), name)
            if place in fitted:  # two names that nobody can tell apart
                self.cut.add(name)
            fitted[place] = self.fit(value, f"{name}.{place}")
        return fitted

    def _items(self, values: list[object] | tuple[object, ...], name: str) -> list[object]:
        fitted: list[object] = []
        for value in values:
            if self.left <= 0 or len(fitted) >= MOST_ITEMS:
                self.cut.add(name)
                break
            fitted.append(self.fit(value, name))
        return fitted
