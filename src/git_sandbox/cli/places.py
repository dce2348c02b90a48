"""Other machines on the command line: each is queried, and its answer printed, before anything is sent there."""

from __future__ import annotations

import dataclasses

from git_sandbox.cli import printer
from git_sandbox.progress import Progress
from git_sandbox.sandbox import elsewhere
from git_sandbox.sandbox.elsewhere import Room
from git_sandbox.sandbox.options import Options


def room(options: Options, say: Progress, *, quiet: bool) -> Room | None:
    """Of the machines `options.on`; None for this host and for a cluster, which places tasks by itself. Raises
    HostResourceError, or what the first that does not answer said, where no machine can take one.
    """
    if not options.on or options.on[0].partition(":")[0] == "ray":
        return None
    machines = elsewhere.asked(options.on, options.settings, say)
    if not quiet:
        say("")
        for machine in machines:
            printer.line(machine.words)
    return elsewhere.room(machines, options.settings)


def ordered(options: Options, say: Progress, *, quiet: bool) -> Options:
    """With several machines, the one with the most room comes first; one that cannot take it is left out."""
    if len(options.on) <= 1:
        return options
    machines = room(options, say, quiet=quiet)
    return dataclasses.replace(options, on=machines.take()) if machines else options
