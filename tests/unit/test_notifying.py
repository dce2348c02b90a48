"""A guest says that it waits: the host writes it down and tells its user, and obeys nothing in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox import record as noted
from git_sandbox.background import Beside
from git_sandbox.errors import CollectError, UsageError
from git_sandbox.guest import protocol
from git_sandbox.record import Activity, Record
from git_sandbox.sandbox import guest_requests, notifying
from git_sandbox.sandbox.guest_requests import Request
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.setting_values import command_words
from git_sandbox.store import SandboxHandle
from git_sandbox.text import one_line
from support.examples import examples

RECORD = Record(
    id="vm-1", worktree="/here", git_dir="", common_dir="", object_format="sha1", created=0.0, base=None,
    base_symref=None, snapshot="", index_tree=None, backend="qemu", image="", cpus=1, memory=512, net="none",
    agent="claude",
)  # fmt: skip
MARK = Path(f"/tmp/git-sandbox-test-{os.getpid()}")
HOSTILE = f"done\n\x1b]0;title\x07\x1b[2J$(touch {MARK})`id`; rm -rf ~ \u202e --option\x00 '\" & <b>"


def box(root: Path) -> SandboxHandle:
    return SandboxHandle(None, "vm-1", SandboxDir(root))  # type: ignore[arg-type]


def test_what_a_guest_says_is_kept_clean_and_short(tmp_path: Path) -> None:
    guest_requests._state(box(tmp_path), RECORD, Request("state", "waiting", HOSTILE * 100), ())
    found = noted.activity(SandboxDir(tmp_path))
    assert found is not None
    assert found.state == "waiting"
    assert found.message == one_line(HOSTILE * 100)
    assert found.message.isprintable()
    assert len(found.message) <= 200
    with pytest.raises(CollectError):
        guest_requests._state(box(tmp_path), RECORD, Request("state", "running\x1b"), ())


@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(["", *protocol.STATES, "x"]), st.text(max_size=300))
def test_every_request_about_a_state_is_answered(
    tmp_path_factory: pytest.TempPathFactory, state: str, text: str
) -> None:
    place = tmp_path_factory.mktemp("box")
    verbs: dict[str, guest_requests.Verb] = {
        protocol.STATE: lambda request: guest_requests._state(box(place), RECORD, request, ())
    }
    line = json.dumps({"op": "state", "state": state, "message": text}).encode()
    answer = guest_requests._answer(line, verbs)
    assert answer["ok"] is (state in protocol.STATES)
    assert (noted.activity(SandboxDir(place)) is not None) is answer["ok"]


def test_the_command_gets_text_by_environment_and_input_never_by_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told_of = "[sys.argv[1:], dict(os.environ), json.load(sys.stdin)]"
    script = f"import json, os, sys; json.dump({told_of}, open(sys.argv[1], 'w'))"
    command = (sys.executable, "-c", script, str(out))
    notifying.ended(command, RECORD, 0)
    argv, environ, told = json.loads(out.read_text())
    assert (argv, environ["SANDBOX_STATE"], told["SANDBOX_MESSAGE"]) == ([str(out)], "done", "exit 0")
    notifying._run(command, RECORD, Activity("waiting", HOSTILE))
    argv, environ, told = json.loads(out.read_text())
    assert argv == [str(out)]
    assert environ["SANDBOX_MESSAGE"] == told["SANDBOX_MESSAGE"] == one_line(HOSTILE)
    assert {environ["SANDBOX_ID"], environ["SANDBOX_AGENT"], environ["SANDBOX_REPOSITORY"]} == {
        "vm-1",
        "claude",
        "/here",
    }
    assert not MARK.exists()


def test_a_command_that_fails_hurts_nobody() -> None:
    notifying.ended(("/no/such/command",), RECORD, 1)
    notifying.ended(("false",), RECORD, 1)
    notifying.ended((), RECORD, 1)


def test_the_desktop_gets_no_option_and_no_markup() -> None:
    words = notifying.argv((notifying.DESKTOP,), RECORD, Activity("waiting", "--icon=x <b>&"))
    assert words == ["notify-send", "--app-name=sandbox", "--", "sandbox vm-1: waiting", "--icon=x &lt;b&gt;&amp;"]
    tricky = notifying.argv((notifying.DESKTOP,), RECORD, Activity("waiting", r"\74b\76 \\74 \n"))[-1]
    assert tricky == r"\\74b\\76 \\\\74 \\n", "libnotify's g_strcompress finds backslashes, and no escape"
    assert notifying.argv(("say", "x"), RECORD, Activity("done")) == ["say", "x"]


def test_who_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / notifying.DESKTOP
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    desktop = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}
    assert notifying.command("auto", desktop, agent=True) == (notifying.DESKTOP,)
    assert notifying.command("auto", desktop, agent=False) == ()
    assert notifying.command("auto", {}, agent=True) == ()
    assert notifying.command("auto", {"XDG_RUNTIME_DIR": f"/{'x' * 300}"}, agent=True) == ()
    (tmp_path / "bus").touch()
    assert notifying.command("auto", {"XDG_RUNTIME_DIR": str(tmp_path)}, agent=True) == (notifying.DESKTOP,)
    assert notifying.command("no", desktop, agent=True) == ()
    assert notifying.command("tell 'a b' $X", desktop, agent=False) == ("tell", "a b", "$X")
    for bad in ("./mine", "scripts/x", "'open"):
        with pytest.raises(UsageError):
            command_words(bad)


def test_nobody_hears_that_somebody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr(notifying, "Beside", begun.append)
    notifying.tell(("true",), RECORD, Activity("working"))
    notifying.tell((), RECORD, Activity("waiting"))
    assert begun == []
    notifying.tell(("true",), RECORD, Activity("waiting"))
    assert len(begun) == 1


def test_the_end_is_told_however_much_the_guest_said_before(tmp_path: Path) -> None:
    """Commands of the user's that take their time have all places; the word after them is left out, the end waits."""
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    os.mkfifo(gate)
    script = f'[ $SANDBOX_STATE = waiting ] && read -r _ < {gate}; echo "$SANDBOX_STATE $SANDBOX_MESSAGE" >> {mark}'
    command = ("sh", "-c", script)
    begun = [Beside(lambda: notifying._run(command, RECORD, Activity("waiting", "x"))) for _ in range(4)]
    while notifying._BUSY._value:  # until all four have their place
        time.sleep(0.01)
    notifying._run(command, RECORD, Activity("failed", "left out"))
    end = Beside(lambda: notifying.ended(command, RECORD, 0))
    while any(thread.is_alive() for thread in (each._thread for each in begun)):
        with contextlib.suppress(OSError):
            handle = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            os.write(handle, b"\n" * 4)
            os.close(handle)
        time.sleep(0.01)
    end.result()
    assert sorted(mark.read_text().splitlines()) == ["done exit 0", *["waiting x"] * 4]


def test_the_guests_command_refuses_what_the_host_would(tmp_path: Path) -> None:
    program = Path(guest_requests.__file__).parents[1] / "guest/sandbox"
    for words in (["status", "set"], ["status", "set", "busy"], ["status", "get", "done"]):
        done = subprocess.run([sys.executable, "-I", program, *words], capture_output=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert b"working, waiting, done, failed" in done.stderr


def test_a_record_of_activity_that_is_damaged_is_as_good_as_none(tmp_path: Path) -> None:
    for content in (b"", b"{", b'{"state": 1}', b"\xff"):
        SandboxDir(tmp_path).activity.write_bytes(content)
        assert noted.activity(SandboxDir(tmp_path)) is None
    noted.note_activity(SandboxDir(tmp_path), Activity("done", "x", 1.0))
    assert noted.activity(SandboxDir(tmp_path)) == msgspec.structs.replace(Activity("done", "x"), since=1.0)
