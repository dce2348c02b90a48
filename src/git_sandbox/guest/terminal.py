r"""A terminal for a detached program: tmux keeps it, and everyone who attaches sees its screen.

The `sandbox` command of the guest starts this for the host and stays until the program has ended: what the program
writes goes to standard output, for the host's log, and its exit status is ours. tmux shows nothing of its own and has
one key, Ctrl-\, which detaches (as dtach and abduco have it); Shift-PageUp scrolls. No key counts as pasted, however
soon it follows another (assume-paste-time): the program would get that Ctrl-\ as SIGQUIT.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from git_sandbox.guest import protocol

NAME = protocol.TERMINAL
COLUMNS, ROWS = 120, 40  # until somebody attaches
HUNG_UP = 129  # what became of a program whose end nobody saw: 128 + SIGHUP
LOOK = 1.0  # seconds between two looks at whether it is still there
PAUSE = 0.05
CONFIGURATION = r"""
set -g prefix None
set -g prefix2 None
unbind -a
unbind -a -T root
bind -n C-\\ detach-client
bind -n S-PPage copy-mode -eu
set -g status off
set -g default-terminal tmux-256color
set -as terminal-features ",*:RGB"
set -g escape-time 10
set -g assume-paste-time 0
set -g history-limit 20000
set -g window-size latest
set -g focus-events on
set -g bell-action any
set -g visual-bell off
set -g monitor-bell on
set -g set-clipboard off
set -g allow-passthrough off
set -g set-titles on
set -g set-titles-string "#T"
set -g remain-on-exit off
set -g exit-empty on
set -g destroy-unattached off
set -g update-environment ""
"""
# $0: our directory, then the program. A signal is the program's matter: this shell stays to say how it ended.
HOLDER = f"""
trap : INT TERM HUP QUIT
read -r _ < "$0/go"
"$@"
echo $? > "$0/new"
mv "$0/new" "$0/{protocol.TERMINAL_ENDED}"
"""


def place() -> Path:
    """On a tmpfs: nothing of an earlier boot is there, or of the sandbox that this one is a fork of."""
    return Path(f"{protocol.TERMINAL_PLACE}{os.getuid()}")


def tmux(*words: str) -> list[str]:
    return ["tmux", "-u", "-L", NAME, "-f", str(place() / "tmux.conf"), *words]


def succeeds(*words: str) -> bool:
    """Whether tmux did what it was told."""
    return subprocess.run(tmux(*words), capture_output=True, check=False).returncode == 0


def run(command: list[str]) -> int:
    """The program's exit status, 128 + n when signal n killed it."""
    if shutil.which("tmux") is None:
        return refused("this image has no tmux, so there is no terminal to attach to", 127)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the program's matter, too
        signal.signal(number, lambda *_: None)
    here = prepared()
    start = tmux("new-session", "-d", "-s", NAME, "-x", str(COLUMNS), "-y", str(ROWS), "sh", "-c", HOLDER, str(here))
    done = subprocess.run([*start, *command], capture_output=True, check=False)
    if done.returncode != 0:
        return refused(f"cannot start tmux: {done.stderr[-500:].decode('utf-8', 'replace')}", 126)
    copy_output(here)
    try:
        return int((here / protocol.TERMINAL_ENDED).read_text())
    except (OSError, ValueError):
        return HUNG_UP


def refused(text: str, code: int) -> int:
    """Nothing runs: who attaches need not wait for it."""
    sys.stderr.write(f"sandbox: {text}\n")
    place().mkdir(mode=0o700, exist_ok=True)
    (place() / protocol.TERMINAL_ENDED).write_text(str(code))
    return code


def prepared() -> Path:
    """Our directory, as if there had never been one."""
    here = place()
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(mode=0o700)
    (here / "tmux.conf").write_text(CONFIGURATION)
    for name in ("go", "output"):
        os.mkfifo(here / name, 0o600)
    return here


def copy_output(here: Path) -> None:
    """What the program writes, from its first byte on, until it has ended."""
    source = os.open(here / "output", os.O_RDONLY | os.O_NONBLOCK)
    succeeds("pipe-pane", "-t", NAME, f"exec cat > '{here}/output'")
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    going, looked = False, time.monotonic()
    while True:
        events = waiting.poll(LOOK * 1000 if going else PAUSE * 1000)
        chunk = os.read(source, 65536) if events else b""
        if chunk:
            write(chunk)
            continue
        if not going:
            going = let_go(here)
        if events:  # nobody writes any more
            time.sleep(PAUSE)
        if (here / protocol.TERMINAL_ENDED).exists() or (
            time.monotonic() - looked > LOOK and not succeeds("has-session", "-t", NAME)
        ):
            drain(source)
            return
        looked = time.monotonic() if time.monotonic() - looked > LOOK else looked


def let_go(here: Path) -> bool:
    """Have the program begin, now that its output is heard. False: its shell does not wait for that yet."""
    with contextlib.suppress(OSError):
        gate = os.open(here / "go", os.O_WRONLY | os.O_NONBLOCK)
        os.write(gate, b"\n")
        os.close(gate)
        return True
    return False


def drain(source: int) -> None:
    """The rest of its output, which is on its way through tmux: until nobody writes any more, or for a while."""
    deadline = time.monotonic() + LOOK
    while time.monotonic() < deadline:
        try:
            chunk = os.read(source, 65536)
        except BlockingIOError:
            time.sleep(PAUSE)
            continue
        if not chunk:
            return
        write(chunk)


def write(chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(1, chunk) :]


def ring() -> None:
    """A bell on every terminal that is attached; nothing where there is none."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (place() / "tmux.conf").exists():
            done = subprocess.run(
                tmux("display-message", "-p", "-t", NAME, "#{pane_tty}"), capture_output=True, check=False, timeout=5
            )
            terminal = done.stdout.decode().strip()
            if done.returncode == 0 and terminal.startswith("/dev/pts/"):
                descriptor = os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
                os.write(descriptor, b"\a")
                os.close(descriptor)
