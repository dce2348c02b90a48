"""`sandbox run`: streams, exit codes, and the machine a user finds himself in."""

from __future__ import annotations

import hashlib
import os
import random

import pytest

from support.vm import Sandboxes

IDENTITY = """
id -un; id -u; id -g; sudo -n id -u; git config user.name; git config user.email; echo "$LANG"; date +%Z; hostname
git rev-parse --show-toplevel; test -w . && touch probe && rm probe && echo writable
"""


@pytest.mark.contract
def test_streams_are_passed_byte_for_byte_and_kept_apart(boxes: Sandboxes) -> None:
    data = random.Random(1).randbytes(5 << 20)
    script = "cat > /tmp/in; cat /tmp/in; tail -c 3000000 /tmp/in >&2; sha256sum < /tmp/in | cut -c1-64 | tr -d '\\n'"
    # As an editor starts an agent that speaks to it over standard input and output (docs/how-to/agent.md).
    done = boxes.run("run", "-T", "--agent", "shell", "--", f"{script}; exit 3", input=data)
    assert done.code == 3
    assert done.out == data + hashlib.sha256(data).hexdigest().encode()
    assert done.err.startswith(data[-3_000_000:])
    assert done.err[3_000_000:].startswith(
        b"Only on the sandbox's disk, until you drop it: 1 outside the workspace (/tmp/in)"
    )
    assert ([each.name for each in boxes.directories()], boxes.trash()) == (["vm-1"], [])


@pytest.mark.parametrize(("script", "code"), [("exit 1", 1), ("kill -9 $$", 137), ("exit 255", 255)])
def test_exit_code_is_the_commands(boxes: Sandboxes, script: str, code: int) -> None:
    done = boxes.run("run", "--", "sh", "-c", script)
    assert (done.code, done.text) == (code, "")


def test_guest_is_the_users_machine(boxes: Sandboxes) -> None:
    boxes.repo.write("sub/dir/file")
    boxes.repo.commit("sub", {"sub/dir/file": "x\n"})
    boxes.env |= {"TZ": "Asia/Tokyo", "LANG": "C.UTF-8"}
    path = boxes.repo.path
    script = f"pwd; cat {path}/README; cmp {path}/.git/HEAD /workspace/.git/HEAD && cd /workspace && {IDENTITY}"
    done = boxes.run("run", "--name", "my-box", "--", "sh", "-ec", script, cwd=path / "sub" / "dir")
    assert done.code == 0, done.said
    assert done.text.splitlines() == [
        "/workspace/sub/dir", "hello", *expected_user(), "0", "Test User", "test@example.com", "C.UTF-8", "JST",
        "my-box", "/workspace", "writable",
    ]  # fmt: skip


def expected_user() -> list[str]:
    import pwd

    return [pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()), str(os.getgid())]


@pytest.mark.smoke
def test_json_envelope_carries_what_came_home(boxes: Sandboxes) -> None:
    done = boxes.sh("echo from-guest; git commit -q --allow-empty -m inside; echo dirty > new", "--json")
    found = done.envelope
    assert (found["command"], found["status"]) == ("run", "ok")
    data = found["data"]
    assert (data["id"], data["exit_code"], data["changed"], data["rescued"]) == ("vm-1", 0, True, False)
    ours = ("refs/sandbox-base/vm-1", "refs/sandbox-meta/vm-1")
    assert data["refs"] == {name: value for name, value in boxes.refs().items() if name not in ours}
    assert done.said == "from-guest\n"  # standard output of the command, out of the way of the JSON
    for verb, *rest in (["ls"], ["log", "vm-1"], ["diff", "vm-1"], ["merge", "--dry-run", "vm-1"], ["config"]):
        told = boxes.ok(verb, *rest, "--json").envelope
        assert (told["command"], told["status"]) == (verb, "ok")
    refused = boxes.run("drop", "vm-1", "--json")
    assert (refused.code, refused.envelope["errors"][0]["kind"]) == (17, "state")
