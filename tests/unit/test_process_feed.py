"""A program fed from an iterator: neither side may leave the other waiting, nor hide what went wrong."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import process
from git_sandbox.errors import SandboxError


def test_all_chunks_arrive() -> None:
    assert process.run(["cat"], feed=[b"a", b"", b"b" * 100_000]).stdout == b"a" + b"b" * 100_000


def test_a_child_that_stops_reading_is_judged_by_its_status() -> None:
    done = process.run(["sh", "-c", "head -c 1 >/dev/null; exit 3"], feed=(b"x" * 70_000 for _ in range(50)))
    assert done.returncode == 3


def test_an_error_of_the_feed_is_what_the_caller_sees_and_the_child_sees_no_end_of_file(tmp_path: Path) -> None:
    mark = tmp_path / "finished"

    def fails() -> Iterator[bytes]:
        yield b"half"
        raise LookupError

    with pytest.raises(LookupError):
        process.run(["sh", "-c", f"cat >/dev/null; touch {mark}"], feed=fails())
    assert not mark.exists()


def test_the_timeout_ends_a_trickle() -> None:
    def trickle() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b"x"

    start = time.monotonic()
    with pytest.raises(SandboxError, match="timed out"):
        process.run(["cat"], feed=trickle(), timeout=0.3)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("where", ["", " >&2"])
def test_endless_output_is_read_to_the_limit(where: str) -> None:
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SandboxError, match="more than 100000 bytes"):
        process.run(["sh", "-c", f"yes{where}"], output=100_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 50_000  # KiB


def test_output_within_the_limit_arrives_whole() -> None:
    done = process.run(["sh", "-c", "cat; echo said >&2; exit 3"], input=b"x" * 1000, output=1000)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"x" * 1000, b"said\n")
    assert process.run(["cat"], output=10).stdout == b""
