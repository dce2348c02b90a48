"""Tries as tasks of a cluster: what is ours of it, with a stand-in for Ray's library and for the workers."""

from __future__ import annotations

import json
import sys

import pytest

from git_sandbox.sandbox import on_ray, ray_cluster
from git_sandbox.store import State
from support import cluster
from support.cluster import Ray
from support.site import SUPPORT, Site

COMMIT = "echo $SANDBOX_INDEX > made && git add made && git commit -qm made"


@pytest.fixture
def ray(site: Site, monkeypatch: pytest.MonkeyPatch) -> Ray:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    worker = (
        "env",
        f"STANDIN_ROOT={site.place('node')}",
        f"PYTHONPATH={SUPPORT}",
        sys.executable,
        "-m",
        "support.standin",
    )
    monkeypatch.setattr(ray_cluster, "WORKER", worker)
    return cluster.installed(monkeypatch)


def test_tries_come_home_and_ray_has_a_few_at_a_time(site: Site, ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: it looks at all that it has for each that ends."""
    monkeypatch.setattr(on_ray, "AHEAD", 1)
    words = ("run", "--on", "ray", "--count", "3", "--cpus", "1", "--name", "try", "--", "sh", "-c", COMMIT)
    said = site.sandbox(*words)
    assert said.code == 0, said.err
    for index in range(1, 4):
        assert site.repo.git("show", f"refs/sandbox/try-{index}:made") == str(index)
    assert site.jobs("node") == []
    assert len(site.delivered("node")) == 3
    assert max(ray.looked) <= 2
    ray.gone.add("a" * 56)
    said = site.sandbox(*words[:4], "1", *words[5:8], "lost", *words[9:])
    assert (said.code, "Ray lost the task" in said.err) == (1, True), said.err
    assert site.state("lost-1") is State.AWAY
    said = site.sandbox("recover", "--on", "ray", "lost-1")
    assert "no such job" in said.err


def test_doctor_says_of_each_node_what_it_is(site: Site, ray: Ray) -> None:
    ray.gone.add("b" * 56)
    said = site.sandbox("doctor", "--on", "ray", "--json")
    rows = {row["name"]: row for row in json.loads(said.out)["data"]}
    assert said.code == 11
    assert rows["ray node aaaaaaaaaaaa"]["result"].startswith("git-sandbox ")
    assert "MiB of memory free" in rows["ray node aaaaaaaaaaaa room"]["result"]
    assert rows["ray node aaaaaaaaaaaa image"]["verdict"] == "note"
    assert rows["ray node bbbbbbbbbbbb"]["verdict"] == "missing"
    assert "Ray lost the task" in rows["ray node bbbbbbbbbbbb"]["result"]
    ray.ids.clear()
    said = site.sandbox("doctor", "--on", "ray:there")
    assert (said.code, "has no node" in said.err) == (11, True)
