"""Sandboxes side by side: every prediction is checked by letting git merge for real."""

from __future__ import annotations

import json

import pytest

from git_sandbox.cli.main import main
from git_sandbox.git.names import Oid, SandboxId
from git_sandbox.integrate.siblings import Comparison, Sibling, _largest_free, compare
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo
from support.sandboxed import LINES, everything


def compared(*boxes: Sandbox) -> Comparison:
    repo = boxes[0].repo
    siblings = [
        Sibling(
            SandboxId(box.record.id),
            Oid(str(box.record.base)),
            repo.refs(box.refs.head)[box.refs.head],
        )
        for box in boxes
    ]
    return compare(repo, siblings)


def order(found: Comparison) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.id, step.conflicts) for step in found.order]


def merges_for_real(repo: GitRepo, name: str) -> bool:
    done = repo.run("merge", "-q", "--no-edit", f"refs/sandbox/{name}")
    if done.returncode:
        repo.git("merge", "--abort")
    return done.returncode == 0


def test_the_one_in_the_middle_comes_last(repo: GitRepo) -> None:
    repo.commit("lines", {"text": LINES})
    middle = worked(repo, "middle", {"a": "middle\n", "b": "middle\n", "c": "middle\n"})
    rest = [worked(repo, name, {name: f"{name}\n"}) for name in ("a", "b", "c")]
    found = compared(middle, *rest)
    assert {(pair.one, pair.other): pair.conflicts for pair in found.pairs if pair.conflicts} == {
        ("middle", "a"): ("a",),
        ("middle", "b"): ("b",),
        ("middle", "c"): ("c",),
    }
    assert order(found) == [("a", ()), ("b", ()), ("c", ()), ("middle", ("a", "b", "c"))]
    assert [merges_for_real(repo, step.id) for step in found.order] == [step.clean for step in found.order]


def test_the_same_file_without_conflict(repo: GitRepo) -> None:
    repo.commit("lines", {"text": LINES})
    one = worked(repo, "one", {"text": LINES.replace("line 1\n", "line one\n")})
    two = worked(repo, "two", {"text": LINES.replace("line 29\n", "line last\n")})
    found = compared(one, two)
    assert [(pair.both, pair.conflicts) for pair in found.pairs] == [(("text",), ())]
    assert all(step.clean for step in found.order)
    assert [merges_for_real(repo, step.id) for step in found.order] == [True, True]


def test_what_conflicts_with_head_comes_last(repo: GitRepo) -> None:
    one = worked(repo, "one", {"README": "one\n"})
    two = worked(repo, "two", {"b": "two\n"})
    repo.commit("host", {"README": "host\n"})
    before = everything(repo)
    found = compared(one, two)
    assert order(found) == [("two", ()), ("one", ("README",))]
    assert everything(repo) == before
    assert [merges_for_real(repo, step.id) for step in found.order] == [True, False]


def test_objects_made_up_for_the_comparison_vanish(repo: GitRepo) -> None:
    boxes = [worked(repo, name, {"same": f"{name}\n"}) for name in ("one", "two")]
    before = repo.git("count-objects", "-v")
    compared(*boxes)
    assert repo.git("count-objects", "-v") == before


def test_unrelated_histories(repo: GitRepo) -> None:
    box = spawn(repo, "orphan")
    box.guest.git("checkout", "-q", "--orphan", "fresh")
    box.work("root", {"c": "1\n"})
    box.home()
    plain = worked(repo, "plain", {"d": "1\n"})
    found = compared(box, plain)
    assert [pair.unrelated for pair in found.pairs] == [True]
    assert [(step.id, step.unrelated) for step in found.order] == [("plain", False), ("orphan", True)]


def test_one_sandbox_on_top_of_another(repo: GitRepo) -> None:
    one = worked(repo, "one", {"README": "one\n"})
    two = spawn(repo, "two")
    two.guest.git("fetch", "-q", str(one.guest.path), "main")
    two.guest.git("merge", "-q", "--ff-only", "FETCH_HEAD")
    two.work("on top", {"README": "two\n"})
    two.home()
    found = compared(one, two)
    assert [pair.conflicts for pair in found.pairs] == [()]
    assert order(found) == [("one", ()), ("two", ())]


def test_more_than_can_be_tried_exactly() -> None:
    names = [SandboxId(f"vm-{number}") for number in range(20)]
    star = {frozenset((names[0], other)) for other in names[1:]}
    assert _largest_free(names, star) == frozenset(names[1:])
    assert _largest_free(names[:5], star) == frozenset(names[1:5])
    assert _largest_free(names[:2], {frozenset(names[:1])}) == frozenset(names[1:2])


def test_from_the_command_line(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo.path)
    worked(repo, "one", {"od\x1bd": "one\n", "x": "1\n"})
    assert main(["compare"]) == 2
    worked(repo, "two", {"od\x1bd": "two\n", "y": "1\n"})
    assert main(["compare", "one", "nobody"]) == 17
    capsys.readouterr()
    assert main(["compare"]) == 0
    text = capsys.readouterr().out
    assert "one and two: conflict in od�d" in text
    assert text.index("1. one") < text.index("2. two  (conflict in od�d)")
    assert main(["compare", "two", "one", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["pairs"] == [
        {
            "one": "two", "other": "one", "both": ["od\x1bd"], "conflicts": ["od\x1bd"], "unrelated": False,
            "too_large": False,
        }
    ]  # fmt: skip
    assert [step["id"] for step in data["order"]] == ["two", "one"]
