"""What stands for ssh in tests: a wire to a stand-in on a machine that is a directory. It may be cut, or not answer.

`python -m support.wire SERVER ROOT OPTIONS… -- HOST COMMAND`; SERVER starts the stand-in (`support.forks`). In
ROOT/HOST: `down` refuses connections; `cut` has the number of bytes from the worker after which the wire breaks, once,
and with `deadly` the worker is killed then, with `kills` the process that it has the number of; `variables` has lines
NAME=VALUE for the worker, `worker` gets its number; `mute` has it say nothing; `deaf` loses, once, that the result is
here, with the connection (from then on `down`, where that is its content); `sent` gets how many bytes went to it, and
`sent-PID` of each wire (not of one that enters a sandbox, whose streams are its own); `slow` makes each 64 KiB of them
take a twentieth of a second.
The worker outlives the wire, as with sshd without a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from support import forks


def _out(source: int, left: int | None) -> bool:
    """Whether all of it came through."""
    while data := os.read(source, 65536):
        part = data if left is None else data[:left]
        with contextlib.suppress(BrokenPipeError):
            while part:
                part = part[os.write(1, part) :]
        if left is not None:
            left -= len(data)
            if left <= 0:
                return False
    return True


def _in(target: int, place: Path) -> None:
    total, pause = 0, 0.05 if (place / "slow").exists() else 0
    with contextlib.suppress(BrokenPipeError):
        while data := os.read(0, 65536):
            time.sleep(pause)
            total += len(data)
            if data == b"A" + bytes(4) and (place / "deaf").exists():
                note = (place / "deaf").read_text()
                (place / "deaf").unlink()
                (place / (note or "lost")).touch()
                os._exit(255)
            for note in ("sent", f"sent-{os.getpid()}"):
                (place / note).write_text(str(total))
            while data:
                data = data[os.write(target, data) :]
    os.close(target)


def main() -> int:
    root, host = Path(sys.argv[2]), sys.argv[sys.argv.index("--") + 1]
    place = root / host
    place.mkdir(parents=True, exist_ok=True)
    if (place / "down").exists():
        sys.stderr.write(f"ssh: connect to host {host}: Connection refused\n")
        return 255
    if (place / "mute").exists():
        signal.pause()
    left = None
    with contextlib.suppress(FileNotFoundError):
        left = int((place / "cut").read_text())
        (place / "cut").unlink()
    more = {}
    with contextlib.suppress(FileNotFoundError):
        more = dict(line.split("=", 1) for line in (place / "variables").read_text().splitlines())
    env = {**os.environ, **more, "STANDIN_ROOT": str(place), "STANDIN_WIRE": str(os.getpid())}
    if (visit := re.search(r"--enter ([0-9a-f]+)", sys.argv[-1])) is not None:
        assert ("-tt" in sys.argv) == os.isatty(0)
        os.execve(sys.executable, [sys.executable, "-m", "support.standin", "--enter", visit[1]], env)  # noqa: S606
    stdin, to_worker = os.pipe()
    from_worker, stdout = os.pipe()
    child = forks.start(Path(sys.argv[1]), ["standin"], env, stdin=stdin, stdout=stdout)
    os.close(stdin)
    os.close(stdout)
    (place / "worker").write_text(str(child.pid))
    threading.Thread(target=_in, args=(to_worker, place), daemon=True).start()
    deadly = (place / "deadly").exists()
    if not _out(from_worker, left):
        if (place / "kills").exists():
            os.kill(int((place / "kills").read_text()), signal.SIGKILL)
            os._exit(255)
        if deadly:
            (place / "deadly").unlink()
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        sys.stderr.write("client_loop: send disconnect: Broken pipe\n")
        os._exit(255)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
