"""Where secrets come from: values of credentials, and answers of git's credential helpers. On the host, as the user.

The proxy reads what guests and servers say and is confined, so it has neither the user's files nor his commands. A
process beside it has them (`python -P -m git_sandbox.egress.sources`) and hears no byte of a guest's: the two share a
socket of messages, each one JSON object. What is not declared in the sandbox's policy is not given out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from git_sandbox.egress import gitaccess, policyfile, service, values
from git_sandbox.egress.credentials import Credential
from git_sandbox.egress.policyfile import GIT_NONE, Egress
from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass, field

MOST = 64 << 10  # bytes of a message; a value has at most 16 KiB
AT_ONCE = 8  # questions that are answered at the same time; the others wait
DENIED = "it is not in the policy of this sandbox"


class Source(Protocol):
    async def value(self, credential: Credential) -> str:
        """Of a credential, now. Raises SandboxError, which does not say it."""

    async def git(self, host: str, port: int, repository: str) -> bytes:
        """The value of Authorization that the host's git has; empty for none."""


@dataclass(frozen=True)
class Local:
    """In this process. `environment`: of the credentials that are variables."""

    environment: Mapping[str, str] = field(repr=False)

    async def value(self, credential: Credential) -> str:
        return await asyncio.to_thread(values.fetch, credential, self.environment)

    async def git(self, host: str, port: int, repository: str) -> bytes:
        return await asyncio.to_thread(gitaccess.fill, host, port, repository)


class Remote:
    """By asking the process that is at the other end of `channel`."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self.count = 0
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Take answers until the other end is gone."""
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self.channel, MOST):
            answer = json.loads(data)
            waiting = self.waiting.pop(answer["number"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def _ask(self, question: dict[str, Any]) -> str:
        loop = asyncio.get_running_loop()
        self.count, number = self.count + 1, self.count
        self.waiting[number] = loop.create_future()
        try:
            await loop.sock_sendall(self.channel, json.dumps(question | {"number": number}).encode("ascii"))
            answer = await self.waiting[number]
        finally:
            self.waiting.pop(number, None)
        if "error" in answer:
            message, cause, hint = answer["error"]
            raise SandboxError(message, cause=cause, hint=hint)
        return str(answer["value"])

    async def value(self, credential: Credential) -> str:
        return await self._ask({"credential": credential.name})

    async def git(self, host: str, port: int, repository: str) -> bytes:
        return (await self._ask({"git": [host, port, repository]})).encode("ascii")


def answer(question: bytes, egress: Egress, environment: Mapping[str, str]) -> bytes:
    """To one message of the proxy's, which may have been taken over: whatever it says."""
    try:
        content = json.loads(question)
        number = int(content["number"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return b""
    try:
        return json.dumps({"number": number, "value": _secret(content, egress, environment)}).encode("ascii")
    except SandboxError as error:
        reason = [error.message, error.cause, error.hint]
    except (ValueError, KeyError, TypeError, OverflowError):
        reason = ["malformed request", "", ""]
    return json.dumps({"number": number, "error": reason}).encode("ascii")


def _secret(content: dict[str, Any], egress: Egress, environment: Mapping[str, str]) -> str:
    if "git" in content:
        host, port, repository = content["git"]
        if egress.git_may(str(host), int(port), str(repository)) == GIT_NONE:
            raise SandboxError("cannot get the password of a repository", cause=DENIED)
        return gitaccess.fill(str(host), int(port), str(repository)).decode("ascii")
    name = content["credential"]
    credential = next((candidate for candidate in egress.credentials if candidate.name == name), None)
    if credential is None:
        raise SandboxError("cannot get a credential", cause=DENIED)
    return values.fetch(credential, environment)


def serve(channel: socket.socket, policy: Path, environment: Mapping[str, str]) -> None:
    """Answer until the proxy is gone. A policy that cannot be read gives nothing."""
    room = threading.BoundedSemaphore(AT_ONCE)

    def reply(question: bytes) -> None:
        try:
            egress = Egress()
            with contextlib.suppress(SandboxError):
                egress = policyfile.load(policy)
            with contextlib.suppress(OSError):
                channel.send(answer(question, egress, environment) or b"{}")
        finally:
            room.release()

    while question := channel.recv(MOST):
        room.acquire()
        threading.Thread(target=reply, args=(question,), daemon=True).start()


def _end_programs() -> None:
    """Commands and git's helpers that a thread still waits for: each has a session of its own, and would stay."""
    from git_sandbox import process  # late: the proxy itself needs the standard library only

    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                process.kill_group(int(pid))


def main() -> None:
    service.seal()
    from git_sandbox import process  # noqa: F401 - before the handler needs it, which may come while it is imported

    def end(*_: object) -> None:
        """All of it also where the end of the channel has begun to, which an exception would cut short."""
        _end_programs()
        os._exit(0)

    order = service.decode_sources(sys.stdin.buffer.read())
    signal.signal(signal.SIGTERM, end)
    try:
        with socket.socket(fileno=order.channel) as channel:
            serve(channel, Path(order.policy), order.values)
    finally:
        _end_programs()


if __name__ == "__main__":
    main()
