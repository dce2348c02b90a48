from __future__ import annotations

import os
import sys

import click

from git_sandbox.errors import UsageError


@click.command("worker")
@click.option("--enter", metavar="HEX", help="For `sandbox exec` of another host: run that in a sandbox here.")
def command(enter: str | None) -> int:
    """Run a job from standard input; its result goes to standard output.

    For other machines: `sandbox run --on ssh:HOST` starts it there. A job that `sandbox run --job-out FILE` wrote runs
    wherever this command is installed and the image is there. Progress and the command's output come in between; the
    exit code is 0 when there is a result, whatever the command's was. A job runs once: given again, it returns the
    same result. Its sandbox stays on this machine until the sender, or a file, has the result.

    \b
    Examples:
      sandbox worker < try.job > try.result
      ssh build-1 sandbox worker < try.job > try.result
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if enter is not None:
        from git_sandbox.sandbox import remote_session

        return remote_session.serve(enter)
    from git_sandbox.sandbox import worker

    if sys.stdin.isatty() or sys.stdout.isatty():
        raise UsageError(
            "`sandbox worker` reads a job from standard input, which is a terminal",
            hint="sandbox worker < try.job > try.result",
        )
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not get into the result
    with out:
        return worker.serve(sys.stdin.buffer, out)
