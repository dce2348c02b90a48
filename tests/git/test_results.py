"""Tries with the same files are one group, whatever their commits are; many are listed in a few processes."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox import process, store
from git_sandbox.cli.main import main
from git_sandbox.git.repo import discover
from git_sandbox.integrate import results
from support.examples import examples
from support.gitrepo import GitRepo

MANY = 10_000


def ended(repo: GitRepo, tries: list[tuple[int, int | None]]) -> None:
    """Refs of `try-1`, …: of each the number of the file's content that is committed, and of one that is not."""
    numbers = {number for pair in tries for number in pair if number is not None}
    commits = {number: commit(repo, number) for number in numbers}
    lines = []
    for index, (committed, dirty) in enumerate(tries, 1):
        lines.append(f"create refs/sandbox/try-{index} {commits[committed]}")
        lines += [f"create refs/sandbox-wip/try-{index} {commits[dirty]}"] if dirty is not None else []
    repo.git("update-ref", "--stdin", input="".join(f"{line}\n" for line in lines).encode())


def commit(repo: GitRepo, number: int) -> str:
    blob = repo.git("hash-object", "-w", "--stdin", input=f"{number}\n".encode())
    tree = repo.git("mktree", input=f"100644 blob {blob}\tfile\n".encode())
    return repo.git("commit-tree", "-m", f"{number}", tree)


@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3)), max_size=12))
def test_groups_are_those_of_equal_files(repo: GitRepo, tries: list[tuple[int, int | None]]) -> None:
    for name in repo.refs():
        if name.startswith("refs/sandbox"):
            repo.git("update-ref", "-d", name)
    ended(repo, tries)
    here = discover(repo.path)
    found = results.grouped(here, store.refs_by_id(here))
    last = {f"try-{index}": committed if dirty is None else dirty for index, (committed, dirty) in enumerate(tries, 1)}
    wanted: dict[int, list[str]] = {}
    for name, number in last.items():
        wanted.setdefault(number, []).append(name)
    assert sorted(map(list, (group.ids for group in found))) == sorted(wanted.values())
    assert [len(group.ids) for group in found] == sorted(map(len, wanted.values()), reverse=True)


def test_ten_thousand_results_cost_a_few_processes(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended(repo, [(number % 7, None) for number in range(MANY)])
    monkeypatch.chdir(repo.path)
    started = Counter[str]()
    spawned = process.run

    def counted(argv: list[str], **options: object) -> process.Completed:
        started[argv[0]] += 1
        return spawned(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", counted)
    capfd.readouterr()
    assert main(["compare", "--group-by", "result", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["data"]
    assert sorted(len(group["ids"]) for group in found) == [1428] * 3 + [1429] * 4
    assert found[0]["ids"][:2] == ["try-1", "try-8"]
    assert sum(started.values()) < 10
