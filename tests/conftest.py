"""Hermetic surroundings for every test: own HOME and XDG directories, own git identity, nothing of the developer's."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from support import forks, registry
from support.examples import PART, examples, rows
from support.gitrepo import GitRepo
from support.oci import Layout
from support.registry import Registry

# What a developer's or CI's shell says about its terminal and its git is not what a test runs in.
# Gone at once, and not for each test, so that fixtures of a whole session do not see it either.
_NAMES = {
    "BROWSER", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "DOCKER_HOST", "EDITOR", "FORCE_COLOR", "LANGUAGE", "LINES",
    "NO_COLOR", "PAGER", "SSH_AGENT_PID", "SSH_AUTH_SOCK", "STY", "TMUX", "VISUAL", "XDG_RUNTIME_DIR",
}  # fmt: skip
for _name in list(os.environ):
    if _name in _NAMES or _name.startswith("GIT_"):
        del os.environ[_name]


# A developer's run tries new examples each time; CI tries the same ones, so that what is green stays green. No
# deadlines: these tests share a busy machine.
_CALM = hypothesis.settings(
    deadline=None, suppress_health_check=(hypothesis.HealthCheck.too_slow,), max_examples=examples(100)
)
hypothesis.settings.register_profile("developer", _CALM)
hypothesis.settings.register_profile("ci", _CALM, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the tables of tests that run git, the part that was asked for; after -k and -m, so of what these chose."""
    if PART >= 1:
        return
    kept = rows(items, lambda item: item.path.parent.name in ("cli", "git"))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


_PASSED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def _forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    forks.server = forks.Server(tmp_path_factory.getbasetemp() / "forks")
    yield
    forks.server.close()


@pytest.fixture(scope="session")
def _directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New directories, by number. pytest's own numbering lists all there are for each new one, thousands at the end."""
    top = tmp_path_factory.getbasetemp()
    return (top / f"{number}" for number in itertools.count())


@pytest.fixture
def tmp_path(_directories: Iterator[Path], request: pytest.FixtureRequest) -> Iterator[Path]:
    """pytest's, with a name that is short (a socket's path may have 107 bytes) and begins with the test's. That of a
    test that passed is removed while it is in memory: three runs later it is minutes of waiting for the disk.
    """
    place = next(_directories)
    place = place.with_name(f"{re.sub('[^a-zA-Z0-9]', '_', request.node.name)[:30]}-{place.name}")
    place.mkdir(mode=0o700)
    yield place
    if request.node.stash.get(_PASSED, False):
        shutil.rmtree(place, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture(autouse=True)
def _hermetic(_directories: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home = next(_directories)
    home.mkdir(mode=0o700)
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Test User\n\temail = test@example.com\n[init]\n\tdefaultBranch = main\n"
        '[advice]\n\tdetachedHead = false\n[protocol "file"]\n\tallow = always\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    for kind in ("STATE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A repository with one commit on `main`."""
    made = GitRepo.create(tmp_path / "repo")
    made.commit("first", {"README": "hello\n"})
    return made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An OCI image layout that is not there yet."""
    return Layout(tmp_path / "layout")


@pytest.fixture
def server(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry on loopback with the images of `layout`, where skopeo looks without TLS."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with registry.served(layout) as found:
        registry.allow_plain(found.address, tmp_path / "home")
        yield found
