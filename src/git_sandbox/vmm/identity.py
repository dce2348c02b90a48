"""What a saved machine and one restored from it must have in common: the same VMM, the same processors."""

from __future__ import annotations

from pathlib import Path

from git_sandbox import answers, process
from git_sandbox.errors import RequirementError


def program(name: str) -> str:
    """Changes whenever another `name` is installed. Raises RequirementError when none is."""
    path = process.which(name)
    if path is None:
        raise RequirementError(f"{name} is not installed", hint="run `sandbox doctor` for how to get it")
    return answers.program(path)


def processor() -> str:
    """Model and features of this host's processors: a machine saved with KVM runs on the same ones only."""
    keys = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    rows = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return " ".join(sorted({f"{name.strip()}={value}" for name, _, value in rows if name.strip() in keys}))
