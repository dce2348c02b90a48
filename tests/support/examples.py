"""How many examples properties try here: all of them, or the part that `scripts/test` without `--all` asks for."""

from __future__ import annotations

import os

PART = float(os.environ.get("SANDBOX_TEST_EXAMPLES", "1"))


def examples(whole: int) -> int:
    return max(2, round(whole * PART))
