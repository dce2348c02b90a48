from __future__ import annotations

from git_sandbox.sandbox.describe_diff import MAX_DIFFERENCES, compare


def test_equal_descriptions_have_no_differences() -> None:
    assert compare({"a": ["x"], "b": {"c": 1}}, {"b": {"c": 1}, "a": ["x"]}) == []


def test_differences_say_where_and_what() -> None:
    found = compare(
        {"head": {"commit": "1"}, "status": ["a", "b", "b"], "gone": {"x": []}},
        {"head": {"commit": "2"}, "status": ["b", "c"], "new": 1},
    )
    assert "head: commit: '1' became '2'" in found
    assert "status: only in the source: 'a'" in found
    assert "status: only in the source: 'b'" in found
    assert "status: only in the copy: 'c'" in found
    assert any(line.startswith("gone:") for line in found)
    assert any(line.startswith("new:") for line in found)


def test_order_counts() -> None:
    assert compare({"stash": ["a", "b"]}, {"stash": ["b", "a"]}) == ["stash: in another order"]


def test_hostile_descriptions_are_bounded_and_safe_to_show() -> None:
    found = compare({"files": {}}, {"files": {f"\x1b[2J{number}": "x\n" * 1000 for number in range(5000)}})
    assert len(found) == MAX_DIFFERENCES
    assert all("\x1b" not in line and "\n" not in line and len(line) <= 500 for line in found)
