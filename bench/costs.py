"""Commands whose costs are counted and that need no machine: verbs, and the way home as far as git is concerned.

`bench/count` writes them down, `tests/cli/test_budget.py` compares them with what is written down.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import counting
import guests
import samples

from git_sandbox.git import repo as repository

BUDGET, COUNTED = (Path(__file__).with_name(f"{name}.json") for name in ("budget", "counted"))
SANDBOX = Path(sys.executable).with_name("sandbox")
HOME = Path(__file__).with_name("home.py")
SANDBOXES = 20
PROCESSES, CALLS, MODULES, INSTRUCTIONS = "processes", "system calls", "modules of ours", "instructions"
EVERYWHERE = (PROCESSES, MODULES)  # measures that no version of Python or git changes
TOLERANCE = 0.1  # of a figure
Figures = dict[str, int]


@dataclass(frozen=True)
class Command:
    """`words`: for our interpreter. `copy`: a directory that it changes, and what that is a copy of."""

    name: str
    words: tuple[str | Path, ...]
    where: Path
    copy: tuple[Path, Path] | None = None

    def prepare(self) -> None:
        if self.copy:
            shutil.rmtree(self.copy[0], ignore_errors=True)
            subprocess.run(["cp", "-a", self.copy[1], self.copy[0]], check=True)


def versions() -> dict[str, str]:
    """What system calls and instructions depend on."""
    git = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "git": ".".join(git.split(".")[:2]),
        "architecture": platform.machine(),
    }


def commands(work: Path, files: int = 1) -> Iterator[Command]:
    """Makes in `work` what each needs. State goes where XDG_STATE_HOME says. What is asked once is asked now."""
    proof = "from git_sandbox import confine; confine.unavailable()"
    subprocess.run([sys.executable, "-c", proof], check=True)
    place = samples.make(work, files, 0)
    repo = repository.discover(place)
    yield Command("an interpreter", ("-c", "pass"), place)
    yield Command("`sandbox --version`", (SANDBOX, "--version"), place)
    for verb in ("exec", "sync", "run"):
        words = ("-c", f"import git_sandbox.cli.main, git_sandbox.cli.{verb}")
        yield Command(f"what `sandbox {verb}` imports at its start", words, place)
    samples.sandboxes(repo, SANDBOXES)
    yield Command(f"`sandbox ls`, {SANDBOXES} sandboxes", (SANDBOX, "ls"), place)
    samples.forget(repo)
    yield from way_home(work, place)


def way_home(work: Path, place: Path) -> Iterator[Command]:
    """Of a guest where nothing is new, and of one with 100 commits of 10 files each."""
    git = ["git", "-C", place]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for what in ("nothing new", f"{guests.COMMITS} commits"):
        guest, reply, host = (work / f"{part}-{what[:3]}" for part in ("guest", "reply", "host"))
        subprocess.run(["cp", "-a", place, guest], check=True)
        if what != "nothing new":
            stream = guests.commits(head, 0)
            subprocess.run(["git", "-C", guest, "fast-import", "--quiet"], input=stream, check=True)
        words = (HOME, "export", guest, reply, head)
        yield Command(f"export, {what} (the guest's part)", words, work)
        subprocess.run([sys.executable, *words], cwd=work, check=True)  # whether it is counted or not
        yield Command(f"collect, {what}", (HOME, "collect", host, reply), work, (host, place))


def cost(command: Command, library: Path | None) -> Figures:
    """Raises MissingError where system calls cannot be counted."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command.prepare()
    calls = counting.traced([sys.executable, *command.words], command.where, env=env)
    found = {PROCESSES: calls.processes, CALLS: calls.total, MODULES: calls.modules}
    if library:
        command.prepare()
        found[INSTRUCTIONS] = counting.instructions(command.words, command.where, library)
    return found


def budget() -> dict[str, dict[str, dict[str, int]]]:
    """`facts`: the versions it was counted with; `rows`: figures by command and measure; `machines`: of those with a
    guest.
    """
    loaded: dict[str, dict[str, dict[str, int]]] = json.loads(BUDGET.read_bytes())
    return loaded


def excess(name: str, found: Mapping[str, int], rows: Mapping[str, Mapping[str, int]], *, same: bool) -> list[str]:
    """The figures of a command that are more than its budget allows. `same`: counted with the budget's versions."""
    allowed = {key: value for key, value in rows.get(name, {}).items() if same or key in EVERYWHERE}
    return [
        f"{name}: {found[key]} {key}, {value} in bench/budget.json"
        for key, value in allowed.items()
        if key in found and found[key] > value * (1 + TOLERANCE)
    ]
