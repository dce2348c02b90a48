"""The tour as somebody takes it who presses Enter: one machine, every command it shows does what it says."""

from __future__ import annotations

from git_sandbox.cli import tour
from support.terminal import Terminal
from support.vm import SANDBOX, Sandboxes

BOOT = 200.0  # seconds
SHOWN = {
    "run": "1 commit came home",
    "ls": "uncommitted",
    "diff": "+cider",
    "merge": "HEAD",
    "drop": "`sandbox restore tour` brings it back",
    "restore": "Restored tour (stopped)",
}


def test_every_step_of_the_tour_works(boxes: Sandboxes) -> None:
    with Terminal([SANDBOX, "tour"], cwd=boxes.repo.path.parent, env=boxes.env | {"NO_COLOR": "1"}) as term:
        for step in tour.STEPS:
            term.expect("[run*, skip, quit]: ", BOOT)
            verb = step.words[0]
            term.type("s\r" if verb == "shell" else "\r")  # a second machine would show no more
            if "--wip" in step.words:
                term.expect("draft.txt", BOOT)
            elif verb != "shell":
                term.expect(SHOWN[verb], BOOT)
        term.expect("That is all.", BOOT)
        assert term.wait() == 0, term.shown()
    assert boxes.refs() == {}
