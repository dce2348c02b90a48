"""Whatever happens at the end of a sandbox, everything that was in it is in refs, in the trash, or on a kept disk.

What happens is drawn from a seed; SANDBOX_RANDOM_ENDS=N tries N more. The oracle knows nothing of the tool: it looks
for words, which the session wrote to files, in the objects that refs reach and in the bytes of every disk there is.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.vm import Sandboxes, wait_for

FIXED = (36, 60, 134, 156, 174, 195)  # every change, every end and every circumstance at least once
MORE = int(os.environ.get("SANDBOX_RANDOM_ENDS", "0"))
SEEDS = (*FIXED, *(random.SystemRandom().getrandbits(32) for _ in range(MORE)))
CHANGES = {
    "committed": "echo {word} > committed-{n}; git add committed-{n}; git commit -qm {word}",
    "edited": "echo {word} >> README",
    "staged": "echo {word} > staged; git add staged",
    "untracked": "mkdir -p sub; echo {word} > sub/untracked",
    "ignored": "mkdir -p out; echo {word} > out/result",
    "home": "echo {word} > ~/notes",
    "system": "sudo sh -c 'echo {word} > /opt/installed'",
    "on a branch": "git checkout -q -b topic-{n}; echo {word} > t; git add t; git commit -qm t; git checkout -q -",
    "stashed": "echo {word} > stashed; git add stashed; git stash -q",
    "mode": "chmod 755 README",
    "nested": "git init -q inner; echo {word} > inner/file",
}
ENDS = ("stop", "kill the machine", "kill the supervisor", "power off inside")
AROUND = ("nothing", "repository moved", "refs pruned", "guest's disk full", "host's disk full", "git damaged")
FULL = 700  # MiB of the host's small disk
IN_REFS = {"committed", "on a branch", "stashed"}  # what must be reachable from refs once it is home
PACKED = {"on a branch", "stashed"}  # in no file of the worktree: a disk has it compressed only


@dataclass
class Scenario:
    """What a seed means."""

    seed: int
    changes: list[str]
    end: str
    around: str
    words: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> Scenario:
        draw = random.Random(seed)
        changes = draw.sample(sorted(CHANGES), draw.randint(2, 6))
        around = AROUND if os.getuid() == 0 else tuple(each for each in AROUND if each != "host's disk full")
        scenario = cls(seed, changes, draw.choice(ENDS), draw.choice(around))
        scenario.words = {name: f"word{draw.getrandbits(64):016x}" for name in changes if name != "mode"}
        return scenario

    @property
    def script(self) -> str:
        steps = [CHANGES[name].format(word=self.words.get(name, ""), n=n) for n, name in enumerate(self.changes)]
        if self.around == "guest's disk full":
            steps.append("cat /dev/zero > ~/filler || true")
        if self.around == "git damaged":
            steps.append("git pack-refs --all; cd .git; for each in index HEAD packed-refs; do")
            steps.append("head -c 400 /dev/zero > $each; done")
        return "\n".join(["set -e", *steps, "sync"])


@contextlib.contextmanager
def small_disk(place: Path, *, wanted: bool) -> Iterator[None]:
    """A file system of its own at `place`, small enough to be filled."""
    if not wanted:
        yield
        return
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FULL}M", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def in_refs(repo: GitRepo) -> bytes:
    """The content of every object that a ref reaches."""
    listed = repo.run("rev-list", "--objects", "--all").stdout.splitlines()
    names = b"".join(row.split(b" ")[0] + b"\n" for row in listed)
    return repo.run("cat-file", "--batch", input=names).stdout


def on_disks(state: Path, word: str) -> bool:
    disks = [*state.glob("git-sandbox/*/*/workspace.ext4"), *state.glob("git-sandbox/*/.trash/*/workspace.ext4")]
    return any(
        subprocess.run(["grep", "-qaF", word, disk], check=False).returncode == 0 for disk in disks if disk.is_file()
    )


def lost(boxes: Sandboxes, words: dict[str, str]) -> set[str]:
    content = in_refs(boxes.repo)
    return {name for name, word in words.items() if word.encode() not in content and not on_disks(boxes.state, word)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(boxes: Sandboxes, seed: int) -> None:
    scenario = Scenario.of(seed)
    print(scenario)  # noqa: T201 - what a seed means, beside a failure
    boxes.repo.commit("ignore", {".gitignore": "out/\n"})
    with small_disk(boxes.state, wanted=scenario.around == "host's disk full"):
        size = "128M" if scenario.around == "guest's disk full" else "1G"
        boxes.ok("spawn", "--detach", "--name", "x", "--disk", size)
        boxes.ok("exec", "x", "--", "sh", "-c", scenario.script)
        if scenario.around == "refs pruned":
            boxes.ok("sync", "x")
            _prune(boxes.repo)
        if scenario.around == "repository moved":
            boxes = _moved(boxes)
        filler = boxes.state / "filler"
        if scenario.around == "host's disk full":
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        _end(boxes, scenario.end)
        # Nobody brought it home then, and a disk has what git has packed compressed only: see what `recover` brings.
        unseen = PACKED if scenario.end == "kill the supervisor" else set()
        assert lost(boxes, scenario.words) <= unseen
        filler.unlink(missing_ok=True)
        _second_act(boxes, scenario)
        boxes.run("drop", "--force", "x")
        boxes.run("prune", "--all")


def _second_act(boxes: Sandboxes, scenario: Scenario) -> None:
    """Recovered, dropped and restored it is all still there."""
    if boxes.listed()["x"]["state"] == "recoverable":
        boxes.ok("recover", "x")
    committed = {name: word for name, word in scenario.words.items() if name in IN_REFS}
    content = in_refs(boxes.repo)
    assert [name for name, word in committed.items() if word.encode() not in content] == []
    if scenario.around == "refs pruned":
        _prune(boxes.repo)
    refused = boxes.run("drop", "x")
    assert refused.code == 17 or "restore" in refused.text + refused.said, "it is refused, or can be taken back"
    boxes.run("drop", "--force", "x")
    assert lost(boxes, {name: word for name, word in scenario.words.items() if name not in PACKED}) == set()
    boxes.repo.git("reflog", "expire", "--expire=now", "--all")
    boxes.repo.git("gc", "-q", "--prune=now")
    boxes.ok("restore", "x")
    assert lost(boxes, scenario.words) == set()
    content = in_refs(boxes.repo)
    assert [name for name, word in committed.items() if word.encode() not in content] == []
    if scenario.around == "git damaged":
        _git_works(boxes)


def _git_works(boxes: Sandboxes) -> None:
    """The next session finds a repository that is mended, with the same commit and branch."""
    boxes.ok("shell", "--detach", "x")
    asked = "git symbolic-ref HEAD; git rev-parse HEAD; git status --porcelain >/dev/null; git fsck --no-dangling"
    said = boxes.ok("exec", "x", "--", "sh", "-ec", asked).text.split()
    assert said == ["refs/heads/main", boxes.refs()["refs/sandbox/x"]]
    boxes.ok("stop", "x")


def _prune(repo: GitRepo) -> None:
    """What `git fetch --prune` does to them where a remote is mirrored."""
    names = [name for name in repo.refs() if name.startswith("refs/sandbox")]
    repo.git("update-ref", "--stdin", input="".join(f"delete {name}\n" for name in names).encode())


def _moved(boxes: Sandboxes) -> Sandboxes:
    place = boxes.repo.path.with_name("elsewhere")
    boxes.repo.path.rename(place)
    return replace(boxes, repo=GitRepo(place))


def _end(boxes: Sandboxes, end: str) -> None:
    if end == "stop":
        boxes.run("stop", "x")
    elif end == "power off inside":
        boxes.run("exec", "x", "--", "sudo", "poweroff", "-f")
    else:
        victim = boxes.only_machine() if end == "kill the machine" else boxes.supervisor("x")
        os.kill(victim, signal.SIGKILL)
    wait_for("the sandbox ended", lambda: not boxes.processes(), 300)
