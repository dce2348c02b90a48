"""The example of the documentation, with real machines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support.vm import Sandboxes

PAGE = Path(__file__).parents[2] / "docs/how-to/python.md"


def test_the_example_works(boxes: Sandboxes) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=boxes.repo.path, env=boxes.env, capture_output=True, text=True,
        check=False, timeout=280,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    first, head, subjects = done.stdout.splitlines()[0], done.stdout.splitlines()[-2], done.stdout.splitlines()[-1]
    assert first == "vm-1 0 done"
    assert head == boxes.repo.git("rev-parse", "main")
    assert subjects == "['two', 'one']"
    assert boxes.repo.read("answer") == b"1\n2\n"
    assert (boxes.refs(), boxes.listed()) == ({}, {})
