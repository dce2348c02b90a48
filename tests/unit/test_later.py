"""A data class whose methods are made with its first object is one like any other."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from git_sandbox import later

T = TypeVar("T")
ROUNDS, THREADS = 50, 8


@later.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    names: list[str] = later.field(default_factory=list, compare=False)


@later.dataclass(frozen=True)
class Deeper(Point):
    z: int = 3


@later.dataclass
class Holder(Generic[T]):
    value: T


def test_it_is_a_data_class_before_anybody_used_it() -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "a", "b", "True", "B(a=1,", "b=2)"]


BEFORE = """
import dataclasses
import importlib
from git_sandbox.later import dataclass
@dataclass(frozen=True)
class A:
    a: int
@dataclass(frozen=True)
class B(A):
    b: int
print("__eq__" in vars(B))
print(*(each.name for each in dataclasses.fields(B)))
print("__eq__" in vars(A), B(1, b=2))
"""


def test_objects_are_as_with_the_original() -> None:
    one = Deeper(1, z=4)
    assert (one.x, one.y, one.z, one.names) == (1, 2, 4, [])
    assert one == Deeper(1, 2, ["other"], 4) != Deeper(2)
    assert hash(one) == hash(Deeper(1, z=4))
    assert repr(one) == "Deeper(x=1, y=2, names=[], z=4)"
    assert later.replace(one, x=5) == Deeper(5, z=4)
    assert later.asdict(Point(1)) == {"x": 1, "y": 2, "names": []}
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own
    assert Point(1).names is not Point(1).names
    assert Holder[int](3) == Holder(3)
    assert msgspec.convert({"x": 1}, Point) == Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="missing 1 required"):
        Point()  # type: ignore[call-arg]


def test_fields_may_be_called_as_they_like() -> None:
    @later.dataclass
    class Odd:
        kind: str
        cls: str
        self_: str

    assert Odd(kind="a", cls="b", self_="c").kind == "a"


def test_what_makes_objects_its_own_way_is_made_at_once() -> None:
    @later.dataclass(slots=True)
    class Slotted:
        x: int

    @later.dataclass
    class Failure(Exception):  # noqa: N818
        x: int

    @later.dataclass
    class Made:
        x: int

        def __new__(cls, *_given: object) -> Any:
            return super().__new__(cls)

    assert all("__eq__" in vars(each) for each in (Slotted, Failure, Made))
    assert (Slotted(1).x, Failure(2).x, Made(3).x) == (1, 2, 3)


def test_threads_that_come_at_once_all_find_it_whole() -> None:
    for _ in range(ROUNDS):

        @later.dataclass(frozen=True)
        class Fresh:
            a: int
            b: int = 7

        begin, equal = threading.Barrier(THREADS), list[bool]()

        def use(kind: Any = Fresh, begin: threading.Barrier = begin, equal: list[bool] = equal) -> None:
            begin.wait()
            equal.append(kind(1) == kind(1, 7) and hash(kind(1)) == hash(kind(1)))

        threads = [threading.Thread(target=use) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert equal == [True] * THREADS


def test_a_pattern_is_compiled_when_it_is_first_used() -> None:
    lazy: Any = later.regex("(a)(B)?", re.IGNORECASE)
    assert "match" not in vars(lazy)
    assert lazy.fullmatch("AB").groups() == ("A", "B")
    assert "match" in vars(lazy)
    assert (lazy.pattern, lazy.sub("-", "xab"), lazy.findall("ab a")) == ("(a)(B)?", "x-", [("a", "b"), ("a", "")])
    with pytest.raises(re.error):
        later.regex("(").match("x")


def test_every_pattern_of_the_host_is_one() -> None:
    source = Path(later.__file__).parent
    kind = type(later.regex("x"))
    found = 0
    for path in source.rglob("*.py"):
        if path.name == "later.py" or "regex(" not in path.read_text():
            continue
        module = importlib.import_module(".".join(("git_sandbox", *path.relative_to(source).with_suffix("").parts)))
        for value in vars(module).values():
            if isinstance(value, kind):
                re.compile(value.pattern)
                found += 1
    assert found > 50
