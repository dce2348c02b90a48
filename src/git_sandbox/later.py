"""`dataclasses.dataclass` whose methods are generated with the first object, not at import; `regex`, which compiles a
pattern at its first use.

Python writes and compiles the methods of a data class each time it starts, which takes longer than to read its module;
a command uses few of the classes that it imports. All else is as with the original: `fields`, `replace`, inheritance,
copies, pickles. Only a default that the original refuses is refused later, and so is a pattern that is none.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from dataclasses import asdict, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass
    from re import compile as regex
else:

    def regex(text: Any, flags: int = 0) -> Any:
        return _Regex(text, flags)

    def dataclass(kind: type | None = None, /, **options: Any) -> Any:
        return _decorator(options) if kind is None else _postponed(kind, options)


__all__ = ["asdict", "dataclass", "field", "fields", "regex", "replace"]

_FIELDS = "__dataclass_fields__"
_NEW_CLASS = {"slots", "weakref_slot"}  # with these the original makes another class
_METHODS = ("findall", "finditer", "flags", "fullmatch", "match", "pattern", "search", "split", "sub", "subn")
_making = threading.RLock()  # of all classes: one can need another


class _Regex:
    """Becomes a compiled pattern when somebody asks for anything of it. Not one to Python's `re` functions."""

    def __init__(self, text: Any, flags: int) -> None:
        self._given = text, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self.__dict__["_given"])
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


class _Later:
    """Stands for the fields of a class that nobody has used yet: who asks for them has it made."""

    def __init__(self, kind: type, options: dict[str, Any]) -> None:
        self._kind, self._options = kind, options

    def __get__(self, _object: object, asked: type) -> Any:
        self.make()
        return getattr(asked, _FIELDS)

    def make(self) -> None:
        """Once; who comes meanwhile waits."""
        with _making:
            if self._kind.__dict__[_FIELDS] is self:
                dataclasses.dataclass(self._kind, **self._options)
                setattr(self._kind, "__new__", _plain)  # noqa: B010 - mypy knows better than to assign it


def _plain(kind: type, /, *_given: object, **_named: object) -> object:
    return object.__new__(kind)


def _first(later: _Later) -> Callable[..., object]:
    def new(kind: type, /, *_given: object, **_named: object) -> object:
        later.make()
        return object.__new__(kind)

    new.__qualname__ = _plain.__qualname__
    return new


def _decorator(options: dict[str, Any]) -> Callable[[type], type]:
    return lambda kind: _postponed(kind, options)


def _postponed(kind: type, options: dict[str, Any]) -> type:
    new: object = kind.__new__
    usual = new is object.__new__ or getattr(new, "__qualname__", "") == _plain.__qualname__
    if not usual or options.keys() & _NEW_CLASS:
        return dataclasses.dataclass(kind, **options)
    later = _Later(kind, options)
    setattr(kind, _FIELDS, later)
    setattr(kind, "__new__", _first(later))  # noqa: B010
    return kind
