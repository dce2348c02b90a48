"""What stands for Ray in tests: tasks run at once and one after the other, each with a worker of its own.

It has the few calls that the driver and its tasks make. The real one is started by `bench/ray`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RayError(Exception):
    pass


@dataclass(eq=False)
class Ref:
    value: object


@dataclass(frozen=True)
class Task:
    ray: Ray
    function: Callable[..., object]
    node: str = "a" * 56

    def options(self, *, scheduling_strategy: Strategy | None = None, **more: object) -> Task:
        assert more.keys() <= {"num_cpus", "memory", "max_retries"}
        return Task(self.ray, self.function, scheduling_strategy.node if scheduling_strategy else self.node)

    def remote(self, *words: object) -> Ref:
        if self.node in self.ray.gone:
            return Ref(RayError(f"node {self.node} died"))
        self.ray.current = self.node
        return Ref(self.function(*words))


@dataclass(frozen=True)
class Strategy:
    node: str
    soft: bool


class Ray(ModuleType):
    """The module. `looked`: how many tasks were looked at by each `wait`; `gone`: nodes whose tasks are lost."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        super().__init__("ray")
        self.current, self.gone = "", set[str]()
        self.looked: list[int] = []
        self.ids = ["a" * 56, "b" * 56]

    def is_initialized(self) -> bool:
        return True

    def remote(self, function: Callable[..., object]) -> Task:
        return Task(self, function)

    def put(self, value: object) -> Ref:
        return Ref(value)

    def get(self, ref: Ref, timeout: float | None = None) -> object:
        del timeout
        if isinstance(ref.value, RayError):
            raise ref.value
        return ref.value

    def wait(self, refs: list[Ref], *, num_returns: int, timeout: float | None = None) -> tuple[list[Ref], list[Ref]]:
        del timeout
        self.looked.append(len(refs))
        return refs[:num_returns], refs[num_returns:]

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True} for name in self.ids] + [{"NodeID": "c" * 56, "Alive": False}]

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: self.current)


def installed(monkeypatch: pytest.MonkeyPatch) -> Ray:
    ray = Ray()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = Strategy  # type: ignore[attr-defined]
    modules = {"ray": ray, "ray.util": ModuleType("ray.util"), "ray.util.scheduling_strategies": strategies}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return ray
