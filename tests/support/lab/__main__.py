"""`scripts/lab`: see its help."""

from __future__ import annotations

import argparse
import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from git_sandbox.cli.progress import shown
from git_sandbox.errors import Interrupted, SandboxError
from git_sandbox.signals import signals_raise
from support.lab import disk, machine, plan
from support.lab.machine import Listener, Size
from support.lab.plan import Event, Plan

HELP = """Run the VM tests on a real KVM, inside a machine that QEMU emulates. Needs no KVM and no root.

  scripts/lab [OPTION …] [-- PYTEST ARGUMENT …]   the contract tests, or what the arguments choose
  scripts/lab [OPTION …] run -- COMMAND …         one command as root in the lab; its exit code is passed on
  scripts/lab [OPTION …] shell                    a shell as root in the lab

The lab holds a copy of this working tree, the guest image, and those of firecracker, cloud-hypervisor,
ch-remote and virtiofsd that are on PATH. What happens in it is gone when it ends; results of failed tests are kept in
test-results/lab.
"""


def options(words: list[str]) -> argparse.Namespace:
    own, _, rest = (words, "", []) if "--" not in words else _split(words)
    parser = argparse.ArgumentParser(
        prog="scripts/lab", usage="%(prog)s [OPTION …] [run | shell] [-- ARGUMENT …]", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", nargs="?", choices=("test", "run", "shell"), default="test", help=argparse.SUPPRESS)
    parser.add_argument("--cpus", type=int, default=Size.cpus, help="processors of the lab (%(default)s)")
    parser.add_argument("--memory", type=int, default=Size.memory, help="its memory in MiB (%(default)s)")
    parser.add_argument("--workers", type=int, default=plan.WORKERS, help="tests at a time (%(default)s)")
    parser.add_argument("--deadline", type=float, default=3600.0, help="seconds for all of it (%(default)g)")
    parser.add_argument("--repository", type=Path, default=disk.REPOSITORY, help="tree to test instead of this one")
    found = parser.parse_args(own)
    found.rest = rest
    if found.what == "run" and not rest:
        parser.error("run what? scripts/lab run -- COMMAND …")
    if found.what == "shell" and not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("a shell needs a terminal")
    return found


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    at = words.index("--")
    return words[:at], "--", words[at + 1 :]


def planned(found: argparse.Namespace) -> Plan:
    if found.what == "run":
        return plan.command(found.rest)
    if found.what == "shell":
        size = os.get_terminal_size()
        return plan.shell(size.lines, size.columns, os.environ.get("TERM", "dumb"))
    return plan.pytest(found.rest or plan.CHOSEN, workers=found.workers)


@contextmanager
def terminal_kept() -> Iterator[None]:
    """QEMU makes the terminal raw, and gives it back only when it ends in order."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def main(words: list[str]) -> int:
    found = options(words)
    with terminal_kept(), signals_raise(), shown(quiet=False) as progress:

        def event(heard: Event) -> None:
            if heard.event == "ready":
                progress("")
                sys.stderr.write("".join(f"{name:20} {value}\n" for name, value in heard.facts.items()))

        def output(data: bytes) -> None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

        done = machine.run(
            planned(found), Size(found.cpus, found.memory), Listener(progress, event, output),
            deadline=found.deadline, repository=found.repository,
            keep=found.repository / "test-results" / "lab" if found.what == "test" else None,
        )  # fmt: skip
    sys.stderr.write(f"The lab ran for {done.seconds:g} s.\n")
    return done.code


def guarded() -> int:
    try:
        return main(sys.argv[1:])
    except SandboxError as error:
        parts = (("error", error.message), ("cause", error.cause), ("hint", error.hint))
        sys.stderr.write("".join(f"{name}: {text}\n" for name, text in parts if text))
        return error.exit_code
    except Interrupted as signal:
        return signal.exit_code


if __name__ == "__main__":
    sys.exit(guarded())
