"""What stands for the APIs of coding agents: Anthropic's messages, OpenAI's responses, Gemini's content.

Each is asked for a task and answers, streamed, with one call of the agent's own shell, then with a word of thanks. An
agent without a shell of its own (aider) gets the text that it edits by.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Event = dict[str, Any]
TRIES = 5  # of one command
EDIT = """calc.py
```python
<<<<<<< SEARCH
    return a - b
=======
    return a + b
>>>>>>> REPLACE
```
"""


class Stub(ThreadingHTTPServer):
    """`work`: the shell's command. `subject`: of a commit, for who asks for one. `seen`: path and key of each request.

    `look`: called once for each agent, before an answer after which it ends: it and its machine are there still.
    """

    def __init__(self, work: str, subject: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.work, self.subject = work, subject
        self.seen: list[tuple[str, str]] = []
        self.clients: set[str] = set()  # as they call themselves
        self.tools: list[Any] = []  # what Gemini's last call of a tool came back with
        self.look: Callable[[], None] | None = None
        self.edited = False

    def begin(self, look: Callable[[], None]) -> None:
        """With the next agent."""
        self.seen.clear()
        self.clients.clear()
        self.look, self.edited = look, False

    def before_the_end(self) -> None:
        look, self.look = self.look, None
        if look is not None:
            look()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        path = self.path.partition("?")[0]
        self.server.seen.append((path, self.key()))
        self.server.clients.add(self.headers.get("user-agent", ""))
        if path.endswith("/count_tokens"):
            self.answer(b'{"input_tokens": 10}', "application/json")
        elif ":countTokens" in path:
            self.answer(b'{"totalTokens": 10}', "application/json")
        elif "/models/" in path:
            self.server.tools = answered(body)
            if self.server.tools:
                self.server.before_the_end()
            self.events(gemini(body, self.server.work, self.server.subject), streams="stream" in path, named=False)
        elif path.endswith("/responses"):
            if called(body):
                self.server.before_the_end()
            self.events(responses(body, self.server.work), streams=True)
        else:
            self.messages(body)

    def key(self) -> str:
        found = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key")
        return found or self.headers.get("authorization", "").removeprefix("Bearer ")

    def messages(self, body: dict[str, Any]) -> None:
        shells = [tool["name"] for tool in body.get("tools", []) if tool.get("name", "").lower() == "bash"]
        after = "tool_result" in json.dumps(body.get("messages", []))
        if after or self.server.edited:
            self.server.before_the_end()
        if shells and not after:
            events = call(shells[0], self.server.work)
        else:
            events = say("Done." if after else self.words(json.dumps(body)))
        if body.get("stream"):
            self.events(events, streams=True)
        else:
            self.answer(json.dumps(whole(events)).encode(), "application/json")

    def words(self, body: str) -> str:
        """To who has no shell: a change where its format is asked for, else the subject of a commit."""
        if "SEARCH/REPLACE" in body:
            self.server.edited = True
            return EDIT
        return self.server.subject

    def events(self, events: list[Event], *, streams: bool, named: bool = True) -> None:
        if not streams:
            self.answer(json.dumps(events[-1]).encode(), "application/json")
            return
        names = [f"event: {each['type']}\n" if named else "" for each in events]
        lines = zip(names, events, strict=True)
        self.answer("".join(f"{name}data: {json.dumps(each)}\n\n" for name, each in lines).encode())

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def answer(self, content: bytes, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def message(stop: str | None = None) -> Event:
    return {
        "id": f"msg_{secrets.token_hex(8)}", "type": "message", "role": "assistant", "model": "claude-stub",
        "content": [], "stop_reason": stop, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip


def streamed(block: Event, delta: Event, stop: str) -> list[Event]:
    return [
        {"type": "message_start", "message": message()},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def call(name: str, work: str) -> list[Event]:
    block = {"type": "tool_use", "id": f"toolu_{secrets.token_hex(8)}", "name": name, "input": {}}
    arguments = json.dumps({"command": work, "description": "Fix, test, commit"})
    return streamed(block, {"type": "input_json_delta", "partial_json": arguments}, "tool_use")


def say(text: str) -> list[Event]:
    return streamed({"type": "text", "text": ""}, {"type": "text_delta", "text": text}, "end_turn")


def whole(events: list[Event]) -> Event:
    """The same for who does not stream."""
    delta, made = events[2]["delta"], message(events[4]["delta"]["stop_reason"])
    if delta["type"] == "text_delta":
        return made | {"content": [{"type": "text", "text": delta["text"]}]}
    return made | {"content": [events[1]["content_block"] | {"input": json.loads(delta["partial_json"])}]}


def called(body: dict[str, Any]) -> bool:
    return any(str(item.get("type")).endswith("call_output") for item in body["input"])


def responses(body: dict[str, Any], work: str) -> list[Event]:
    """OpenAI's. The shell is a tool of Codex's, or one that a tool of its, which runs JavaScript, has."""
    if called(body):
        words = [{"type": "output_text", "text": "Done.", "annotations": []}]
        item = {"type": "message", "id": f"msg_{secrets.token_hex(8)}", "role": "assistant", "content": words}
    else:
        # A call of the shell comes back after some seconds, whether the command has ended or not; so does the script.
        script = '// @exec: {"yield_time_ms": 900000}\n'
        script += f"let done = await tools.exec_command({{cmd: {json.dumps(work)}, yield_time_ms: 30000}});\n"
        script += "while (done.session_id) done = await tools.write_stdin({session_id: done.session_id, chars: ''});\n"
        script += "text(JSON.stringify(done));"
        named = {"call_id": f"call_{secrets.token_hex(8)}", "name": "exec", "namespace": "functions"}
        item = {"type": "custom_tool_call", "id": f"ctc_{secrets.token_hex(8)}", "input": script, **named}
    made = {"id": f"resp_{secrets.token_hex(8)}", "object": "response", "model": "stub", "output": [item]}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": None, "output_tokens_details": None}  # type: ignore[dict-item]
    return [
        {"type": "response.created", "response": made | {"output": [], "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": made | {"status": "completed", "usage": usage}},
    ]


def answered(body: dict[str, Any]) -> list[Event]:
    """What Gemini's calls of its shell came back with."""
    parts = [part for content in body["contents"] for part in content["parts"]]
    return [part["functionResponse"] for part in parts if "functionResponse" in part]


def gemini(body: dict[str, Any], work: str, subject: str) -> list[Event]:
    """Google's. Who offers no tools asks how hard the task is. A command that was refused is asked for again, as a
    model does: the CLI's parser of commands has a second for one, which the first may not get in emulation.
    """
    said = answered(body)
    if said and (made(subject) in json.dumps(said) or len(said) >= TRIES):
        part: Event = {"text": "Done."}
    elif body.get("tools"):
        part = {"functionCall": {"name": "run_shell_command", "args": {"command": work}}}
    else:
        part = {"text": json.dumps({"complexity_reasoning": "a stub", "complexity_score": 1})}
    content = {"role": "model", "parts": [part]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return [{"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}]


def made(subject: str) -> str:
    """What the work says in its end, and is not written so in its command."""
    return f"made: {subject}"
