from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from git_sandbox import process, settings
from git_sandbox.cli import columns, common, printer
from git_sandbox.cli.choices import choose
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.git import gitvariables
from git_sandbox.git.command import Git
from git_sandbox.later import dataclass

WIDTH = 100  # columns of text, at most
_LIST, _DRAFT = "shopping.txt", "draft.txt"
_INSIDE = f'echo cider >>{_LIST} && git commit -qam "Add cider" && echo "pear or plum?" >{_DRAFT}'


@dataclass(frozen=True)
class Step:
    """`words`: what `sandbox` is called with."""

    title: str
    text: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        return f"sandbox {columns.command_line(self.words)}"


STEPS = (
    Step(
        "A command in a sandbox",
        "A virtual machine starts with a copy of the repository. The command makes a commit and leaves a file "
        "uncommitted. It has no network and no access to this computer.",
        ("run", "--name", "tour", "--", "sh", "-c", _INSIDE),
    ),
    Step("List", "The machine has ended and its work came home: one commit ahead, and a file.", ("ls",)),
    Step("Diff", "Nothing in your checkout changed. The commit is in refs/sandbox/tour.", ("diff", "tour")),
    Step("Uncommitted work", "It came home, too, next to the commit.", ("diff", "--wip", "--stat", "tour")),
    Step("Merge", "Into the current branch, all or nothing.", ("merge", "tour")),
    Step("Undo", "A merge can be undone; your uncommitted changes are restored.", ("merge", "--undo", "tour")),
    Step(
        "Shell",
        f"The same sandbox again, with a shell. Try `sudo whoami`, `git log`, `cat {_DRAFT}`, "
        "`sandbox status`; `exit` ends it.",
        ("shell", "tour"),
    ),
    Step(
        "Drop",
        "To the trash; with --force, because that commit is on none of your branches.",
        ("drop", "--force", "tour"),
    ),
    Step("Restore", "For a week everything can be restored, including the disk.", ("restore", "tour")),
)
_END = "That is all. In your own repository: `sandbox`, or `sandbox agent ls`, `sandbox help many`, `sandbox --help`."


@click.command("tour")
@common.json_option
def command(as_json: bool) -> Result:
    """Show around: real commands in a temporary repository.

    Each step explains and shows a command and runs it when you press Enter; skip one with `s`, leave with `q`. No
    machine starts before you agree to it, and none of your files is touched: repository, sandbox and its disk are in a
    temporary directory. With --json the steps are printed and none runs.

    \b
    Examples:
      sandbox tour
      sandbox tour --json | jq -r '.data[].command'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if as_json:
        return Result("tour", [{"title": step.title, "text": step.text, "command": step.command} for step in STEPS])
    if not common.interactive():
        raise UsageError("a tour needs a terminal", hint="`sandbox tour --json` prints its steps")
    with _place() as (repository, variables):
        printer.line("A tour in a temporary repository, which is removed at the end:")
        printer.line(f"  {repository} with {_LIST}, and one commit\n")
        try:
            code = _walk(repository, variables)
        finally:
            _clear(repository, variables)
    return Result("tour", exit_code=code)


def _walk(repository: Path, variables: Mapping[str, str]) -> int:
    """The exit code: of the step that went wrong, else 0."""
    for number, step in enumerate(STEPS, 1):
        printer.line(click.style(f"{number}/{len(STEPS)}  {step.title}", bold=True))
        printer.line(f"{_wrapped(step.text)}\n  $ {step.command}")
        answers = {"run": "run it", "skip": "continue with the next step", "quit": "end the tour"}
        answer = choose("Enter runs it", answers, "run")
        if answer == "quit":
            return 0
        if answer == "skip":
            continue
        code = _sandbox(step.words, repository, variables)
        if code != 0:
            printer.line(
                f"The command failed with exit code {code}, and the tour ends. `sandbox doctor` checks this host."
            )
            return code
        printer.line()
    printer.line(_wrapped(_END))
    return 0


def _wrapped(text: str) -> str:
    """No word is broken at the edge of the terminal."""
    return click.wrap_text(text, min(shutil.get_terminal_size().columns, WIDTH))


@contextlib.contextmanager
def _place() -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A repository, and the variables with which everything that is kept of its sandboxes is beside it."""
    with tempfile.TemporaryDirectory(prefix="git-sandbox-tour-") as scratch:
        repository = Path(scratch, "tour")
        repository.mkdir()
        git = Git(repository / ".git", repository)
        git.run("init", "-q", "--initial-branch=main")
        for name, value in (("user.name", "Tour"), ("user.email", "tour@localhost"), ("commit.gpgSign", "false")):
            git.run("config", "--local", name, value)
        (repository / _LIST).write_text("apples\n")
        git.run("add", _LIST)
        git.run("commit", "-q", "-m", "A shopping list")
        own = {"XDG_STATE_HOME": f"{scratch}/state", "SANDBOX_BASES": "no", "GIT_PAGER": "cat"}
        inherited = settings.environment().items()  # a GIT_DIR, say, would have every step work on that repository
        variables = {name: value for name, value in inherited if not gitvariables.HEEDED.fullmatch(name)}
        yield repository, variables | own


def _sandbox(words: tuple[str, ...], repository: Path, variables: Mapping[str, str], *, quiet: bool = False) -> int:
    argv = [sys.executable, "-P", "-m", "git_sandbox", *words]
    out = process.DEVNULL if quiet else None
    with process.spawn(
        argv, cwd=repository, env=variables, stdin=0, stdout=out or 1, stderr=out or 2, foreground=True, grace=60.0
    ) as child:
        return child.wait() or 0


def _clear(repository: Path, variables: Mapping[str, str]) -> None:
    """What is left of the sandbox; its disk may be a volume, which does not go with a directory."""
    for words in (("drop", "--force", "tour"), ("prune", "--all")):
        _sandbox(words, repository, variables, quiet=True)
    printer.line("Removed the temporary repository and its sandbox.")
