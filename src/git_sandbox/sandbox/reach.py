"""The channels of a running machine, for processes other than the one that started it.

Apart from `machines`, because a command that only talks to a machine must not wait for all that starts one.
"""

from __future__ import annotations

from git_sandbox import jsontext
from git_sandbox.errors import MachineError
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.vmm.machine import Attachment


def attachment(directory: SandboxDir, channel: str) -> Attachment:
    """How to reach a channel of a machine that another process runs. Raises MachineError when there is none."""
    try:
        known = jsontext.load(directory.channels, dict[str, Attachment])
        return known[channel]
    except (OSError, ValueError, KeyError) as error:
        raise MachineError(
            f"the machine of sandbox `{directory.root.name}` cannot be reached", cause=str(error)
        ) from error
