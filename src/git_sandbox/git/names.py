"""Typed strings: a value of one of these types has been validated. `str` stops at the boundary."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING, NewType
from urllib.parse import quote

from git_sandbox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Oid = NewType("Oid", str)  # 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits
RefName = NewType("RefName", str)  # a full ref name made by us, below one of the roots of `SandboxRefs`
SandboxId = NewType("SandboxId", str)

_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_PLAIN_COMPONENT = re.compile(r"[A-Za-z0-9_+=][A-Za-z0-9_+=.-]*")
_LETTERS = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No"})
# Of those categories, what Unicode calls default ignorable: combining grapheme joiner, fillers, variation selectors.
_INVISIBLE = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip
MAX_REF_COMPONENT = 200  # bytes; a loose ref is a file, and file systems stop at 255


def oid(text: str) -> Oid:
    """Raises ValueError unless `text` is a full object name."""
    if not _OID.fullmatch(text):
        raise ValueError(f"not an object name: {text[:80]!r}")
    return Oid(text)


def is_oid(text: str) -> bool:
    return _OID.fullmatch(text) is not None


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

    Plain names stay readable (`feature/login`, `función/数`): letters and digits of every script, as far as they are
    what they seem. Every other byte is percent-encoded, so the result is printable, `git check-ref-format` accepts it,
    and two different guest names never give the same result. Too long components raise ValueError.
    """
    raw = guest_name.encode("utf-8", "surrogateescape") if isinstance(guest_name, str) else guest_name
    return "/".join(_encode_component(part) for part in raw.split(b"/"))


def _encode_component(raw: bytes) -> str:
    text = raw.decode("utf-8", "surrogateescape")
    # `%` itself is always encoded: the mapping stays injective.
    if not unicodedata.is_normalized("NFC", text):  # looks like another one, and on some file systems is it
        encoded = _quoted(raw)
    elif _plain("".join("a" if _is_letter(letter) else letter for letter in text)):
        encoded = text
    else:
        encoded = "".join(letter if _is_letter(letter) else _quoted(os.fsencode(letter)) for letter in text) or "%"
    if not 0 < len(encoded.encode()) <= MAX_REF_COMPONENT:
        raise ValueError("ref name component too long")
    return encoded if not encoded.startswith("-") else "%2D" + encoded[1:]


def _plain(text: str) -> bool:
    return bool(_PLAIN_COMPONENT.fullmatch(text)) and ".." not in text and not text.endswith((".", ".lock"))


def _quoted(raw: bytes) -> str:
    return quote(raw, safe="").replace(".", "%2E").replace("~", "%7E")


def _is_letter(character: str) -> bool:
    """A letter, mark or digit beyond ASCII that is seen: no filler, no joiner, nothing that only changes another."""
    return (
        not character.isascii()
        and unicodedata.category(character) in _LETTERS
        and not any(first <= ord(character) <= last for first, last in _INVISIBLE)
    )


class SandboxRefs:
    """The refs one sandbox owns in the host repository (public contract, DESIGN: names in git)."""

    HEAD_ROOT = "refs/sandbox/"
    ROOTS = (
        "refs/sandbox/", "refs/sandbox-heads/", "refs/sandbox-tags/", "refs/sandbox-notes/", "refs/sandbox-other/",
        "refs/sandbox-stash/", "refs/sandbox-wip/", "refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/",
        "refs/sandbox-earlier/",
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

    def earlier(self, wip: Oid) -> RefName:
        """For uncommitted work that a later export, which could not take all files, would else replace by less."""
        return RefName(f"refs/sandbox-earlier/{self.name}/{wip}")

    @property
    def patterns(self) -> tuple[str, ...]:
        """Arguments for `git for-each-ref` that match exactly this sandbox's refs."""
        return tuple(f"{root}{self.name}" for root in self.ROOTS)

    def own(self, refs: Mapping[RefName, Oid]) -> dict[RefName, Oid]:
        """Of `refs` those that `patterns` match."""
        exact, below = set(self.patterns), tuple(f"{pattern}/" for pattern in self.patterns)
        return {name: value for name, value in refs.items() if name in exact or name.startswith(below)}

    def renamed(self, ref: RefName, name: SandboxId) -> RefName:
        """What one of `own` is called when the sandbox is called `name`."""
        root = next(root for root in self.ROOTS if ref.startswith(root))
        return RefName(f"{root}{name}{ref.removeprefix(f'{root}{self.name}')}")
