"""A Ray cluster (extra `ray`): the connection to it, its nodes, and what a worker on each says of that node."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from git_sandbox.errors import SandboxError
from git_sandbox.image import spec
from git_sandbox.jobs import result
from git_sandbox.jobs.result import Hello
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import hosts
from git_sandbox.sandbox.elsewhere import Machine
from git_sandbox.sandbox.ray_task import Done, introduced
from git_sandbox.sandbox.ray_task import ray as library
from git_sandbox.sandbox.supervisor import failure
from git_sandbox.settings import Settings

RAY = "ray"
WORKER = (sys.executable, "-P", "-m", "git_sandbox", "worker")  # on a node, which has the same installation
ANSWERS = 180.0  # seconds for a node to say what it is: `hosts.ANSWERS`, and the start of a process of Ray's


def is_ray(place: str) -> bool:
    return place == RAY or place.startswith(f"{RAY}:")


@contextlib.contextmanager
def connected(place: str) -> Iterator[Cluster]:
    """The cluster at `ray:ADDRESS`, or the one that `ray` finds, or a new one on this host. Raises RequirementError."""
    ray = library()
    address = place.removeprefix(RAY).removeprefix(":") or None
    ours = not ray.is_initialized()
    if ours:
        dashboard = False if not address else None
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=dashboard)
    try:
        yield Cluster(ray)
    finally:
        if ours:
            ray.shutdown()


@dataclass(frozen=True)
class Cluster:
    """`ray`: the library, connected."""

    ray: Any

    def nodes(self) -> list[str]:
        """Ids of those that are there."""
        return [str(node["NodeID"]) for node in self.ray.nodes() if node["Alive"]]

    def on(self, node: str, function: Callable[..., Any]) -> Any:
        """`function` as a task of that node, which takes none of its processors and is not repeated."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node, soft=False)
        return self.ray.remote(function).options(num_cpus=0, scheduling_strategy=place, max_retries=0)

    def done(self, task: Any, within: float | None = None) -> Done:
        """What a task returned, waited for `within` seconds. Raises SandboxError: its own, or that Ray lost it."""
        try:
            done: Done = self.ray.get(task, timeout=within)
        except self.ray.exceptions.RayError as error:
            raise SandboxError("Ray lost the task", cause=str(error)[:2000]) from error
        if done.error is not None:
            raise failure(*done.error)
        return done

    def hello(self) -> Iterator[tuple[str, Hello | SandboxError]]:
        """What each node's worker says of itself, or why no answer. All are asked at once."""
        tasks = [(node, self.on(node, introduced).remote(WORKER)) for node in self.nodes()]
        for node, task in tasks:
            try:
                yield node, result.parsed(self.done(task, ANSWERS).result, Hello)
            except SandboxError as error:
                yield node, error


def machines(place: str, settings: Settings, progress: Progress) -> Iterator[Machine]:
    """The nodes of the cluster at `place`, each with what it says. Raises RequirementError."""
    with connected(place) as cluster:
        progress("Asking the nodes")
        key = spec.asked(settings).key
        for node, answer in cluster.hello():
            name = f"{RAY} node {node[:12]}"
            if isinstance(answer, SandboxError):
                yield Machine(name, None, answer)
            else:
                slots = hosts.slots(answer, settings.cpus, settings.memory)
                yield Machine(name, answer, None, slots, key in answer.images)
