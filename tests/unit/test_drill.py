"""The attack drill notices what gets through: played against commands that are no `sandbox` at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

DRILL = Path(__file__).parents[2] / "scripts/attack"
CARELESS = {
    "does all it is asked for": "exit 0",
    "prints what it is given": r"""printf '%s\n' "$@"; cat sandbox.toml 2>/dev/null; printf '\033[8m\342\200\256'""",
    "ends in a traceback": "echo 'Traceback (most recent call last):' >&2; exit 1",
    "ends in a way nobody documented": "exit 99",
}


@pytest.mark.parametrize("does", CARELESS)
def test_a_careless_command_is_broken(tmp_path: Path, does: str) -> None:
    command = tmp_path / "sandbox"
    command.write_text(f"#!/bin/sh\n{CARELESS[does]}\n")
    command.chmod(0o755)
    env = os.environ | {"SANDBOX": str(command)}
    done = subprocess.run([DRILL, "--without-vm"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("BROKEN ") >= 3
    assert "held        names" not in done.stdout or does == "does all it is asked for"


def test_no_command_at_all_is_no_success(tmp_path: Path) -> None:
    env = os.environ | {"SANDBOX": str(tmp_path / "nothing")}
    done = subprocess.run([DRILL, "--without-vm"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
