from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import jsontext, store
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.git.names import oid
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import lookup
from git_sandbox.store import Record, SandboxHandle, State
from support.gitrepo import GitRepo

# Any bytes: branches, paths and arguments need not be UTF-8.
TEXT = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
HEX = st.text("0123456789abcdef", min_size=40, max_size=40)


@st.composite
def records(draw: st.DrawFn) -> Record:
    return Record(
        id="vm-1", worktree=draw(TEXT), git_dir=draw(TEXT), common_dir=draw(TEXT), object_format="sha1",
        created=draw(st.floats(0, 1e11)), base=draw(st.none() | HEX), base_symref=draw(st.none() | TEXT),
        snapshot=draw(HEX), index_tree=draw(st.none() | HEX), backend="qemu",
        image=draw(HEX), cpus=draw(st.integers(1, 99)),
        memory=draw(st.integers(128, 1 << 40)), net="none", refs=draw(st.dictionaries(TEXT, HEX, max_size=4)),
        stash=tuple(draw(st.lists(HEX, max_size=3))), brought_home=draw(st.none() | st.floats(0, 1e11)),
        command=tuple(draw(st.lists(TEXT, max_size=3))),
    )  # fmt: skip


RECORD = Record(
    id="vm-1", worktree="/w", git_dir="/w/.git", common_dir="/w/.git", object_format="sha1", created=1.0, base=None,
    base_symref=None, snapshot="0" * 40, index_tree=None, backend="qemu", image="k", cpus=1, memory=512, net="none",
)  # fmt: skip


@given(records())
def test_record_round_trip(record: Record) -> None:
    assert store.decode(jsontext.encode(record)) == record
    assert store.decode(jsontext.encode(record, indent=2)) == record


@given(records(), st.data())
def test_damaged_record_is_refused_or_read_but_never_breaks(record: Record, data: st.DataObject) -> None:
    encoded = bytearray(jsontext.encode(record))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    for damaged in (bytes(encoded), bytes(encoded[:at]), b"", b"\0" * len(encoded), b"null", b"[]"):
        found = store.decode(damaged)
        assert found is None or isinstance(found, Record)


@pytest.mark.parametrize(
    "change",
    [{"base": "--output=x"}, {"snapshot": "-x"}, {"index_tree": "HEAD"}, {"refs": {"a": "b"}}, {"stash": ("x",)}],
)
def test_a_record_whose_object_names_are_none_is_damaged(change: dict[str, Any]) -> None:
    assert store.decode(msgspec.json.encode(RECORD)) == RECORD
    assert store.decode(msgspec.json.encode(msgspec.structs.replace(RECORD, **change))) is None


def test_what_was_written_before_is_read() -> None:
    record = msgspec.structs.replace(RECORD, refs={"refs/heads/\xfc\N{SNOWMAN}": "0" * 40}, command=("a",))
    assert store.decode(msgspec.json.format(msgspec.json.encode(record))) == record


def test_a_record_of_names_that_are_no_utf8_is_kept_and_pinned(repo: GitRepo) -> None:
    found = discover(repo.path)
    odd = "refs/heads/caf\udce9"
    record = msgspec.structs.replace(RECORD, refs={odd: "0" * 40}, base_symref=odd, command=("\udcff",))
    with store.create(found, "vm-1") as box:
        box.save(record)
        store.pin(box, record, oid(repo.git("rev-parse", "HEAD")))
        (entry,) = store.entries(found)
        assert lookup.from_refs(found, [entry])[entry.id] == record
        assert entry.record == msgspec.structs.replace(record, home={str(k): str(v) for k, v in entry.refs.items()})


def test_a_record_of_very_many_refs_stays_small(repo: GitRepo) -> None:
    """Every `ls` reads all records, and git keeps a copy of each; who needs the refs finds them all the same."""
    head = repo.git("rev-parse", "HEAD")
    odd = b"refs/tags/\xe9".decode("utf-8", "surrogateescape")
    refs = {f"refs/tags/v{number}": head for number in range(5000)} | {odd: head}
    whole = msgspec.structs.replace(RECORD, refs=refs, base=head)
    with store.create(discover(repo.path), "vm-1") as box:
        box.directory.disk.write_bytes(b"")
        saved = box.save(whole)
        store.pin(box, saved, oid(head))
        assert saved.refs == refs
        box.save(msgspec.structs.replace(whole, exit_code=3))
        assert box.directory.record.stat().st_size < 5000
    assert int(repo.git("cat-file", "-s", "refs/sandbox-meta/vm-1")) < 5000
    listed = [entry.record for entry in store.entries(discover(repo.path)) if entry.record]
    assert [each.refs for each in listed] == [{}]
    found = store.find(discover(repo.path), "vm-1").record
    assert found is not None
    assert (found.refs, found.exit_code) == (refs, 3)
    box.directory.start_refs.write_bytes(b"{")
    assert store.find(discover(repo.path), "vm-1").record == listed[0]


def test_refs_of_somebody_else_below_our_roots_are_no_sandboxes(repo: GitRepo) -> None:
    for name in ("$(id)", "\u202ex", "A", "vm-1"):
        repo.git("update-ref", f"refs/sandbox/{name}", "HEAD")
    assert [entry.id for entry in store.entries(discover(repo.path))] == ["vm-1"]


def box(repo: GitRepo, name: str) -> Path:
    with store.create(discover(repo.path), name) as made:
        made.directory.disk.write_bytes(b"disk")
        return made.directory.root


def states(repo: GitRepo) -> dict[str, State]:
    return {entry.id: entry.state for entry in store.entries(discover(repo.path))}


def test_state_is_derived_from_lock_record_and_disk(repo: GitRepo) -> None:
    found = discover(repo.path)
    with store.create(found, None) as made:
        made.directory.disk.write_bytes(b"disk")
        assert states(repo) == {"vm-1": State.RUNNING}
        made.save(RECORD)
    assert states(repo) == {"vm-1": State.RECOVERABLE}
    with store.open_existing(found, "vm-1") as (again, _):
        assert states(repo) == {"vm-1": State.RUNNING}
        again.save(msgspec.structs.replace(RECORD, brought_home=2.0))
    assert states(repo) == {"vm-1": State.STOPPED}
    made.directory.record.write_bytes(b'{"id": "vm')
    assert states(repo) == {"vm-1": State.BROKEN}


def test_sandbox_without_disk_leaves_nothing(repo: GitRepo) -> None:
    with store.create(discover(repo.path), "gone") as made:
        (made.directory.root / "staging").mkdir()
    assert not made.directory.root.exists()
    assert states(repo) == {}


def test_name_is_given_once(repo: GitRepo) -> None:
    found = discover(repo.path)
    box(repo, "mine")
    with pytest.raises(StateError, match="exists already"), store.create(found, "mine"):
        pass
    repo.git("update-ref", "refs/sandbox/vm-1", "HEAD")
    with store.create(found, None) as made:
        assert made.id == "vm-2", "vm-1 is taken by a ref"


def test_lock_refuses_a_second_holder(repo: GitRepo) -> None:
    root = box(repo, "held")
    with (root / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="running"), store.open_existing(discover(repo.path), "held"):
            pass


def test_somebody_who_only_looks_does_not_get_in_the_way(repo: GitRepo) -> None:
    """`sandbox ls` asks for a shared lock for an instant; a spawn or recover at that instant must not fail."""
    import threading

    root = box(repo, "held")
    with (root / "lock").open("r") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        with store.open_existing(discover(repo.path), "held") as (found, _):
            assert isinstance(found, SandboxHandle)
        timer.join()


def test_record_that_cannot_be_written_is_an_error_of_ours(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.create(discover(repo.path), "full") as made:
        monkeypatch.setattr("os.fsync", lambda _fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(HostResourceError, match="cannot write"):
            made.save(RECORD)
        monkeypatch.undo()
        assert not made.directory.record.exists()
