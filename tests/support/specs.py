"""Machines of every shape, for what turns their description into words for a VMM."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from git_sandbox.guest.protocol import CHANNELS
from git_sandbox.vmm.machine import Disk, MachineSpec

PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="/\x7f"), min_size=1)
PATH = PLAIN.map(lambda name: Path("/d", name))
WORD = st.from_regex(r"[a-z.]{1,10}(=[a-z0-9]{1,5})?", fullmatch=True)


@st.composite
def specs(draw: st.DrawFn) -> MachineSpec:
    return MachineSpec(
        name=f"sandbox-{draw(st.from_regex(r'[a-z0-9-]{1,40}', fullmatch=True))}",
        kernel=draw(PATH), initrd=draw(PATH), cmdline=tuple(draw(st.lists(WORD, max_size=6))),
        disks=tuple(draw(st.lists(st.builds(Disk, PATH, st.booleans()), max_size=3))),
        cpus=draw(st.integers(1, 64)), memory=draw(st.integers(128, 1 << 20)), channels=CHANNELS,
    )  # fmt: skip
