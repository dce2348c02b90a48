"""The backends that the contract is tested with, and why one cannot be tested here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping

from git_sandbox.errors import RequirementError
from git_sandbox.idspace import IdSpace
from git_sandbox.vmm import virtiofs
from git_sandbox.vmm.backends import BY_NAME, InstalledBackend
from support.vm import SANDBOX

NAMES = tuple(BY_NAME)
DEFAULT = NAMES[0]
ON_SHARE = "-share"  # behind the name of a backend that is tested with `--transport share`
SHARING = tuple(f"{name}{ON_SHARE}" for name, kind in BY_NAME.items() if kind.capabilities.share)


def process(name: str) -> str:
    """What the kernel calls a process of that VMM (`comm`)."""
    return BY_NAME[name].program[:15]


def absent(name: str) -> str:
    """Why this host has not got it; empty when it has. Without the default one tests fail instead."""
    kind = BY_NAME[name]
    return "" if name == DEFAULT else InstalledBackend(kind, kind.version()).problem


def unshared() -> str:
    """Why nothing can be shared here; empty when it can."""
    try:
        virtiofs.choose(virtiofs.look())
        IdSpace.ours()
    except RequirementError as error:
        return f"{error.message}: {error.cause}"
    return ""


def unproved(name: str, env: Mapping[str, str]) -> str:
    """Why it does not run here, asked of `sandbox doctor`; empty when it does."""
    if BY_NAME[name].capabilities.emulation or env.get("SANDBOX_ACCELERATOR") == "kvm":
        return ""  # KVM that was asked for and does not work fails the tests
    words = [os.fspath(SANDBOX), "doctor", "--json"]
    env = os.environ | dict(env) | {"SANDBOX_BACKEND": name}
    done = subprocess.run(words, env=env, capture_output=True, check=False, timeout=120)
    row = next(row for row in json.loads(done.stdout)["data"] if row["name"] == "accelerator")
    return "" if row["verdict"] == "ok" else str(row["result"])
