"""What is said of changes that git does not bring home."""

from __future__ import annotations

import json
from typing import Any

from git_sandbox import jsontext
from git_sandbox.cli import ondisk
from git_sandbox.protocol import manifest
from git_sandbox.protocol.changes import Changes, Tally


def parsed(**changes: Any) -> Changes:
    """As a guest's root says it, through the manifest and into a record and back."""
    wire = {
        "version": 1, "object_format": "sha1", "head": {"symref": None, "oid": "0" * 40}, "refs": [], "stash": [],
        "worktree_tree": None, "wip": None, "operation": None, "warnings": [], "changes": changes,
    }  # fmt: skip
    said = manifest.parse(json.dumps(wire).encode(), object_format="sha1").changes
    assert said is not None
    return jsontext.decode(jsontext.encode(said.safe()), Changes)


def test_what_is_only_on_the_disk_until_when_and_what_gets_it() -> None:
    changes = parsed(
        state="changed",
        ignored={"count": 1, "names": ["out/result"]},
        outside={"count": 4, "names": ["/etc/x", "/home/u/notes", "/opt/y", "/root/z"]},
        git={"count": 9, "names": [".git/HEAD"]},
    )
    assert ondisk.lines("vm-1", changes) == [
        (
            "Only on the sandbox's disk, until you drop it: 1 ignored (out/result), "
            "4 outside the workspace (/etc/x, /home/u/notes, /opt/y, …)."
        ),
        "  Get it: `sandbox shell vm-1` or `sandbox shell -d vm-1; sandbox cp vm-1:/workspace/out/result .`",
    ]
    assert ondisk.lines("vm-1", changes, runs=True)[1].endswith(" or `sandbox cp vm-1:/workspace/out/result .`")
    assert ondisk.count(changes) == 5


def test_what_git_keeps_for_itself_is_named_when_nothing_else_came() -> None:
    changes = parsed(state="changed", git={"count": 1, "names": [".git/hooks/x"]})
    assert ondisk.lines("vm-1", changes) == []
    assert ondisk.lines("vm-1", changes, nothing_else=True) == [
        "Kept until you drop it: 1 changed in .git (.git/hooks/x)."
    ]


def test_not_known_is_said() -> None:
    (line,) = ondisk.lines("vm-1", parsed(state="unknown", reason="the clock was set"))
    assert "unknown (the clock was set)" in line


def test_names_from_a_guest_neither_obey_nor_break_anything() -> None:
    names = ["\x1b[31mred\n$(reboot)", "\udcff", "-rf", "a\u202eb"]
    changes = parsed(state="changed", ignored={"count": len(names), "names": names})
    said = "\n".join(ondisk.lines("vm-1", changes))
    assert not {"\x1b", "\u202e", "\udcff"} & set(said)
    assert said.count("\n") == 1
    assert "cp vm-1:'/workspace/" in said


def test_nothing_is_said_of_nothing() -> None:
    assert ondisk.lines("vm-1", Changes("changed", "", uncommitted=Tally(2, ("a", "b")))) == []
    assert ondisk.lines("vm-1", None) == []
