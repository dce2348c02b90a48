"""Pictures into files, for `--svg`."""

from __future__ import annotations

from pathlib import Path

import click

from git_sandbox import files
from git_sandbox.cli.result import Result
from git_sandbox.errors import HostResourceError, UsageError
from git_sandbox.text import one_line

svg_option = click.option(
    "--svg", "svg", metavar="FILE", type=click.Path(), help="Write a picture into FILE instead; -: standard output."
)


def result(verb: str, data: object, svg: str, place: str, *, as_json: bool = False) -> Result:
    """Written, or as the text of the result. Raises HostResourceError where it cannot be written."""
    if place == "-":
        if as_json:
            raise UsageError("`--svg -` and --json both go to standard output", hint="name a file")
        return Result(verb, data, text=svg.rstrip("\n"))
    try:
        files.write(Path(place), svg.encode())
    except OSError as error:
        raise HostResourceError(f"cannot write {one_line(place, limit=300)}", cause=files.why(error)) from error
    return Result(verb, data, text=f"Wrote {one_line(place, limit=300)}")
