"""docs/reference/protocol.md has every field of the manifest and every limit, as the code has them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec

from git_sandbox.guest import protocol
from git_sandbox.protocol import manifest, wire
from git_sandbox.protocol.stream import DEFAULT_LIMITS

PAGE = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
STRUCTS = [kind for kind in vars(wire).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]


def test_every_field_of_the_manifest_has_a_row() -> None:
    fields = [field.name for field in msgspec.structs.fields(wire.Wire)]
    assert len(fields) > 15
    assert [name for name in fields if name not in ROWS] == []


def test_every_member_of_its_objects_is_named() -> None:
    members = {field.name for kind in STRUCTS for field in msgspec.structs.fields(kind)}
    assert {"oid", "git_dir", "count"} <= members
    assert [name for name in sorted(members) if f"`{name}`" not in PAGE] == []


def test_every_limit_has_its_value() -> None:
    limits: dict[str, float] = dataclasses.asdict(DEFAULT_LIMITS)
    for module in (wire, protocol):
        limits |= {name: value for name, value in vars(module).items() if name.startswith("MAX_")}
    limits["MAX_JSON"] = manifest.MAX_JSON
    assert {name: ROWS.get(name) for name in limits} == {name: f"{value:.0f}" for name, value in limits.items()}


def test_every_request_has_a_row() -> None:
    table = PAGE[PAGE.index("## A request") : PAGE.index("## A reply")]
    assert [name for name in protocol.REQUESTS if f"`{name}`" not in table] == []
