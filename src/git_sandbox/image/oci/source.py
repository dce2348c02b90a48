"""The name of an image as a user writes it, validated: it becomes a word of skopeo's command line."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from git_sandbox import transports
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass, regex
from git_sandbox.text import one_line

DIGEST = regex(r"sha256:[0-9a-f]{64}")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:]{2,45}\])(?::[0-9]{1,5})?"
_REGISTRY = regex(
    rf"//(?P<name>(?:{_HOST}/)?{transports.PART}(?:/{transports.PART}){{0,9}})(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>{DIGEST.pattern}))?",
    re.ASCII,
)
_FILE = regex(r"(?P<path>[^:\x00-\x1f\x7f]{1,4000})(?::(?P<rest>[A-Za-z0-9][\w./:@+-]{0,300}))?")
_STORED = regex(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,300}")


@dataclass(frozen=True)
class Source:
    """`name`: as skopeo takes it. `digest`: that it has to have, empty when whatever is there now is meant.

    `repository`: of a registry, without tag and digest; empty for other transports.
    """

    text: str
    name: str
    digest: str = ""
    repository: str = ""
    path: Path | None = None

    @property
    def pinned(self) -> bool:
        return bool(self.digest)

    def at(self, digest: str) -> str:
        """The name of what `digest` names, in the same repository."""
        return f"{transports.REGISTRY}://{self.repository}@{digest}"

    def pin(self, digest: str) -> str:
        """How a user writes it so that it always means what `digest` names; nothing where there is no registry."""
        return f"{self.text.partition('@')[0]}@{digest}" if self.repository else ""

    @property
    def stamp(self) -> str:
        """What changes with the file that holds it; empty where there is none, or it cannot be looked at."""
        if self.path is None:
            return ""
        place = self.path / "index.json" if self.path.is_dir() else self.path
        try:
            status = place.stat()
        except OSError:
            return ""
        row = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return hashlib.sha256(repr(row).encode()).hexdigest()


def parse(text: str) -> Source:
    """Raises UsageError for what names no image."""
    transport, _, rest = text.strip().partition(":")
    if transport == transports.REGISTRY:
        return _registry(text.strip(), rest)
    if transport in transports.FILES:
        return _file(text.strip(), transport, rest)
    if transport in transports.STORES and _STORED.fullmatch(rest):
        return Source(text.strip(), f"{transport}:{rest}")
    raise _bad(
        text, transports.advice(text) if transport not in transports.ALL else "for example `docker-daemon:name:tag`"
    )


def _registry(text: str, rest: str) -> Source:
    match = _REGISTRY.fullmatch(rest)
    if match is None:
        raise _bad(text, "for example `docker://registry.example.org/name:tag`")
    name, tag, digest = match["name"], match["tag"], match["digest"]
    # skopeo takes a tag or a digest; with both, the digest is what counts (and the tag says what it was).
    last = f"@{digest}" if digest else f":{tag}" if tag else ""
    return Source(text, f"{transports.REGISTRY}://{name}{last}", digest or "", name)


def _file(text: str, transport: str, rest: str) -> Source:
    match = _FILE.fullmatch(rest)
    if match is None:
        raise _bad(text, f"for example `{transport}:path` or `{transport}:path:tag`; a path has no colon")
    path = Path(os.path.expanduser(match["path"])).absolute()  # noqa: PTH111 - pathlib raises where `~name` is nobody
    if not os.path.exists(path):  # noqa: PTH110 - pathlib raises for a name that is too long
        raise UsageError(f"there is no {one_line(os.fspath(path))}", hint=f"`{transport}:` is followed by a path")
    last = f":{match['rest']}" if match["rest"] else ""
    return Source(text, f"{transport}:{path}{last}", path=path)


def _bad(text: str, hint: str) -> UsageError:
    return UsageError(f"`{one_line(text)}` names no image", hint=hint)
