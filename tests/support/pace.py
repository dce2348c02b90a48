"""How much longer than usual everything may take here: the lab sets it (`tests/support/lab/plan.py`)."""

from __future__ import annotations

import os

SLOWNESS = float(os.environ.get("SANDBOX_TEST_SLOWNESS", "1"))
