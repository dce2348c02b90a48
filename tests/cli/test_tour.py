"""The tour: nothing starts before somebody agrees, every step can be left out, and nothing of it is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from git_sandbox.cli import first, tour
from git_sandbox.cli.main import VERBS
from git_sandbox.network import BY_NAME
from support.fabricated import worked
from support.gitrepo import GitRepo
from support.terminal import Terminal

from .conftest import Cli
from .test_commands import SANDBOX


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home and a directory for temporary files, with nothing in them, of somebody who told git no name."""
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


def toured(place: Path, **more: str) -> Terminal:
    own = {"HOME": f"{place}/home", "TMPDIR": f"{place}/tmp", "XDG_CACHE_HOME": f"{place}/cache", "NO_COLOR": "1"}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "XDG_"))}
    return Terminal([SANDBOX, "tour"], cwd=place / "work", env=env | own | more)


def left(place: Path) -> list[str]:
    """Without the directory of sockets and what is remembered in the cache."""
    kept = {f"git-sandbox-{os.getuid()}", "cache"}
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if not kept & {*path.parts})


@pytest.mark.parametrize("ending", ["q\r", "\x04", "\x03"], ids=["quit", "end of input", "Ctrl-C"])
def test_who_leaves_at_once_has_started_nothing(place: Path, ending: str) -> None:
    before = left(place)
    with toured(place) as term:
        shown = term.expect("Enter runs it [run*, skip, quit]")
        assert re.search(r"\$ sandbox run --name tour -- sh -c ", shown)
        assert len(list((place / "tmp").glob("git-sandbox-tour-*/tour/.git"))) == 1
        term.type(ending)
        assert term.wait() == (0 if ending == "q\r" else 130), term.shown()
        assert "Removed the temporary repository" in term.shown()
    assert left(place) == before


def test_every_step_can_be_left_out(place: Path) -> None:
    with toured(place) as term:
        for number, step in enumerate(tour.STEPS, 1):
            term.expect(f"{number}/{len(tour.STEPS)}  {step.title}")
            term.expect("[run*, skip, quit]")
            term.type("s\r")
        assert term.wait() == 0, term.shown()
        assert "That is all." in term.shown()
    assert not list((place / "tmp").glob("git-sandbox-tour-*"))


def test_a_step_that_goes_wrong_ends_it(place: Path) -> None:
    """There is no sandbox to look at when the first step was left out."""
    with toured(place) as term:
        seen = ""
        for answer in ("s\r", "\r", "\r"):
            seen += term.expect("[run*, skip, quit]")
            term.type(answer)
        assert "No sandboxes in this repository." in seen
        assert term.wait() == 17, term.shown()
        assert "The command failed with exit code 17" in term.shown()
    assert not list((place / "tmp").glob("git-sandbox-tour-*"))


def test_a_repository_that_gits_variables_name_is_not_touched(place: Path, repo: GitRepo) -> None:
    """There may be a sandbox of the tour's name in it, which the end of the tour would drop for good."""
    worked(repo, "tour", {"f": "1\n"})
    before = repo.git("for-each-ref")
    with toured(place, GIT_DIR=str(repo.path / ".git"), GIT_WORK_TREE=str(repo.path)) as term:
        term.expect("[run*, skip, quit]")
        term.type("s\r")
        term.expect("[run*, skip, quit]")
        term.type("\r")
        assert "No sandboxes in this repository." in term.expect("3/")
        term.expect("[run*, skip, quit]")
        term.type("q\r")
        assert term.wait() == 0, term.shown()
    assert repo.git("for-each-ref") == before


def test_its_steps_are_commands_that_are_there(cli: Cli) -> None:
    rows = cli("tour", "--json").envelope["data"]
    assert [each["command"].split()[:2] for each in rows] == [["sandbox", step.words[0]] for step in tour.STEPS]
    assert {step.words[0] for step in tour.STEPS} <= VERBS.keys()
    assert cli("tour").code == 2


def test_what_is_said_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    texts = [tour._wrapped(step.text) for step in tour.STEPS] + [
        "\n".join(first.banner("vm-12", net)) for net in BY_NAME
    ]
    assert [line for text in texts for line in text.splitlines() if len(line) > 80] == []
    assert {len(first.banner("vm-12", net)) for net in BY_NAME} == {3}
