from __future__ import annotations

import os

import click

from git_sandbox import paths, places
from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import live


@click.command("ssh-config")
@click.argument("name", metavar="[ID]", required=False, shell_complete=common.complete_ids)
@common.json_option
def command(name: str | None, as_json: bool) -> Result:
    """Print a `Host sandbox-ID` block for a running sandbox, or for each of this repository.

    It is ssh_config(5) text: with it ssh, scp, sftp, rsync, `git fetch ssh://sandbox-ID/workspace` and editors that
    work over ssh reach the guest, without any network in it. The connection that the sandbox holds open is shared.

    Save it and name it (`ssh -F FILE`), or let ~/.ssh/config find every running sandbox: put the Include line that is
    printed first at its top. It names files below your state directory; ssh uses the sockets named there only after it
    has proved that their directory is yours alone. Two repositories may both have a vm-1: use --name to tell them
    apart.

    \b
    Examples:
      sandbox ssh-config > sandbox.conf && ssh -F sandbox.conf sandbox-vm-1
      scp -F sandbox.conf sandbox-vm-1:/workspace/report .
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    repo, ident = common.sandbox(name) if name else (common.repository(), None)
    blocks = live.ssh_configs(repo, ident)
    notes: tuple[str, ...] = () if blocks else ("No sandbox of this repository is running.",)
    root = os.path.realpath(paths.state_root())
    fault = places.fault_above(f"{root}/repository", lasting=True)
    include = "" if fault or '"' in root else f'Include "{root}/*/*/ssh_config"'
    head = f"# To find these at any time, put this at the top of ~/.ssh/config:\n# {include}"
    if not include:
        notes += (f"no Include line for ~/.ssh/config: {fault or 'the path has a quotation mark'}; see XDG_STATE_HOME",)
    text = "\n".join([*([head] if include else []), *blocks.values()])
    return Result("ssh-config", {"include": include or None, "hosts": blocks}, text=text.rstrip("\n"), notes=notes)
