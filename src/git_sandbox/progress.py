"""How a caller receives progress, and the messages for the user before a session starts."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]  # one short line about what is being done now
Notice = Callable[[tuple[str, ...]], None]  # warnings for the user to read before the session begins
