from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import git_sandbox
from cli.conftest import Cli
from git_sandbox import paths, settings, store
from git_sandbox.cli.main import ELSEWHERE, VERBS
from git_sandbox.cli.main import cli as root
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import provision
from support.gitrepo import GitRepo

SANDBOX = Path(sys.executable).with_name("sandbox")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli: Cli, verb: str) -> None:
    said = cli(verb, "--help")
    assert said.code == 0
    assert f"Usage: sandbox {verb}" in said.out
    assert len(said.out.splitlines()) > 5
    assert verb in cli("--help").out


def _leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from _leaves(inner, (*words, name))


@pytest.mark.parametrize("words", list(_leaves(root, ())), ids=" ".join)
def test_every_verb_shows_examples_and_help_shows_the_same(
    cli: Cli, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli(*words, "--help")
    assert [line for line in shown.out.splitlines() if len(line) > 80] == [], "a terminal would break these"
    assert "\n  Examples:\n    sandbox" in shown.out
    assert cli("help", *words) == shown
    if words and words not in (("image",), ("agent",), ("worker",), ("mcp",)):  # groups; their output is for a program
        assert "--json" in shown.out


@pytest.mark.parametrize("verb", ["spawn", "run"])
def test_help_is_short_and_help_all_has_every_option(cli: Cli, verb: str) -> None:
    def shown(option: str) -> set[str]:
        return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", cli(verb, option).out, re.MULTILINE))

    found = root.get_command(click.Context(root), verb)
    assert found is not None
    every = {
        each.opts[-1] if each.opts[-1] != "-t" else "--tty" for each in found.params if isinstance(each, click.Option)
    }
    assert shown("--help-all") - {"--help"} == every
    assert len(shown("--help") & {f"--{name.replace('_', '-')}" for name in settings.BY_NAME}) <= 10
    assert {"--name", "--detach", "--json", "--net"} <= shown("--help")


def test_help_shows_the_pages_that_hints_name(cli: Cli) -> None:
    """Who installed it has no docs directory."""
    assert cli("help", "backends").out.startswith("# ")
    wrong = cli("help", "bakcends")
    assert (wrong.code, "pages: agent, backends, " in wrong.err) == (2, True)
    assert "did you mean `sandbox help backends`?" in wrong.err
    assert "did you mean `sandbox help merge`?" in cli("help", "mrege").err
    source = "".join(each.read_text() for each in Path(git_sandbox.__file__).parent.rglob("*.py"))
    for name in set(re.findall(r"`sandbox help ([a-z-]+)`", source)):
        assert cli("help", name).code == 0


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lss", "ls"),
        ("spwan", "spawn"),
        ("list", "ls"),
        ("rm", "drop"),
        ("start", "shell"),
        ("ssh", "shell"),
        ("rnu", "run"),
    ],
)
def test_a_word_from_elsewhere_leads_to_the_verb(cli: Cli, word: str, meant: str) -> None:
    assert f"did you mean `sandbox {meant}`?" in cli(word).err
    assert "see `sandbox --help`" in cli("zzzz").err


def test_words_from_elsewhere_lead_to_verbs_that_are_there() -> None:
    assert not ELSEWHERE.keys() & VERBS.keys()
    for meant in ELSEWHERE.values():
        assert meant == "--version" or meant.split()[0] in VERBS


@pytest.mark.parametrize("words", [["image"], ["image", "--json"], ["completion"], ["help", "run", "more"]])
def test_a_missing_or_wrong_word_is_said_in_one_line(cli: Cli, words: list[str]) -> None:
    said = cli(*words)
    assert said.code == 2
    assert len((said.err or said.out).strip().splitlines()) <= 2


def test_ctrl_c_before_anything_is_imported_shows_no_traceback(repo: GitRepo) -> None:
    as_python_starts = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # even if who runs us ignores it
    script = f"import signal; {as_python_starts}; import git_sandbox.__main__; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
    run = [sys.executable, "-m", "git_sandbox", "ls", "--json"]
    assert subprocess.run(run, cwd=repo.path, capture_output=True, check=True).stdout.startswith(b'{"schema":1')


@pytest.mark.parametrize("words", [["ls", "--wrong"], ["log"], ["merge", "vm-1", "extra"], ["run"], ["--net", "wifi"]])
def test_wrong_use_ends_with_2_and_the_next_step(cli: Cli, words: list[str]) -> None:
    said = cli(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert "hint: " in said.err


def test_unknown_verb_names_the_nearest(cli: Cli) -> None:
    said = cli("lss")
    assert said.code == 2
    assert "did you mean `sandbox ls`?" in said.err


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["lss", "--json"], 2, "usage"), (["ls", "--json", "--wrong"], 2, "usage"),
        (["log", "nope", "--json"], 17, "state"),
        (["log", "NOT_A_NAME", "--json"], 2, "usage"), (["spawn", "--json"], 2, "usage"),
        (["run", "--json", "--memory", "1", "--", "true"], 2, "usage"),
    ],
)  # fmt: skip
def test_failures_come_in_the_envelope(cli: Cli, words: list[str], code: int, kind: str) -> None:
    said = cli(*words)
    (error,) = said.envelope["errors"]
    assert (said.code, error["exit_code"], error["kind"]) == (code, code, kind)
    assert (said.envelope["status"], said.envelope["data"], said.err) == ("error", None, "")
    assert error["message"]
    assert error["hint"]


@pytest.mark.parametrize("verb", [["ls"], ["log", "x"], ["diff", "x"], ["merge", "x"], ["drop", "x"], ["recover"]])
def test_outside_of_a_repository(cli: Cli, verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.chdir(outside)
    said = cli(*verb)
    assert (said.code, said.out) == (10, "")
    assert "not in a git repository" in said.err
    bare = tmp_path / "bare"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    monkeypatch.chdir(bare)
    assert cli(*verb, "--json").envelope["errors"][0]["kind"] == "repository"


def test_bad_configuration_file_is_named(cli: Cli) -> None:
    path = paths.config_file()
    path.parent.mkdir(parents=True)
    path.write_text("memory = ")
    said = cli("config")
    assert said.code == 2
    assert str(path) in said.err
    assert cli("config", "--json").envelope["errors"][0]["kind"] == "usage"


def _made(repo: GitRepo, name: str) -> Path:
    with store.create(discover(repo.path), name) as box:
        box.directory.disk.write_bytes(b"")
        return box.directory.root


def test_ls_shows_broken_and_running_sandboxes_and_goes_on(cli: Cli, repo: GitRepo) -> None:
    assert "No sandboxes" in cli("ls").out
    assert cli("ls", "--json").envelope["data"] == []
    _made(repo, "torn").joinpath("record.json").write_bytes(b'{"id": "to')
    held = _made(repo, "held")
    repo.git("update-ref", "refs/sandbox/gone", "HEAD")
    with (held / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {row["id"]: row["state"] for row in cli("ls", "--json").envelope["data"]}
        assert cli("drop", "--force", "held").code == 17
    assert rows == {"torn": "broken", "held": "running", "gone": "refs"}
    said = cli("ls")
    assert (said.code, said.err) == (0, "")
    assert all(name in said.out for name in rows)
    said = cli("drop", "torn")
    assert (said.code, "`sandbox recover torn`" in said.err) == (17, True), "the work may be on its disk only"
    assert "`sandbox recover torn`" in cli("recover", "torn").err, "neither record nor copy of it"
    assert cli("drop", "--force", "torn").code == 0
    assert not held.with_name("torn").exists()


def test_what_a_spawn_that_was_killed_at_once_left_can_be_dropped(cli: Cli, repo: GitRepo) -> None:
    root = _made(repo, "dead")
    (root / "workspace.ext4").unlink()
    assert "`sandbox drop dead`" in cli("recover", "dead").err
    assert cli("drop", "dead").code == 0
    assert not root.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str, tmp_path: Path) -> None:
    said = cli("completion", shell)
    assert said.code == 0
    assert "_SANDBOX_COMPLETE" in said.out
    script = tmp_path / "script"
    script.write_text(said.out)
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_verbs_options_and_names_for_real(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(cli("completion", "bash").out)
    repo.git("update-ref", "refs/sandbox/fix-login", "HEAD")
    ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sandbox_completion "$1"; echo "${COMPREPLY[*]}"'
    env = dict(os.environ) | {"PATH": f"{SANDBOX.parent}:{os.environ['PATH']}"}

    def complete(*words: str) -> list[str]:
        argv: list[str | Path] = ["bash", "-c", ask, script, *words]
        done = subprocess.run(argv, cwd=repo.path, env=env, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return str(done.stdout).split()

    assert complete("sandbox", "me") == ["merge"]
    assert "fix-login" in complete("sandbox", "log", "fix")
    assert "--squash" in complete("sandbox", "merge", "--sq")


def test_ls_imports_only_what_it_needs(repo: GitRepo) -> None:
    """A verb that only looks has to answer at once: every module here is waited for. Add one with a reason."""
    code = "import atexit, sys; from git_sandbox.__main__ import main; atexit.register(lambda: print(*sys.modules)); "
    code += "sys.argv = ['sandbox', 'ls']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo.path)
    loaded = done.stdout.splitlines()[-1].split()
    ours = {name.removeprefix("git_sandbox.") for name in loaded if name.startswith("git_sandbox.")}
    assert ours == {
        "__main__", "answers", "claims", "cli", "cli.columns", "cli.ondisk", "cli.tables", "entries", "errors", "files",
        "git",
        "git.anchor", "git.bounds", "git.command", "git.gitdirs", "git.gitvariables", "git.identity", "git.names",
        "git.putback", "git.repo", "guest", "guest.protocol", "guest.waiting", "integrate", "integrate.overview",
        "jsontext",
        "locks", "notices", "paths", "places", "process", "process.bounds", "process.child",
        "process.completed", "process.starting", "process.watch",
        "protocol", "protocol.changes", "reconcile", "record", "registry",
        "sandbox", "sandbox.listing", "sandbox.lookup", "sandbox.ondisk", "sandbox_dir",
        "signals", "store", "text", "trash", "trash.note",
    }  # fmt: skip
    heavy = {"click", "rich", "asyncio", "dataclasses", "hashlib", "tomllib", "urllib.request", "http.client", "email"}
    assert heavy & set(loaded) == set()


def test_ls_without_click_says_the_same(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    """`sandbox ls` alone is answered before the command line is imported."""

    def alone(where: Path, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        argv: list[str | Path] = [SANDBOX, "ls"]
        return subprocess.run(argv, cwd=where, text=True, check=False, stdout=out, stderr=subprocess.PIPE)

    assert alone(repo.path).stdout == cli("ls").out
    repo.git("update-ref", "refs/sandbox/gone", "HEAD")
    said = alone(repo.path)
    assert (said.returncode, said.stdout, said.stderr) == (0, cli("ls").out, "")
    assert "gone" in said.stdout
    nowhere = alone(tmp_path)
    assert nowhere.returncode == 10
    assert "error: " in nowhere.stderr
    assert "hint: " in nowhere.stderr
    reading, writing = os.pipe()
    os.close(reading)
    closed = alone(repo.path, writing)
    os.close(writing)
    assert (closed.returncode, closed.stderr) == (141, "")


@pytest.mark.parametrize("words", [("ls",), ("ls", "--json")])
def test_output_that_cannot_be_written_is_an_error_in_words(repo: GitRepo, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        argv: list[str | Path] = [SANDBOX, *words]
        done = subprocess.run(argv, cwd=repo.path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 18
    assert done.stderr.startswith("error: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_start_does_not_wait_for_what_comes_after_its_session() -> None:
    code = "import sys; import git_sandbox.cli.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "git_sandbox.sandbox.lifecycle" in loaded
    later = {"cli.ask", "cli.tries", "cli.words", "integrate.merge", "sandbox.after", "sandbox.detached"}
    heavy = {"rich", "asyncio", "tarfile", "ssl", "http.client", "email"}
    assert (heavy | {f"git_sandbox.{name}" for name in later}) & loaded == set()


def test_missing_program_is_named_with_the_next_step(repo: GitRepo, tmp_path: Path) -> None:
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("git", "prlimit"):  # whatever reads a guest's objects has limits
        (only / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    env = dict(os.environ) | {"PATH": str(only)}
    done = subprocess.run([SANDBOX, "ls"], cwd=repo.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (only / "git").unlink()
    done = subprocess.run([SANDBOX, "ls"], cwd=repo.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 11
    assert "`git`" in done.stderr
    assert "hint: " in done.stderr


def test_home_that_cannot_be_written(repo: GitRepo, tmp_path: Path) -> None:
    """Permission bits do not bind root, a read-only mount does; both are tried by what the test may do."""
    home = tmp_path / "readonly"
    home.mkdir()
    script = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"' if os.getuid() == 0 else 'chmod 0500 "$0" && exec "$@"'
    enter = ["unshare", "--mount"] if os.getuid() == 0 else []
    env = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")} | {"HOME": str(home)}
    made = "from git_sandbox import store; from git_sandbox.git.repo import discover; from pathlib import Path\n"
    made += "from git_sandbox.cli import result; from git_sandbox.errors import SandboxError\nimport sys\n"
    made += "try:\n  store.create(discover(Path.cwd()), None).__enter__()\n"
    made += "except SandboxError as error:\n  result.fail('run', error, as_json=False); sys.exit(error.exit_code)\n"
    for argv, code in (([SANDBOX, "ls"], 0), ([SANDBOX, "config"], 0), ([sys.executable, "-c", made], 18)):
        words = [*enter, "sh", "-ec", script, home, *argv]
        done = subprocess.run(words, cwd=repo.path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "cannot create the directory" in done.stderr
    assert "XDG_STATE_HOME" in done.stderr


@pytest.mark.parametrize("words", [("--net", "nat", "run", "--", "true"), ("--json", "ls")])
def test_who_puts_options_before_the_verb_is_told_the_order(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli(*words)
    assert said.code == 2
    assert f"the command comes first: `sandbox {'ls' if 'ls' in words else 'run'} " in said.out + said.err


def test_a_group_without_a_command_is_wrong_usage(cli: Cli) -> None:
    """Also with click before 8.2, which showed the help and ended with 0."""
    said = cli("image")
    assert (said.code, "`sandbox image` needs a command" in said.err) == (2, True)


@pytest.mark.parametrize("count", ["0", "900", "9" * 5000, "-1", "x"])
def test_processors_that_no_machine_has_are_refused_by_us(cli: Cli, count: str) -> None:
    said = cli("run", "--cpus", count, "--", "true")
    assert (said.code, "use a whole number from 1 to 254" in said.err) == (2, True)


def test_memory_that_this_host_has_not_is_refused_before_an_image_is_built(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    too_much = f"{provision.available_memory() * 2}M"
    said = cli("run", "--memory", too_much, "--", "true")
    assert (said.code, said.err.partition("\n")[0].startswith("error: the machine needs")) == (18, True), said.err
    assert "First use" not in said.err
    assert not (tmp_path / "cache/git-sandbox/images").exists()


@pytest.mark.parametrize(("variable", "coloured"), [("NO_COLOR=1", False), ("TERM=dumb", False), ("NO_COLOR=", True)])
def test_nobody_gets_colours_who_wants_none(variable: str, coloured: bool) -> None:
    words = f"env TERM=xterm {variable} {SANDBOX} bogus"
    done = subprocess.run(["script", "-qec", words, "/dev/null"], capture_output=True, check=False)
    assert b"there is no command" in done.stdout
    assert (b"\x1b[" in done.stdout) is coloured
