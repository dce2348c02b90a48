"""How many examples properties try here: all of them, or the part that `scripts/test` without `--all` asks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")
PART = float(os.environ.get("SANDBOX_TEST_EXAMPLES", "1"))


def examples(whole: int) -> int:
    return max(2, round(whole * PART))


def some(whole: Sequence[Row]) -> Sequence[Row]:
    """Rows that are evenly spread over `whole`, the first among them."""
    return whole[:: max(1, round(1 / PART))]
