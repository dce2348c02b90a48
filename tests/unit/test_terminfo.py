"""The guest gets the host's description of a terminal that it may not know, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from git_sandbox.image import terminfo

ENTRY = b"\x1a\x01" + b"entry"


@pytest.mark.parametrize(("below", "variable"), [("x", "TERMINFO"), ("78", "TERMINFO"), ("x", "TERMINFO_DIRS")])
def test_it_is_found_where_ncurses_looks(tmp_path: Path, below: str, variable: str) -> None:
    (tmp_path / below).mkdir()
    (tmp_path / below / "xterm-ghostty").write_bytes(ENTRY)
    found = terminfo.files({"TERM": "xterm-ghostty", variable: str(tmp_path)})
    assert found == {"/etc/terminfo/x/xterm-ghostty": ENTRY}


def test_home_comes_before_the_system(tmp_path: Path) -> None:
    (tmp_path / ".terminfo" / "x").mkdir(parents=True)
    (tmp_path / ".terminfo" / "x" / "xterm-kitty").write_bytes(ENTRY)
    assert terminfo.files({"TERM": "xterm-kitty", "HOME": str(tmp_path)})["/etc/terminfo/x/xterm-kitty"] == ENTRY


def test_who_comes_later_brings_it_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guest's shell is told, done by a shell; a large description, and one that is there."""
    place, content = tmp_path / "guest", ENTRY + bytes(range(256)) * 127
    monkeypatch.setattr(terminfo, "LATER", str(place))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "xterm-ghostty").write_bytes(content)
    line = terminfo.describe({"TERM": "xterm-ghostty", "TERMINFO": str(tmp_path)})
    for there in (None, b"another"):
        if there is not None:
            (place / "x" / "xterm-ghostty").write_bytes(there)
        done = subprocess.run(["bash", "-c", f"{line}echo on"], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"on\n", b"")
        assert [each.read_bytes() for each in place.rglob("*") if each.is_file()] == [there or content]
    assert terminfo.describe({"TERM": "xterm-256color"}) == ""


def test_a_guest_that_cannot_write_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminfo, "LATER", "/proc/no/such")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "xterm-ghostty").write_bytes(ENTRY)
    line = terminfo.describe({"TERM": "xterm-ghostty", "TERMINFO": str(tmp_path)})
    done = subprocess.run(["bash", "-c", f"{line}echo on"], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"on\n", b"")


@pytest.mark.parametrize("content", [b"", b"no entry", ENTRY + bytes(terminfo.MAX_FILE)])
def test_only_what_is_a_description_goes_in(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "q-term").write_bytes(content)
    assert terminfo.files({"TERM": "q-term", "TERMINFO": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    "name", ["", "../../passwd", "x/../../y", "-x", "a b", "xterm-256color", "linux", "x" * 99, "é"]
)
def test_names_that_need_none_or_are_none(name: str) -> None:
    assert terminfo.files({"TERM": name}) == {}
