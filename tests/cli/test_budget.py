"""What a command costs, counted: a change that makes one a tenth more expensive says so here, at any load.

After a change that is worth it: `bench/count --write`.
"""

from __future__ import annotations

import compileall
import importlib
from pathlib import Path
from typing import Any

import pytest

import git_sandbox

BENCH = Path(__file__).parents[2] / "bench"


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module(name)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Any:
    return module("costs", monkeypatch)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    return module("counting", monkeypatch)


def test_no_command_costs_a_tenth_more_than_it_may(costs: Any, counting: Any, tmp_path: Path) -> None:
    if why := counting.can_trace():
        pytest.skip(why)
    compileall.compile_dir(Path(git_sandbox.__file__).parent, quiet=1)  # else a fresh clone pays for that, too
    budget = costs.budget()
    same = budget["facts"] == costs.versions()
    found = {command.name: costs.cost(command, None) for command in costs.commands(tmp_path)}
    assert set(found) == set(budget["rows"])
    assert [
        line for name, figures in found.items() for line in costs.excess(name, figures, budget["rows"], same=same)
    ] == []


def test_a_figure_may_be_a_tenth_above_its_budget(costs: Any) -> None:
    rows = {"x": {"processes": 10, "system calls": 100}}
    assert costs.excess("x", {"processes": 11, "system calls": 110}, rows, same=True) == []
    assert len(costs.excess("x", {"processes": 12, "system calls": 111}, rows, same=True)) == 2
    assert len(costs.excess("x", {"processes": 12, "system calls": 111}, rows, same=False)) == 1


LOG = """\
10 1.0 execve("/usr/bin/a", ["a"], 0x1) = -1 ENOENT (No such file or directory)
10 1.1 execve("/bin/a", ["a"], 0x1) = 0
10 1.1 openat(AT_FDCWD, "/git_sandbox/__pycache__/a.cpython-311.pyc", O_RDONLY) = 3
10 1.1 openat(AT_FDCWD, "/git_sandbox/__pycache__/b.cpython-311.pyc", O_RDONLY) = -1 ENOENT (No such file)
10 1.2 vfork( <unfinished ...>
11 1.3 dup2(0x1, 0x2) = 0x2
11 1.4 execve("/bin/b", ["b"], 0x1 <unfinished ...>
10 1.5 <... vfork resumed>) = 11
11 2.5 <... execve resumed>) = 0
11 2.6 exit_group(0) = ?
10 2.7 close(0x1) = 0
"""


def test_calls_belong_to_the_program_that_makes_them(counting: Any) -> None:
    first, second = counting.parsed(iter(LOG.splitlines()), [2.0])
    assert (dict(first.started), dict(second.started)) == ({"a": 1}, {"b": 1})
    assert first.total + second.total == LOG.count("\n") - 2
    assert (first.modules, second.modules) == (1, 0)
    assert second.calls == {"b": 1, "a": 1}
