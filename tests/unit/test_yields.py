"""A machine comes after the host's own programs when memory runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import process
from git_sandbox.process.child import OOM, WORST

SAYS = "print(open('/proc/self/oom_score_adj').read())"
SUPERVISOR = """
import sys
from git_sandbox import process
mine = bytearray(140 << 20)
mine[::4096] = b"x" * len(mine[::4096])  # more than the other has when the limit is met: it would be ended
hog = "held = []\\nwhile True: held.append(bytearray(b'x' * (1 << 20)))"
with process.spawn([sys.executable, "-c", hog], yields=True) as child:
    print(child.wait(), len(mine))
"""
LIMIT = 250 << 20
KILLED = -9


def test_it_is_the_first_to_go_and_so_is_what_it_starts() -> None:
    words = ["sh", "-c", f'"$0" -c "{SAYS}"; exit 7', sys.executable]
    with process.spawn(words, stdout=process.PIPE, yields=True) as child:
        said = child.stdout.read().split()
        assert child.wait() == 7
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert list(map(int, said)) == [min(WORST, ours + OOM)]
    with process.spawn([sys.executable, "-c", SAYS], stdout=process.PIPE) as child:
        assert list(map(int, child.stdout.read().split())) == [ours]


@pytest.fixture
def limited() -> Iterator[Path]:
    """A memory cgroup of 250 MiB: its `cgroup.procs`."""
    rows = [row.split(":", 2) for row in Path("/proc/self/cgroup").read_text().splitlines()]
    mine = next((row[2] for row in rows if "memory" in row[1].split(",")), None)
    base = Path(f"/sys/fs/cgroup/memory{mine}") if mine else Path("/sys/fs/cgroup")
    place = (base if base.is_dir() else Path("/sys/fs/cgroup/memory")) / f"git-sandbox-test-{os.getpid()}"
    limits = ("memory.limit_in_bytes",) if mine else ("memory.max", "memory.swap.max")
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error.strerror}")
    try:
        if not (place / limits[0]).exists():
            pytest.skip("the cgroups here do not limit memory")
        for number, name in enumerate(limits):
            if (place / name).exists():
                (place / name).write_text(str(0 if number else LIMIT))
        yield place / "cgroup.procs"
    finally:
        place.rmdir()


def test_when_memory_runs_out_the_machine_is_ended_and_not_its_supervisor(limited: Path) -> None:
    words = ["sh", "-c", f'echo $$ >{limited}; exec "$0" "$@"', sys.executable, "-c", SUPERVISOR]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(KILLED), str(140 << 20)])
