"""Results of a stand-in worker by the hundred: what one of them costs does not grow with the others.

Counted are processes and files that are read, and refs that are files. SANDBOX_MANY: how many there are.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from git_sandbox import files
from git_sandbox.cli.main import main
from git_sandbox.git import refpacking
from git_sandbox.git.repo import discover
from git_sandbox.jobs.result import Hearing
from git_sandbox.sandbox import dispatch, trashed
from git_sandbox.trash import expiry
from support.gitrepo import GitRepo
from support.many import KINDS, Tries

MANY = int(os.environ.get("SANDBOX_MANY", "300"))
FEW = 3
VERBS = ("for-each-ref", "fetch", "update-ref", "index-pack", "pack-refs", "rev-list", "cat-file")
Costs = Counter[str]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Costs]:
    """What was started and read since it was asked last."""
    costs = Counter[str]()
    started, opened = subprocess.Popen.__init__, files.content

    def starting(self: object, argv: list[str], *words: object, **options: object) -> None:
        costs[" ".join(word for word in argv if word in VERBS) or "other"] += 1
        started(self, argv, *words, **options)  # type: ignore[call-overload]

    def reading(*words: object, **options: object) -> files.Content:
        costs["read"] += 1
        return opened(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(subprocess.Popen, "__init__", starting)
    monkeypatch.setattr(files, "content", reading)

    def since() -> Costs:
        found = Counter(costs)
        costs.clear()
        return found

    return since


@pytest.fixture
def tries(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Tries:
    monkeypatch.chdir(repo.path)
    monkeypatch.setattr(refpacking, "MANY", MANY // 2)
    return Tries.of(discover(repo.path))


def test_one_result_costs_the_same_among_few_and_among_many(
    repo: GitRepo, tries: Tries, tmp_path: Path, counted: Callable[[], Costs], capfd: pytest.CaptureFixture[str]
) -> None:
    tries.away(range(1, FEW + 1))
    costs: list[Costs] = []
    for number in (1, 2, FEW + 1):
        if number > FEW:
            tries.away(range(FEW + 1, MANY + 1))
        result = tries.write(number, tmp_path / "result")
        counted()
        ended = dispatch.collect(tries.repo, result, Hearing())
        costs.append(counted())
        assert (ended.id, ended.exit_code) == (f"try-{number}", 0)
        assert repo.git("show", f"refs/sandbox/try-{number}:made") == str(number % KINDS)
    packed = costs[2].pop("pack-refs", 0)
    assert costs[1] == costs[2], "the same processes, and as many files read"
    assert packed == 1, "hundreds of refs that are files are packed"
    assert list((repo.path / ".git/refs/sandbox-base").iterdir()) == []
    capfd.readouterr()
    with _costs(counted, at_most=40):
        assert main(["compare", "--group-by", "result", "--json"]) == 0
    assert [len(group["ids"]) for group in json.loads(capfd.readouterr().out)["data"]] == [1, 1, 1]
    with _costs(counted, at_most=40):
        assert main(["ls", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["data"]
    assert Counter(row["state"] for row in rows) == {"stopped": 3, "away": MANY - 3}


@contextmanager
def _costs(counted: Callable[[], Costs], at_most: int) -> Iterator[None]:
    """Processes of the block, however many sandboxes there are."""
    counted()
    yield
    found = counted()
    del found["read"]
    assert found.total() < at_most, found


def test_one_more_in_the_trash_costs_the_same(repo: GitRepo, tries: Tries, counted: Callable[[], Costs]) -> None:
    """And what is written down of all of them stays true."""
    del repo
    tries.away(range(1, 61))
    costs: list[Costs] = []
    for number in range(1, 41):
        counted()
        assert main(["drop", "--force", f"try-{number}"]) == 0
        costs.append(counted())
    assert costs[3] == costs[-1]
    noted = expiry.summary()
    assert expiry.summarise() == noted
    assert len(trashed.rows(tries.repo)) == 40
