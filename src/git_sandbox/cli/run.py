from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from git_sandbox.cli import common, configured, life
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError


@click.command("run", context_settings={"ignore_unknown_options": False})
@life.options
@click.option(
    "--on",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Run on another machine (ssh:HOST; of several, the one with the most room), or, with --count, on Ray (ray).",
)
@click.option(
    "--job-out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    cls=configured.RareOption,
    help="Write the job to this new file instead of running it.",
)
@click.option("--count", type=int, metavar="N", help="Run N sandboxes at once, with SANDBOX_INDEX 1 to N.")
@common.tty_option
@click.option("--agent", metavar="NAME", help="Run that agent's command for one task; CMD... is appended to it.")
@click.argument("command_line", metavar="CMD...", nargs=-1, type=click.UNPROCESSED)
def command(
    command_line: tuple[str, ...], agent: str | None, places: tuple[str, ...], job_out: Path | None, **given: Any
) -> Result:
    """Run a command in a new sandbox of this repository.

    On a terminal the command gets one, too (size, keys, a single output stream). Otherwise, or with -T, standard input,
    output and error pass through byte for byte. The exit code is that of the command, 128 + n when signal n killed it.
    Commits come home into refs/sandbox*/ID and are not merged unless --on-exit merge is given. With --json there is no
    terminal unless -t asks for it, and the command's standard output goes to standard error.

    The first Ctrl-C goes to the command. A second one, or SIGTERM, ends everything in the sandbox: SIGTERM, then
    SIGKILL after --stop-timeout seconds or one more Ctrl-C. What programs save when they end comes home.

    With --count N the command runs in N sandboxes side by side, without input, for N tries of one task: SANDBOX_INDEX
    tells it which it is (1 to N), SANDBOX_COUNT how many there are. Each line of output begins with the sandbox's
    name; with --name NAME they are called NAME-1 to NAME-N. A failure in one does not affect the others. The exit code
    is 0 when all ended with 0, else that of the first that did not. When memory or disk is too small for N, nothing
    starts.

    With --on ssh:HOST the sandbox runs on that machine, which needs the same version of sandbox. A missing image is
    sent, and of the repository only what that machine lacks. The command gets no input. What comes back is examined
    like the export of a guest. If the connection is lost, the command continues, and `sandbox recover --on
    ssh:HOST` fetches its result later. With several --on, the room of each machine is printed first, and one
    without room is left out. With --count the tries are spread over all of them, as many at a time as processors
    and memory allow.

    With --on ray (or ray:ADDRESS) and --count, tries are tasks of a Ray cluster, which places and repeats them.

    With --job-out FILE nothing runs: FILE is for `sandbox worker` on any machine, and `sandbox collect` takes what that
    writes.

    With --detach and --tty the command has a terminal that `sandbox attach` shows. With -T, an editor can talk to
    an agent over standard input and output (ACP), byte for byte.

    \b
    Examples:
      sandbox run -- make test
      sandbox run -- sh -c 'make fmt && git commit -am "Format"'
      git diff | sandbox run --name review -- ./review.sh
      sandbox run -- vim README.md
      sandbox run -T --agent opencode-acp
      sandbox run --count 4 --agent claude -- 'Fix the failing test'
      sandbox run --count 4 --env TOKEN -- ./agent.sh && sandbox compare
      sandbox run --on ssh:build-1 --on ssh:build-2 --count 30 -- make test
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if not command_line and not agent:
        raise UsageError("`sandbox run` needs a command", hint="`sandbox run -- CMD`, or --agent NAME")
    elsewhere = life.Elsewhere(places, job_out)
    return life.live("run", command_line, given, agent=agent or "", elsewhere=elsewhere)
