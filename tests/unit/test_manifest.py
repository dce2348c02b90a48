"""The guest's list of refs: what is well-formed arrives unchanged, everything else is a CollectError."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from git_sandbox.errors import CollectError
from git_sandbox.guest import protocol
from git_sandbox.protocol import manifest, wire
from git_sandbox.protocol.changes import Changes, Tally

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
    assert told.changes == Changes("changed", "a walk", ignored=Tally(7, ("out/r",)))
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
def test_a_name_that_is_none_costs_only_itself(name: str) -> None:
    got = parse(valid(refs=[ref(name), ref("refs/heads/good")]))
    assert [each.name for each in got.refs] == ["refs/heads/good"]
    assert len(got.set_aside) == 1
    assert str(got.set_aside[0]).isprintable()


def test_a_name_that_is_there_twice() -> None:
    got = parse(valid(refs=[ref("refs/heads/a"), ref("refs/heads/a", B)]))
    assert got.refs == (manifest.GuestRef("refs/heads/a", A),)
    assert [each.reason for each in got.set_aside] == ["it is listed twice"]


def test_what_is_too_long_is_cut() -> None:
    inside = [{"git_dir": f"sub{at}/.git", "path": None, "state": None} for at in range(protocol.MAX_NESTED + 3)]
    got = parse(
        valid(stash=[{"oid": A, "message": "m" * 5000}], warnings=["w" * 5000] + ["w"] * 10_000, nested=inside)
        | {"unmerged": ["p" * 5000] + ["p"] * 10_000, "left_out": [{"path": "p", "reason": "r"}] * 10_001}
    )
    assert (len(got.warnings), len(got.unmerged), len(got.left_out)) == (10_000, 10_000, 10_000)
    assert len(got.nested) == protocol.MAX_NESTED
    assert max(map(len, (got.stash[0].message, *got.warnings, *got.unmerged))) == wire.MAX_MESSAGE
    assert {each.name for each in got.set_aside} == {"repositories inside", "files left out"}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([A, B])),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([A, B])),
)
def test_what_differs_from_the_start_and_the_start_are_all(start: dict[str, str], end: dict[str, str]) -> None:
    begun = {f"refs/heads/{name}": oid for name, oid in start.items()}
    ended = {f"refs/heads/{name}": oid for name, oid in end.items()}
    rows = [ref(name, oid) for name, oid in ended.items() if begun.get(name) != oid]
    got = parse(valid(refs=rows, removed=sorted(begun.keys() - ended.keys()))).since(begun)
    assert {each.name: each.oid for each in got.refs} == ended
    whole = parse(valid(refs=[ref(name, oid) for name, oid in ended.items()]))
    assert whole.since(begun) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2}, {"version": True}, {"object_format": "md5"}, {"operation": "x"},
        {"refs": {}}, {"refs": [1]}, {"refs": [{"oid": A}]},
        {"refs": [ref("refs/heads/a", "A" * 40)]}, {"refs": [ref("refs/heads/a", A + "\n")]},
        {"refs": [ref("refs/heads/a", "a" * 64)]}, {"head": None}, {"head": {"oid": A}},
        {"head": {"symref": "/etc/passwd", "oid": A}}, {"head": {"symref": "refs/heads/\x1b", "oid": A}},
        {"head": {"symref": None, "oid": "--upload-pack=x"}}, {"removed": {}}, {"removed": [1]},
        {"stash": [{"oid": A, "message": None}]}, {"wip": {"oid": A, "tree": A}},
        {"worktree_tree": 1}, {"worktree_tree": A[:39]},
        {"changes": {"state": "maybe"}}, {"changes": {"state": "changed", "git": {"count": -1}}}, {"wip_state": "lost"},
        {"changes": {"state": "changed", "git": {"count": 1, "names": ["x"] * 101}}}, {"left_out": [{"path": "a"}]},
        {"set_aside": None},
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


def many(count: int) -> bytes:
    rows = ",".join(f'{{"name":"refs/heads/{n}","oid":"{A}"}}' for n in range(count))
    return json.dumps(valid(refs=[])).replace('"refs": []', f'"refs": [{rows}]').encode()


def test_more_refs_than_are_looked_at() -> None:
    got = manifest.parse(many(wire.MAX_REFS + 7), object_format="sha1")
    assert len(got.refs) == wire.MAX_REFS
    assert [str(each) for each in got.set_aside] == ["refs: 100000 of 100007 are examined"]


def test_far_too_many_refs_are_refused_soon() -> None:
    data = many(1_000_000)
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
def test_a_name_is_set_aside_or_unchanged(raw: bytes) -> None:
    name = "refs/heads/" + raw.decode("utf-8", "surrogateescape")
    got = parse(valid(refs=[ref(name)]))
    assert len(got.refs) + len(got.set_aside) == 1
    for each in got.refs:
        assert each.name.encode("utf-8", "surrogateescape") == b"refs/heads/" + raw
