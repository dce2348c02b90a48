"""Memory that a guest has used and freed is this host's again."""

from __future__ import annotations

from pathlib import Path

from support.vm import Sandboxes, wait_for

USED = 400  # MiB
SCRIPT = f"b = bytearray({USED} << 20)\nfor place in range(0, len(b), 4096): b[place] = 1"


def resident(pid: int, row: str) -> int:
    """MiB."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(rows[row].split()[0]) >> 10


def test_what_a_machine_that_was_booted_frees_goes_back_to_this_host(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d", "--name", "box", "--warm", "no", "--memory", "1G")
    vmm = boxes.only_machine()
    before = resident(vmm, "VmRSS")
    boxes.ok("exec", "box", "--", "python3", "-c", SCRIPT)
    assert resident(vmm, "VmHWM") > before + USED * 3 // 4
    wait_for("memory that was freed", lambda: resident(vmm, "VmRSS") < before + USED // 4)
    boxes.ok("stop", "box")
