"""What attacks need: the command under attack, a scratch repository, verdicts. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.nasty import leaks

MACHINE = "vm-1"
PATIENCE = 900.0  # seconds for one command, emulated and on a busy machine
MEMORY = 400 << 20  # bytes: what any program of the host may take for what a guest made
SECRET = "sk_live_4242"  # noqa: S105 - what must not be found in the guest
VMMS = (b"qemu-system-", b"firecracker", b"cloud-hypervisor")
SCHEMA_CODES = {0, 1, 2, *range(10, 20), 130}


class BrokenError(Exception):
    """An attack got through."""


class NotPlayedError(Exception):
    """What an attack needs did not come about."""


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return (self.out + self.err).decode("utf-8", "replace")


def holds(condition: object, what: str) -> None:
    if not condition:
        raise BrokenError(what)


@dataclass
class Drill:
    """`top`: scratch. `marker`: what no program of the guest's may make on the host. `history`: all that was said."""

    command: str
    top: Path
    env: dict[str, str]
    history: list[tuple[tuple[str, ...], Done]] = field(default_factory=list)

    @property
    def repo(self) -> Path:
        return self.top / "repo"

    @property
    def marker(self) -> Path:
        return self.top / "owned"

    def sandbox(self, *words: str, data: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
        done = self.run([self.command, *words], data, env)
        self.history.append((words, done))
        holds(done.code in SCHEMA_CODES, f"sandbox {words[0]} ended with {done.code}")
        holds("Traceback" not in done.text, f"sandbox {words[0]} ended in a traceback")
        holds(not self.marker.exists(), f"a command of the guest's ran on the host during sandbox {words[0]}")
        return done

    def ready(self, *words: str, data: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
        """A command that is not the attack: it has to work."""
        done = self.sandbox(*words, data=data, env=env)
        if done.code:
            raise NotPlayedError(f"sandbox {' '.join(words)[:80]} ended with {done.code}: {done.text[-400:]!r}")
        return done

    def inside(self, script: str, *, root: bool = False, code: int = 0) -> Done:
        words = ["sudo", "sh", "-ec", script] if root else ["sh", "-ec", script]
        done = self.sandbox("exec", MACHINE, "--", *words)
        if done.code != code:
            raise NotPlayedError(f"in the guest: ended with {done.code}: {done.text[-400:]!r}")
        return done

    def machine(self) -> Path:
        """Of the VMM that runs, what is below /proc; one that should be confined here."""
        row = [each for each in json.loads(self.ready("doctor", "--json").out)["data"] if each["name"] == "confinement"]
        if not row or row[0]["verdict"] != "ok":
            raise NotPlayedError(f"this host confines nothing: {row[0]['result'] if row else 'no such row'}")
        known = os.fsencode(self.top / "run")
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (place / "cmdline").read_bytes().split(b"\0")
                name = os.path.basename(words[0])  # noqa: PTH119 - of bytes
                if name.startswith(VMMS) and (known in (place / "environ").read_bytes()):
                    return place
        raise NotPlayedError("no VMM is found")

    def git(self, *words: str, cwd: Path | None = None) -> str:
        done = self.run(["git", *words], cwd=cwd)
        if done.code:
            raise NotPlayedError(f"git {' '.join(words)}: {done.text[-400:]!r}")
        return done.out.decode("utf-8", "surrogateescape").strip()

    def run(
        self, argv: Sequence[str], data: bytes = b"", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Done:
        try:
            done = subprocess.run(
                argv, cwd=cwd or self.repo, env=self.env | dict(env or {}), input=data, capture_output=True,
                timeout=PATIENCE, check=False,
            )  # fmt: skip
        except OSError as error:
            raise NotPlayedError(f"{argv[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise BrokenError(f"{argv[:3]} held the host up for {PATIENCE:.0f} s") from error
        return Done(done.returncode, done.stdout, done.stderr)

    def host(self) -> tuple[object, ...]:
        """All of the host's repository that no sandbox may touch."""
        refs = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        own = [line for line in refs if not line.startswith("refs/sandbox")]
        files = {each.name: each.read_bytes() for each in self.repo.iterdir() if each.is_file()}
        git_dir = self.repo / ".git"
        return (
            own,
            files,
            (git_dir / "config").read_bytes(),
            sorted(each.name for each in (git_dir / "hooks").iterdir()),
        )


def silent(done: Done) -> None:
    """Nothing arrived that a terminal obeys or nobody sees."""
    found = leaks(done.out + done.err, terminal=False)
    holds(not found, f"arrived on the terminal: {found[:2]!a}")


@contextlib.contextmanager
def project(drill: Drill, text: str) -> Iterator[None]:
    place = drill.repo / "sandbox.toml"
    place.write_text(text)
    try:
        yield
    finally:
        place.unlink()


def prepared(command: str, top: Path) -> Drill:
    """A repository with an identity of its own; nothing of the user's is read or changed."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SANDBOX_"))}
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for name in ("home", "state", "run", "config", "repo"):
        (top / name).mkdir(mode=0o700)
    env = keep | {
        "HOME": str(top / "home"), "XDG_STATE_HOME": str(top / "state"), "XDG_RUNTIME_DIR": str(top / "run"),
        "XDG_CONFIG_HOME": str(top / "config"), "XDG_CACHE_HOME": cache, "GIT_PAGER": "cat", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    drill = Drill(command, top, env)
    (top / "home/.gitconfig").write_text(
        "[user]\n\tname = Drill\n\temail = drill@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    drill.git("init", "-q")
    (drill.repo / "auth.py").write_text("harmless\n")
    drill.git("add", "-A")
    drill.git("commit", "-qm", "start")
    drill.git("config", "my.authorization", SECRET)
    drill.git("config", "remote.origin.url", f"https://u:{SECRET}@example.com/x?private_token={SECRET}")
    (drill.repo / ".git/config.bak").write_text(SECRET)
    return drill
