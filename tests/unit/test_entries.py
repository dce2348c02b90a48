"""What images, bases and templates have in common; their own tests have the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from git_sandbox.cache import entries
from git_sandbox.cache.entries import Entries


@pytest.fixture
def own(tmp_path: Path) -> Entries:
    return Entries(tmp_path / "cache", "what.json")


def made(own: Entries, name: str, text: str = "x") -> Path:
    with own.building() as place:
        (place / "content").write_text(text)
        return own.publish(place, name, lambda: b"{}")


def test_an_entry_is_seen_when_all_of_it_is_there(own: Entries) -> None:
    assert own.every() == []
    with own.building() as place:
        (place / "content").write_text("x")
        assert own.every() == []
        entry = own.publish(place, "one", lambda: b"{}")
    assert own.every() == [entry]
    assert sorted(each.name for each in entry.iterdir()) == ["content", "what.json"]
    assert list(own.root.glob(".build-*")) == []


def test_who_reads_an_entry_that_is_replaced_keeps_its_files(own: Entries) -> None:
    with (made(own, "one", "old") / "content").open() as reader:
        assert (made(own, "one", "new") / "content").read_text() == "new"
        own.sweep(unlocked=0.0)
        assert reader.read() == "old"
    assert [each.name for each in own.root.iterdir()] == ["one"]


def test_what_is_used_stays(own: Entries) -> None:
    entry = made(own, "one")
    with own.used(entry, "removes it"), pytest.raises(BlockingIOError):
        own.remove_unused(entry)
    assert own.remove_unused(entry)
    assert own.every() == []
    assert own.remove_unused(entry), "another process has removed it"


def test_only_dead_builds_are_swept(own: Entries) -> None:
    with own.building() as alive:
        dead = own.root / ".build-1-1"
        shutil.copytree(alive, dead)
        own.sweep()
        assert alive.is_dir()
        assert not dead.exists()
        young = own.root / ".build-2-2"
        young.mkdir()
        own.sweep()
        assert young.is_dir(), "its lock may come in a moment"


def test_a_turn_is_for_one_at_a_time(own: Entries) -> None:
    with own.turn(within=0.0, what="") as first, own.turn(within=0.0, what="") as second:
        assert (first, second) == (True, False)


def test_a_build_that_is_being_written_to_the_disk_is_not_swept(own: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which can take longer than a build without a lock may live."""
    swept, sync = [], entries._sync

    def slow(path: Path) -> None:
        if path.name == "content":
            own.sweep(unlocked=0.0)
            swept.append(path)
        sync(path)

    monkeypatch.setattr(entries, "_sync", slow)
    entry = made(own, "one")
    assert len(swept) == 1
    assert own.every() == [entry]
    assert (entry / "content").read_text() == "x"
