"""The guest's list of refs: what is well-formed arrives unchanged, everything else is a CollectError."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from git_sandbox.errors import CollectError
from git_sandbox.transport import manifest, wire

A, B = "a" * 40, "b" * 40


def valid(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1, "object_format": "sha1", "head": {"symref": "refs/heads/main", "oid": A},
        "refs": [{"name": "refs/heads/main", "oid": A}, {"name": "refs/tags/v1", "oid": B}],
        "stash": [{"oid": B, "message": "On main: x"}], "worktree_tree": A,
        "wip": {"oid": A, "tree": B, "index_tree": None}, "operation": "merge", "warnings": ["w"],
    } | changes  # fmt: skip


def parse(value: Any, object_format: str = "sha1") -> manifest.Manifest:
    return manifest.parse(json.dumps(value).encode(), object_format=object_format)


def refused(value: Any, object_format: str = "sha1") -> CollectError:
    with pytest.raises(CollectError) as caught:
        parse(value, object_format)
    assert f"{caught.value.message}{caught.value.cause}".isprintable()
    return caught.value


def ref(name: str, oid: str = A) -> dict[str, str]:
    return {"name": name, "oid": oid}


def test_a_valid_one() -> None:
    got = parse(valid())
    assert got.head == manifest.GuestHead("refs/heads/main", A)
    assert got.refs == (manifest.GuestRef("refs/heads/main", A), manifest.GuestRef("refs/tags/v1", B))
    assert got.stash == (manifest.StashEntry(B, "On main: x"),)
    assert got.wip == manifest.Wip(A, B, None)
    assert (got.operation, got.worktree_tree, got.warnings) == ("merge", A, ("w",))


def test_what_a_guest_may_say_besides() -> None:
    """Missing means unknown, and a field of a later version is none of ours."""
    plain = parse(valid(later=[1, {"a": 2}]))
    assert (plain.changes, plain.wip_state, plain.left_out, plain.set_aside) == (None, None, (), ())
    changes = {"state": "changed", "reason": "a walk", "ignored": {"count": 7, "names": ["out/r"]}, "later": 1}
    rows = {"left_out": [{"path": "f\x1b", "reason": "r"}], "set_aside": [{"name": "refs/heads/x", "reason": "r"}]}
    told = parse(valid(changes=changes, wip_state="partial", **rows))
    assert told.changes == manifest.Changes("changed", "a walk", ignored=manifest.Tally(7, ("out/r",)))
    assert told.wip_state == "partial"
    assert str(told.left_out[0]).isprintable()
    assert told.set_aside == (manifest.SetAside("refs/heads/x", "r"),)


def test_unborn_detached_and_empty() -> None:
    empty: dict[str, Any] = {
        "refs": [],
        "stash": [],
        "wip": None,
        "worktree_tree": None,
        "operation": None,
        "warnings": [],
    }
    assert parse(valid(head={"symref": None, "oid": None}, **empty)).head == manifest.GuestHead(None, None)


def test_sha256() -> None:
    long = "c" * 64
    value = valid(
        object_format="sha256", head={"symref": None, "oid": long}, refs=[], stash=[], wip=None, worktree_tree=None
    )
    assert parse(value, "sha256").head.oid == long
    refused(value, "sha1")
    refused(valid(object_format="sha256"), "sha256")


def test_names_that_are_not_utf8_survive() -> None:
    name = b"refs/heads/\xe9\xff".decode("utf-8", "surrogateescape")
    assert parse(valid(refs=[ref(name)])).refs[0].name == name


def test_the_guests_own_failure_is_told() -> None:
    assert refused({"error": "no repository \x1b[31m"}).cause.startswith("no repository")


@pytest.mark.parametrize(
    "name",
    ["refs/heads/", "refs/remotes/a", "refs/sandbox/vm-1", "heads/a", "", "HEAD", "refs/heads/../../config",
     "refs/heads/a..b", "refs/heads/a b", "refs/heads/a\n", "refs/heads/a\x1b[31m", "refs/heads/a\0", "refs/heads//a",
     "refs/heads/a/", "refs/heads/" + "x" * 4096, "refs/heads/" + "\u20ac" * 1400, "refs/heads/\ud800",
     "refs/heads/\x7f"],
    ids=ascii,
)  # fmt: skip
def test_names_that_are_refused(name: str) -> None:
    refused(valid(refs=[ref(name)]))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2}, {"version": True}, {"object_format": "md5"}, {"operation": "x"},
        {"refs": [ref("refs/heads/a"), ref("refs/heads/a", B)]}, {"refs": {}}, {"refs": [1]}, {"refs": [{"oid": A}]},
        {"refs": [ref("refs/heads/a", "A" * 40)]}, {"refs": [ref("refs/heads/a", A + "\n")]},
        {"refs": [ref("refs/heads/a", "a" * 64)]}, {"head": None}, {"head": {"oid": A}},
        {"head": {"symref": "/etc/passwd", "oid": A}}, {"head": {"symref": "refs/heads/\x1b", "oid": A}},
        {"head": {"symref": None, "oid": "--upload-pack=x"}}, {"stash": [{"oid": A, "message": "m" * 4097}]},
        {"stash": [{"oid": A, "message": None}]}, {"wip": {"oid": A, "tree": A}}, {"warnings": ["w"] * 10_001},
        {"worktree_tree": 1}, {"worktree_tree": A[:39]},
        {"changes": {"state": "maybe"}}, {"changes": {"state": "changed", "git": {"count": -1}}}, {"wip_state": "lost"},
        {"changes": {"state": "changed", "git": {"count": 1, "names": ["x"] * 101}}}, {"left_out": [{"path": "a"}]},
        {"set_aside": [{"name": "a", "reason": "r" * 4097}]}, {"set_aside": None},
        {"nested": [{"git_dir": "\ud800", "path": None, "state": None}]},
        {"nested": [{"git_dir": "a", "path": "\ud800", "state": None}]},
    ],
    ids=ascii,
)  # fmt: skip
def test_values_that_are_refused(changes: dict[str, Any]) -> None:
    refused(valid(**changes))


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"NaN", b'"\\ud800"'],
    ids=lambda data: ascii(data[:8]),
)
def test_what_is_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(CollectError):
        manifest.parse(data, object_format="sha1")


@pytest.mark.parametrize("count", [wire.MAX_REFS + 1, 1_000_000])
def test_too_many_refs_are_refused_soon(count: int) -> None:
    rows = ",".join(f'{{"name":"refs/heads/{n}","oid":"{A}"}}' for n in range(count))
    data = json.dumps(valid(refs=[])).replace('"refs": []', f'"refs": [{rows}]').encode()
    start = time.monotonic()
    with pytest.raises(CollectError):
        manifest.parse(data, object_format="sha1")
    assert time.monotonic() - start < 10


def test_more_bytes_than_allowed() -> None:
    with pytest.raises(CollectError, match="refused"):
        manifest.parse(b" " * (manifest.MAX_JSON + 1), object_format="sha1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([A, B, "refs/heads/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*valid(), "oid", "name"]), inner),
    max_leaves=10,
)


def only_refuses(data: bytes) -> None:
    try:
        manifest.parse(data, object_format="sha1")
    except CollectError as error:
        assert f"{error.message}{error.cause}".isprintable()  # noqa: PT017 - not raising is fine as well


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    only_refuses(data)


@given(st.sampled_from(list(valid())), JSON)
@example("head", {"symref": "\udcff", "oid": None})
def test_one_value_replaced(key: str, value: Any) -> None:
    only_refuses(json.dumps(valid(**{key: value})).encode())


@given(st.data())
def test_mutated_bytes(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(valid()).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    only_refuses(bytes(raw))


@given(st.binary(min_size=1, max_size=40))
def test_a_name_is_refused_or_unchanged(raw: bytes) -> None:
    name = "refs/heads/" + raw.decode("utf-8", "surrogateescape")
    try:
        got = parse(valid(refs=[ref(name)]))
    except CollectError:
        return
    assert got.refs[0].name.encode("utf-8", "surrogateescape") == b"refs/heads/" + raw
