"""A verb in a process of its own, and what of its words goes back to the agent."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import settings
from git_sandbox.errors import HostResourceError, SessionError, StateError
from git_sandbox.mcp import guest_files, results, running, tools
from git_sandbox.mcp.arguments import ReadFile
from git_sandbox.mcp.results import Answer
from git_sandbox.mcp.running import Ran, Work
from support.examples import examples
from support.nasty import NASTY, leaks

SH = shutil.which("sh") or "/bin/sh"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ran]:
    """A shell script in place of a verb."""
    monkeypatch.setattr(running, "argv", lambda words: [SH, "-c", *words])

    def run(text: str, work: Work | None = None, **options: Any) -> Ran:
        return running.run([text], tmp_path, work or Work(), **({"timeout": 600.0} | options))

    return run


def test_it_stands_in_the_repository_and_takes_no_module_of_it(tmp_path: Path) -> None:
    (tmp_path / "git_sandbox.py").write_text("raise SystemExit(3)\n")
    ran = running.run(["--version"], tmp_path, Work(), timeout=600)
    assert (ran.code, ran.stdout.split()[0]) == (0, b"sandbox,")


def test_output_without_end_is_read_and_its_beginning_and_end_kept(script: Callable[..., Ran]) -> None:
    ran = script("yes | head -c 5000000; echo first >&2; yes e | head -c 3000000 >&2; echo last >&2", most=1000)
    assert (ran.whole, len(ran.stdout)) == (False, 1000)
    assert ran.messages.startswith(b"first\n")
    assert ran.messages.endswith(b"last\n")
    assert b"bytes are left out" in ran.messages
    assert len(ran.messages) < running.MOST_SAID + 100
    ran = script("printf '%01000d' 0", most=1000)
    assert (ran.whole, ran.stdout) == (True, b"0" * 1000)


def test_progress_is_heard_by_line_and_made_safe(script: Callable[..., Ran]) -> None:
    heard: list[str] = []
    there = threading.Event()

    def say(text: str) -> None:
        heard.append(text)
        if text == "end":
            there.set()

    script(f'printf "a\\n\\nb\\033[2J\\nend\\n" > "/proc/self/fd/${settings.PROGRESS}"; cat', Work(say=say), input=b"x")
    assert there.wait(60)
    assert heard == ["a", "b\N{REPLACEMENT CHARACTER}[2J", "end"]


def test_nothing_of_the_users_moves_at_the_end_whatever_is_set(
    script: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_ON_EXIT", "merge")
    monkeypatch.setenv("SANDBOX_MEMORY", "1G")
    assert script("echo $SANDBOX_ON_EXIT $SANDBOX_DIRTY $SANDBOX_MEMORY").stdout == b"keep keep 1G\n"


@pytest.mark.parametrize("late", [True, False], ids=["deadline", "cancelled"])
def test_it_is_asked_to_end_and_may_finish(script: Callable[..., Ran], tmp_path: Path, late: bool) -> None:
    """It alone: what it started may be what brings the work home."""
    text = "trap 'echo home; exit 143' TERM; echo > ready; while :; do sleep 0.05; done"
    work = Work()
    done: list[Ran] = []
    thread = threading.Thread(target=lambda: done.append(script(text, work, timeout=2.0 if late else 600.0)))
    thread.start()
    while not late and not (tmp_path / "ready").exists() and thread.is_alive():
        thread.join(0.05)
    if not late:
        work.stop.set()
    thread.join(60)
    assert [(ran.code, ran.timed_out) for ran in done] == [(143, late)]
    assert done[0].stdout == b"home\n"


def test_progress_of_a_verb_goes_to_the_descriptor_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from git_sandbox.cli import progress

    reading, writing = os.pipe()
    monkeypatch.setenv(settings.PROGRESS, str(writing))
    with progress.shown(quiet=True) as say:
        say(f"Doing {NASTY}")
        say("")
    assert settings.PROGRESS not in os.environ, "no program that we start sees it"
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    assert text.count(b"\n") == 1
    assert leaks(text, terminal=False) == []
    for wrong in ("", "x", "-1", "9" * 30, str(writing)):
        monkeypatch.setenv(settings.PROGRESS, wrong)
        with progress.shown(quiet=True) as say:
            say("nobody hears it")


@hypothesis.settings(max_examples=examples(40))
@given(JSON, st.integers(0, 200))
def test_a_result_is_small_and_safe(value: Any, most: int) -> None:
    answer = Answer({"result": value}, most=most)
    text = answer.text
    assert leaks(text.encode().replace(b"\\n", b"\n").replace(b"\\t", b"\t"), terminal=False) == []
    assert json.loads(text) == answer.content
    shown = sum(len(each) for each in _texts(answer.content["result"]))
    assert shown <= most + 200, "each text that is cut has a mark"
    if "cut" not in answer.content:
        assert _shape(answer.content["result"]) == _shape(value)


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in _texts(item)]
        case dict():
            return [text for name, item in value.items() for text in (name, *_texts(item))]
        case _:
            return []


def _shape(value: Any) -> Any:
    match value:
        case str():
            return len(value)
        case list():
            return [_shape(item) for item in value]
        case dict():
            return sorted(map(len, value))
        case _:
            return value


def test_a_long_list_says_that_it_was_cut() -> None:
    found = Answer({"result": {"commits": [{"subject": "x"}] * 2000, "n": 2}}).content
    assert (len(found["result"]["commits"]), found["cut"]) == (results.MOST_ITEMS, ["result.commits"])


@pytest.mark.parametrize(
    ("stdout", "whole", "kind"),
    [(b"", True, SessionError), (b"{", True, SessionError), (b'{"status":"ok"}', False, HostResourceError)],
)
def test_a_verb_without_a_result_is_an_error(stdout: bytes, whole: bool, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        tools.answer(Ran(1, stdout, whole=whole, messages=NASTY.encode()))


@given(st.binary(max_size=60))
def test_any_answer_of_a_guest_is_a_file_or_an_error(stdout: bytes) -> None:
    call = ReadFile(id="a", path="x", limit=8)
    try:
        found = guest_files.read(call, Ran(0, stdout, whole=True, messages=b""))
    except SessionError:
        return
    assert found["bytes"] == len(stdout.partition(b"\n")[2])
    with pytest.raises(StateError):
        guest_files.read(call, Ran(1, stdout, whole=True, messages=NASTY.encode()))
