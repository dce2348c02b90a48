"""The backends that the contract is tested with, and why one cannot be tested here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from git_sandbox import settings
from support.vm import SANDBOX


@dataclass(frozen=True)
class Tested:
    program: str
    process: str  # how the name of its process begins (comm has 15 characters)
    emulation: bool = False


KNOWN = {
    "qemu": Tested("qemu-system-x86_64", "qemu", emulation=True),
    "firecracker": Tested("firecracker", "firecracker"),
    "cloud-hypervisor": Tested("cloud-hypervisor", "cloud-hyper"),
}
NAMES = tuple(name for name in settings.BY_NAME["backend"].choices if name != settings.AUTO)


def missing(name: str, env: Mapping[str, str]) -> str:
    """Why `name` cannot run on this host; empty when it can."""
    tested = KNOWN[name]
    if tested.emulation:
        return ""  # the default everywhere: a host without it fails
    if shutil.which(tested.program) is None:
        return f"{name}: there is no `{tested.program}` on PATH"
    if env.get("SANDBOX_ACCELERATOR") == "kvm":
        return ""  # asked for: if it does not work, tests fail
    told = _accelerator(env)
    return "" if told.startswith("kvm") else f"{name} needs KVM; {told}"


def _accelerator(env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [SANDBOX, "doctor", "--json"], env=os.environ | dict(env), capture_output=True, check=False, timeout=120
    )
    rows = json.loads(done.stdout)["data"]
    return next(str(row["result"]) for row in rows if row["name"] == "accelerator")
