"""What idle sandboxes hold of this host's memory: PSS of all of their processes, by program.

    bench/density.py [--count 4]        in a repository of its own; a table, and how many 8 GiB hold

PSS counts a page that several processes map in parts (proc(5), smaps_rollup), so a sum over all of them counts each once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file

import guests
import samples
from report import Pairs

IDLE = 5  # seconds until a guest has nothing left to do
CROWD, MOST, ROOM = 8, 30, 8 << 10  # sandboxes of the row; sandboxes that are to fit, and MiB for them


def held(where: Path, count: int) -> Counter[str]:
    """MiB by program, of `count` idle warm sandboxes together."""
    guests.made_warm(where)
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(guests.detached(where, f"idle-{count}-{number}")) for number in range(count)]
        time.sleep(IDLE)
        found: Counter[str] = Counter()
        for name in names:
            (record,) = Path(os.environ["XDG_STATE_HOME"]).glob(f"git-sandbox/*/{name}/record.json")
            supervisor = Path("/proc", str(json.loads(record.read_bytes())["pid"]))
            found["supervisor"] += _pss(supervisor)
            for process in guests.below(int(supervisor.name)):
                with contextlib.suppress(OSError):  # ended meanwhile
                    found[(process / "comm").read_text().strip()] += _pss(process)
        return Counter({program: size >> 10 for program, size in found.items()})


def _pss(process: Path) -> int:
    """KiB."""
    rows = dict(line.split(":", 1) for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    return int(rows["Pss"].split()[0])


def row(where: Path) -> Pairs:
    """MiB of a crowd, and what that crowd may have of the room for all."""
    return [(sum(held(where, CROWD).values()), ROOM * CROWD / MOST)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4)
    options = parser.parse_args()
    guests.compiled()
    with tempfile.TemporaryDirectory(prefix="density-") as scratch:
        os.environ["XDG_STATE_HOME"] = f"{scratch}/state"
        place = samples.make(Path(scratch), 1, 0)
        few, many = held(place, 1), held(place, options.count)
    print("| Program | MiB of one | of", options.count, "|\n| --- | --: | --: |")
    for program, size in many.most_common():
        print(f"| {program} | {few[program]} | {size} |")
    one, all_of_them = few.total(), many.total()
    more = (all_of_them - one) / (options.count - 1)
    print(
        f"\nEach one more: {more:.0f} MiB. {ROOM} MiB hold {1 + (ROOM - one) / more:.0f}; {MOST} take {one + (MOST - 1) * more:.0f}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
