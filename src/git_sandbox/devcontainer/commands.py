"""The lifecycle commands of a devcontainer, in their three forms: a shell line, a list of words, or several at once."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from git_sandbox.devcontainer.model import STAGES, Command, Devcontainer
from git_sandbox.devcontainer.variables import Replaced

ONCE = ("onCreateCommand", "updateContentCommand", "postCreateCommand")  # in a new sandbox only
EVERY_START = ("postStartCommand", "postAttachCommand")
DEFAULT_WAIT = "postStartCommand"  # as `devcontainer up`: nobody begins to work in a half-made machine


class Stage(msgspec.Struct, frozen=True):
    """`words`: one command for the guest. `waited`: whether the session waits for its end."""

    name: str
    words: tuple[str, ...]
    waited: bool


def stages(file: Devcontainer, replaced: Replaced) -> tuple[Stage, ...]:
    """In the order in which they run; what runs on the host (initializeCommand) is not among them.

    `replaced`: puts in the variables.
    """
    commands = []
    for name in (*ONCE, *EVERY_START):
        words = spoken(getattr(file, attribute(name)), replaced)
        if words:
            commands.append(Stage(name, words, waited=waited(name, file.wait_for)))
    return tuple(commands)


def waited(name: str, wait_for: str) -> bool:
    """Whether a session waits for the end of that stage."""
    return STAGES.index(name) <= STAGES.index(wait_for if wait_for in STAGES else DEFAULT_WAIT)


def merged(first: Sequence[tuple[str, Command]], own: Sequence[Stage], wait_for: str) -> tuple[Stage, ...]:
    """Commands of features, each before the file's own of the same stage."""
    stages = [Stage(name, spoken(command, str), waited(name, wait_for)) for name, command in first]
    both = [*(stage for stage in stages if stage.words), *own]
    return tuple(sorted(both, key=lambda stage: STAGES.index(stage.name)))


def spoken(command: Command, replaced: Replaced) -> tuple[str, ...]:
    """One command line; nothing for what has nothing to run."""
    if isinstance(command, dict):
        lines = [shlex.join(words) for value in command.values() if (words := spoken(value, replaced))]
        return shell(_together(lines)) if lines else ()
    if isinstance(command, str):
        return shell(replaced(command)) if command.strip() else ()
    return tuple(replaced(word) for word in command)


def shell(text: str) -> tuple[str, ...]:
    """The text is a shell's, whatever it begins with."""
    return ("/bin/sh", "-c", "--", text)


def _together(lines: list[str]) -> str:
    """All at once; it ends when all have, with the status of the first in order that failed."""
    begun = "".join(f"{line} & p{number}=$!\n" for number, line in enumerate(lines))
    ends = "".join(f'wait "$p{number}" || {{ r=$?; [ "$s" -ne 0 ] || s=$r; }}\n' for number in range(len(lines)))
    return f"s=0\n{begun}{ends}exit $s"


def attribute(name: str) -> str:
    """What Python calls the property."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
