"""Every verb in a repository whose names command terminals, hide, or pretend to be lines of ours: in a pipe, and on a
terminal with its questions and progress, nothing of that arrives.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from git_sandbox.cli.main import VERBS
from support.examples import some
from support.gitrepo import GitRepo
from support.nasty import NASTY, QUIET, leaks
from support.nastyrepo import repository
from support.terminal import Terminal

SANDBOX = Path(sys.executable).with_name("sandbox")
# What each verb is asked for. Those that need a machine get as far as they get without one; see test_hostile_guest.
WALK: dict[str, tuple[tuple[str, ...], ...]] = {
    "spawn": (("--image", NASTY), ("--mount", NASTY), ("--from", "one", "--setup", "x")),
    "run": (("--env-file", NASTY, "--", "true"), ("--setup", NASTY, "--", "true"), ("--memory", NASTY, "--", NASTY)),
    "agent": (("ls",), ("show", NASTY), (NASTY,), ("ls", "--json")),
    "net": (("one",), (NASTY,), ("one", "--allow", NASTY), ("one", "--json")),
    "logs": (("one",), (NASTY,), ("--follow", "torn")),
    "ls": ((), ("--all",), ("--everywhere",), ("--json",)),
    "top": (("--json",), (NASTY,)),  # the screen and --plain end by a key: test_top_cli
    "log": (("one",), ("one", "--json"), ("two",), ("torn",), (NASTY,)),
    "diff": (
        ("one",),
        ("one", "--stat"),
        ("one", "--name-only"),
        ("one", "--wip"),
        ("one", "--from-start", "--stat"),
        ("one", "--", f"f{NASTY}"),
        ("one", "--", f"none{NASTY}"),
        ("one", "--json"),
        ("two", "--color", "always"),
    ),
    "merge": (
        ("--dry-run", "one"),
        ("one",),
        ("--patches", f"../p{NASTY}", "one"),
        ("--branch", f"x{NASTY}", "one"),
        ("--branch", f"x{QUIET}", "one"),
        ("--yes", "two"),
        ("--undo", "two"),
        ("--yes", "one"),
        ("--continue", "one"),
        ("--conflicts", "--yes", "one"),
    ),
    "branch": (("one",), ("--yes", "one"), ("one", f"guest{QUIET}"), ("one", NASTY), ("one", "--json")),
    "compare": ((), ("one", "two"), ("one", NASTY), ("--svg", "-"), ("--svg", f"../{NASTY}/x")),
    "graph": ((), ("one",), (NASTY,), ("--svg", "-"), ("--svg", f"../p{NASTY}")),
    "drop": (("one",), ("torn",), (NASTY,), ("--merged",), ("--force", "one", "two")),
    "restore": ((NASTY,), ("two",), (f"{NASTY}/one",)),
    "prune": (("--dry-run",), ("--all", "--dry-run"), ("--all",), ("--everywhere", "--dry-run")),
    "recover": (("one",), ("torn",), (), ("--bundle", f"../b{NASTY}", "one"), ("--into", NASTY, "one")),
    "shell": (("torn",), (NASTY,)),
    "attach": (("one",), (NASTY,)),
    "exec": (("one", "--", NASTY), (NASTY, "--", "true")),
    "rename": (("one", NASTY), (NASTY, "x"), ("torn", "x"), ("one", "two")),
    "set": (("one", "--memory", NASTY), (NASTY, "--cpus", "2"), ("one", "--cpus", NASTY), ("torn", "--cpus", "2")),
    "fork": (("torn",), ("one", "--name", NASTY), (NASTY,)),
    "cp": ((f"one:{NASTY}", "."), (f"mine{NASTY}", "one:/tmp"), (NASTY, f"{NASTY}:x"), ("a", "b")),
    "code": (("one",), (NASTY,), ("torn", "--editor", NASTY), ("one", NASTY, "--print")),
    "ssh-config": ((), ("one",), (NASTY,)),
    "sync": (("one",), (NASTY,)),
    "collect": ((NASTY,), (f"../{NASTY}", "--json")),
    "stop": (("one",), (NASTY,), ("--all",)),
    "image": (
        ("ls",),
        ("rm", NASTY),
        ("build", "--image", NASTY),
        (NASTY,),
        ("pull", NASTY),
        ("pull", f"docker://{NASTY}"),
        ("pull", f"oci:{NASTY}"),
        ("update", NASTY),
        ("inspect", NASTY),
    ),
    "mcp": (("--repository", NASTY), ("--repository", f"../{QUIET}")),
    "tour": ((), ("--json",), (NASTY,)),
    "doctor": ((), ("--image", NASTY), ("--fix", "--dry-run")),
    "uninstall": (("--dry-run",), ("--yes",), ()),
    "config": ((), ("--trust",), ("--distrust",), (NASTY,)),
    "completion": ((NASTY,), ("bash",)),
    "help": ((NASTY,), ("run",)),
}
# The questions at the end of a session, which has no verb of its own without a machine.
QUESTIONS = """
import sys
sys.path.insert(0, sys.argv[1])
from git_sandbox.cli import ask, printer, progress, result, words
from git_sandbox.errors import SandboxError
from git_sandbox.git.repo import discover
from git_sandbox.integrate.apart import Apart
from git_sandbox.integrate.modes import Relation
from git_sandbox.text import printable
from git_sandbox.sandbox import settle
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.lookup import known
from git_sandbox.sandbox.finished import Finished
from git_sandbox.collect import Collected
from git_sandbox.protocol.manifest import GuestHead, Manifest
from support.nasty import NASTY
from pathlib import Path
found = known(discover(Path.cwd()), "one")
repo, record, refs = discover(Path.cwd()), found.entry.record, found.entry.refs
symref = "refs/heads/" + NASTY
updated = {name: (None, value) for name, value in refs.items()}
came = Collected(found.head, symref, found.wip, updated, {}, (NASTY,), (NASTY,))
manifest = Manifest("sha1", GuestHead(symref, found.head), (), (), None, None, None, (NASTY,))
home = Retrieval(came, manifest, changed=True)
finished = Finished(repo, "one", record, 0, home, True, (NASTY, "[link=http://x]a[/link][/nothing]"))
with progress.shown(quiet=False) as say:
    say("Doing " + NASTY)
    say("[link=http://x]markup[/link] [/nothing] " + NASTY)
asker = ask.Asker(repo, finished)
settled = settle.settle(repo, record, home, asker.questions(), on_exit="auto", dirty="ask")
for line in words.summary(repo, finished, settled, shown=False):
    printer.line(line)
ask.branch_name(Apart(Relation.DIVERGED, None, (), (), "apart " + printable(NASTY).replace("\\n", " ")))
result.fail("run", SandboxError("e " + NASTY, cause="c " + NASTY, hint="h " + NASTY), as_json=False)
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    for name in ("PAGER", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_PAGER", "cat")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return repository(tmp_path)


def on_a_terminal(argv: Sequence[str | Path], repo: GitRepo) -> bytes:
    """All that it shows; each question is answered `?` first, then `n`, then `k`."""
    seen, answers = b"", ["?", "n", "k"]
    with Terminal(argv, cwd=repo.path, env=os.environ) as term:
        while term.child.poll() is None:
            term._read(0.05)
            if term.seen.endswith((b": ", b"]: ")):
                term.type(f"{answers[0]}\n")
                answers.append(answers.pop(0))
            seen, term.seen = seen + term.seen, b""
        term.wait()
        return seen + term.seen


def test_every_verb_is_walked() -> None:
    assert WALK.keys() == VERBS.keys() - {"worker"}, "which writes frames for a program"


@pytest.mark.parametrize("verb", WALK)
def test_no_control_and_nothing_invisible_arrives(hostile: GitRepo, verb: str) -> None:
    found: dict[tuple[str, ...], list[str]] = {}
    for words in some(WALK[verb]):
        argv: list[str | Path] = [SANDBOX, verb, *words]
        done = subprocess.run(argv, cwd=hostile.path, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert done.returncode in {0, 1, 2, *range(10, 20)}, (words, done)
        seen = on_a_terminal(argv, hostile)
        assert b"Traceback" not in done.stderr + seen, (done.stderr + seen).decode(errors="replace")
        found["pipe", *words] = leaks(done.stdout + done.stderr, terminal="always" in words)
        found["terminal", *words] = leaks(seen, terminal=True)
    assert {words: what for words, what in found.items() if what} == {}


def test_nor_with_the_questions_and_the_progress_of_a_session(hostile: GitRepo) -> None:
    seen = on_a_terminal([sys.executable, "-c", QUESTIONS, str(Path(__file__).parents[1])], hostile)
    assert b"Traceback" not in seen, seen.decode(errors="replace")
    for part in (b"Uncommitted work", b"Keep it there", b"Name of a new", b"hint:"):
        assert part in seen
    assert leaks(seen, terminal=True) == [], seen


@pytest.mark.parametrize("text", [NASTY, "\x1b[8mx", "\u202ex", "a\u200bb", "\U000e0041", "x\nFORGED"])
def test_a_leak_would_be_noticed(text: str) -> None:
    assert leaks(text.encode(), terminal=True)
    assert leaks(text.encode(), terminal=False)
