"""An agent on the host, from spawn to merge, with the official SDK's client and a real machine."""

from __future__ import annotations

import base64
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the lab has Debian's packages only, without the extra mcp")

import anyio

from support.host_agent import Agent, connected, stdio
from support.vm import SANDBOX, TIMEOUT, Sandboxes

NAME = "helper"
COMMIT = "echo new > new; git add new; git commit -qm 'by the agent'; printf 'a\\033]52;c;eA==\\007b\\n'"
LONG = "echo $$ > /tmp/pid; exec sleep 100000"
RISKY = "mkdir -p .vscode; echo '{}' > .vscode/tasks.json; git add -A; git commit -qm risky"


def test_an_agent_works_and_its_user_decides(boxes: Sandboxes) -> None:
    anyio.run(_session, boxes)


async def _session(boxes: Sandboxes) -> None:
    async with connected(stdio(SANDBOX, boxes.repo.path, boxes.env)) as agent:
        await _works(boxes, agent)
        await _files(agent)
        await _gives_up(agent)
        await _comes_home(boxes, agent)
        await _merges(boxes, agent)
        await _of_the_user(boxes, agent)
        assert (await agent.ok("stop", id=NAME))[0]["id"] == NAME
        (row,) = await agent.ok("list")
        assert (row["id"], row["state"]) == (NAME, "stopped")


async def _works(boxes: Sandboxes, agent: Agent) -> None:
    made = await agent.ok("spawn", name=NAME, memory="512M", env={"COLOUR": "--red"})
    assert (made["id"], agent.asked) == (NAME, [])
    assert agent.heard, "progress is told"
    assert (boxes.directory(NAME) / "host-agent").is_file()
    worked, found = await agent.call("exec", id=NAME, command=["sh", "-c", f"echo $COLOUR $1; {COMMIT}", "-", "--json"])
    assert worked
    assert found["output"].splitlines() == [
        "--red --json",
        "a\N{REPLACEMENT CHARACTER}]52;c;eA==\N{REPLACEMENT CHARACTER}b",
    ]
    worked, found = await agent.call(
        "exec", id=NAME, command=["sh", "-c", "pwd; cat; exit 7"], input="in", directory="/tmp"
    )
    assert (worked, found["result"]["exit_code"], found["output"]) == (True, 7, "/tmp\nin")


async def _files(agent: Agent) -> None:
    await agent.ok("write_file", id=NAME, path="-n/deep/file", content="äöü\n\tx\n")
    seen = await agent.ok("read_file", id=NAME, path="-n/deep/file")
    assert (seen["content"], seen["exact"], seen["size"]) == ("äöü\n\tx\n", True, 10)
    raw = bytes(range(256)) * 40
    await agent.ok("write_file", id=NAME, path="/tmp/raw", content=base64.b64encode(raw).decode(), encoding="base64")
    seen = await agent.ok("read_file", id=NAME, path="/tmp/raw", encoding="base64", offset=100, limit=300)
    assert (base64.b64decode(seen["content"]), seen["size"]) == (raw[100:400], len(raw))
    seen = await agent.ok("read_file", id=NAME, path="/tmp/raw", limit=32)
    assert not seen["exact"]
    assert "\x1b" not in seen["content"]
    for path in ("/dev/zero", "/tmp", "nowhere"):
        assert (await agent.refused("read_file", id=NAME, path=path))["kind"] == "state"


async def _gives_up(agent: Agent) -> None:
    """Of a call that nobody waits for, and of one that takes too long, nothing goes on inside."""
    worked, found = await agent.call("exec", id=NAME, command=["sh", "-c", LONG], timeout=5)
    assert found["timed_out"], (worked, found)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_call_for_ever, agent)
        await _until(agent, "test -s /tmp/second")
        tasks.cancel_scope.cancel()
    await _until(agent, "! kill -0 $(cat /tmp/pid) 2> /dev/null && ! kill -0 $(cat /tmp/second) 2> /dev/null")


async def _call_for_ever(agent: Agent) -> None:
    await agent.call("exec", id=NAME, command=["sh", "-c", LONG.replace("pid", "second")])


async def _until(agent: Agent, condition: str) -> None:
    with anyio.fail_after(TIMEOUT):
        while True:
            done: dict[str, Any] = await agent.ok("exec", id=NAME, command=["sh", "-c", condition])
            if done["exit_code"] == 0:
                return


async def _comes_home(boxes: Sandboxes, agent: Agent) -> None:
    before = boxes.repo.git("for-each-ref", "refs/heads", "refs/tags")
    came = await agent.ok("sync", id=NAME)
    assert boxes.repo.git("rev-parse", f"refs/sandbox/{NAME}").strip() == came["head"]
    assert boxes.repo.git("for-each-ref", "refs/heads", "refs/tags") == before
    assert "+new" in (await agent.ok("diff", id=NAME))["diff"]
    assert [row["subject"] for row in (await agent.ok("log", id=NAME))["commits"]] == ["by the agent"]
    assert agent.asked == []


async def _merges(boxes: Sandboxes, agent: Agent) -> None:
    start = boxes.repo.git("rev-parse", "HEAD").strip()
    assert (await agent.refused("merge", id=NAME))["kind"] == "consent"
    assert boxes.repo.git("rev-parse", "HEAD").strip() == start
    head = boxes.repo.git("rev-parse", f"refs/sandbox/{NAME}").strip()
    assert f"merge sandbox {NAME} ({head}) into main" in agent.asked[-1]
    agent.agrees = True
    merged = await agent.ok("merge", id=NAME)
    assert merged["after"] == boxes.repo.git("rev-parse", "main").strip() == head
    agent.agrees = False
    await agent.ok("exec", id=NAME, command=["sh", "-c", RISKY])
    await agent.ok("sync", id=NAME)
    assert (await agent.refused("merge", id=NAME))["kind"] == "consent"
    assert "changes a file that runs by itself: .vscode/tasks.json" in agent.asked[-1]
    assert boxes.repo.git("rev-parse", "main").strip() == head


async def _of_the_user(boxes: Sandboxes, agent: Agent) -> None:
    """One that he started, with what he allowed to it: asked once."""
    (boxes.directory(NAME) / "host-agent").unlink()
    count = len(agent.asked)
    for tool, arguments in (
        ("exec", {"command": ["true"]}),
        ("read_file", {"path": "new"}),
        ("write_file", {"path": "x", "content": ""}),
        ("stop", {}),
        ("network", {"allow": ["example.org"]}),
        ("spawn", {"origin": NAME}),
    ):
        named = {} if "origin" in arguments else {"id": NAME}
        assert (await agent.refused(tool, **arguments, **named))["kind"] == "consent", tool
    assert len(agent.asked) == count + 6
    agent.agrees = True
    await agent.ok("exec", id=NAME, command=["true"])
    await agent.ok("exec", id=NAME, command=["true"])
    assert len(agent.asked) == count + 7
