"""The guest's terminal for detached programs, with the real tmux of this host: nothing is lost, and its end is told."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from git_sandbox import session
from git_sandbox.guest import processes, protocol
from git_sandbox.guest import terminal as guest_terminal
from support.terminal import Terminal

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from git_sandbox.guest import protocol, terminal
terminal.NAME, protocol.TERMINAL_PLACE = sys.argv[2], sys.argv[3]
sys.exit(terminal.run(sys.argv[4:]))
"""
SOURCE = Path(session.__file__).parents[1]
WITHIN = 120.0  # seconds; a busy machine takes a while to start three programs


@dataclass
class Held:
    """A server of tmux of our own, with a name that no other test has."""

    place: str
    name: str = field(default_factory=lambda: f"sandbox-test-{uuid.uuid4().hex[:12]}")

    @property
    def directory(self) -> Path:
        return Path(f"{self.place}{os.getuid()}")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", DRIVER, str(SOURCE), self.name, self.place, *command]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ran(self, *command: str) -> tuple[int, bytes]:
        with self.start(*command) as child:
            out, err = child.communicate(timeout=WITHIN)
        assert err == b""
        return child.returncode, out

    def tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self.name, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def attach(self) -> Terminal:
        """What the host has the guest's shell do."""
        script = session._ATTACH.replace(protocol.TERMINAL_PLACE, self.place)
        script = re.sub(r"(-[Lt]) sandbox\b", rf"\1 {self.name}", script)
        assert script.count(self.name) == 2
        return Terminal(["bash", "-c", script], cwd=Path("/"), env={**os.environ, "TERM": "xterm-256color"})


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(str(tmp_path / "terminal-"))
    yield made
    made.tmux("kill-server")


def test_all_of_the_output_and_the_exit_code_come_through(held: Held) -> None:
    code, out = held.ran("sh", "-c", "echo first; exit 3")
    assert (code, out.startswith(b"first")) == (3, True)
    code, out = held.ran("sh", "-c", "seq 20000; tty; kill -TERM $$")
    lines = out.replace(b"\r", b"").split(b"\n")
    assert lines[:20000] == [b"%d" % number for number in range(1, 20001)]
    assert lines[20000].startswith(b"/dev/pts/")
    assert code == 143
    code, out = held.ran("printf", "%s|", "a b", "$HOME", "'", "")
    assert (code, out) == (0, b"a b|$HOME|'||")
    assert held.ran("/no/such/program")[0] == 127


def test_somebody_comes_and_goes_and_comes_again(held: Held) -> None:
    script = 'trap "echo hup" HUP; read -r one; echo "got-$one"; read -r two; echo "got-$two"; exit 7'
    with held.start("sh", "-c", f"echo ready-$((1 + 1)); {script}") as child:
        with held.attach() as term:
            term.expect("ready-2", WITHIN)
            term.type("alpha\r")
            term.expect("got-alpha", WITHIN)
            with held.attach() as second:  # beside the first one, with the screen as it is
                second.expect("got-alpha", WITHIN)
                second.hang_up()
            term.type("\x1c")
            assert term.wait() == protocol.GOES_ON, term.shown()
        assert child.poll() is None
        with held.attach() as term:
            term.expect("got-alpha", WITHIN)
            term.type("beta\r")
            assert term.wait() == 0, term.shown()
        out, _ = child.communicate(timeout=WITHIN)
    assert child.returncode == 7
    assert b"got-beta" in out
    assert b"hup" not in out
    with held.attach() as term:  # it has ended: nobody waits for one that will not come
        assert term.wait() == 0


def test_the_key_that_detaches_does_so_however_soon_it_follows_another(held: Held) -> None:
    """As over a slow network, which delivers both at once."""
    script = 'trap "echo killed" QUIT; echo ready-$((1 + 1)); read -r one; echo "got-$one"'
    with held.start("sh", "-c", script) as child:
        for word in ("a", "b", "c"):
            with held.attach() as term:
                term.expect("ready-2", WITHIN)
                term.type(f"{word}\x1c")
                assert term.wait() == protocol.GOES_ON, term.shown()
        with held.attach() as term:
            term.type("\r")
            assert term.wait() == 0, term.shown()
        out, _ = child.communicate(timeout=WITHIN)
    assert b"got-abc" in out
    assert b"killed" not in out


def test_signals_are_for_the_program_alone(held: Held) -> None:
    script = 'trap "echo saved; exit 5" TERM; echo up-$((1 + 1)); while :; do sleep 0.1; done'
    with held.start("sh", "-c", script) as child:
        with held.attach() as term:
            term.expect("up-2", WITHIN)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                child.send_signal(number)
            term.type("\x1c")
            assert term.wait() == protocol.GOES_ON
        program = int(held.tmux("display-message", "-p", "-t", held.name, "#{pane_pid}"))
        everybody = processes.everybody().values()
        holder = next(each for each in everybody if each.pid == processes.look(program).parent)  # type: ignore[union-attr]
        assert holder.name in processes.HOLDERS, "ask() would end it, and with it the program's terminal"
        for each in [each for each in everybody if each.session == program]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGTERM)
        out, _ = child.communicate(timeout=WITHIN)
    assert (child.returncode, out.replace(b"\r", b"").strip().endswith(b"saved")) == (5, True)


def test_a_terminal_that_is_taken_away_ends_the_wait(held: Held) -> None:
    with held.start("sh", "-c", "echo up-$((1 + 1)); exec sleep 600") as child:
        with held.attach() as term:
            term.expect("up-2", WITHIN)
            program = int(held.tmux("display-message", "-p", "-t", held.name, "#{pane_pid}"))
            held.tmux("kill-server")
            assert term.wait() == 0
        child.communicate(timeout=WITHIN)
        for each in [each for each in processes.everybody().values() if each.session == program]:
            with contextlib.suppress(ProcessLookupError):  # it may take no notice of the hang-up
                os.kill(each.pid, signal.SIGKILL)
    assert child.returncode == guest_terminal.HUNG_UP


def test_an_image_without_tmux_says_so_and_nobody_waits(
    held: Held, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "TERMINAL_PLACE", held.place)
        patch.setenv("PATH", "/nowhere")
        assert guest_terminal.run(["true"]) == 127
    assert "no tmux" in capsys.readouterr().err
    with held.attach() as term:
        assert term.wait() == 0
