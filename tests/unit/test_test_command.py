"""`scripts/test`: each step counts; a plain run has rows of every table, and what is asked for by name runs."""

from __future__ import annotations

import ast
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import examples
from support.vm import wait_for

ROOT = Path(__file__).parents[2]
TABLE = "tests/git/test_fsck_verdicts.py"


@pytest.mark.parametrize("part", [1.0, 0.25, 0.1])
def test_some_has_the_first_row_and_about_that_part(monkeypatch: pytest.MonkeyPatch, part: float) -> None:
    monkeypatch.setattr(examples, "PART", part)
    for size in range(1, 60):
        rows = examples.some(range(size))
        assert rows[0] == 0
        assert 0 <= len(rows) - size * part < 1


def collected(*words: str, part: str) -> list[str]:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", TABLE, *words]
    environment = os.environ | {"SANDBOX_TEST_EXAMPLES": part}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.long("collects with a pytest of its own three times")
def test_a_part_has_rows_of_every_table_and_each_row_by_its_name() -> None:
    whole, part = collected(part="1"), collected(part="0.25")
    assert {*part} < {*whole}
    assert {row.partition("[")[0] for row in part} == {row.partition("[")[0] for row in whole}
    (left_out, *_) = [row for row in whole if row not in part]
    assert left_out in collected("-k", left_out.partition("[")[2].rstrip("]"), part="0.25")


def test_only_the_run_without_arguments_is_a_part() -> None:
    """Run until the first step, which is replaced by one that prints."""
    script = (ROOT / "scripts/test").read_text("utf-8").replace('cd "$(dirname "$0")/.."', f"cd '{ROOT}'")
    script = script.partition("scripts/install-packages")[0] + 'echo "${SANDBOX_TEST_EXAMPLES-whole} $#"\n'
    for words, environment, output in (
        ((), {}, "0.25 7"), (("tests/git", "-k", "x"), {}, "whole 3"), (("--all",), {}, "whole 0"),
        (("--all",), {"SANDBOX_TEST_EXAMPLES": "0.1"}, "whole 0"),
    ):  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if name != "SANDBOX_TEST_EXAMPLES"}
        argv = ["sh", "-c", script, "scripts/test", *words]
        done = subprocess.run(argv, env=inherited | environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{output}\n", words


def long_marks(text: str) -> list[tuple[str, list[object]]]:
    """Each test with the mark, and the arguments of the mark."""
    found = []
    for node in ast.walk(ast.parse(text)):
        for mark in getattr(node, "decorator_list", ()):
            call = mark if isinstance(mark, ast.Call) else ast.Call(mark, [], [])
            if ast.unparse(call.func) == "pytest.mark.long":
                found.append((getattr(node, "name", ""), [ast.literal_eval(word) for word in call.args]))
    return found


def test_what_the_quick_run_leaves_out_as_long_has_a_reason() -> None:
    """And is a test outside tests/vm, marked in the way that the count at the end of `scripts/test` looks for."""
    marks = {path: long_marks(path.read_text("utf-8")) for path in (ROOT / "tests").rglob("*.py")}
    rows = [(path, name, arguments) for path, found in marks.items() for name, arguments in found]
    assert rows
    for path, name, arguments in rows:
        assert [isinstance(word, str) and len(word.split()) > 2 for word in arguments] == [True], name
        assert (path.parent.name, name[:5]) in {(kind, "test_") for kind in ("cli", "egress", "git", "unit")}, path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Has `scripts/test`; all that it calls prints its name and ends as the file `NAME.status` says."""
    programs = ("scripts/install-packages", "scripts/setup", "scripts/check", ".venv/bin/python")
    for name in programs:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        status = tmp_path / f"{program.name}.status"
        program.write_text(f'#!/bin/sh\necho "{program.name} $1"\n[ ! -e {status} ] || exit "$(cat {status})"\n')
        program.chmod(0o755)
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts/test")
    return tmp_path


@pytest.mark.parametrize(
    ("program", "status", "shown"),
    [
        (None, 0, ["install-packages zsh", "setup --without-image", "setup dev", "check ", "python -m"]),
        ("check", 3, ["install-packages zsh", "setup --without-image", "setup dev", "check "]),
        ("setup", 11, ["install-packages zsh", "setup --without-image"]),
        ("python", 1, ["install-packages zsh", "setup --without-image", "setup dev", "check ", "python -m"]),
    ],
)
def test_a_step_that_fails_ends_the_run(clone: Path, program: str | None, status: int, shown: list[str]) -> None:
    """The checks, too, which run beside the image build and are shown after it."""
    if program:
        (clone / f"{program}.status").write_text(str(status))
    done = subprocess.run([clone / "scripts/test", "--all"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (status, shown, "")


def test_an_image_build_that_fails_takes_the_checks_along(clone: Path) -> None:
    setup = clone / "scripts/setup"
    setup.write_text("#!/bin/sh\n[ $1 = --without-image ] || exit 11\n")
    (clone / "scripts/check").write_text("#!/bin/sh\nexit 3\n")
    done = subprocess.run([clone / "scripts/test"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (11, "install-packages zsh\n", "")


def test_ctrl_c_ends_the_checks_and_what_they_run(clone: Path) -> None:
    (clone / "scripts/check").write_text("#!/bin/sh\n: > checking\nsleep 600\necho never\n")
    (clone / "scripts/setup").write_text("#!/bin/sh\n[ $1 = dev ] || exit 0\n: > building\nsleep 600\n")
    ended, inherited = os.pipe()
    run = subprocess.Popen([clone / "scripts/test"], pass_fds=[inherited], start_new_session=True)
    os.close(inherited)
    wait_for("both", lambda: all((clone / name).exists() for name in ("checking", "building")))
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    assert select.select([ended], [], [], 60) == ([ended], [], []), "one of them still has the pipe"
    os.close(ended)
