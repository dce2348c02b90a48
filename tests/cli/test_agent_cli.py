"""Agents on the command line: what is shown and asked before anything starts, logs, and states in the list."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from cli.conftest import Cli
from git_sandbox import network, process, store
from git_sandbox import record as noted
from git_sandbox.agents import agreed, catalogue
from git_sandbox.cli import agent_start, configured, first, logs
from git_sandbox.errors import UsageError
from git_sandbox.git.repo import discover
from git_sandbox.image import spec
from git_sandbox.record import Activity
from git_sandbox.sandbox import session_options, supervisor
from git_sandbox.sandbox.options import Options
from git_sandbox.store import SandboxHandle
from support.fabricated import spawn
from support.gitrepo import GitRepo
from support.terminal import Terminal
from support.vm import SANDBOX

KEY = "sk-ant-api03-abcdefghijklmnopqrst"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made / "config"))
    (made / ".gitconfig").write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    (made / ".claude/commands").mkdir(parents=True)
    (made / ".claude/CLAUDE.md").write_text("Be kind.\n")
    (made / ".claude/commands/deploy.md").write_text(f"Use {KEY}\n")
    return made


def test_agents_are_listed_with_whose_they_are(cli: Cli, repo: GitRepo) -> None:
    place = repo.path / catalogue.BELOW
    place.mkdir(parents=True)
    (place / "team.toml").write_text('schema = 1\ndescription = "ours\x7f"\n[command]\ninteractive = ["x"]\n')
    (place / "bad.toml").write_text("x")
    rows = {row["name"]: row for row in cli("agent", "ls", "--json").envelope["data"]}
    assert {rows["claude"]["origin"], rows["team"]["origin"]} == {"shipped", "repository"}
    assert rows["bad"]["problem"]
    shown = cli("agent", "ls")
    assert "Claude Code" in shown.out
    assert "not valid" in shown.out
    assert cli("agent").code == 2
    assert cli("agent", "show", "nobody").code == 2


def test_show_says_all_of_it_and_no_secret(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    said = cli("agent", "show", "claude")
    for text in (
        "api.anthropic.com", "$ANTHROPIC_API_KEY", "@anthropic-ai/claude-code@latest", "~/.claude/CLAUDE.md (9 B)",
        "~/.claude/commands/deploy.md: line 1 looks like a token", "--dangerously-skip-permissions",
        "sandbox agent trust claude",
    ):  # fmt: skip
        assert text in said.out, said.out
    data = cli("agent", "show", "claude", "--json")
    assert data.envelope["data"]["goes_in"] == ["~/.claude/CLAUDE.md"]
    assert KEY not in said.out + said.err + data.out
    printed = cli("agent", "show", "claude", "--toml").out
    assert printed.encode().strip() == catalogue.find("claude", None).content.strip()


@pytest.mark.parametrize(
    "words",
    [
        ("agent", "claude", "--detach"),
        ("claude", "--", "-p", "x"),
        ("run", "--agent", "claude", "--", "x"),
        ("claude", "--json", "--", "-p", "x"),
    ],
    ids=" ".join,
)
def test_no_terminal_never_means_yes(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli(*words)
    assert said.code == 2
    if "--json" not in words:
        assert "api.anthropic.com" in said.err
        assert "sandbox agent trust claude" in said.err
    assert not agreed.given(catalogue.find("claude", None), "")
    assert cli("ls").out.startswith("No sandboxes")


def test_who_agrees_without_being_asked_sees_what_it_is(cli: Cli, home: Path) -> None:
    mine = home / "config/git-sandbox/agents/mine.toml"
    mine.parent.mkdir(parents=True)
    content = 'schema = 1\ndescription = "x"\nallow = ["one.example"]\n[command]\ninteractive = ["x"]\n'
    mine.write_text(content)
    said = cli("agent", "trust", "mine")
    assert said.code == 0
    assert "reaches     one.example" in said.err
    mine.write_text(content.replace("one", "two"))
    said = cli("agent", "trust", "mine", "--json")
    assert said.envelope["data"] == {"name": "mine"}
    different = {"It changed since you agreed to it:", "  -allow = one.example", "  +allow = two.example"}
    assert {*different, "  reaches     two.example"} <= {*said.err.splitlines()}
    assert agreed.given(catalogue.find("mine", None), "")


def test_a_no_is_a_no_and_a_yes_is_remembered(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    """On a real terminal; a cache without an image and a PATH without its builder stop what comes after the yes."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for each in ("git", "mke2fs", "ssh", "ssh-keygen", "setpriv", "prlimit", "setsid"):
        (tools / each).symlink_to(str(process.which(each)))
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tools)}
    for answer, code, given in (("n\r", 130, False), ("y\r", 11, True)):
        with Terminal([SANDBOX, "claude"], cwd=repo.path, env=env) as term:
            shown = term.expect("Start claude with this access? [y/N]:")
            for text in ("reaches", "api.anthropic.com", "keys", "goes in", "~/.claude/CLAUDE.md", "stays here"):
                assert text in shown
            term.type(answer)
            assert term.wait() == code, term.shown()
        assert agreed.given(catalogue.find("claude", None), "") is given
    assert cli("agent", "show", "claude").out.endswith("You agreed to this.\n")


def test_what_an_agent_makes_of_a_start(repo: GitRepo, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)
    here, agent = discover(repo.path), catalogue.find("claude", None)
    agreed.give(agent, "")
    (home / "config/git-sandbox").mkdir(parents=True)
    (home / "config/git-sandbox/config.toml").write_text('packages = ["jq"]\nenv = ["IS_SANDBOX=2"]\n')
    wanted, values = configured.resolved(here)
    given = Options(wanted, command=("fix it",), tty=True)
    made = agent_start.options(here, "claude", given, values, headless=False)
    assert made.command == (*agent.manifest.command.interactive, "fix it")
    assert (made.detached, made.terminal, made.tty, made.agent) == (True, True, True, "claude")
    assert made.settings.memory == 4096
    assert made.settings.env[-1] == "IS_SANDBOX=2"
    asked = spec.asked(made.settings)
    assert {"jq", "npm", "tmux"} <= set(asked.packages)
    assert asked.npm == ("@anthropic-ai/claude-code@latest",)
    assert {each.path for each in made.files} == {
        "~/.claude/CLAUDE.md",
        "/etc/git-sandbox/claude",
        "/etc/git-sandbox/claude.json",
        "~/.claude.json",
    }
    assert (made.settings.net, made.settings.allow) == (network.ALLOW, ("api.anthropic.com",))
    assert made.keys == {}, "this host has none"
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    keyed = agent_start.options(here, "claude", given, values, headless=False).keys
    assert keyed["anthropic"]["env"] == "ANTHROPIC_API_KEY"
    assert KEY not in str(keyed)
    found = session_options.gather(made.settings, os.environ, keyed)
    assert found.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:3128/@anthropic"
    assert found.env["ANTHROPIC_API_KEY"].startswith("sk-ant-")
    assert KEY not in found.env.values()
    for chosen in (network.NAT, network.NONE):
        other = [each for each in values if each.name != "net"]
        own = dataclasses.replace(given, settings=dataclasses.replace(wanted, net=chosen))
        again = agent_start.options(here, "claude", own, other, headless=False)
        assert (again.settings.net, again.settings.allow, again.keys) == (chosen, (), {}), "the user's word"
    once = agent_start.options(here, "claude", Options(wanted, command=("x",)), values, headless=True)
    assert (once.command, once.detached, once.terminal) == ((*agent.manifest.command.headless, "x"), False, False)
    monkeypatch.setenv("SANDBOX_MEMORY", "1G")
    wanted, values = configured.resolved(here)
    assert (
        agent_start.options(here, "claude", Options(wanted, command=("x",)), values, headless=True).settings.memory
        == 1024
    )


def test_a_manifest_that_does_not_fit_this_host_is_said_in_words(
    repo: GitRepo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo.path)
    here, place = discover(repo.path), home / "config/git-sandbox"
    (place / "agents").mkdir(parents=True)
    (place / "image.toml").write_text(f"npm = {json.dumps([f'a{number}' for number in range(60)])}\n")
    wanted, values = configured.resolved(here, {"net": "allow"})

    def started(name: str, more: str, **changes: object) -> Options:
        (place / f"agents/{name}.toml").write_text(
            f'{more}\nschema = 1\ndescription = "x"\n[command]\ninteractive = ["x"]\n'
        )
        agreed.give(catalogue.find(name, None), "")
        given = Options(dataclasses.replace(wanted, **changes), detached=True)  # type: ignore[arg-type]
        return agent_start.options(here, name, given, values, headless=False)

    for path in (f"~/{'x' * 300}", "~/none/key"):
        key = f'credentials = {{k = {{hosts = ["h.example"], bearer = true, file = "{path}"}}}}'
        assert started("keyed", key).keys == {}
    npm = f"install = {{npm = {json.dumps([f'b{number}' for number in range(60)])}}}"
    assert len(spec.asked(started("large", npm).settings).npm) == 60
    with pytest.raises(UsageError, match="cannot add everything to the image that large installs"):
        started("large", npm, image=str(place / "image.toml"))


def test_a_shell_of_an_agent_asks_for_nothing(repo: GitRepo, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(repo.path)
    here = discover(repo.path)
    wanted, values = configured.resolved(here)
    made = agent_start.options(here, "shell", Options(wanted, detached=True), values, headless=False)
    assert (made.command, made.settings, made.files) == (("bash", "-l"), wanted, ())
    assert cli("agent", "shell").code == 2  # no terminal, and nothing to do without one


def test_a_detached_command_has_a_terminal_where_one_is_asked_for(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its start is told, and what its user is; `tests/vm/test_agent` attaches to such a terminal."""
    chosen: list[Options] = []

    def started(_repo: object, options: Options, *_others: object, **_more: object) -> str:
        chosen.append(options)
        name = f"vm-{len(chosen)}"
        boxed(repo, name, command=options.command, terminal=options.terminal)
        return name

    monkeypatch.setattr(supervisor, "start", started)
    monkeypatch.setattr(first, "first_use", lambda *_words, **_more: None)
    said = cli("run", "--detach", "--tty", "--", "true")
    assert (said.code, "Attach: `sandbox attach vm-1`" in said.out) == (0, True), said
    said = cli("run", "-d", "--", "true")
    assert (said.code, "sandbox attach" in said.out) == (0, False), said
    assert [(each.detached, each.terminal, each.tty) for each in chosen] == [(True, True, False), (True, False, False)]


def test_the_verb_comes_before_an_agent_of_its_name(cli: Cli, home: Path) -> None:
    place = home / "config/git-sandbox/agents"
    place.mkdir(parents=True)
    for name in ("ls", "doctor", "mine"):
        (place / f"{name}.toml").write_text('schema = 1\ndescription = "x"\n[command]\ninteractive = ["x"]\n')
    assert cli("ls").out.startswith("No sandboxes")
    assert cli("mine").err.count("`mine` needs a terminal") == 1
    assert cli("nobody").err.count("there is no command `nobody`") == 1
    assert cli("run").code == 2


def boxed(repo: GitRepo, name: str, **changes: object) -> SandboxHandle:
    made = spawn(repo, name)
    box = SandboxHandle(made.repo, store.find(made.repo, name).id, store.find(made.repo, name).directory)
    box.save(msgspec.structs.replace(made.record, **changes))
    return box


def test_the_list_says_who_waits(cli: Cli, repo: GitRepo) -> None:
    box = boxed(repo, "vm-1", agent="claude", command=("claude",), brought_home=time.time(), exit_code=3)
    box.directory.disk.touch()
    row = cli("ls", "--json").envelope["data"][0]
    assert row["activity"]["state"] == "failed"
    assert "stopped, failed" in cli("ls").out
    noted.note_activity(box.directory, Activity("waiting", "may I\x1b[31m?", 1.0))
    with store.open_existing(discover(repo.path), "vm-1"):
        row = cli("ls", "--json").envelope["data"][0]
        shown = cli("ls").out
    assert (row["state"], row["activity"]["state"], row["agent"]) == ("running", "waiting", "claude")
    assert "running, waiting" in shown
    assert "claude: may I" in shown
    assert "\x1b" not in shown


def test_logs_are_bytes_elsewhere_and_text_on_a_terminal(
    cli: Cli, repo: GitRepo, capfd: pytest.CaptureFixture[str]
) -> None:
    box = boxed(repo, "vm-1")
    assert "has no output" in cli("logs", "vm-1").err
    raw = b"\x1b[31mred\x1b[0m\x1b]0;title\x07 10%\r 20%\r\nline \xff\x9b2J\n\x1b[?1049hlast"
    box.directory.output.write_bytes(raw)
    from git_sandbox.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repo.path)
        assert main(["logs", "-f", "vm-1"]) == 0  # it does not run, so this ends
    capfd.readouterr()
    assert cli("logs", "vm-1", "--json").envelope["data"]["bytes"] == len(raw)
    assert cli("logs", "-f", "--json", "vm-1").code == 2
    assert [logs.plain(line) for line in raw.split(b"\n")] == [" 20%", "line \ufffd\ufffd2J", "last"]
    with Terminal([SANDBOX, "logs", "vm-1"], cwd=repo.path, env=os.environ) as term:
        assert term.wait() == 0
        assert "last" in term.shown()
        assert "title" not in term.shown()
        assert "\x1b" not in term.shown()
    assert json.loads(cli("logs", "vm-1", "--json").out)["data"]["text"].startswith("\x1b[31mred")
