"""An agent from start to end: in one machine, its terminal left and found again, what it says, and its commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.terminal import Terminal
from support.tmux import Tmux
from support.vm import SANDBOX, Sandboxes, wait_for

BOOT = 150.0  # seconds
MANIFEST = r"""
schema = 1
description = "a script that does what an agent does"
allow = ["api.test"]
[credentials.api]
hosts = ["api.test"]
bearer = true
env = "KEY_OF_THE_HOST"
variable = "API_KEY"
[command]
interactive = ["bash", "-c", '''
  echo "screen-$((40 + 2)) $GREETING $(cat ~/.agent/RULES.md) $(cat /etc/agent.conf) $#:$1 ${API_KEY%%-*}:${#API_KEY}"
  sandbox status set working "thinks"
  read -r one; echo "got-$one"
  sandbox status set waiting $'may I\tcommit? \x1b[31m'
  read -r two; echo "got-$two"
  echo 1 > made; git add made; git commit -qm "by an agent"
  exit 3
''', "agent"]
[env]
GREETING = "hello"
[[host_files]]
path = "~/.agent/"
[[files]]
path = "/etc/agent.conf"
content = "conf"
"""


def terminal(boxes: Sandboxes, *words: str) -> Terminal:
    return Terminal([SANDBOX, *words], cwd=boxes.repo.path, env=boxes.env)


def test_an_agent_is_started_left_found_again_and_its_commit_comes_home(
    boxes: Sandboxes, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("t")
    home, told = tmp_path / "home", tmp_path / "told"
    (home / ".agent").mkdir(parents=True)
    (home / ".agent/RULES.md").write_text("be-kind\n")
    (home / ".gitconfig").write_text("[user]\n\tname = Test\n\temail = test@example.org\n")
    (home / ".agent/auth.json").write_text('{"token": "sk-aaaaaaaaaaaaaaaaaaaaaaaa"}\n')
    agents = Path(boxes.env["XDG_CONFIG_HOME"]) / "git-sandbox/agents"
    agents.mkdir(parents=True)
    (agents / "script.toml").write_text(MANIFEST)
    boxes.env["KEY_OF_THE_HOST"] = "sk-ant-api03-only-the-host-has-this"
    boxes.env |= {"HOME": str(home), "SANDBOX_NOTIFY": f"sh -c 'echo $SANDBOX_STATE $SANDBOX_MESSAGE >> {told}'"}
    boxes.ok("agent", "trust", "script")
    with terminal(boxes, "agent", "script", "--name", "one", "--", "a b") as term:
        term.expect("screen-42 hello be-kind conf 1:a b sk:35", BOOT)  # a placeholder of the same look
        term.type("\x1c")
        assert term.wait() == 0, term.shown()
        assert "Sandbox one is still running" in term.shown()
    wait_for("its first word", lambda: boxes.listed()["one"]["activity"]["message"] == "thinks")
    row = boxes.listed()["one"]
    assert (row["state"], row["agent"], row["activity"]["state"]) == ("running", "script", "working")
    inside = boxes.ok(
        "exec", "one", "--", "sh", "-c", "ls -A ~/.agent; stat -c %U ~/.agent ~/.agent/RULES.md /etc/agent.conf"
    )
    user = boxes.ok("exec", "one", "--", "id", "-un").text.strip()
    assert inside.text.split() == ["RULES.md", user, user, "root"]
    with (
        Tmux([SANDBOX, "top"], cwd=boxes.repo.path, folder=folder, env=boxes.env, size=(160, 50)) as top,
        boxes.started("logs", "-f", "one") as following,
        terminal(boxes, "attach", "one") as term,
    ):
        _looked_in(top)
        term.expect("screen-42", BOOT)  # as it stands
        term.type("alpha\r")
        term.expect("got-alpha", BOOT)
        with terminal(boxes, "attach", "one") as second:
            second.expect("got-alpha", BOOT)
            term.hang_up()  # a connection that breaks ends nothing
            wait_for("the user is told", lambda: told.exists() and "waiting" in told.read_text())
            activity = boxes.listed()["one"]["activity"]
            assert (activity["state"], activity["message"]) == ("waiting", "may I commit? \ufffd[31m")
            second.type("beta\r")
            assert second.wait(BOOT) == 3, second.shown()
            assert "1 commit came home from sandbox one" in second.shown()
        followed = boxes.finish(following)
        _merged(top)
    assert boxes.repo.git("rev-parse", "main") == boxes.repo.git("rev-parse", "sandbox/one")
    assert followed.code == 0
    assert b"screen-42" in followed.out
    assert b"got-beta" in followed.out
    row = boxes.listed()["one"]
    assert (row["state"], row["ahead"], row["activity"]["state"]) == ("stopped", 1, "failed")
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/one") == "by an agent"
    assert told.read_text().splitlines()[-1] == "failed exit 3"
    for secret in ("sk-aaaaaaaa", boxes.env["KEY_OF_THE_HOST"]):
        assert subprocess.run(["grep", "-ra", secret, boxes.directory("one")], check=False).returncode == 1


def _looked_in(top: Tmux) -> None:
    """`sandbox top`: what the machine does, its terminal, and back."""
    top.until("script: thinks", "running, working", "main@")
    top.press("a")
    top.until("screen-42")
    top.press("C-\\")
    top.until("Sandbox one is still running", "Enter goes back")
    top.press("Enter")
    top.until("STATE", "running, working")


def _merged(top: Tmux) -> None:
    top.until("stopped, failed", "exit 3")
    top.press("m")
    top.until("made | 1 +", "Merge one into your branch?")
    top.press("y")
    top.until("HEAD is now", "Enter goes back")
    top.press("Enter")
    top.until("STATE", "merged")
    top.press("q")
