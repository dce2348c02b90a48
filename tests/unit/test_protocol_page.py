"""docs/reference/protocol.md has every field of the manifest and every limit, as the code has them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec

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
    limits |= {name: value for name, value in vars(wire).items() if name.startswith("MAX_")}
    limits["MAX_JSON"] = manifest.MAX_JSON
    assert {name: ROWS.get(name) for name in limits} == {name: f"{value:.0f}" for name, value in limits.items()}


def test_every_request_has_a_row() -> None:
    """What the guest answers: the words it compares `op` with."""
    guest = Path(wire.__file__).parents[1] / "guest"
    sources = "".join((guest / name).read_text("utf-8") for name in ("channels.py", "adopt.py", "exporter.py"))
    tests = re.findall(r'(?:\["op"\]|\bop) (?:==|!=|in) (\("[^)]*\)|"\w+")', sources)
    operations = {word for test in tests for word in re.findall(r'"(\w+)"', test)}
    assert {"export", "freeze", "adopt"} <= operations
    table = PAGE[PAGE.index("## A request") : PAGE.index("## A reply")]
    assert [name for name in sorted(operations) if f"`{name}`" not in table] == []
