"""What a program answered is kept while it is the same program in the same circumstances."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox import answers, confine, paths, process
from git_sandbox.vmm import qemu


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_answer_is_kept_for_what_was_asked() -> None:
    assert answers.kept("q", "a") is None
    answers.keep("q", "a", "yes")
    assert answers.kept("q", "a") == "yes"
    assert answers.kept("q", "b") is None
    answers.forget("q")
    answers.forget("q")
    assert answers.kept("q", "a") is None


def test_a_damaged_file_is_no_answer_and_a_cache_that_cannot_be_written_no_error(cache: Path) -> None:
    answers.keep("q", "a", "yes")
    paths.cache_root().joinpath("q.json").write_text("{")
    assert answers.kept("q", "a") is None
    cache.joinpath("git-sandbox", "q.json").unlink()
    cache.joinpath("git-sandbox").rmdir()
    cache.joinpath("git-sandbox").touch()
    answers.keep("q", "a", "yes")
    assert answers.kept("q", "a") is None


@pytest.fixture
def bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of ours, which counts how often it is asked and does what a file says."""
    program = tmp_path / "bin" / confine.PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho >>{tmp_path}/asked\nexit $(cat {tmp_path}/status)\n")
    program.chmod(0o755)
    (tmp_path / "status").write_text("0")
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def asked(tmp_path: Path) -> int:
    place = tmp_path / "asked"
    return len(place.read_text()) if place.exists() else 0


def again() -> str:
    """As in another process."""
    confine.unavailable.cache_clear()
    try:
        return confine.unavailable()
    finally:
        confine.unavailable.cache_clear()


def test_confinement_is_proved_once_and_a_failure_each_time(bubblewrap: Path, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("1")
    assert again()
    before = asked(tmp_path)
    assert again()
    assert asked(tmp_path) > before
    (tmp_path / "status").write_text("0")
    assert again() == ""
    before = asked(tmp_path)
    assert again() == ""
    assert asked(tmp_path) == before
    bubblewrap.write_text(bubblewrap.read_text() + "# another one\n")
    assert again() == ""
    assert asked(tmp_path) > before


@pytest.mark.usefixtures("bubblewrap")
def test_the_proof_itself_is_not_remembered_and_what_it_refutes_is_forgotten(tmp_path: Path) -> None:
    assert again() == ""
    (tmp_path / "status").write_text("1")
    assert again() == ""
    assert confine.refusal()
    assert again()


def test_another_program_of_the_same_size_and_time_is_another_one(tmp_path: Path) -> None:
    place = tmp_path / "program"
    place.write_bytes(b"one")
    os.utime(place, (0, 0))
    before = answers.program(str(place))
    assert answers.program(str(place)) == before
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"two")
    os.utime(fresh, (0, 0))
    fresh.replace(place)
    assert answers.program(str(place)) != before


def test_only_a_program_speaks_for_itself(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert answers.compiled(os.path.realpath("/bin/sh"))
    assert not answers.compiled(str(script))
    assert not answers.compiled(str(tmp_path / "none"))


def test_a_version_without_a_number_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read again as one with a part that is no number: an unexpected error, until the file was removed."""
    monkeypatch.setattr(answers, "compiled", lambda _path: True)
    answer = process.Completed((), 0, b"QEMU emulator version unknown\n", b"")
    monkeypatch.setattr(process, "run", lambda *_words, **_options: answer)
    for _ in range(2):
        qemu._version.cache_clear()
        assert qemu._version("this one") == ()
    qemu._version.cache_clear()
