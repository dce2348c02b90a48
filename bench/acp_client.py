"""An editor's side of the Agent Client Protocol, by its official Python library: acp_client.py DIRECTORY COMMAND [ARGUMENT …]

Starts the command, opens a session in the directory, gives it one task, agrees to what it asks for, and prints what the
agent said and how its turn ended. Needs `pip install agent-client-protocol`, so another Python than ours may run it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import acp
from acp import schema

TASK = "Make check.py pass and commit"
LIMIT = 16 << 20  # bytes of one message


class Editor:
    """Agrees to everything, and keeps what it is told."""

    def __init__(self) -> None:
        self.updates: list[str] = []
        self.text = ""

    async def request_permission(self, options: list[Any], **_: Any) -> Any:
        chosen = next(each.option_id for each in options if each.kind.startswith("allow"))
        return schema.RequestPermissionResponse(outcome=schema.AllowedOutcome(outcome="selected", option_id=chosen))

    async def session_update(self, update: Any, **_: Any) -> None:
        self.updates.append(update.session_update)
        if update.session_update == "agent_message_chunk":
            self.text += getattr(update.content, "text", "")

    def on_connect(self, conn: Any) -> None:
        pass


async def main(directory: str, command: str, *arguments: str) -> None:
    editor = Editor()
    more = {"limit": LIMIT, "stderr": None}
    started = acp.spawn_agent_process(editor, command, *arguments, env=os.environ, transport_kwargs=more)
    async with started as (connection, _process):
        about = await connection.initialize(protocol_version=acp.PROTOCOL_VERSION)
        session = await connection.new_session(cwd=directory, mcp_servers=[])
        turn = await connection.prompt(session_id=session.session_id, prompt=[acp.text_block(TASK)])
        found = {
            "protocol": about.protocol_version, "agent": getattr(about.agent_info, "name", None),
            "updates": sorted(set(editor.updates)), "text": editor.text, "ended": turn.stop_reason,
        }  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
