"""`sandbox graph` and `compare --svg`: they say what git says, and nothing in them is more than text."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.conftest import Cli
from git_sandbox.drawing import graph as drawing
from git_sandbox.drawing import matrix
from git_sandbox.drawing.svg import Picture
from git_sandbox.errors import HostResourceError, UsageError
from git_sandbox.git.names import Oid, SandboxId
from git_sandbox.integrate.graph import Fork, Graph, Track
from git_sandbox.integrate.review import CommitInfo
from git_sandbox.integrate.siblings import Comparison, Pair
from support.examples import examples
from support.fabricated import worked
from support.gitrepo import GitRepo
from support.nasty import NASTY, leaks

SVG = "{http://www.w3.org/2000/svg}"


def parsed(document: str) -> ET.Element:
    root = ET.fromstring(document)  # noqa: S314 - made here
    assert root.get("aria-labelledby") == "title description"
    assert [element.tag for element in root[:2]] == [f"{SVG}title", f"{SVG}desc"]
    assert {element.tag for element in root.iter()} <= {
        SVG + tag for tag in ("svg", "title", "desc", "style", "rect", "path", "circle", "text")
    }
    names = {name for element in root.iter() for name in element.attrib}
    assert names <= {
        *"xydr",
        "cx",
        "cy",
        "class",
        "width",
        "height",
        "viewBox",
        "role",
        "aria-labelledby",
        "id",
        "text-anchor",
    }
    return root


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


@pytest.fixture
def many(repo: GitRepo) -> GitRepo:
    worked(repo, "old", {"README": "old\n"}, "an <old> attempt & [b]more[/b]")
    repo.commit("second", {"c": "1\n"})
    repo.commit("third", {"c": "2\n"})
    two = worked(repo, "two", {"README": "two\n"}, "first of two")
    two.work(f"second {NASTY}", {"b": "1\n"})
    two.home()
    worked(repo, "in", {"d": "1\n"}, "merged by now")
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/in")
    return repo


def test_where_each_begins_what_it_has_and_who_conflicts(many: GitRepo, cli: Cli) -> None:
    assert cli("graph", "--json").envelope["data"]["branch"] == "main"
    shown = cli("graph").out
    first, *rows = shown.splitlines()
    assert first == f"main  ●─(2)─●─(1)─●  {many.git('rev-parse', 'HEAD')[:10]} (HEAD)"
    assert rows[:2] == [
        "      │     │     ╰─  in: no commit beyond the branch",
        rows[1],
    ]
    assert rows[1].startswith("      │     ╰─●─●  two: 2 commits, newest: second ")
    assert rows[2] == "      ╰─●  old: 1 commit, newest: an <old> attempt & [b]more[/b]"
    assert "old and two: conflict in README" in rows
    assert "Merge in this order:" in rows
    assert leaks(shown.encode(), terminal=False) == []
    data = cli("graph", "two", "old", "--json").envelope["data"]
    assert [(track["id"], track["count"]) for track in data["tracks"]] == [("two", 2), ("old", 1)]
    assert [fork["behind"] for fork in data["forks"]] == [3, 1]


def test_pictures_have_a_title_words_and_nothing_that_runs(many: GitRepo, cli: Cli, tmp_path: Path) -> None:
    del many
    place = tmp_path / "g.svg"
    assert cli("graph", "--svg", str(place)).out == f"Wrote {place}\n"
    root = parsed(place.read_text("utf-8"))
    words = "\n".join(texts(root))
    for part in ("old: 1 commit, newest: an <old> attempt & [b]more[/b]", "old and two: conflict in README", "(HEAD)"):
        assert part in words
        assert part in (root[1].text or "")
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "clash"]) == 1
    cli("compare", "--svg", str(place))
    table = parsed(place.read_text("utf-8"))
    assert "✕1" in texts(table)
    assert "old and two: conflict in README" in (table[1].text or "")
    piped = cli("compare", "--svg", "-").out
    assert texts(parsed(piped)) == texts(table)
    assert leaks(piped.encode(), terminal=False) == []
    assert cli("graph", "--svg", "-", "--json").code == UsageError.exit_code
    refused = cli("graph", "--svg", str(tmp_path))
    assert (refused.code, "cannot write" in refused.err) == (HostResourceError.exit_code, True)


def test_none_and_no_history_in_common(repo: GitRepo, cli: Cli) -> None:
    assert cli("graph").out == "No sandbox brought commits home.\n"
    apart = worked(repo, "apart", {"a": "1\n"})
    apart.guest.git("checkout", "-q", "--orphan", "new")
    apart.guest.commit("alone", {"z": "1\n"})
    apart.home()
    assert " ●  apart: no commit in common, 1 commit, newest: alone" in cli("graph").out


NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, max_size=8, unique=True)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = draw(NAMES)
    behind = sorted(draw(st.sets(st.integers(0, 30), max_size=5)), reverse=True)
    forks = tuple(Fork(Oid(f"{number:040x}"), distance) for number, distance in enumerate(behind))
    starts = [draw(st.sampled_from([None, *range(len(forks))])) for _ in names]
    order = sorted(range(len(names)), key=lambda index: -(-1 if starts[index] is None else starts[index]))
    tracks = []
    for index in order:
        count = draw(st.sampled_from([None, 0, 1, 3, 50]))
        subject = draw(st.text(max_size=20))
        start = starts[index]
        newest = () if count == 0 else (CommitInfo(Oid("b" * 40), (), "", "", 0, 0, subject),)
        fork = None if start is None else forks[start].commit
        tracks.append(Track(SandboxId(names[index]), Oid("c" * 40), fork, count, newest))
    pairs = [Pair(SandboxId(one), SandboxId(other), (), ("f",)) for one in names for other in names if one < other]
    return Graph(draw(st.text(max_size=10)), Oid("a" * 40), forks, tuple(tracks), Comparison(tuple(pairs), ()))


class Words(html.parser.HTMLParser):
    """A second reader: what is text for it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.add(tag)


@settings(max_examples=examples(100))
@given(graphs())
def test_no_line_crosses_another_and_every_name_is_there(graph: Graph) -> None:
    """Oracle: below the branch, a column has a bar from its fork down to the last track that begins there, no gap."""
    branch, *rows = drawing.text(graph)
    assert len(rows) == len(graph.tracks)
    columns = {index for row in rows for index, letter in enumerate(row.split("  ", 1)[0] or row) if letter in "│├╰"}
    for column in columns:
        letters = "".join(row[column] if column < len(row) else " " for row in rows)
        drawn = re.match(r"[│├]*╰", letters)
        assert drawn or letters[0] not in "│├╰", (letters, rows)
    for row, track in zip(rows, graph.tracks, strict=True):
        assert f"  {track.id}: " in row
    assert "\n" not in branch
    root = parsed(drawing.picture(graph, [branch, *rows], [NASTY]))
    assert {track.id for track in graph.tracks} <= {text.split(":")[0].lstrip("…") for text in texts(root)}


@settings(max_examples=examples(100))
@given(st.lists(st.text(max_size=30), max_size=4), st.text(max_size=30))
def test_any_text_is_text(contents: list[str], title: str) -> None:
    picture = Picture()
    for number, content in enumerate(contents):
        picture.text(0, number, content)
    document = picture.document(title, contents)
    assert len(texts(parsed(document))) == len(contents)
    reader = Words()
    reader.feed(document)
    assert reader.tags <= {"svg", "title", "desc", "style", "rect", "text"}


def test_a_cell_says_in_signs_what_its_colour_says() -> None:
    one, other = SandboxId("a"), SandboxId("b")
    assert matrix.symbol(Pair(one, other, (), ())) == "-"
    assert matrix.symbol(Pair(one, other, ("f", "g"), ())) == "2"
    assert matrix.symbol(Pair(one, other, ("f",), ("f",))) == "✕1"
    assert matrix.symbol(Pair(one, other, (), (), unrelated=True)) == "?"


def test_git_shows_fewer_refs_as_the_page_says(repo: GitRepo, cli: Cli) -> None:
    """`docs/reference/refs.md`: words and settings for git's own log, none of which we set."""
    made = worked(repo, "one", {"new": "1\n"}, "by the guest")
    made.guest.write("draft", "not committed\n")
    made.home()
    assert cli("merge", "one").code == 0
    repo.git("reset", "-q", "--hard", "HEAD~1")
    page = (Path(__file__).parents[2] / "docs/reference/refs.md").read_text("utf-8")
    assert repo.run("config", "--local", "--get-regexp", "^(log|transfer|alias)[.]").stdout == b""

    def subjects(*words: str) -> set[str]:
        assert " ".join(words).replace("=", "='", 1) + "'" * bool(words) in page
        return set(repo.git("log", *words, "--all", "--format=%s").splitlines())

    own = set(repo.git("log", "main", "--format=%s").splitlines())
    everything = set(repo.git("log", "--all", "--format=%s").splitlines())
    assert subjects("--exclude=refs/sandbox-*") == own | {"by the guest"} < everything
    assert subjects("--exclude=refs/sandbox*") == own
    assert "`git config log.excludeDecoration 'refs/sandbox-*'`" in page
    repo.git("config", "log.excludeDecoration", "refs/sandbox-*")
    decorated = repo.git("log", "--all", "--decorate=short", "--format=%D")
    assert "sandbox/one" in decorated
    assert "sandbox-" not in decorated
    assert "`git config transfer.hideRefs refs/sandbox`" in page
    repo.git("config", "transfer.hideRefs", "refs/sandbox")
    offered = repo.git("ls-remote", str(repo.path)).splitlines()
    assert [row for row in offered if row.endswith("refs/sandbox/one")] == []
    assert [row for row in offered if row.endswith("refs/heads/main")] != []
