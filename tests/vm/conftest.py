"""Fixtures for tests that boot: the real image, a repository, and sandboxes that must leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support import backends
from support.cow import enlarged
from support.gitrepo import GitRepo
from support.vm import SANDBOX, Sandboxes, keep_artifacts, real_cache, sandboxes

CACHE = real_cache()
REPORTS = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vm)
            call = getattr(item, "callspec", None)
            if call and call.params.get("backend", backends.DEFAULT) != backends.DEFAULT:
                item.add_marker(pytest.mark.other_backend)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    del call
    report = yield
    item.stash[REPORTS] = item.stash.get(REPORTS, False) or report.failed
    return report


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real cache, with the image in it: built when it is missing, which takes minutes. Never a reason to skip."""
    nothing = tmp_path_factory.mktemp("config")
    env = dict(os.environ) | {"XDG_CACHE_HOME": str(CACHE), "XDG_CONFIG_HOME": str(nothing)}
    built = subprocess.run([SANDBOX, "image", "build"], env=env, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        pytest.fail(f"the guest image cannot be had, so no VM test can run:\n{built.stderr}", pytrace=False)
    return CACHE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `contract` runs once for each backend, everything else with the default one.

    What is marked `transports` runs (as well) with each that can share.
    """
    if "backend" not in metafunc.fixturenames:
        return
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    plain = backends.NAMES if "contract" in marked else ()
    shared = backends.SHARING if "transports" in marked else ()
    if plain or shared:
        metafunc.parametrize("backend", (*plain, *shared), indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test, and the transport; skips, and says why, where it cannot run."""
    asked: str = getattr(request, "param", backends.DEFAULT)
    name = asked.removesuffix(backends.ON_SHARE)
    why = backends.absent(name) or (backends.unshared() if asked != name else "")
    if not why:
        own = {"XDG_CACHE_HOME": os.fspath(request.getfixturevalue("cache"))}
        why = backends.unproved(name, os.environ | own)
    if why:
        pytest.skip(f"{asked}: {why}")
    return asked


@pytest.fixture
def boxes(
    request: pytest.FixtureRequest, backend: str, repo: GitRepo, tmp_path: Path, cache: Path
) -> Iterator[Sandboxes]:
    """`sandbox` as a user runs it, in `repo`, on `backend`."""
    target = request.config.rootpath / "test-results" / re.sub(r"[^\w.-]+", "_", request.node.name)
    with sandboxes(repo, tmp_path / "state", cache) as made:
        name = backend.removesuffix(backends.ON_SHARE)
        made.env["SANDBOX_BACKEND"] = name
        made.env["SANDBOX_TRANSPORT"] = "disk" if backend == name else "share"
        made.machine = backends.process(name)
        try:
            yield made
        finally:
            if request.node.stash.get(REPORTS, False):
                keep_artifacts(made, target)


@pytest.fixture
def large(boxes: Sandboxes) -> Iterator[Sandboxes]:
    """The same with a repository that is worth a base."""
    with enlarged(boxes) as made:
        yield made
