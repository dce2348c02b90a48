"""The command line: finds the verb, runs it, prints its result, exits with its code."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from git_sandbox import __version__
from git_sandbox.cli import printer, result
from git_sandbox.cli.result import Result
from git_sandbox.errors import HostResourceError, Interrupted, SandboxError, UsageError
from git_sandbox.text import one_line

# verb -> one line of help; each lives in `cli/<verb>.py` and is imported only when it is used.
VERBS = {
    "spawn": "Open a shell in a new sandbox of this repository (the default).",
    "run": "Run a command in a new sandbox and exit with its code.",
    "agent": "Start a coding agent in a new sandbox, or list agents.",
    "ls": "List the sandboxes of this repository.",
    "top": "Watch and control all sandboxes on one screen.",
    "log": "Show the commits that came home from a sandbox.",
    "diff": "Show what a sandbox changed.",
    "merge": "Merge a sandbox's commits into the current branch.",
    "branch": "Create or fast-forward branches from those of a sandbox.",
    "compare": "Predict conflicts between sandboxes and suggest a merge order.",
    "graph": "Draw the current branch with all sandboxes and their conflicts.",
    "drop": "Move a sandbox with its refs and its disk to the trash.",
    "restore": "Restore a sandbox from the trash.",
    "prune": "Delete expired sandboxes in the trash, or all of them.",
    "recover": "Bring home the work on the disk of a crashed sandbox, or on another machine.",
    "collect": "Bring home the result of a job that ran on another machine.",
    "worker": "Run a job from standard input, for another machine.",
    "shell": "Open a shell in a running sandbox, or start a stopped one again.",
    "attach": "Attach to the terminal of the program that runs in a sandbox.",
    "logs": "Print what the command of a detached sandbox has written.",
    "exec": "Run a command in a running sandbox.",
    "fork": "Create a sandbox from a copy of another one's disk.",
    "rename": "Give a stopped sandbox another name.",
    "set": "Change memory or processors of a stopped sandbox.",
    "cp": "Copy files into a running sandbox, or out of it.",
    "code": "Open a sandbox in your editor.",
    "ssh-config": "Print ssh configuration for running sandboxes (ssh, scp, rsync, editors).",
    "net": "Show a sandbox's network requests, and allow more names.",
    "sync": "Bring home the current work of a running sandbox.",
    "stop": "Stop running sandboxes; their work comes home first.",
    "mcp": "Serve tools to a coding agent on this computer (MCP).",
    "image": "Build, fetch, list and remove guest images.",
    "tour": "Show around, in a temporary repository.",
    "doctor": "Check this machine and report what is missing.",
    "uninstall": "Remove all sandboxes, images and data from this computer.",
    "config": "Show every setting and where its value comes from.",
    "completion": "Print the completion script for a shell.",
    "help": "Show help for a command.",
}

# What the same thing is called elsewhere (git, docker, ssh, virtual machines): better than the nearest spelling.
ELSEWHERE = {
    "start": "shell", "new": "spawn", "create": "spawn", "up": "spawn", "enter": "shell", "ssh": "shell",
    "list": "ls", "ps": "ls", "status": "ls", "show": "log", "info": "log",
    "tree": "graph", "dashboard": "top", "ui": "top", "htop": "top",
    "rm": "drop", "remove": "drop", "delete": "drop", "destroy": "drop",
    "undelete": "restore", "undrop": "restore", "trash": "ls --all", "gc": "prune", "clean": "prune",
    "kill": "stop", "down": "stop", "push": "sync --send", "pull": "sync", "fetch": "sync", "copy": "cp", "scp": "cp",
    "mv": "rename", "move": "rename", "resize": "set", "update": "set",
    "edit": "code", "open": "code", "editor": "code",
    "branches": "branch", "checkout": "branch",
    "images": "image ls", "build": "image build", "check": "doctor",
    "tutorial": "tour", "demo": "tour", "settings": "config", "version": "--version",
}  # fmt: skip


class Verbs(click.Group):
    """Verbs are imported lazily; without one, or with options only, `spawn` is meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"git_sandbox.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and ctx.resilient_parsing:
            return super().parse_args(ctx, args)  # a shell wants to know how the first word could end
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version", "-V")):
            args = ["spawn", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS:
            near = _meant(args[0])
            hint = f"did you mean `sandbox {near}`?" if near else "see `sandbox --help`"
            raise UsageError(f"there is no command `{one_line(args[0], limit=60)}`", hint=hint)
        return super().resolve_command(ctx, args)


def _meant(word: str) -> str:
    """The verb somebody who typed `word` most likely wants; nothing when there is none like it."""
    import difflib

    near = difflib.get_close_matches(word, VERBS, n=1, cutoff=0.6)
    return ELSEWHERE.get(word) or (near[0] if near else "")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="sandbox")
def cli() -> None:
    """A real Linux microVM around your git repository; the commits come home.

    Without a command, `sandbox` opens a shell in a new sandbox that holds this repository exactly as it stands. Work
    and commit as usual; at `exit` your commits are in this repository under refs/sandbox/ID, with the same SHAs.

    \b
    Examples:
      sandbox                          a shell in a new sandbox
      sandbox run -- make test         one command, its exit code
      sandbox --net nat --name try     with network access and a name
      sandbox ls                       list the sandboxes
      sandbox merge try                merge its commits into this branch
    """  # noqa: D301 - \b is click's mark for text that must keep its lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    from git_sandbox import notices, signals

    if argv is None:
        sys.excepthook = printer.unexpected
    notices.heard()  # of an earlier command of this process
    words = _with_agent(list(sys.argv[1:] if argv is None else argv))
    command = next((word for word in words if word in VERBS), "spawn")
    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    try:
        with signals.signals_raise():
            code = _run(words, as_json=as_json)
            _expire()
    except SandboxError as error:
        result.fail(command, error, as_json=as_json)
        code = error.exit_code
    except Interrupted as signal:
        printer.line()
        code = signal.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        code = 141
    except OSError as error:
        _fail(command, _resource(error), as_json=as_json)
        code = HostResourceError.exit_code
    if argv is None:
        sys.exit(code)
    return code


def _with_agent(words: list[str]) -> list[str]:
    """`sandbox claude` is `sandbox agent claude`, where there is such an agent and no verb of that name."""
    if not words or words[0] in VERBS or not words[0].isascii() or not words[0][:1].isalnum():
        return words
    from git_sandbox.cli.agent import names

    return ["agent", *words] if words[0] in names() else words


def _expire() -> None:
    """What has been in the trash for long enough goes: after what was asked for, and never instead of it."""
    from git_sandbox.sandbox import expiring

    with contextlib.suppress(Interrupted):
        expiring.expire()


def _fail(command: str, error: SandboxError, *, as_json: bool) -> None:
    try:
        result.fail(command, error, as_json=as_json)
    except OSError:  # it is standard output that cannot be written
        result.fail(command, error, as_json=False)


def _run(words: list[str], *, as_json: bool) -> int:
    try:
        answer: Any = cli.main(args=words, prog_name="sandbox", standalone_mode=False, color=printer.colours())
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "sandbox"
        hint = _verb_comes_first(words) or f"see `{path} --help`"
        raise UsageError(" ".join(error.format_message().split()).rstrip("."), hint=hint) from error
    except click.ClickException as error:
        raise SandboxError(error.format_message()) from error
    except click.Abort:
        return 130
    if isinstance(answer, Result):
        result.show(answer, as_json=as_json)
        return answer.exit_code
    return answer if isinstance(answer, int) else 0


def _verb_comes_first(words: list[str]) -> str:
    """A hint for `sandbox --net nat run -- make`, where the options make click take `spawn` for the verb."""
    verb = next((word for word in words if not word.startswith("-") and word in VERBS), "")
    return f"the command comes first: `sandbox {verb} …`" if verb and words[0].startswith("-") else ""


def _resource(error: OSError) -> HostResourceError:
    place = f" ({error.filename})" if error.filename else ""
    return HostResourceError(
        f"{error.strerror or error}{place}", hint="`sandbox doctor` checks disk space and directories"
    )
