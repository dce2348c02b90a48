"""The real `sandbox` command on real machines, each test with a state of its own, and proof that nothing survives."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_sandbox.disk import share_dir
from git_sandbox.sandbox_dir import SandboxDir
from support.gitrepo import GitRepo
from support.pace import SLOWNESS

SANDBOX = Path(sys.executable).with_name("sandbox")
TIMEOUT = 240.0 * SLOWNESS  # seconds for one command; a boot under emulation takes 5 to 40, depending on what else runs
KEPT = ("console.log", "vmm.log", "rescue.log", "rescue-vmm.log", "record.json")


@dataclass(frozen=True)
class Done:
    argv: tuple[str, ...]
    code: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        return self.err.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")

    @property
    def envelope(self) -> dict[str, Any]:
        """The one JSON object on standard output, checked for its shape."""
        found = json.loads(self.out)
        assert list(found) == ["schema", "command", "status", "data", "errors"], found
        assert found["schema"] == 1
        assert self.out.count(b"\n") == 1
        assert (found["status"] == "ok") is (found["errors"] == [])
        return dict(found)


@dataclass
class Sandboxes:
    """Runs `sandbox` in `repo` with its own state and runtime directory. `prefix`: put before every command."""

    repo: GitRepo
    state: Path
    runtime: Path
    env: dict[str, str]
    prefix: tuple[str, ...] = ()
    machine: str = "qemu"  # how the name of the VMM's process begins
    history: list[Done] = field(default_factory=list)

    def run(
        self, *words: str, input: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        done = subprocess.run(
            [*self.prefix, SANDBOX, *words],
            cwd=cwd or self.repo.path, env=self.env | dict(env or {}), input=input, capture_output=True,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return self._keep(Done(words, done.returncode, done.stdout, done.stderr))

    def ok(self, *words: str, input: bytes = b"") -> Done:
        """Like `run` for what must succeed."""
        done = self.run(*words, input=input)
        assert done.code == 0, f"sandbox {words} ended with {done.code}:\n{done.said}\n{done.text}"
        return done

    def sh(self, script: str, *options: str, code: int = 0, input: bytes = b"") -> Done:
        """A shell script inside a new sandbox."""
        done = self.run("run", *options, "--", "sh", "-ec", script, input=input)
        assert done.code == code, f"ended with {done.code}, expected {code}:\n{done.said}\n{done.text}"
        return done

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs beside the test; `finish` reads what it says and waits."""
        child = subprocess.Popen(
            [*self.prefix, SANDBOX, *words], cwd=self.repo.path, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        with child:
            try:
                yield child
            finally:
                if child.poll() is None:
                    child.terminate()

    def finish(self, child: subprocess.Popen[bytes]) -> Done:
        out, err = child.communicate(timeout=TIMEOUT)
        return self._keep(Done(tuple(map(str, child.args)), child.returncode, out, err))  # type: ignore[arg-type]

    def _keep(self, done: Done) -> Done:
        self.history.append(done)
        return done

    def directory(self, name: str = "vm-1") -> Path:
        (found,) = self.state.glob(f"git-sandbox/*/{name}")
        return found

    def directories(self) -> list[Path]:
        return sorted(each for each in self.state.glob("git-sandbox/*/*") if each.is_dir() and each.name != ".trash")

    def trash(self) -> list[str]:
        """Names of what is in the trash."""
        return sorted(each.name for each in self.state.glob("git-sandbox/*/.trash/*") if each.is_dir())

    def sockets(self) -> list[Path]:
        # rglob would stumble over a directory that goes at this moment
        return [Path(directory, name) for directory, _, names in os.walk(self.runtime) for name in names]

    def refs(self) -> dict[str, str]:
        return {name: value for name, value in self.repo.refs().items() if name.startswith("refs/sandbox")}

    def listed(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.ok("ls", "--json").envelope["data"]}

    def supervisor(self, name: str) -> int:
        """Process id of who supervises a sandbox."""
        return int(json.loads((self.directory(name) / "record.json").read_bytes())["pid"])

    def processes(self) -> dict[int, str]:
        """Every process that belongs to these sandboxes: our directories are in its arguments or environment."""
        return processes_of(self.state)

    def only_machine(self) -> int:
        """Process id of the one VMM that runs."""
        (found,) = (pid for pid, name in self.processes().items() if name.startswith(self.machine))
        return found


def processes_of(state: Path) -> dict[int, str]:
    """Id and name of every living process that has `state` in its arguments or environment, and its children's."""
    wanted = os.fsencode(state)
    found, parents = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes()
            known = words + (place / "environ").read_bytes()
            if words and int(place.name) != os.getpid():
                name = (place / "comm").read_text().strip()
                if wanted in known:
                    found[int(place.name)] = name
                else:
                    parents[int(place.name)] = name, int((place / "stat").read_text().rpartition(")")[2].split()[1])
    while more := {pid: name for pid, (name, parent) in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def wait_for(what: str, happened: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds * SLOWNESS
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def real_cache() -> Path:
    """Where the image is; to be asked before a test gets a HOME of its own."""
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else Path.home() / ".cache"


@contextlib.contextmanager
def sandboxes(repo: GitRepo, state: Path, cache: Path) -> Iterator[Sandboxes]:
    """Everything a test needs to run sandboxes of `repo`; at the end nothing may have survived."""
    # Not below pytest's directory: a unix socket's path may have 107 bytes.
    runtime = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    env = dict(os.environ) | {
        "XDG_STATE_HOME": str(state), "XDG_RUNTIME_DIR": str(runtime), "XDG_CACHE_HOME": str(cache),
        "SANDBOX_MEMORY": "512M",  # one kind of machine for all: they share its template
    }  # fmt: skip
    made = Sandboxes(repo, state, runtime, env)
    try:
        yield made
        _prove_gone(made)
    finally:
        kill_all(made.processes())
        for each in (
            *state.glob("git-sandbox/*/*/share"),
            *state.glob("git-sandbox/*/.trash/*/share"),
        ):  # not ours: pytest could not remove it
            share_dir.remove(SandboxDir(each.parent))
        shutil.rmtree(runtime, ignore_errors=True)


def _prove_gone(made: Sandboxes) -> None:
    with contextlib.suppress(AssertionError):  # who was killed a moment ago may still be on its way out
        wait_for("every process gone", lambda: not made.processes(), 5)
    assert (left := made.processes()) == {}, left
    assert made.sockets() == []
    locks = [each for each in made.directories() if (each / "staging").exists() or (each / "quarantine").exists()]
    assert locks == []


def kill_all(found: Mapping[int, str]) -> None:
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def keep_artifacts(made: Sandboxes, target: Path) -> None:
    """Logs, records and what every command said, for whoever looks at a failure."""
    for directory in made.directories():
        for name in KEPT:
            if (directory / name).exists():
                (target / directory.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(directory / name, target / directory.name / name)
    target.mkdir(parents=True, exist_ok=True)
    if (spoken := made.state / "git-sandbox" / "supervisor.log").exists():
        shutil.copy(spoken, target / spoken.name)
    with (target / "commands.log").open("wb") as log:
        for done in made.history:
            log.write(f"$ sandbox {' '.join(done.argv)}  -> {done.code}\n".encode("utf-8", "replace"))
            log.write(done.out[-20_000:] + b"\n--- stderr\n" + done.err[-20_000:] + b"\n")
