"""What a request does in git's protocol over HTTP (gitprotocol-http(5)), and the host's credentials for it."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from git_sandbox.egress import inject, names
from git_sandbox.egress.head import Request
from git_sandbox.egress.policyfile import GIT_NONE, GIT_PUSH, Egress
from git_sandbox.egress.refusal import Refused
from git_sandbox.later import dataclass, field

FETCH, PUSH, OTHER = "fetch", "push", "other"
FILL = 60.0  # seconds for the host's credential helper
MOST_FILLED = 64 << 10  # bytes that it may say
_ADVERTISED = re.compile(r"/(?P<repository>[!-~]+)/info/refs\?service=git-(?P<service>upload|receive)-pack")
_PACK = re.compile(r"/(?P<repository>[^?]+)/git-(?P<service>upload|receive)-pack")
# A path that all servers read alike: nothing encoded, no parameters (`;`), no segment that is empty or made of dots.
_PLAIN = re.compile(r"(?:/(?!\.{1,2}(?:[/?]|\Z))[^/?%;\\]+)+(?:\?[^%;\\]*)?")
# Fields by which some servers take another method, or another path, than the request's.
_OTHERWISE = re.compile(rb".*(?:method|override).*|x-(?:original|rewrite)-(?:url|uri)")
_CREDENTIAL = re.compile(r"(username|password)=([ -~]*)")


@dataclass(frozen=True)
class Wish:
    """`kind`: fetch or push where it is git's, else other. `begins`: it asks which refs are there."""

    kind: str = OTHER
    repository: str = ""
    begins: bool = False


def wish(request: Request, path: str) -> Wish:
    """Whatever looks like a push is one, however it is written; a fetch is written as git writes it."""
    plain = unquote(unquote(path))
    if "git-receive-pack" in plain.lower():
        match = _ADVERTISED.fullmatch(path) or _PACK.fullmatch(path)
        return Wish(PUSH, match["repository"] if match else "", request.method == "GET")
    if not _PLAIN.fullmatch(path):
        return Wish()
    match = _ADVERTISED.fullmatch(path)
    if match and request.method == "GET":
        return Wish(FETCH, match["repository"], begins=True)
    match = _PACK.fullmatch(path)
    asked = request.all(b"content-type") == [b"application/x-git-upload-pack-request"]
    return Wish(FETCH, match["repository"]) if match and request.method == "POST" and asked else Wish()


def check_read_only(request: Request, wish: Wish, where: str) -> None:
    """Raises Refused for what changes something at a host that a rule `get:` is about."""
    reads = request.method in ("GET", "HEAD") and wish.kind != PUSH and not request.websocket
    empty = request.body.kind == "none" or (request.body.kind == "length" and request.body.length == 0)
    if not (reads and empty) and wish.kind != FETCH:
        what = "a push" if wish.kind == PUSH else request.method
        raise Refused(403, f"{what} is not allowed at {where}, which a rule `get:` covers")


def as_written(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without the fields that make a server do something else than the request's first line says."""
    return [row for row in fields if not _OTHERWISE.fullmatch(row[0].replace(b"_", b"-"))]


def check_push(egress: Egress, host: str, port: int, wish: Wish) -> None:
    """Raises Refused for a push where the host's credentials are for less."""
    if egress.git_at(host, port) and wish.kind == PUSH:
        allowed = egress.git_may(host, port, wish.repository)
        if allowed != GIT_PUSH:
            what = f"a push to {names.joined(host, port)}/{wish.repository}"
            raise Refused(403, f"{what} is not allowed", "start the sandbox with --git-credentials push")


@dataclass
class GitCredentials:
    """What the host's `git credential fill` said, by host and repository: in this process's memory only.

    `source`: asks it, see `sources`.
    """

    source: Callable[[str, int, str], Awaitable[bytes]]
    known: dict[tuple[str, int, str], bytes] = field(default_factory=dict, repr=False)

    def field(self, host: str, port: int, wish: Wish) -> bytes:
        """The value of Authorization that is known already; nothing else."""
        return self.known.get((host, port, wish.repository), b"")

    async def ask(self, egress: Egress, host: str, port: int, wish: Wish) -> bytes:
        """The same, asking the helper where the rules allow it; empty when it has none."""
        allowed = egress.git_may(host, port, wish.repository)
        if wish.kind == OTHER or allowed == GIT_NONE or (wish.kind == PUSH and allowed != GIT_PUSH):
            return b""
        answer = await self.source(host, port, wish.repository)
        if answer:
            self.known[host, port, wish.repository] = answer
        return answer


def fill(host: str, port: int, repository: str) -> bytes:
    """What `git credential fill` says on the host, as the value of a field; empty when it has nothing."""
    from git_sandbox.git import command

    where = host if port == 443 else names.joined(host, port)  # noqa: PLR2004 - of https
    asked = f"protocol=https\nhost={where}\npath={repository}\n\n"
    output = command.credential(asked.encode("ascii"), timeout=FILL, output=MOST_FILLED)
    fields = dict(_CREDENTIAL.findall(output))
    if "password" not in fields:
        return b""
    return b"Basic " + base64.b64encode(f"{fields.get('username', '')}:{fields['password']}".encode())


def forms(field: bytes) -> tuple[str, ...]:
    """What an answer that repeats the field would have in it."""
    if not field:
        return ()
    encoded = field.partition(b" ")[2]
    return (encoded.decode(), *inject.spellings(base64.b64decode(encoded).partition(b":")[2].decode()))
