"""`scripts/attack` as somebody runs it who wants to know: all attacks, against this repository's own installation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.vm import real_cache

DRILL = Path(__file__).parents[2] / "scripts/attack"
CACHE = real_cache()


@pytest.mark.timeout(1800)  # one machine, in which a dozen attacks are played one after the other
@pytest.mark.usefixtures("cache")
def test_every_attack_is_held() -> None:
    env = os.environ | {"XDG_CACHE_HOME": str(CACHE)}
    done = subprocess.run([DRILL], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [line.split()[0] for line in done.stdout.splitlines()]
    assert set(verdicts[:-1]) == {"held"}
    listed = subprocess.run([DRILL, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(verdicts) - 1 == len(listed) > 15
