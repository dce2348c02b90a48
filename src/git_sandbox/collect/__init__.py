"""Import what a guest sent into the user's repository, below `refs/sandbox*/` only, or refuse it without a trace.

The pack is unpacked in a throw-away repository, examined there, and only then fetched (`quarantine`,
docs/adr/0014).
"""

from git_sandbox.collect.collect import Collected, collect, known_objects
from git_sandbox.collect.quarantine import CollectLimits

__all__ = ["CollectLimits", "Collected", "collect", "known_objects"]
