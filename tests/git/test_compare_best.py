"""`compare --best`: each different result is checked once, elsewhere, with its own files; nothing of that stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.git.names import Oid, SandboxId
from git_sandbox.sandbox.ranking import NOT_CHECKED, Output, Ranked
from support.examples import examples
from support.site import Site

Files = dict[str, str | bytes]


def results(site: Site) -> str:
    """Five sandboxes of the first commit, two of which ended alike: refs as an import leaves them. The commit."""
    repo, base = site.repo, site.repo.git("rev-parse", "HEAD")

    def ended(names: tuple[str, ...], files: Files, uncommitted: Files | None = None) -> None:
        repo.git("checkout", "-q", "--detach", base)
        tip = repo.commit(names[0], files)
        wip = repo.commit("wip", uncommitted) if uncommitted else None
        repo.git("checkout", "-q", "main")
        for name in names:
            repo.git("update-ref", f"refs/sandbox/{name}", tip)
            repo.git("update-ref", f"refs/sandbox-base/{name}", base)
            if wip:
                repo.git("update-ref", f"refs/sandbox-wip/{name}", wip)

    ended(("same-1", "same-2"), {"score": "7.5\n", "answer": "yes\n"})
    ended(("worse",), {"score": "3\n", "more": "x\n", "tests": "changed by the try\n"})
    ended(("broken",), {"broken": "\n"})
    ended(("dirty",), {"score": "1\n"}, {"score": "9\n", "new": "not committed\n"})
    return base


CHECK = """git checkout -q main -- tests && cat tests; test ! -e more || exit 125
test ! -e broken || kill -9 $STANDIN_PID; git status --short; cat score; test -e new || exit 4"""


def test_the_best_passes_and_has_the_largest_number(site: Site) -> None:
    """One that passes, one that does not, one that cannot be checked, one whose machine dies."""
    repo = site.repo
    repo.commit("tests", {"tests": "of main\n"})
    results(site)
    repo.write("README", "edited since\n")
    repo.write("stray", "of this worktree\n")
    before = repo.refs()
    said = site.sandbox("compare", "--best", CHECK, "--on", "ssh:one", "--json")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["data"]
    assert [(row["ids"], row["exit_code"], row["score"], row["files"]) for row in rows] == [
        (["dirty"], 0, 9.0, 2), (["same-1", "same-2"], 4, 7.5, 2), (["broken"], None, None, 1),
        (["worse"], 125, None, 3),
    ]  # fmt: skip
    assert rows[0]["output"].splitlines() == ["of main", " M score", "?? new", "9"]
    assert rows[2]["problem"] == "its machine died"
    assert rows[3]["output"] == "of main", "the tests are those of the branch, not of the try"
    assert repo.refs() == before
    assert site.sandbox("ls", "--all", "--json").out.count("check-") == 0
    assert site.jobs("one") == []


def test_the_table_and_the_exit_code_say_how_it_went(site: Site) -> None:
    results(site)
    check = "echo '\x1b[31mred'; test ! -e answer || exit 9; exit 4"
    said = site.sandbox("compare", "--best", check, "broken", "same-2", "--on", "ssh:one")
    assert said.code == 4
    assert [line.split()[:4] for line in said.out.splitlines()[1:]] == [
        ["1.", "broken", "exit", "4"],
        ["2.", "same-2", "exit", "9"],
    ]
    assert "\x1b[31mred" not in said.out
    assert "Merge:" not in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--best", "true", "--group-by", "result"), "cannot be used together"),
        (("--on", "ssh:one"), "--on is for the checks of --best"),
        (("--memory", "1G"), "--memory is for the checks of --best"),
        (("--best", "true", "--on", "one"), "is not the address of a machine"),
        (("--best", "true"), "no sandbox brought anything home"),
    ],
)
def test_what_does_not_go_together_is_said(site: Site, words: tuple[str, ...], message: str) -> None:
    said = site.sandbox("compare", *words)
    assert said.code in (2, 17)
    assert message in said.err


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.sampled_from((0, 1, 77, NOT_CHECKED, None)), st.none() | st.floats(-9, 9)), max_size=6))
def test_passed_before_failed_before_not_checked(tries: list[tuple[int | None, float | None]]) -> None:
    rows = sorted((_ranked(code, score) for code, score in tries), key=lambda row: row.place)
    kinds = [0 if row.exit_code == 0 else 2 if row.exit_code in (None, NOT_CHECKED) else 1 for row in rows]
    assert kinds == sorted(kinds)
    scores = [row.score for row in rows if row.exit_code == 0 and row.score is not None]
    assert scores == sorted(scores, reverse=True)


def _ranked(code: int | None, score: float | None) -> Ranked:
    return Ranked((SandboxId("vm-1"),), Oid("0" * 40), code, score, 1)


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=50)), max_size=40))
def test_of_what_a_check_prints_little_is_kept_and_only_a_number_counts(lines: list[tuple[int, bytes]]) -> None:
    heard = Output()
    for channel, line in [*lines, (1, b"x" * 100_000)]:
        heard.hear(channel, line)
    assert len(heard.text) <= 20 * 1001
    assert heard.score is None
    for line, number in ((b" 12.5 ", 12.5), (b"-3", -3.0), (b"nan", None), (b"1e400", None), (b"9" * 50, None)):
        heard.hear(1, line)
        heard.hear(2, b"77")
        heard.hear(1, b"  ")
        assert heard.score == number
