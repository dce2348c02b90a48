"""Commands whose costs are counted and that need a machine: `bench/count --boot`.

A guest's instructions are counted by QEMU, from its start or restore on; for that QEMU is started by a script of ours
that is first on PATH, so it is not confined then. Guests have one processor: two would wait for each other in loops.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import costs
import counting
import guests
import samples
from costs import CALLS, PROCESSES, Figures

from git_sandbox.git import repo as repository

MARKED = Path(__file__).with_name("marked.py")
QEMU = f"qemu-system-{os.uname().machine}"
GUEST, WRITTEN, PROCESSOR = "instructions of the guest", "bytes written", "processor time (ms)"
SETTINGS = {"SANDBOX_CPUS": "1", "SANDBOX_MEMORY": "512M"}
TICK = 1000 // os.sysconf("SC_CLK_TCK")  # milliseconds
PROMPT = (b"$ ", b"# ")
NAME = "counted"
Row = tuple[str, Figures]


@dataclass(frozen=True)
class Place:
    """`numbers`: where QEMUs count. `programs`: a directory for PATH."""

    scratch: Path
    numbers: Path
    programs: Path

    @classmethod
    def made(cls, scratch: Path) -> Place:
        """Raises MissingError."""
        library = counting.plugin(scratch, QEMU)
        numbers, programs = scratch / "numbers", scratch / "programs"
        numbers.write_bytes(bytes(8 * counting.PROCESSORS))
        programs.mkdir()
        script = programs / QEMU
        program = subprocess.run(["which", QEMU], capture_output=True, text=True, check=True).stdout.strip()
        script.write_text(f'#!/bin/sh\nexec {program} -plugin {library},out={numbers} "$@"\n')
        script.chmod(0o755)
        return cls(scratch, numbers, programs)

    @property
    def counting(self) -> dict[str, str]:
        """The environment in which QEMU counts."""
        path = f"{self.programs}:{os.environ['PATH']}"
        return {**os.environ, **SETTINGS, "SANDBOX_CONFINEMENT": "no", "PATH": path}

    @property
    def usual(self) -> dict[str, str]:
        return {**os.environ, **SETTINGS}

    def run(self) -> int:
        """Instructions so far."""
        return counting.counted(self.numbers)


def rows(scratch: Path, *, large: bool) -> Iterator[Row]:
    place = Place.made(scratch)
    small = repository.discover(samples.make(scratch, 1, 0))
    for settings in (place.usual, place.counting):  # makes the templates
        _run(small.worktree, settings, "run", "--", "true")
    yield from _whole(place, "`run -- true`, warm, small repository", small.worktree, ("run", "--", "true"))
    yield from _whole(
        place, "`run -- true`, cold, small repository", small.worktree, ("run", "--warm", "no", "--", "true")
    )
    yield _prompt(place, small.worktree)
    yield from _running(place, small)
    if large:
        repo = repository.discover(samples.make(scratch, 60_000, 500))
        _run(repo.worktree, place.usual, "run", "--", "true")  # makes its base
        samples.edit(repo.worktree, 20)
        yield from _whole(place, "`run -- true`, warm, 60 000 files, 500 MB", repo.worktree, ("run", "--", "true"))


def with_image(scratch: Path, image: str) -> Iterator[Row]:
    """A second warm start with the default image, and one with the root image that `image` names."""
    place = Place.made(scratch)
    small = repository.discover(samples.make(scratch, 1, 0)).worktree
    for name, words in (("the default image", ()), ("the large image", ("--image", image))):
        command = ("run", *words, "--", "true")
        for settings in (place.usual, place.counting):  # makes the templates
            _run(small, settings, *command)
        yield from _whole(place, name, small, command)


def _run(where: Path, env: Mapping[str, str], *words: str, stdin: bytes = b"") -> None:
    done = subprocess.run([costs.SANDBOX, *words], cwd=where, env=env, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def _spent(action: Callable[[], object]) -> Figures:
    """Of our children, which have ended: what they wrote to a disk's cache, and their processor time."""
    began, before = resource.getrusage(resource.RUSAGE_CHILDREN), _written()
    action()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return {WRITTEN: _written() - before, PROCESSOR: round(took * 1000)}


def _written() -> int:
    rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(rows["write_bytes"]) - int(rows["cancelled_write_bytes"])


def _whole(place: Place, name: str, where: Path, words: Sequence[str]) -> Iterator[Row]:
    """A command that starts a machine and ends it: a row for each part of it, then one for all."""
    marks = place.scratch / "marks"
    marks.unlink(missing_ok=True)
    before = place.run()
    argv = [sys.executable, MARKED, marks, place.numbers, *words]
    spent = _spent(lambda: subprocess.run(argv, cwd=where, env=place.counting, capture_output=True, check=True))
    ends = [line.split("\t") for line in marks.read_text().splitlines()]
    guest = [int(count) - before for _, _, count in ends]

    log = place.scratch / "log"
    marks.unlink()
    counting.trace([sys.executable, MARKED, marks, "-", *words], where, log, place.usual)
    times = [float(line.split("\t")[1]) for line in marks.read_text().splitlines()]
    with log.open(encoding="utf-8", errors="replace") as lines:
        parts = counting.parsed(lines, times)
    log.unlink()
    for number, (part, _, _) in enumerate(ends):
        count = guest[number] - (guest[number - 1] if number else 0)
        yield f"{name}: {part}", {**_host(parts[number]), GUEST: count}
    total = counting.Calls()
    for each in parts:
        total.started += each.started
        total.calls += each.calls
    yield f"{name}, whole", {**_host(total), GUEST: guest[-1], **spent}


def _host(calls: counting.Calls) -> Figures:
    """Without QEMU's own calls: it waits as often as there is something to wait for."""
    return {PROCESSES: calls.processes, CALLS: calls.total - calls.of(QEMU)}


def _prompt(place: Place, where: Path) -> Row:
    """`sandbox`, on a terminal, until its shell asks for a command."""
    before = place.run()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(where)
        os.execve(costs.SANDBOX, [str(costs.SANDBOX), "spawn"], place.counting)  # noqa: S606 - a terminal of its own
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while not said.endswith(PROMPT):
            said += os.read(terminal, 4096)
    run = place.run() - before
    os.write(terminal, b"exit\n")
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
    os.waitpid(child, 0)
    os.close(terminal)
    return "`sandbox`, warm, small repository, to the first prompt", {GUEST: run}


def _running(place: Place, repo: repository.Repository) -> Iterator[Row]:
    where = repo.worktree
    _run(where, place.counting, "spawn", "--detach", "--name", NAME)
    try:
        _run(where, place.counting, "exec", NAME, "--", "true")
        yield _asked(place, where, "`exec true`", ("exec", NAME, "--", "true"))
        _run(where, place.counting, "sync", NAME)
        yield _asked(place, where, "`sync`, nothing new", ("sync", NAME))
        head = repo.git.line("rev-parse", "HEAD")
        for number in range(2):  # one for each count of host and guest
            commits = guests.commits(head, number)
            _run(where, place.counting, "exec", NAME, "--", "git", "fast-import", "--quiet", "--force", stdin=commits)
            if number == 0:
                counted = _counted(place, where, ("sync", NAME))
        calls = _host(counting.traced([sys.executable, costs.SANDBOX, "sync", NAME], where, env=place.usual))
        yield f"`sync`, {guests.COMMITS} commits", {**calls, **counted}
    finally:
        _run(where, place.counting, "stop", NAME)
        _run(where, place.counting, "drop", "--force", NAME)


def _asked(place: Place, where: Path, name: str, words: Sequence[str]) -> Row:
    counted = _counted(place, where, words)
    calls = counting.traced([sys.executable, costs.SANDBOX, *words], where, env=place.usual)
    return name, {**_host(calls), **counted}


def _counted(place: Place, where: Path, words: Sequence[str]) -> Figures:
    """Of a command in a sandbox that runs: the guest's instructions, and what it, its supervisor and QEMU spend."""
    (record,) = Path(os.environ["XDG_STATE_HOME"]).glob(f"git-sandbox/*/{NAME}/record.json")
    supervisor = Path("/proc", str(json.loads(record.read_bytes())["pid"]))
    before, ticks = place.run(), _ticks(supervisor)
    spent = _spent(lambda: _run(where, place.usual, *words))
    spent[PROCESSOR] += (_ticks(supervisor) - ticks) * TICK
    return {GUEST: place.run() - before, **spent}


def _ticks(root: Path) -> int:
    total = 0
    for each in (root, *guests.below(int(root.name))):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = (each / "stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # its own and those of children that have ended
    return total
