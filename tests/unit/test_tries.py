"""`run --count`: what is decided before anything starts, and how output and exit codes are put together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import settings
from git_sandbox.errors import HostResourceError, StateError, UsageError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import capacity, crowd, elsewhere, parallel, supervisor
from git_sandbox.sandbox.crowd import Try
from git_sandbox.sandbox.options import Options
from support.gitrepo import GitRepo


def options(name: str | None = None, **given_: Any) -> Options:
    return Options(settings.resolve(given_)[0], name, ("true",))


def test_each_has_a_name_an_index_and_a_share_of_the_processors(repo: GitRepo) -> None:
    wanted = options("fix", env=("A=1",), memory="256M")
    planned = parallel.plan(discover(repo.path), wanted, 3, share_processors=True)
    assert [each.name for each in planned] == ["fix-1", "fix-2", "fix-3"]
    assert [each.settings.env for each in planned] == [
        ("A=1", f"SANDBOX_INDEX={index}", "SANDBOX_COUNT=3") for index in (1, 2, 3)
    ]
    assert {each.settings.cpus for each in planned} == {capacity.processors(3)}
    assert {each.settings.on_exit for each in planned} == {"keep"}
    kept = parallel.plan(discover(repo.path), options(cpus="7", memory="256M"), 2, share_processors=False)
    assert {(each.settings.cpus, each.name) for each in kept} == {(7, None)}


@pytest.mark.parametrize(
    ("count", "given_"),
    [
        (0, {}), (-1, {}), (parallel.MAX_COUNT + 1, {}),
        (2, {"publish": ("8080:80",)}), (2, {"on_exit": "merge"}), (2, {"on_exit": "ask"}),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(repo: GitRepo, count: int, given_: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        parallel.plan(discover(repo.path), options(**given_), count, share_processors=True)


def test_a_name_that_is_taken_is_refused_before_anything_starts(repo: GitRepo) -> None:
    repo.git("update-ref", "refs/sandbox/fix-2", "HEAD")
    with pytest.raises(StateError):
        parallel.plan(discover(repo.path), options("fix", memory="256M"), 3, share_processors=True)
    with pytest.raises(StateError):
        parallel.plan(
            discover(repo.path), dataclasses.replace(options(memory="256M"), origin="nobody"), 2, share_processors=True
        )
    with pytest.raises(UsageError):
        parallel.plan(discover(repo.path), options("no_such", memory="256M"), 3, share_processors=True)


def test_too_little_memory_names_what_would_fit() -> None:
    capacity.require_memory(3, 1024, 3 * 1088 + 256)
    with pytest.raises(HostResourceError) as caught:
        capacity.require_memory(4, 1024, 3 * 1088 + 256)
    assert "`--count 3`" in caught.value.hint
    assert "`--memory 640M`" in caught.value.hint
    with pytest.raises(HostResourceError) as caught:
        capacity.require_memory(4, 1024, 100)
    assert "stop other sandboxes" in caught.value.hint


def test_too_little_disk_names_what_would_fit(tmp_path: Path) -> None:
    capacity.require_disk(2, 2 << 30, (1 << 30) * 5, tmp_path)
    with pytest.raises(HostResourceError) as caught:
        capacity.require_disk(3, 2 << 30, (1 << 30) * 5, tmp_path)
    assert "`--count 2`" in caught.value.hint


def test_the_first_that_failed_gives_the_exit_code() -> None:
    assert crowd.Ran((Try(0, "vm-1", 0), Try(1, "vm-2", 0))).exit_code == 0
    assert crowd.Ran((Try(0, "vm-1", 0), Try(1, "vm-2", 5), Try(2, None, 13))).exit_code == 5
    assert crowd.Ran((Try(0, "vm-1", 143),), 2).exit_code == 130


@given(st.lists(st.binary(max_size=9)), st.integers(1, 4))
def test_lines_lose_nothing(chunks: list[bytes], most: int) -> None:
    whole = b"".join(chunks)
    wanted = whole.split(b"\n")
    assert list(crowd.lines(iter(chunks), 0)) == (wanted if wanted[-1] else wanted[:-1])
    pieces = list(crowd.lines(iter(chunks), most))
    assert b"".join(pieces) == whole.replace(b"\n", b"")
    assert b"\n" not in b"".join(pieces)


def test_of_a_try_that_ended_nothing_stays(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time: when a later one speaks, the process of every earlier one is gone, also as a zombie."""
    ended = '{"ended": {"id": "x", "exit_code": 0, "changed": false, "rescued": false, "head": null, "wip": null,'
    ended += ' "refs": {}, "warnings": []}}'
    monkeypatch.setattr(
        supervisor, "argv", lambda fd: ["sh", "-c", f"cat >/dev/null; echo $$; echo '{ended}' >/proc/self/fd/{fd}"]
    )
    processes: list[int] = []
    alive: list[list[int]] = []

    def output(_label: str, channel: int, line: bytes) -> None:
        if channel == 1:
            alive.append([pid for pid in processes if Path(f"/proc/{pid}").exists()])
            processes.append(int(line))

    found = discover(repo.path)
    tasks = [options(f"try-{number}") for number in range(1, 7)]
    ran = parallel.run(found, tasks, lambda _text: None, output, at_once=1)
    assert [each.exit_code for each in ran.tries] == [0] * 6
    assert alive == [[]] * 6


def test_a_machine_that_says_it_takes_everything_does_not_fill_this_one(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try there has a supervisor here; as many as this host can have run, and all of them in the end."""
    ended = '{"ended": {"id": "x", "exit_code": 0, "changed": false, "rescued": false, "head": null, "wip": null,'
    said = f"""'{{"ready": "x"}}' '{ended} "refs": {{}}, "warnings": []}}}}'"""
    monkeypatch.setattr(
        supervisor, "argv", lambda fd: ["sh", "-c", f"cat >/dev/null; printf '%s\\n' {said} >/proc/self/fd/{fd}"]
    )
    monkeypatch.setattr(capacity, "SUPERVISORS", 2)
    start, running = crowd.Crowd._start, list[int]()

    def starting(self: crowd.Crowd, wanted: Options) -> None:
        start(self, wanted)
        running.append(len(self.running))

    monkeypatch.setattr(crowd.Crowd, "_start", starting)
    tasks = [dataclasses.replace(options(f"try-{number}"), on=("ssh:one",)) for number in range(1, 7)]
    room = elsewhere.Room({"ssh:one": 1 << 16})
    ran = parallel.run(discover(repo.path), tasks, lambda _text: None, lambda *_line: None, room=room)
    assert [attempt.exit_code for attempt in ran.tries] == [0] * 6
    assert max(running) == 2
    monkeypatch.setattr(capacity, "available_memory", lambda: 100)
    assert capacity.supervisors() == 1
