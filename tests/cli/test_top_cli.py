"""`sandbox top` with real repositories: what it shows is what the commands say; a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.conftest import Cli
from git_sandbox import record, store
from git_sandbox.cli import top, top_plain
from git_sandbox.cli.top_source import Host, OwnVerbs
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.errors import Interrupted, RequirementError, StateError
from git_sandbox.git.repo import discover
from git_sandbox.protocol.changes import Changes, Tally
from git_sandbox.record import Activity
from git_sandbox.sandbox import usage
from git_sandbox.tui.content import COLUMNS, DIFF, FILES, LOG, NETWORK, OUTPUT, Row, Scope
from support import fabricated
from support.fabricated import spawn, worked
from support.gitrepo import GitRepo
from support.nasty import leaks
from support.nastyrepo import repository
from support.tmux import TMUX, Tmux

SANDBOX = Path(sys.executable).with_name("sandbox")


def lines(page: object) -> list[str]:
    return [text for _, text in page.lines]  # type: ignore[attr-defined]


def cells(row: Row) -> dict[str, str]:
    return dict(zip(COLUMNS, row.cells, strict=True))


@pytest.fixture
def host(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.chdir(repo.path)
    return Host()


def test_pages_say_what_the_commands_say(repo: GitRepo, host: Host, cli: Cli) -> None:
    one = worked(repo, "one", {"README": "one\n", "b": "1\n"})
    worked(repo, "two", {"README": "two\n"})
    entry = store.find(one.repo, "one")
    entry.directory.output.write_bytes(b"\x1b[31mred\x1b[0m\nwas\rover\n\x1b]0;t\x07last")
    kept = fabricated.changed(
        one.record, changes=Changes("changed", ignored=Tally(2, ("x\x1b[2J", "y"))), partly=("p",)
    )
    record.write(entry.directory, kept)
    cli("net", "one", "--allow", "a.example")
    entry.directory.request_log.parent.mkdir()
    requests = RequestLog(entry.directory.request_log)
    requests.refuse("b.example", 443, "not allowed", "sandbox net one --allow b.example")
    requests.save()
    listing = host.listing(Scope())
    assert listing.title == "repo"
    (first, second) = listing.rows
    shown = json.loads(cli("ls", "--json").out)["data"]
    assert [(row.id, row.state, cells(row)["AHEAD"]) for row in listing.rows] == [
        (each["id"], each["state"], str(each["ahead"])) for each in shown
    ]
    assert (cells(first)["OVERLAP"], cells(first)["NET"]) == ("two (1)", "0, 1 refused")
    assert lines(host.page(first, LOG)) == cli("log", "one").out.splitlines()
    difference = lines(host.page(second, DIFF))
    assert difference == cli("diff", "two").out.splitlines()
    assert "+two" in difference
    assert "  x\N{REPLACEMENT CHARACTER}[2J" in lines(host.page(first, FILES))
    network = host.page(first, NETWORK)
    assert network.choices == ("b.example",)
    assert lines(network) == cli("net", "one").out.splitlines()
    assert lines(host.page(first, OUTPUT)) == ["red", "over", "last"]
    assert "README" in lines(host.plan(first))[0]
    assert lines(host.comparison(listing.rows)) == cli("compare").out.splitlines()
    assert lines(host.graph([])) == cli("graph").out.splitlines()
    assert host.listing(Scope()).rows == listing.rows, "a list in which nothing happened"


def test_all_repositories(repo: GitRepo, host: Host, tmp_path: Path) -> None:
    other = GitRepo.create(tmp_path / "other")
    other.commit("first", {"a": "1"})
    lost = GitRepo.create(tmp_path / "lost")
    lost.commit("first", {"a": "1"})
    for each in (repo, other, lost):
        worked(each, "vm-1", {"a": "2\n"})
    shutil.rmtree(lost.path)
    assert [row.name for row in host.listing(Scope()).rows] == ["vm-1"]
    rows = {row.name.split("-")[0]: row for row in host.listing(Scope(everywhere=True)).rows}
    assert rows.keys() == {"repo", "other", "lost"}
    assert (rows["other"].id, rows["other"].place) == ("vm-1", other.path)
    assert "work of vm-1" in lines(host.page(rows["other"], LOG))[1]
    assert (rows["lost"].id, cells(rows["lost"])["AHEAD"]) == (rows["lost"].name, "-")
    assert cells(rows["lost"])["COMMAND"].endswith("/lost is gone)")
    with pytest.raises(StateError, match="is gone"):
        host.page(rows["lost"], LOG)
    assert "one repository" in lines(host.comparison([rows["repo"], rows["other"]]))[0]


def test_another_version_where_refs_are_others(repo: GitRepo, host: Host) -> None:
    one = worked(repo, "one", {"a": "1\n"})
    (before,) = host.listing(Scope()).rows
    one.guest.git("commit", "-q", "--amend", "-m", "another", "--allow-empty")
    one.home()
    (after,) = host.listing(Scope()).rows
    assert before.cells == after.cells
    assert before.version != after.version


def test_one_that_runs_has_what_it_takes_and_the_trash_has_no_page(repo: GitRepo, host: Host, cli: Cli) -> None:
    one = spawn(repo, "one")
    entry = store.find(one.repo, "one")
    record.write(entry.directory, fabricated.changed(one.record, pid=os.getpid(), agent="claude"))
    record.note_activity(entry.directory, Activity("waiting", "which?", time.time()))
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (row,) = host.listing(Scope()).rows
        assert (row.state, row.activity, row.waits) == ("running", "waiting", True)
        assert cells(row)["CPU"] == "…"
        assert cells(row)["MEMORY"].endswith("MiB")
        (again,) = host.listing(Scope()).rows
        assert cells(again)["CPU"].endswith("%")
    assert cli("drop", "--force", "one").code == 0
    assert host.listing(Scope()).rows == ()
    (gone,) = host.listing(Scope(trash=True)).rows
    assert (gone.state, lines(host.page(gone, LOG))) == ("trash", ["one is in the trash. r restores it."])


def test_what_a_process_and_its_children_take(tmp_path: Path) -> None:
    def stat(pid: int, parent: int, name: str, ticks: int, pages: int) -> None:
        (tmp_path / str(pid)).mkdir()
        fields = ["S", str(parent), *["0"] * 9, str(ticks), str(ticks), *["0"] * 8, str(pages), "0"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")

    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    stat(10, 1, "sandbox", tick, 1)
    stat(11, 10, "a) S 1 (b", tick, 2)
    stat(12, 11, "qemu", 3 * tick, 4)
    stat(13, 1, "other", 100 * tick, 100)
    (tmp_path / "14").mkdir()  # has just ended
    (tmp_path / "self").mkdir()
    found = usage.look([10, 12, 99], tmp_path)
    assert found == {10: usage.Usage(10.0, 7 * page), 12: usage.Usage(6.0, 4 * page)}
    assert usage.look([], tmp_path / "nowhere") == {}
    assert usage.look([os.getpid()])[os.getpid()].memory > 1 << 20


def test_its_own_verbs(repo: GitRepo, host: Host) -> None:
    worked(repo, "one", {"a": "1\n"})
    verbs, (row,) = OwnVerbs(), host.listing(Scope()).rows
    refused = verbs.run(["drop", "one"], row.place)
    assert refused.code != 0
    assert refused.text.startswith("error: ")
    assert verbs.run(["drop", "--force", "one"], row.place).code == 0
    assert host.listing(Scope()).rows == ()


def test_without_the_extra_it_says_how_to_get_it(repo: GitRepo, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(repo, "one", {"a": "1\n"})
    monkeypatch.setattr(top, "EXTRA", "no_such_module")
    monkeypatch.setenv("TERM", "xterm")
    for each in (sys.stdin, sys.stdout):
        monkeypatch.setattr(each, "isatty", lambda: True)
    said = cli("top")
    assert said.code == RequirementError.exit_code
    assert "git-sandbox[tui]" in said.err


def test_without_a_screen_it_prints_a_line_for_each(repo: GitRepo, cli: Cli) -> None:
    assert cli("top").out == "repo: 0 sandboxes\n"
    worked(repo, "one", {"a": "1\n"})
    said = cli("top", "--plain")
    assert said.out.splitlines()[0] == "repo: 1 sandbox"
    assert said.out.splitlines()[1].startswith("one: stopped; ahead 1; age <1m; base main@")
    (data,) = cli("top", "--json").envelope["data"]
    assert (data["id"], data["state"], data["ahead"], data["command"]) == ("one", "stopped", "1", "make test")


def test_plain_on_a_terminal_adds_a_line_for_each_change(
    repo: GitRepo, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(repo, "one", {"a": "1\n"})
    steps: list[Callable[[], object]] = [
        lambda: worked(repo, "two", {"b": "1\n"}),
        lambda: None,
        lambda: repo.git("merge", "-q", "--ff-only", "refs/sandbox/one"),
        lambda: OwnVerbs().run(["drop", "--force", "two"], repo.path),
    ]

    def sleep(_seconds: float) -> None:
        if not steps:
            raise Interrupted(signal.SIGINT)
        steps.pop(0)()

    monkeypatch.setattr(top_plain, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    said = cli("top", "--plain")
    first, *rest = said.out.splitlines()
    assert first == "repo: 1 sandbox"
    assert rest[1:] == ["two: stopped; ahead 1", "one: stopped; work merged; ahead 1", "two: gone"]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return repository(tmp_path)


@pytest.fixture
def tmux(hostile: GitRepo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    if TMUX is None:
        pytest.skip("tmux is not installed")
    folder = tmp_path_factory.mktemp("t")
    script = f'cd "$1" && {SANDBOX} top; printf "ended with %s\\n" "$?"; sleep 600'
    with Tmux(["sh", "-c", script, "sh", hostile.path], cwd=folder, folder=folder) as made:
        yield made


def test_on_a_real_terminal_with_hostile_names(hostile: GitRepo, tmux: Tmux) -> None:
    """List, pages, a question, a verb on the terminal, the way out: nothing that a guest wrote commands it."""
    tmux.until("one", "two", "cannot be read")
    tmux.press("Down", "Down")
    seen = tmux.until("one", "base ")
    tmux.press("2")
    seen += tmux.until("diff --git")
    tmux.press("m")
    seen += tmux.until("Merge one into your branch?")
    tmux.press("n")
    tmux.press("d")
    seen += tmux.until("Move to the trash one?")
    tmux.press("n")
    tmux.press("s")
    seen += tmux.until("$ sandbox shell one", "Enter goes back")
    tmux.press("Enter")
    seen += tmux.until("STATE", "diff --git")
    assert leaks(seen.encode(), terminal=True) == [], seen
    tmux.press("q")
    assert "STATE" not in tmux.until("ended with 0"), "the screen from before is back"
    assert {"one", "two"} <= {entry.id for entry in store.entries(discover(hostile.path))}


def test_a_signal_ends_it_and_gives_the_terminal_back(hostile: GitRepo, tmux: Tmux) -> None:
    del hostile
    tmux.until("STATE", "cannot be read")
    shell = int(tmux("display-message", "-p", "#{pane_pid}"))
    (child,) = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(shell)], capture_output=True, check=True
    ).stdout.split()
    os.kill(int(child), signal.SIGTERM)
    assert "STATE" not in tmux.until("ended with 143")
