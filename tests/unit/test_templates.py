from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from git_sandbox.cache import templates
from git_sandbox.cache.templates import Template


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def make(key: str, content: bytes = b"memory") -> Template:
    with templates.building() as place:
        assert place is not None
        (place / "memory").write_bytes(content)
        (place / "state").write_bytes(b"state")
        templates.publish(place, key, "image", "shape")
    return Template(templates.root() / key)


def keys() -> list[str]:
    return [each.root.name for each in templates.every()]


def test_what_was_published_is_found_whole() -> None:
    make("one")
    with templates.used("one") as found:
        assert found is not None
        assert (found.root / "memory").read_bytes() == b"memory"
        assert found.info.shape == "shape"
    with templates.used("two") as missing:
        assert missing is None


def test_one_in_a_cache_that_cannot_be_written_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    make("one")

    def refused(*_args: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refused)
    with templates.used("one") as found:
        assert found is not None


def test_one_builder_at_a_time_and_nothing_half_built_is_seen() -> None:
    with templates.building() as place:
        assert place is not None
        (place / "memory").write_bytes(b"half")
        with templates.building() as second:
            assert second is None
        assert keys() == []
    assert list(templates.root().glob(".build-*")) == []


def test_what_a_killed_builder_left_goes_with_the_next() -> None:
    make("one")
    left = templates.root() / ".build-1"
    left.mkdir()
    (left / "memory").write_bytes(b"half")
    make("two")
    assert not left.exists()
    assert keys() == ["one", "two"]


@pytest.mark.parametrize("damage", ["truncate", "rewrite", "flip", "lose", "description", "boot"])
def test_a_template_that_is_not_what_it_was_is_not_used(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("one")
    match damage:
        case "truncate":
            os.truncate((made.root / "memory"), 3)
        case "rewrite":
            (made.root / "memory").write_bytes(b"MEMORY")
            os.utime((made.root / "memory"), (time.time() + 5, time.time() + 5))
        case "flip":
            seen = (made.root / "state").stat()
            (made.root / "state").write_bytes(b"stAte")
            os.utime((made.root / "state"), ns=(seen.st_atime_ns, seen.st_mtime_ns))
        case "lose":
            (made.root / "state").unlink()
        case "description":
            made.description.write_bytes(b'{"key": 1')
        case "boot":
            monkeypatch.setattr(templates, "host_boot", lambda: "another")
    with templates.used("one") as found:
        assert found is None


def test_a_new_one_takes_the_place_of_a_damaged_one() -> None:
    os.truncate((make("one").root / "memory"), 0)
    make("one", b"again")
    with templates.used("one") as found:
        assert found is not None
        assert (found.root / "memory").read_bytes() == b"again"


def test_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "KEPT", 4)
    for number in range(templates.KEPT):
        os.utime(make(f"t{number}").description, (number, number))
    with templates.used("t0"):
        pass
    make("new")
    assert keys() == ["new", "t0", "t2", "t3"]


def test_too_many_bytes_go_and_the_new_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    make("old", os.urandom(100_000))
    monkeypatch.setattr(templates, "KEPT_BYTES", 150_000)
    make("new", os.urandom(100_000))
    assert keys() == ["new"]


def test_one_in_use_is_kept_by_whoever_cleans_up() -> None:
    make("one")
    with templates.used("one") as found:
        assert found is not None
        assert not templates.remove(found)
        assert templates.prune() == 0
        assert (found.root / "memory").read_bytes() == b"memory"
    assert templates.prune() == 1
    assert keys() == []


def test_a_failure_takes_the_template_away_and_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    make("one")
    templates.failed("one", "QEMU refused")
    assert keys() == []
    assert templates.failures()["one"].reason == "QEMU refused"
    later = time.time() + templates.NOT_AGAIN_WITHIN + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert templates.failures() == {}
    monkeypatch.undo()
    templates.prune()
    assert list(templates.root().glob("*.failed")) == []


def test_prune_removes_what_a_killed_builder_left_but_not_what_is_being_built() -> None:
    make("one")
    left = templates.root() / ".build-1"
    left.mkdir()
    with templates.building() as place:
        assert place is not None
        left.mkdir()  # `building` has swept
        assert templates.prune() == 1
        assert left.exists()
        assert place.exists()
    assert templates.prune() == 0
    assert not left.exists()


def test_a_failure_that_cannot_be_noted_is_no_failure_of_its_own() -> None:
    templates.root().parent.mkdir(parents=True)
    templates.root().write_text("not a directory")
    templates.failed("one", "because")
    assert templates.failures() == {}
