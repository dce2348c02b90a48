"""Several sandboxes of one repository: side by side, one from the disk of another, none disturbing the next."""

from __future__ import annotations

import os
import signal

from support.vm import Sandboxes, wait_for

TASK = """
echo "try $SANDBOX_INDEX of $SANDBOX_COUNT"; echo loud >&2
echo "$SANDBOX_INDEX" > answer; git add answer; git commit -qm "try $SANDBOX_INDEX"
[ "$SANDBOX_INDEX" = 1 ] || exit 0
sync; sudo poweroff -f; sleep 60
"""


def test_three_tries_one_of_which_breaks_down(boxes: Sandboxes) -> None:
    done = boxes.run("run", "--count", "3", "--name", "try", "--", "sh", "-ec", TASK)
    assert sorted(done.text.splitlines()) == [f"try-{n} | try {n} of 3" for n in (1, 2, 3)]
    assert sorted(line for line in done.said.splitlines() if line.endswith("| loud")) == [
        f"try-{n} | loud" for n in (1, 2, 3)
    ]
    assert done.code in (13, 14), "that of the one that broke down"
    for number in (1, 2, 3):
        assert boxes.repo.git("show", f"refs/sandbox/try-{number}:answer") == str(number)
    assert {row["state"] for row in boxes.listed().values()} == {"stopped"}
    found = boxes.ok("compare", "--json").envelope["data"]
    assert {frozenset((pair["one"], pair["other"])) for pair in found["pairs"]} == {
        frozenset(f"try-{each}" for each in two) for two in ((1, 2), (1, 3), (2, 3))
    }
    check = "git log --format=%s; git status --short; cat answer"
    (best,) = boxes.ok("compare", "--best", check, "try-2", "--json").envelope["data"]
    assert (best["ids"], best["exit_code"], best["score"]) == (["try-2"], 0, 2.0)
    assert best["output"].splitlines() == ["try 2", "first", "2"]
    taken = boxes.run("run", "--count", "2", "--name", "try", "--", "true")
    assert taken.code == 17, taken.said
    small = boxes.run("run", "--count", "64", "--memory", "900G", "--json", "--", "true")
    assert small.code == 18
    assert small.envelope["errors"][0]["cause"] == "nothing was started"
    assert len(boxes.listed()) == 3


PREPARE = "sudo sh -c 'echo tool > /usr/local/tool'; echo 1 > prepared; git add prepared; git commit -qm prepared"
BUSY = "(while :; do head -c 100000 /dev/urandom > noise; done) >/dev/null 2>&1 &"
LOOK = 'cat /usr/local/tool; hostname; git log --format=%s; git fsck --no-dangling; git commit -qm "try" --allow-empty'


def test_forks_of_a_running_and_of_a_stopped_sandbox(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d", "--name", "origin")
    boxes.ok("exec", "origin", "--", "sh", "-ec", f"{PREPARE}; {BUSY}")
    done = boxes.run("run", "--from", "origin", "--count", "2", "--json", "--", "sh", "-ec", LOOK)
    tries = done.envelope["data"]
    assert [each["exit_code"] for each in tries] == [0, 0], done.said
    for each in tries:
        name = each["id"]
        said = [line.split("| ")[1] for line in done.said.splitlines() if line.startswith(name) and "| " in line]
        assert said == ["tool", name, "prepared", "first"]
        assert boxes.repo.git("log", "--format=%s", f"sandbox/{name}").split() == ["try", "prepared", "first"]
    assert boxes.listed()["origin"]["state"] == "running"
    boxes.ok("stop", "origin")
    boxes.ok("fork", "origin", "--name", "copy")
    mine = {name.replace("/copy", "/origin"): value for name, value in boxes.refs().items() if "/copy" in name}
    theirs = {name: value for name, value in boxes.refs().items() if "/origin" in name}
    meta = "refs/sandbox-meta/origin"
    assert mine | {meta: ""} == theirs | {meta: ""}
    assert mine[meta] != theirs[meta]
    assert boxes.run("drop", "copy").code == 17, "its commit is on no branch"
    boxes.ok("drop", "--force", "origin")
    boxes.ok("recover", "copy")
    boxes.ok("merge", "--yes", "copy")
    assert boxes.repo.git("log", "-1", "--format=%s") == "prepared"
    assert boxes.run("fork", "nobody").code == 17


def test_a_sandbox_whose_supervisor_was_killed_is_taken_over(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d", "--auto-push")
    boxes.ok("exec", "vm-1", "--", "git", "commit", "-qm", "inside", "--allow-empty")
    wait_for("the commit to come home by itself", lambda: "refs/sandbox/vm-1" in boxes.refs())
    boxes.ok("exec", "vm-1", "--", "sh", "-ec", "sandbox status; echo loose > loose; sync")
    os.kill(boxes.supervisor("vm-1"), signal.SIGKILL)
    wait_for("the machine to die with it", lambda: not boxes.processes(), 15)
    assert boxes.run("shell", "vm-1", "--json").code == 2, "a shell needs a terminal"
    said = boxes.ok("shell", "vm-1", "--detach").said
    assert "came home before the restart" in said
    assert boxes.repo.git("log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:loose") == "loose"
    assert boxes.ok("exec", "vm-1", "--", "cat", "loose").text == "loose\n"
    boxes.ok("stop", "vm-1")


def test_the_starter_of_tries_is_told_to_end(boxes: Sandboxes) -> None:
    """SIGTERM and SIGKILL alike: every one brings its work home."""
    script = "git commit -qm inside --allow-empty; echo up; sleep 600"
    with boxes.started("run", "--count", "2", "--", "sh", "-ec", script) as child:
        assert child.stdout is not None
        assert sorted(child.stdout.readline() for _ in range(2)) == [b"vm-1 | up\n", b"vm-2 | up\n"]
        child.kill()
        child.wait()
        wait_for("everybody to end", lambda: not boxes.processes())
    for name in ("vm-1", "vm-2"):
        assert boxes.repo.git("log", "-1", "--format=%s", f"sandbox/{name}") == "inside"
    assert {row["state"] for row in boxes.listed().values()} == {"stopped"}
