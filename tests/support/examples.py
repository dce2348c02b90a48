"""How many examples properties and how many rows tables have here: all of them, or the part that `scripts/test` without
`--all` asks for.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

Row = TypeVar("Row")
PART = float(os.environ.get("SANDBOX_TEST_EXAMPLES", "1"))
FEW = 4  # rows of a table that all stay


def examples(whole: int) -> int:
    return max(2, round(whole * PART))


def some(whole: Sequence[Row]) -> Sequence[Row]:
    """Rows that are evenly spread over `whole`, the first among them."""
    return whole[:: max(1, round(1 / PART))]


def rows(items: Sequence[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> set[pytest.Item]:
    """`items` without what is too much of the tables (parametrized tests) that are `wanted`."""
    tables: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tables[item.nodeid.partition("[")[0]].append(item)
    return {
        item for table in tables.values() for item in (some(table) if len(table) > FEW and wanted(table[0]) else table)
    }
