"""The JSON of a guest's manifest, field by field, as msgspec checks it: types, lengths, forms of object names.

A field that this host does not know is ignored, and one that is missing means "unknown", never "none".
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from git_sandbox.guest import protocol
from git_sandbox.protocol.changes import ChangeState

MAX_REFS = 100_000  # refs of all kinds together; and as many stash entries
MAX_NAME = 4096  # bytes of a ref name
MAX_MESSAGE = 4096  # characters
MAX_WARNINGS = 10_000
MAX_NAMES = 100  # a count of changes comes with a few names
MAX_COUNT = 1 << 40

Operation = Literal["merge", "rebase", "cherry-pick", "revert", "bisect", "am"]
WipState = Literal["none", "made", "partial", "failed"]

OidText = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=MAX_MESSAGE)]
# What is longer than the limits in this, and in lists without one, is cut off or set aside: one long name, or one name
# too many, holds up nothing. All of it together is bounded by the length of the JSON.
Loose = str


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Head(Strict, frozen=True):
    symref: Name | None
    oid: OidText | None


class Ref(Strict, frozen=True):
    name: Loose
    oid: OidText


class Stash(Strict, frozen=True):
    oid: OidText
    message: Loose


class Wip(Strict, frozen=True):
    oid: OidText
    tree: OidText
    index_tree: OidText | None


class Nested(Strict, frozen=True):
    git_dir: Loose
    path: Loose | None
    state: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")] | None


class Aside(Strict, frozen=True):
    name: Loose
    reason: Loose


class LeftOut(Strict, frozen=True):
    path: Loose
    reason: Loose


class Tally(Strict, frozen=True):
    count: Annotated[int, Meta(ge=0, le=MAX_COUNT)] = 0
    names: Annotated[list[Name], Meta(max_length=MAX_NAMES)] = []


class Changes(msgspec.Struct, frozen=True):
    state: ChangeState
    reason: Text = ""
    uncommitted: Tally | None = None
    ignored: Tally | None = None
    nested: Tally | None = None
    git: Tally | None = None
    outside: Tally | None = None


class Wire(msgspec.Struct, frozen=True):
    version: Literal[1]
    object_format: Literal["sha1", "sha256"]
    head: Head
    refs: list[Ref]
    stash: list[Stash]
    worktree_tree: OidText | None
    wip: Wip | None
    operation: Operation | None
    warnings: list[Loose]
    nested: list[Nested] = []
    away: Annotated[list[OidText], Meta(max_length=protocol.MAX_AWAY)] = []
    changes: Changes | None = None
    wip_state: WipState | None = None
    left_out: list[LeftOut] = []
    set_aside: list[Aside] = []
    unmerged: list[Loose] = []
    removed: list[Loose] | None = None
