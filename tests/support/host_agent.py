"""An agent on the host: the official SDK's client, and a user who answers what he is asked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp import Client, StdioServerParameters, stdio_client

MODES = ("legacy", "auto")  # of asking: during a call, and between two


@dataclass
class Agent:
    """`asked`: questions so far. `agrees`: what its user answers. `heard`: progress of all calls."""

    agrees: bool = False
    asked: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    client: Any = None

    async def answer(self, _context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"agree": self.agrees})

    async def progress(self, _progress: float, _total: float | None, message: str | None) -> None:
        self.heard.append(message or "")

    async def call(self, tool: str, **arguments: object) -> tuple[bool, dict[str, Any]]:
        """Whether it worked, and what came back; the text says the same as the structure."""
        done = await self.client.call_tool(tool, arguments, progress_callback=self.progress)
        return not done.is_error, dict(done.structured_content)

    async def ok(self, tool: str, **arguments: object) -> Any:
        worked, found = await self.call(tool, **arguments)
        assert worked, found
        return found["result"]

    async def refused(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The one error."""
        worked, found = await self.call(tool, **arguments)
        assert not worked, found
        (error,) = found["errors"]
        return dict(error)


@contextlib.asynccontextmanager
async def connected(
    target: Any, *, mode: str = "legacy", can_ask: bool = True, agrees: bool = False
) -> AsyncIterator[Agent]:
    """`target`: a server of this process, or what `stdio` gives."""
    agent = Agent(agrees)
    callback = agent.answer if can_ask else None
    async with Client(target, mode=mode, elicitation_callback=callback) as client:
        agent.client = client
        yield agent


def stdio(program: Path, cwd: Path, env: Mapping[str, str], *words: str) -> Any:
    """`sandbox mcp`, as a host starts it."""
    return stdio_client(StdioServerParameters(command=str(program), args=["mcp", *words], env=dict(env), cwd=cwd))
