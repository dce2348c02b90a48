"""The actions on the selected sandbox: a key, and the verb that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from git_sandbox.later import dataclass
from git_sandbox.tui.content import Row


class Way(Enum):
    """How a verb is run: on the terminal, beside the screen, or beside it after a question."""

    TERMINAL = "terminal"
    BESIDE = "beside"
    CONFIRMED = "confirmed"
    ANSWERED = "answered"  # with a word that the user types


@dataclass(frozen=True)
class Action:
    """`options` come before the names. `question`: of the last two ways; `value`: the option that gets the answer.
    `many`: of all that are marked.
    """

    key: str
    label: str
    verb: str
    way: Way
    help: str
    options: tuple[str, ...] = ()
    question: str = ""
    value: str = ""
    many: bool = False

    def words(self, rows: Sequence[Row], answer: str = "") -> list[str]:
        """Its command line, after `sandbox`. An answer can be no option."""
        given = [f"{self.value}={answer}"] if self.value and answer else []
        return [self.verb, *self.options, *given, *(row.id for row in rows)]


ACTIONS = (
    Action("a", "attach", "attach", Way.TERMINAL, "attach to its terminal; Ctrl-\\ detaches"),
    Action("s", "shell", "shell", Way.TERMINAL, "open a shell; starts a stopped sandbox"),
    Action("y", "sync", "sync", Way.BESIDE, "bring its current work home"),
    Action("m", "merge", "merge", Way.TERMINAL, "preview the merge, then merge"),
    Action("f", "fork", "fork", Way.ANSWERED, "copy it",
           question="Name of the copy (empty: vm-N)", value="--name"),
    Action("n", "net --allow", "net", Way.ANSWERED, "allow one more name",
           question="Allow on its network", value="--allow"),
    Action("x", "stop", "stop", Way.CONFIRMED, "stop it; its work comes home first", question="Stop", many=True),
    Action("d", "drop", "drop", Way.CONFIRMED, "move it to the trash, unless work would be lost",
           question="Move to the trash", many=True),
    Action("D", "drop --force", "drop", Way.CONFIRMED, "move it to the trash in any case",
           options=("--force",), question="Move to the trash, even what exists nowhere else,", many=True),
    Action("r", "restore", "restore", Way.BESIDE, "restore it from the trash (t shows the trash)", many=True),
    Action("v", "recover", "recover", Way.TERMINAL, "recover the work of a crashed one"),
)  # fmt: skip
BY_KEY = {action.key: action for action in ACTIONS}

# The other keys: what they do on the screen.
SCREEN_KEYS = (
    ("space", "mark it; x, d, D, r, c and g work on all marked ones"),
    ("c", "compare: conflicts among the marked ones, or all"),
    ("g", "the branch with the marked ones, or all, as a graph"),
    ("w", "select the next that waits for you, failed or crashed"),
    ("/", "search in all columns; Escape ends it"),
    ("1 to 5", "log, difference, files, network, output"),
    ("b", "show the diff side by side or in one column"),
    ("Tab", "to the page and back; Page Down, Home and End scroll"),
    ("t", "show or hide the trash"),
    ("e", "all repositories, or this one"),
    ("F5", "refresh now; otherwise every two seconds"),
    ("?", "these keys"),
    ("q", "quit; sandboxes keep running"),
)
