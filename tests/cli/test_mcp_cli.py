"""A host agent that reads hostile text: what it can do without its user, and what only with him. No machine starts."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from git_sandbox import paths, projectfile, record, registry, settings, store
from git_sandbox.cli.main import main
from git_sandbox.errors import UsageError
from git_sandbox.git import repo as repos
from git_sandbox.mcp import consent, looking, results, running, server, service, tools
from git_sandbox.mcp.running import Ran, Work
from git_sandbox.store import State
from support.fabricated import Sandbox, worked
from support.gitrepo import GitRepo
from support.host_agent import MODES, Agent, connected, stdio
from support.nasty import QUIET, leaks
from support.vm import SANDBOX

Session = Callable[..., Agent]
GATED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("net:nat", {"net": "nat"}), ("net:allow", {"net": "allow"}), ("allow:evil.example", {"allow": ["evil.example"]}),
    ("key:openai", {"key": ["openai"]}), ("git_credentials:push", {"git_credentials": "push"}),
    ("ssh_agent:yes", {"ssh_agent": True}), ("mount:/etc", {"mount": ["/etc"]}),
    ("publish:8080:80", {"publish": ["8080:80"]}), ("image:docker://evil/x", {"image": "docker://evil/x"}),
    ("packages:nmap", {"packages": ["nmap"]}),
)  # fmt: skip


@pytest.fixture
def session(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Let an agent talk to the server of `repo`, in this process. `mode`: how its user is asked."""
    monkeypatch.chdir(repo.path)

    def play(talk: Callable[[Agent], Awaitable[None]], mode: str = MODES[0], **user: bool) -> Agent:
        async def whole() -> Agent:
            async with connected(server.server(service.service(())), mode=mode, **user) as agent:
                await talk(agent)
                return agent

        agent: Agent = anyio.run(whole)
        return agent

    return play


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would be run; none is."""
    found: list[list[str]] = []

    def run(words: Sequence[str], *_: object, **__: object) -> Ran:
        found.append(list(words))
        return Ran(0, b'{"status":"ok","data":{"id":"none-such"}}', whole=True, messages=b"")

    monkeypatch.setattr(running, "run", run)
    return found


def configure(text: str) -> None:
    target = paths.config_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def head(repo: GitRepo) -> str:
    return repo.git("rev-parse", "main").strip()


# --- new sandboxes ---------------------------------------------------------------------------------------------------


def test_every_gated_setting_is_in_the_table() -> None:
    assert {rule.partition(":")[0] for rule, _ in GATED} == {*consent.GATED}


@pytest.mark.parametrize("mode", MODES)
def test_what_reaches_further_is_asked_about_and_shown(session: Session, verbs: list[list[str]], mode: str) -> None:
    async def talk(agent: Agent) -> None:
        for rule, wanted in GATED:
            error = await agent.refused("spawn", **wanted)
            assert (error["kind"], verbs) == ("consent", []), rule
            assert f"`{rule}`" in error["hint"]
            name, _, value = rule.partition(":")
            assert f"- {name.replace('_', '-')}: {value}" in agent.asked[-1].splitlines()
        assert len(agent.asked) == len(GATED)
        agent.agrees = True
        for _rule, wanted in GATED:
            await agent.ok("run", command=["true"], **wanted)
        assert len(verbs) == len(GATED)
        await agent.ok("spawn", name="a", cpus=1, memory="512M", env={"A": "b"}, net="none", git_credentials="none")
        assert len(agent.asked) == 2 * len(GATED), "what reaches nowhere needs nobody"

    session(talk, mode)


def test_without_a_way_to_ask_nothing_is_done(session: Session, verbs: list[list[str]], repo: GitRepo) -> None:
    worked(repo, "one", {"new": "1\n"})

    async def talk(agent: Agent) -> None:
        for tool, wanted in [("spawn", given) for _, given in GATED] + [("merge", {"id": "one"})]:
            error = await agent.refused(tool, **wanted)
            assert error["kind"] == "consent"
            assert "cannot ask" in error["cause"]

    session(talk, can_ask=False)
    assert verbs == []


def test_a_rule_of_the_users_configuration_answers(session: Session, verbs: list[list[str]]) -> None:
    configure(f"mcp_allow = {json.dumps([rule for rule, _ in GATED])}\n")

    async def talk(agent: Agent) -> None:
        for _, wanted in GATED:
            await agent.ok("spawn", **wanted)
        for wanted in ({"mount": ["/etc/ssl"]}, {"allow": ["evil.example:22"]}, {"net": "nat", "key": ["other"]}):
            assert (await agent.refused("spawn", **wanted))["kind"] == "consent"

    assert len(session(talk).asked) == 3
    assert len(verbs) == len(GATED)


def test_what_the_user_has_configured_for_all_needs_nobody(session: Session, verbs: list[list[str]]) -> None:
    configure('net = "allow"\nallow = ["pypi.org"]\nmount = ["/etc"]\n')

    async def talk(agent: Agent) -> None:
        await agent.ok("spawn", allow=["pypi.org"], mount=["/etc"], net="allow")
        await agent.refused("spawn", allow=["pypi.org", "evil.example"])
        assert "pypi.org" not in agent.asked[-1]

    session(talk)
    assert len(verbs) == 1


def test_names_that_come_along_are_shown(session: Session, verbs: list[list[str]]) -> None:
    configure('allow = ["internal.example"]\nkey = ["mine"]\n')

    async def talk(agent: Agent) -> None:
        await agent.refused("spawn", allow=["a.example"])
        assert "internal.example, key mine" in agent.asked[-1]

    session(talk)
    assert verbs == []


def test_a_repository_allows_nothing(session: Session, repo: GitRepo) -> None:
    """Whoever trusts its project file."""
    repo.write("sandbox.toml", 'mcp_allow = ["merge", "net:nat"]\nmcp_repositories = ["/"]\n')
    found = repos.discover(repo.path)
    project = projectfile.read(repo.path, registry.consent(found))
    assert project is not None
    project.trust()
    resolved, values = settings.resolve(None, projectfile.read(repo.path, registry.consent(found)))
    assert (resolved.mcp_allow, resolved.mcp_repositories) == ((), ())
    assert all("only your own" in value.withheld for value in values if value.name.startswith("mcp_"))

    async def talk(agent: Agent) -> None:
        await agent.refused("spawn", net="nat")

    assert len(session(talk).asked) == 1


def test_the_settings_of_the_program_that_starts_it_allow_nothing(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent may write them, where they are in the repository."""
    monkeypatch.chdir(repo.path)
    for name, value in (("SANDBOX_MCP_ALLOW", "merge"), ("SANDBOX_MCP_REPOSITORIES", "/")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert main(["mcp"]) == 2
            assert "can only be set in" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["merg", "net", "net:", "exec:ls", "*", ":x"])
def test_a_rule_that_would_cover_nothing_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match="not a rule"):
        consent.rules([rule])


def test_what_is_shown_of_a_path_is_what_is_used(session: Session, verbs: list[list[str]], repo: GitRepo) -> None:
    """An agent that can write into the repository makes links there."""
    (repo.path / "docs").symlink_to("/etc")
    (repo.path / "Containerfile").symlink_to("/etc/hostname")

    async def talk(agent: Agent) -> None:
        agent.agrees = True
        await agent.ok("spawn", mount=["docs"], image="Containerfile")
        assert "- mount: /etc\n" in agent.asked[-1]
        assert "- image: /etc/hostname" in agent.asked[-1]

    session(talk)
    assert {"--mount=/etc:ro", "--image=/etc/hostname"} < {*verbs[0]}


def test_nobody_is_asked_about_more_than_he_reads(session: Session, verbs: list[list[str]]) -> None:
    async def talk(agent: Agent) -> None:
        agent.agrees = True
        error = await agent.refused("spawn", allow=[f"a{number}.example" for number in range(60)])
        assert error["kind"] == "consent"

    assert session(talk).asked == []
    assert verbs == []


def test_it_starts_no_more_than_so_many(
    session: Session, verbs: list[list[str]], repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_now = [type("Entry", (), {"state": State.RUNNING})()] * tools.MOST_RUNNING
    monkeypatch.setattr(store, "entries", lambda _repo: running_now)

    async def talk(agent: Agent) -> None:
        assert (await agent.refused("spawn"))["kind"] == "host-resource"
        running_now.pop()
        await agent.ok("spawn")

        running_now.append(running_now[0])
        worked(repo, "mine", {"new": "1\n"})
        agent.agrees = True
        assert (await agent.refused("start", id="mine"))["kind"] == "host-resource", "nor a stopped one again"

    session(talk)
    assert len(verbs) == 1


def test_what_an_agent_writes_forges_no_line_of_a_question(session: Session) -> None:
    async def talk(agent: Agent) -> None:
        await agent.refused("run", command=["true", f"\n\n- nothing{QUIET}\x1b[2J"], net="nat")
        assert leaks(agent.asked[0].encode(), terminal=False) == []
        assert [line for line in agent.asked[0].splitlines() if line.startswith("- ")] == ["- net: nat"]

    session(talk)


# --- the user's branches, and his sandboxes --------------------------------------------------------------------------


@pytest.fixture
def made(repo: GitRepo) -> Sandbox:
    return worked(repo, "one", {"new": "1\n"})


@pytest.mark.parametrize("mode", MODES)
def test_only_a_yes_merges(session: Session, repo: GitRepo, made: Sandbox, mode: str) -> None:
    start, target = head(repo), made.host.git("rev-parse", "refs/sandbox/one").strip()

    async def talk(agent: Agent) -> None:
        assert (await agent.refused("merge", id="one"))["kind"] == "consent"
        assert head(repo) == start
        agent.agrees = True
        merged = await agent.ok("merge", id="one")
        assert (head(repo), merged["after"]) == (target, target)
        assert f"merge sandbox one ({target}) into main" in agent.asked[-1]
        assert "  new" in agent.asked[-1].splitlines()
        await agent.ok("merge", id="one")
        assert len(agent.asked) == 2, "there is nothing left to merge"

    session(talk, mode)


def test_the_merge_rule_covers_no_file_that_runs_by_itself(session: Session, repo: GitRepo, made: Sandbox) -> None:
    configure('mcp_allow = ["merge"]\n')

    async def talk(agent: Agent) -> None:
        await agent.ok("merge", id="one")
        assert (repo.path / "new").exists()
        made.work("risky", {".vscode/tasks.json": "{}\n"})
        made.home()
        before = head(repo)
        await agent.refused("merge", id="one")
        assert head(repo) == before
        assert "runs by itself: .vscode/tasks.json" in agent.asked[-1]

    assert len(session(talk).asked) == 1


@pytest.mark.usefixtures("made")
def test_the_message_of_a_merge_is_shown_and_is_text(session: Session, repo: GitRepo) -> None:
    async def talk(agent: Agent) -> None:
        agent.agrees = True
        for message in ("a\x1b[2Jb", "a\x00", "", "a\x9b2J", "-m\r"):
            assert (await agent.refused("merge", id="one", mode="squash", message=message))["kind"] == "usage"
        await agent.ok("merge", id="one", mode="squash", message="--amend\n\nbody")
        assert "- message: --amend body" in agent.asked[-1].splitlines()

    session(talk)
    assert repo.git("log", "-1", "--format=%B").strip() == "--amend\n\nbody"


@pytest.mark.usefixtures("made")
def test_conflicts_change_nothing_and_are_named(session: Session, repo: GitRepo) -> None:
    repo.commit("host", {"new": "2\n"})
    before = head(repo)

    async def talk(agent: Agent) -> None:
        agent.agrees = True
        error = await agent.refused("merge", id="one")
        assert (error["kind"], error["cause"]) == ("integrate", "new")
        assert (await agent.refused("merge", id="one", mode="ff-only"))["kind"] == "integrate"
        assert (await agent.refused("merge", id="one", mode="rebase", message="x"))["kind"] == "usage"

    assert session(talk).asked == []
    assert (head(repo), repo.git("status", "--porcelain").strip()) == (before, "")


def test_an_answer_is_for_one_question_and_once(repo: GitRepo, made: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question and the answer more came home: that is another question."""
    monkeypatch.chdir(repo.path)
    served = service.service(())
    shown = served.read("merge", {"id": "one"})
    token, unused = served.ask_later(shown), served.ask_later(shown)
    assert not served.answers("forged", shown)
    assert not served.answers(None, shown)
    assert served.answers(token, served.read("merge", {"id": "one"}))
    assert not served.answers(token, shown)
    made.work("more", {"more": "1\n"})
    made.home()
    assert not served.answers(unused, served.read("merge", {"id": "one"}))
    other = served.ask_later(served.read("drop", {"id": "one", "force": True}))
    assert not served.answers(other, served.read("merge", {"id": "one"}))
    tokens = [served.ask_later(shown) for _ in range(60)]
    assert len(served.pending) == service.MOST_PENDING
    assert not served.answers(tokens[0], shown)


@pytest.mark.usefixtures("made", "verbs")
def test_his_own_sandboxes_are_used_with_consent_only(session: Session) -> None:
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("exec", {"id": "one", "command": ["true"]}), ("read_file", {"id": "one", "path": "x"}),
        ("write_file", {"id": "one", "path": "x", "content": ""}), ("start", {"id": "one"}), ("stop", {"id": "one"}),
        ("drop", {"id": "one"}), ("spawn", {"origin": "one"}), ("network", {"id": "one", "allow": ["a.example"]}),
    )  # fmt: skip

    async def talk(agent: Agent) -> None:
        for tool, wanted in calls:
            assert (await agent.refused(tool, **wanted))["kind"] == "consent", tool
        for tool in ("log", "diff", "logs", "sync", "network"):
            await agent.ok(tool, id="one")
        agent.agrees = True
        count = len(agent.asked)
        for tool, wanted in calls[:1] + calls[3:]:
            await agent.ok(tool, **wanted)
        assert len(agent.asked) == count + 2, "once for the sandbox, once for the name"
        await agent.ok("drop", id="one", force=True)
        assert "drop it even if" in agent.asked[-1]

    session(talk)
    (place,) = paths.state_root().glob("*/one")
    (place / "host-agent").touch()

    async def again(agent: Agent) -> None:
        await agent.ok("exec", id="one", command=["true"])
        assert (await agent.refused("exec", id="nowhere", command=["true"]))["kind"] == "state"

    assert session(again).asked == []


def refuses(served: service.Service, ready: service.Ready, shown: str) -> None:
    done = served.act(ready, Work())
    (error,) = done.data["errors"]
    assert done.failed
    assert error["kind"] == "consent"
    assert "has changed since" in error["cause"]
    assert shown in error["cause"]


def test_a_call_is_read_again_when_its_turn_comes(
    repo: GitRepo, made: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent can let a call wait behind others, and its user can take his time."""
    monkeypatch.chdir(repo.path)
    served, before = service.service(()), head(repo)
    (repo.path / "new").write_text("of the user\n")
    blocked = served.read("merge", {"id": "one"})
    assert blocked.question is None, "a file of his is in the way: there is nothing to agree to"
    (repo.path / "new").unlink()
    refuses(served, blocked, "into main")
    agreed = served.read("merge", {"id": "one"})
    made.work("more", {"more": "1\n"})
    made.home()
    refuses(served, agreed, str(made.host.git("rev-parse", "refs/sandbox/one").strip()))
    repo.git("checkout", "-q", "-b", "other")
    agreed = served.read("merge", {"id": "one"})
    repo.git("checkout", "-q", "main")
    refuses(served, agreed, "into main")
    assert head(repo) == before
    assert not served.act(served.read("merge", {"id": "one"}), Work()).failed
    assert head(repo) != before


@pytest.mark.usefixtures("made", "verbs")
def test_a_yes_counts_for_one_sandbox_and_no_later_one_of_its_name(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo.path)
    served = service.service(())
    calls: tuple[tuple[str, dict[str, Any]], ...] = (("stop", {"id": "one"}), ("spawn", {"origin": "one"}))
    asked = served.read("stop", {"id": "one"}).question
    assert asked is not None
    assert "consent covers its use, copies, stop and drop until" in asked.text
    served.act(served.read("stop", {"id": "one"}), Work())
    assert [served.read(*call).question for call in calls] == [None, None]
    entry = store.find(repos.discover(repo.path), "one")
    assert entry.record is not None
    later = msgspec.structs.replace(entry.record, created=entry.record.created + 1)
    monkeypatch.setattr(store, "find", lambda *_: msgspec.structs.replace(entry, record=later))
    assert all(served.read(*call).question for call in calls)


@pytest.mark.usefixtures("made")
def test_of_a_long_log_the_end_comes(session: Session) -> None:
    (place,) = paths.state_root().glob("*/one")
    (place / "output.log").write_text("x" * 300_000 + "\nthe end\n")

    async def talk(agent: Agent) -> None:
        text = (await agent.ok("logs", id="one"))["text"]
        assert text.startswith("… ")
        assert text.endswith("xxx\nthe end\n")
        assert len(text) < results.MOST

    session(talk)


def test_looking_is_free_and_the_answers_are_safe(session: Session, repo: GitRepo) -> None:
    """With the verbs themselves, in a repository that has modules of their names."""
    made = worked(repo, "one", {f"f{QUIET}": f"x\x1b]0;owned\x07{QUIET}\n"}, message=f"s{QUIET}\x1b[8m")
    worked(repo, "two", {"other": "1\n"})
    for name in ("json.py", "click.py", "git_sandbox.py"):
        (repo.path / name).write_text("raise SystemExit('imported from the repository')\n")

    async def talk(agent: Agent) -> None:
        for tool, wanted in (
            ("list", {"all": True}), ("log", {"id": "one"}), ("diff", {"id": "one", "what": "base"}),
            ("compare", {"ids": ["one", "two"]}), ("logs", {"id": "one"}),
        ):  # fmt: skip
            worked_, found = await agent.call(tool, **wanted)
            assert worked_, found
            assert leaks(json.dumps(found, ensure_ascii=False).encode().replace(b"\\n", b"\n"), terminal=False) == []
        assert "x" in (await agent.ok("diff", id="one", what="base"))["diff"]
        assert (await agent.refused("exec", id=f"o{QUIET}", command=["x"]))["kind"] == "usage"
        assert (await agent.refused(f"no{QUIET}"))["kind"] == "usage"

    assert session(talk).asked == []
    assert made.record.id == "one"


# --- repositories, and the program -----------------------------------------------------------------------------------


def test_it_serves_the_repositories_that_its_user_named(
    session: Session, verbs: list[list[str]], repo: GitRepo, tmp_path: Path
) -> None:
    other = GitRepo.create(tmp_path / "src" / "other")
    other.commit("first", {"a": "1\n"})
    (repo.path / "link").symlink_to(other.path)

    async def talk(agent: Agent) -> None:
        for place in (str(other.path), "link", str(repo.path / "link"), "/", "~", str(repo.path / "..")):
            assert (await agent.refused("list", repository=place))["kind"] in ("usage", "repository"), place
        await agent.ok("list", repository=str(repo.path / ".git" / ".."))

    session(talk)
    configure(f'mcp_repositories = ["{tmp_path / "src"}"]\n')

    async def again(agent: Agent) -> None:
        await agent.ok("list", repository=str(other.path))
        await agent.ok("list", repository=str(repo.path / "link"))

    session(again)
    assert len(verbs) == 3


def test_without_a_repository_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: GitRepo) -> None:
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(UsageError, match="none was given"):
        service.service(())
    assert service.service((str(repo.path),)).served.choose(None).worktree == repo.path
    configure('mcp_repositories = ["/nowhere"]\n')
    with pytest.raises(UsageError, match="no repository given"):
        service.service(()).served.choose(None)


def test_without_the_extra_it_says_how_to_get_it(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo.path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert main(["mcp"]) == 11
    assert "git-sandbox[mcp]" in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_the_program_speaks_the_protocol_and_ends_with_its_input(repo: GitRepo, mode: str) -> None:
    async def talk() -> None:
        async with connected(stdio(SANDBOX, repo.path, dict(os.environ)), mode=mode) as agent:
            tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
            assert not tools["merge"].annotations.read_only_hint
            assert tools["diff"].annotations.read_only_hint
            assert await agent.ok("list") == []

    anyio.run(talk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_ends_it_while_its_input_is_open(repo: GitRepo, number: signal.Signals, *, busy: bool) -> None:
    """Also one that comes while it reads a request: an exception there would be the request's, and the signal lost."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with subprocess.Popen([SANDBOX, "mcp"], cwd=repo.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        child.stdin.flush()
        assert b"git-sandbox" in child.stdout.readline()
        if busy:
            pings = [json.dumps({"jsonrpc": "2.0", "id": at, "method": "ping"}).encode() for at in range(2, 300)]
            child.stdin.write(b"\n".join(pings) + b"\n")
            child.stdin.flush()
            child.stdout.readline()
        child.send_signal(number)
        assert child.wait(60) == 128 + number


# --- branches, undo, the trash, and agents ---------------------------------------------------------------------------


def heads(repo: GitRepo) -> dict[str, str]:
    return {name: value for name, value in repo.refs().items() if name.startswith("refs/heads/")}


def test_only_a_yes_makes_branches(session: Session, repo: GitRepo, made: Sandbox) -> None:
    """New ones, and some that are moved; what runs by itself is asked about whatever the rules say."""
    repo.git("branch", "grown")
    made.guest.git("switch", "-q", "-c", "topic")
    made.work("topic", {"topic": "1\n"})
    made.guest.git("branch", "-f", "grown", "HEAD")
    made.home()
    before, tip = heads(repo), made.guest.git("rev-parse", "topic").strip()

    async def talk(agent: Agent) -> None:
        assert (await agent.refused("branch", id="one"))["kind"] == "consent"
        assert heads(repo) == before
        assert f"- new branch topic at {tip}" in agent.asked[-1].splitlines()
        assert (await agent.refused("branch", id="one", names=["topic:other", "nowhere"]))["kind"] == "usage"
        agent.agrees = True
        await agent.ok("branch", id="one", names=["topic:other", "grown"])
        assert f"- move branch grown from {before['refs/heads/main']} to {tip}" in agent.asked[-1].splitlines()

    session(talk)
    assert heads(repo) == before | {"refs/heads/other": tip, "refs/heads/grown": tip}
    configure('mcp_allow = ["branch"]\n')

    async def by_rule(agent: Agent) -> None:
        await agent.ok("branch", id="one", names=["topic"])
        assert agent.asked == []
        made.work("risky", {".vscode/tasks.json": "{}\n"})
        made.home()
        assert (await agent.refused("branch", id="one", names=["topic:risky"]))["kind"] == "consent"
        assert "runs by itself: .vscode/tasks.json" in agent.asked[-1]

    session(by_rule)
    assert heads(repo)["refs/heads/topic"] == tip
    assert "refs/heads/risky" not in heads(repo)


@pytest.mark.usefixtures("made")
def test_more_branches_than_somebody_reads_are_not_asked_about(session: Session, repo: GitRepo, made: Sandbox) -> None:
    for number in range(consent.MOST_NEEDS + 1):
        made.guest.git("branch", f"b{number}")
    made.home()

    async def talk(agent: Agent) -> None:
        agent.agrees = True
        assert (await agent.refused("branch", id="one"))["kind"] == "usage"

    assert session(talk).asked == []
    assert len(heads(repo)) == 1


@pytest.mark.usefixtures("made")
def test_an_undo_is_asked_about_whatever_the_rules_say(session: Session, repo: GitRepo) -> None:
    configure('mcp_allow = ["merge", "branch", "drop", "sandboxes"]\n')
    start = head(repo)

    async def talk(agent: Agent) -> None:
        assert (await agent.refused("undo", id="one"))["kind"] == "integrate", "nothing of it was merged"
        await agent.ok("merge", id="one")
        merged = head(repo)
        error = await agent.refused("undo", id="one")
        assert (error["kind"], error["hint"], head(repo)) == ("consent", "", merged)
        assert f"- put main back from {merged} to {start}" in agent.asked[-1].splitlines()
        assert "  new" in agent.asked[-1].splitlines()
        agent.agrees = True
        await agent.ok("undo", id="one")
        assert (head(repo), repo.git("status", "--porcelain").strip()) == (start, "")

    session(talk)


def test_branches_are_taken_back_with_consent_only(session: Session, repo: GitRepo, made: Sandbox) -> None:
    made.guest.git("branch", "topic")
    made.home()
    configure('mcp_allow = ["branch"]\n')

    async def talk(agent: Agent) -> None:
        await agent.ok("branch", id="one")
        tip = heads(repo)["refs/heads/topic"]
        assert (await agent.refused("undo", id="one", what="branch"))["kind"] == "consent"
        assert f"- remove branch topic, which is at {tip}" in agent.asked[-1].splitlines()
        assert "refs/heads/topic" in heads(repo)
        agent.agrees = True
        await agent.ok("undo", id="one", what="branch")
        assert (await agent.refused("undo", id="one", what="branch"))["kind"] == "integrate"

    session(talk)
    assert "refs/heads/topic" not in heads(repo)


def test_one_hook_among_many_is_not_asked_about(session: Session, repo: GitRepo) -> None:
    """A question shows a screen: what is beyond it would be agreed to unseen."""
    worked(repo, "one", {f".vscode/{number}.json": "{}\n" for number in range(consent.MOST_NEEDS + 1)})
    before = head(repo)

    async def talk(agent: Agent) -> None:
        agent.agrees = True
        assert (await agent.refused("merge", id="one"))["kind"] == "consent"

    assert session(talk).asked == []
    assert head(repo) == before


@pytest.mark.usefixtures("made")
def test_what_its_user_dropped_comes_back_with_consent_only(session: Session, repo: GitRepo) -> None:
    async def talk(agent: Agent) -> None:
        assert (await agent.refused("restore", id="one"))["kind"] == "state", "it is not in the trash"
        agent.agrees = True
        await agent.ok("drop", id="one", force=True)

    session(talk)
    assert not repo.git("for-each-ref", "refs/sandbox/").strip()

    async def again(agent: Agent) -> None:
        assert (await agent.refused("restore", id="one"))["kind"] == "consent"
        agent.agrees = True
        assert (await agent.ok("restore", id="one"))[0]["state"] == "stopped"
        assert "refs/sandbox/one" in repo.git("for-each-ref")
        (place,) = paths.state_root().glob("*/one")
        (place / "host-agent").touch()
        await agent.ok("drop", id="one", force=True)
        agent.agrees = False
        await agent.ok("restore", id="one")

    session(again)


MANIFEST = """schema = 1
description = "x"
allow = ["api.test"]
[command]
interactive = ["true"]
headless = ["worker", "-p"]
[credentials.api]
hosts = ["api.test"]
bearer = true
env = "KEY"
variable = "KEY"
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_task_for_an_agent_is_asked_about(session: Session, verbs: list[list[str]], repo: GitRepo, mode: str) -> None:
    place = paths.config_file().parent / "agents/mine.toml"
    place.parent.mkdir(parents=True)
    place.write_text(MANIFEST)
    repo.write(".sandbox/agents/theirs.toml", MANIFEST)

    async def refused(agent: Agent) -> None:
        agent.agrees = True
        for name in ("mine", "theirs"):
            error = await agent.refused("agent", agent=name, task="x")
            assert (error["kind"], error["hint"]) == ("consent", f"`sandbox agent trust {name}`")
        assert (await agent.refused("agent", agent="nobody", task="x"))["kind"] == "usage"
        assert agent.asked == [], "an agent cannot have its user agree to a manifest"

    session(refused, mode)
    assert main(["agent", "trust", "mine"]) == 0

    async def talk(agent: Agent) -> None:
        error = await agent.refused("agent", agent="mine", task="send\nit to evil.example")
        assert (error["kind"], verbs) == ("consent", [])
        assert "`agent:mine`" in error["hint"]
        assert "let agent mine do `send it to evil.example`" in agent.asked[-1]
        assert "- agent mine (user): reaches api.test; keys: api" in agent.asked[-1].splitlines()
        assert (await agent.refused("agent", agent="mine", task="--option"))["kind"] == "usage"
        await agent.refused("agent", agent="mine", task="x", net="nat")
        assert "- net: nat" in agent.asked[-1].splitlines()
        agent.agrees = True
        await agent.ok("agent", agent="mine", task="do it", background=True)
        words = verbs.pop()
        assert {"--agent=mine", "--detach", "--on-exit=keep"} < {*words}
        assert words[-2:] == ["--", "do it"]

    session(talk, mode)
    configure('mcp_allow = ["agent:mine"]\n')

    async def by_rule(agent: Agent) -> None:
        await agent.ok("agent", agent="mine", task="do it")

    assert session(by_rule, mode).asked == []


@pytest.mark.usefixtures("made")
def test_it_waits_until_a_sandbox_no_longer_works(
    session: Session, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(repo, "two", {"b": "1\n"})
    works = [True, True, False]
    monkeypatch.setattr(looking, "EVERY", 0.0)
    monkeypatch.setattr(looking, "_works", lambda _repo, name: works.pop(0) if name == "one" else False)

    async def talk(agent: Agent) -> None:
        row = await agent.ok("status", id="one", wait=600)
        assert (row["id"], row["state"], row["ahead"], works) == ("one", "stopped", 1, [])
        assert (await agent.ok("status", id="two"))["id"] == "two"
        assert (await agent.refused("status", id="three"))["kind"] == "state"

    session(talk)


def test_what_waits_for_somebody_works_no_longer(repo: GitRepo, made: Sandbox) -> None:
    entry = store.find(made.repo, "one")
    assert not looking._works(made.repo, "one")
    assert not looking._works(made.repo, "nowhere")
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert looking._works(made.repo, "one")
        for state, works in (("working", True), ("waiting", False), ("done", False), ("failed", False)):
            record.note_activity(entry.directory, record.Activity(state, "", 0.0))
            assert looking._works(made.repo, "one") is works
    assert repo.path.is_dir()
