from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BOOTS = Path(__file__).parents[2] / "bench" / "boots"


def test_boots_under_load_answer_and_leave_nothing(cache: Path, tmp_path: Path) -> None:
    """The small number of the 200 in `docs`; the first boot of a loaded machine is what hung when something did."""
    env = dict(os.environ) | {"XDG_CACHE_HOME": str(cache)}
    told = tmp_path / "summary.json"
    words: list[str | Path] = [sys.executable, BOOTS, "--count", "3", "--load", "--json", told, "--deadline", "100"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(told.read_text())
    assert (summary["boots"], summary["hangs"], summary["leaks"], summary["load"]) == (3, [], [], True)
