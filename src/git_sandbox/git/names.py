"""Typed strings: what has one of these types has been checked. `str` stops at the boundary."""

from __future__ import annotations

import re
from typing import NewType
from urllib.parse import quote

from git_sandbox.errors import UsageError

Oid = NewType("Oid", str)  # 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits
RefName = NewType("RefName", str)  # a full ref name made by us, below one of the roots of `SandboxRefs`
SandboxId = NewType("SandboxId", str)

_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_PLAIN_COMPONENT = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9_+=.-]*")
MAX_REF_COMPONENT = 200  # bytes; a loose ref is a file, and file systems stop at 255


def oid(text: str) -> Oid:
    """Raises ValueError unless `text` is a full object name."""
    if not _OID.fullmatch(text):
        raise ValueError(f"not an object name: {text[:80]!r}")
    return Oid(text)


def sandbox_id(text: str) -> SandboxId:
    """Raises UsageError unless `text` is 1 to 40 of a-z, 0-9 and inner hyphens."""
    if not _ID.fullmatch(text):
        raise UsageError(
            f"`{text}` cannot be the name of a sandbox",
            hint="use 1 to 40 lower-case letters, digits and hyphens, e.g. `fix-login`",
        )
    return SandboxId(text)


def is_sandbox_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def encode_ref_path(guest_name: str | bytes) -> str:
    """A guest's branch or tag name as a path that is safe below a ref root of ours.

    Plain names stay readable (`feature/login`). Every other byte is percent-encoded, so the result is printable
    ASCII that `git check-ref-format` accepts, and two different guest names never give the same result. Too long
    components raise ValueError.
    """
    raw = guest_name.encode("utf-8", "surrogateescape") if isinstance(guest_name, str) else guest_name
    return "/".join(_encode_component(part) for part in raw.split(b"/"))


def _encode_component(raw: bytes) -> str:
    text = raw.decode("latin-1")
    plain = _PLAIN_COMPONENT.fullmatch(text) and ".." not in text and not text.endswith((".", ".lock"))
    # `%` itself is outside the plain set, hence always encoded: the mapping stays injective.
    encoded = text if plain else (quote(raw, safe="") or "%").replace(".", "%2E").replace("~", "%7E")
    if not 0 < len(encoded) <= MAX_REF_COMPONENT:
        raise ValueError("ref name component too long")
    return encoded if not encoded.startswith("-") else "%2D" + encoded[1:]


class SandboxRefs:
    """The refs one sandbox owns in the host repository (public contract, DESIGN: names in git)."""

    HEAD_ROOT = "refs/sandbox/"
    ROOTS = (
        "refs/sandbox/", "refs/sandbox-heads/", "refs/sandbox-tags/", "refs/sandbox-notes/", "refs/sandbox-other/",
        "refs/sandbox-stash/", "refs/sandbox-wip/", "refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/",
    )  # fmt: skip

    def __init__(self, name: SandboxId) -> None:
        self.name = name
        self.head = RefName(f"refs/sandbox/{name}")
        self.wip = RefName(f"refs/sandbox-wip/{name}")
        self.base = RefName(f"refs/sandbox-base/{name}")
        self.meta = RefName(f"refs/sandbox-meta/{name}")

    def branch(self, guest_name: str) -> RefName:
        return RefName(f"refs/sandbox-heads/{self.name}/{encode_ref_path(guest_name)}")

    def tag(self, guest_name: str) -> RefName:
        return RefName(f"refs/sandbox-tags/{self.name}/{encode_ref_path(guest_name)}")

    def notes(self, guest_name: str) -> RefName:
        return RefName(f"refs/sandbox-notes/{self.name}/{encode_ref_path(guest_name)}")

    def other(self, guest_name: str) -> RefName:
        """For a ref of any other kind; `guest_name` without its `refs/`."""
        return RefName(f"refs/sandbox-other/{self.name}/{encode_ref_path(guest_name)}")

    def stash(self, number: int) -> RefName:
        return RefName(f"refs/sandbox-stash/{self.name}/{number}")

    def backup(self, number: int) -> RefName:
        return RefName(f"refs/sandbox-backup/{self.name}/{number}")

    @property
    def patterns(self) -> tuple[str, ...]:
        """Arguments for `git for-each-ref` that match exactly this sandbox's refs."""
        return tuple(f"{root}{self.name}" for root in self.ROOTS)
