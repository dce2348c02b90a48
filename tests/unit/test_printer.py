"""What goes to the terminal passes `printer`: no other module prints, asks or writes to a standard stream."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import git_sandbox
from support.nasty import NASTY, leaks

SOURCE = Path(git_sandbox.__file__).parent
PRINTS = {
    "print",
    "input",
    "echo",
    "secho",
    "prompt",
    "confirm",
    "echo_via_pager",
    "launch",
    "pause",
    "clear",
    "Console",
}
STREAMS = {"sys.stdout", "sys.stderr", "sys.stdout.buffer", "sys.stderr.buffer", "to.buffer"}
OUTSIDE = {  # where else, and why that is no way around
    "cli/printer.py": "the printer",
    "cli/tables.py": "`sandbox ls` does not wait for click; passes `outgoing` itself",
    "cli/version.py": "`sandbox --version` does not wait for it either; a number of ours",
    "cli/tries.py": "lines of the guest's command: replaced on a terminal, untouched in a pipe, as `run` has them",
    "cli/choices.py": "a question once more after Ctrl-Z, inside a signal handler; passes `outgoing` itself",
    "terminal.py": "sequences of ours that take back what a guest left",
    "sandbox/remote.py": "what a command on another machine prints, to the descriptors of one here, as `run` has them",
    "sandbox/supervisor.py": "the supervisor's own log; passes `one_line`",
    "egress/__main__.py": "the proxy's own process: JSON for who started it, names of our exceptions for its log",
    "egress/authority.py": "a certificate into a file in memory",
    "protocol/ssh_proxy.py": "run by ssh, without click; passes `one_line`",
    "helpers/userns.py": "run in an empty root; who started it reads a pipe",
    "helpers/layer.py": "run in the view of a build; who started it reads a pipe",
    "helpers/flatten.py": "the same",
    "helpers/rootfs.py": "the same",
}


def ways_out(tree: ast.Module) -> list[str]:
    """Calls that print: `print(…)`, `click.echo(…)`, `sys.stderr.write(…)`, `os.write(1, …)`."""
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    return [what for call in calls if _prints(what := ast.unparse(call.func), call)]


def _prints(what: str, call: ast.Call) -> bool:
    owner, _, name = what.rpartition(".")
    if what == "os.write":
        return ast.unparse(call.args[0]) in ("1", "2", "descriptor")
    if owner in ("", "click", "rich"):
        return name in PRINTS
    return owner in STREAMS and name.startswith("write")


def test_nothing_is_printed_elsewhere() -> None:
    modules = [each for each in SOURCE.rglob("*.py") if "guest" not in each.relative_to(SOURCE).parts]
    found = {str(path.relative_to(SOURCE)): ways_out(ast.parse(path.read_bytes())) for path in modules}
    found = {name: ways for name, ways in found.items() if ways}
    # Rich draws a spinner, and a program gets lines: what they say is one line and no markup.
    assert found.pop("cli/progress.py") == ["Console", "os.write"]
    assert found.keys() == OUTSIDE.keys(), {name: ways for name, ways in found.items() if name not in OUTSIDE}


FAULT = """
import sys
from git_sandbox.cli import main
def fault(*_, **_options): raise RuntimeError(eval(sys.argv.pop()))
main._run = fault
main.main()
"""


def test_a_fault_of_ours_prints_no_name_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULT, ascii(NASTY.replace("\n", ""))], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"RuntimeError" in done.stderr
    assert leaks(done.stdout + done.stderr, terminal=False) == []
