"""The arguments of a call by an agent on the host: every text has a form and a maximum length.

`msgspec` makes the schemas that the agent reads from these, and refuses what does not fit them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from git_sandbox.errors import UsageError
from git_sandbox.text import one_line

_END = "$(?!\n)"  # Python's `$` alone also matches before a line break at the end
_ASKS = "asks the user: "
MOST_CALL = 2 << 20  # characters of all texts of a call
MOST_TIMEOUT = 24 * 3600  # seconds
MOST_WAIT = 600  # seconds of one look at a sandbox
MOST_READ = 256 << 10  # bytes of one look into a file

Id = Annotated[
    str, Meta(pattern=f"^[a-z0-9](?:[a-z0-9-]{{0,38}}[a-z0-9])?{_END}", description="a sandbox, as `list` has it")
]
Line = Annotated[str, Meta(pattern=f"^[^\x00-\x1f\x7f]+{_END}", max_length=4096)]
Word = Annotated[str, Meta(pattern=f"^[^\\s,\x00-\x1f\x7f]+{_END}", max_length=400)]
Variable = Annotated[str, Meta(pattern=f"^[A-Za-z_][A-Za-z0-9_]{{0,99}}{_END}")]
_MOST_ARGUMENT = 128 << 10  # characters
Argument = Annotated[str, Meta(max_length=_MOST_ARGUMENT)]
Command = Annotated[
    list[Argument],
    Meta(min_length=1, max_length=1000, description="program and arguments, not a shell line (use `sh -c` for one)"),
]
Timeout = Annotated[int, Meta(ge=1, le=MOST_TIMEOUT, description="seconds until the command is asked to end")]
Path = Annotated[
    str, Meta(min_length=1, max_length=4096, description="in the sandbox; relative: of the repository at /workspace")
]
Words = Annotated[list[Word], Meta(max_length=100)]
Lines = Annotated[list[Line], Meta(max_length=20)]


class Call(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    repository: Annotated[Line, Meta(description="its path, where the server serves several")] | None = None


class List(Call, frozen=True, kw_only=True):
    all: Annotated[bool, Meta(description="include the trash")] = False


class One(Call, frozen=True, kw_only=True):
    id: Id


class Start(Call, frozen=True, kw_only=True):
    """The settings of a new sandbox; those after `env` need the user's consent (`consent.GATED`)."""

    name: Annotated[Id, Meta(description="instead of vm-1, vm-2, …")] | None = None
    origin: Annotated[Id, Meta(description="start from a copy of that sandbox's disk")] | None = None
    cpus: Annotated[int, Meta(ge=1, le=254)] | None = None
    memory: Annotated[str, Meta(pattern=f"^[1-9][0-9]{{0,5}}[MG]{_END}", description="such as 512M or 4G")] | None = (
        None
    )
    env: Annotated[
        dict[Variable, Annotated[str, Meta(pattern=f"^[^\x00\r\n]*{_END}", max_length=32 << 10)]],
        Meta(max_length=200, description="variables of the sandbox, with their values"),
    ] = {}
    net: (
        Annotated[
            Literal["none", "allow", "nat"],
            Meta(description=f"{_ASKS}none, names that are allowed, or all that the host can reach"),
        ]
        | None
    ) = None
    allow: Annotated[
        Words, Meta(description=f"{_ASKS}names it may connect to: NAME, NAME:PORT, *.example.org, @pip")
    ] = []
    key: Annotated[Words, Meta(description=f"{_ASKS}keys of the user's keys.toml that it uses and never sees")] = []
    git_credentials: (
        Annotated[
            Literal["none", "fetch", "push"],
            Meta(description=f"{_ASKS}what its git may do at the repository's remotes with the user's credentials"),
        ]
        | None
    ) = None
    ssh_agent: Annotated[bool, Meta(description=f"{_ASKS}let it use the user's ssh agent")] = False
    mount: Annotated[Lines, Meta(description=f"{_ASKS}directories of the host that it gets a read-only copy of")] = []
    publish: Annotated[Words, Meta(description=f"{_ASKS}HOST:GUEST, ports of the host's loopback")] = []
    image: Annotated[Line, Meta(description=f"{_ASKS}another guest: docker://NAME:TAG, a Containerfile, …")] | None = (
        None
    )
    packages: Annotated[Words, Meta(description=f"{_ASKS}Debian packages to add to the guest image")] = []


class Run(Start, frozen=True, kw_only=True):
    command: Command
    background: Annotated[bool, Meta(description="leave it running; `logs` has its output")] = False
    timeout: Timeout = 3600


class Agent(Start, frozen=True, kw_only=True):
    """An agent of `sandbox agent ls` with one task."""

    agent: Annotated[
        str, Meta(pattern=f"^[a-z0-9][a-z0-9-]{{0,39}}{_END}", description="its name, as the user knows it")
    ]
    task: Annotated[
        str,
        Meta(pattern="^(?!-)", min_length=1, max_length=_MOST_ARGUMENT, description="what it is to do, in plain words"),
    ]
    background: Annotated[bool, Meta(description="leave it running; `logs` has its output")] = False
    timeout: Timeout = 3600


class Status(One, frozen=True, kw_only=True):
    wait: Annotated[
        int, Meta(ge=0, le=MOST_WAIT, description="seconds to wait, at most, until it has ended or waits for the user")
    ] = 0


class Fork(One, frozen=True, kw_only=True):
    name: Annotated[Id, Meta(description="of the copy, instead of vm-1, vm-2, …")] | None = None


class Exec(One, frozen=True, kw_only=True):
    command: Command
    input: Annotated[str, Meta(max_length=1 << 20)] = ""
    directory: Path | None = None
    timeout: Timeout = 600


class ReadFile(One, frozen=True, kw_only=True):
    path: Path
    offset: Annotated[int, Meta(ge=0, le=1 << 50, description="bytes")] = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_READ, description="bytes")] = 64 << 10
    encoding: Annotated[Literal["text", "base64"], Meta(description="base64: byte for byte")] = "text"


class WriteFile(One, frozen=True, kw_only=True):
    path: Path
    content: Annotated[str, Meta(max_length=1 << 20)]
    encoding: Literal["text", "base64"] = "text"


class Log(One, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Diff(One, frozen=True, kw_only=True):
    what: Annotated[
        Literal["merge", "base", "start", "uncommitted"],
        Meta(
            description="merge: what a merge would change; base: from the base commit; start: from the worktree at the"
            " start; uncommitted: what is not committed"
        ),
    ] = "merge"
    style: Literal["patch", "stat", "names"] = "patch"
    paths: Annotated[Lines, Meta(description="only these, relative to the top of the repository")] = []


class Compare(Call, frozen=True, kw_only=True):
    ids: Annotated[list[Id], Meta(max_length=100, description="none: all that brought commits home")] = []
    by_result: Annotated[bool, Meta(description="group those that ended with the same files")] = False


class Merge(One, frozen=True, kw_only=True):
    mode: Literal["merge", "ff-only", "no-ff", "squash", "rebase"] = "merge"
    message: (
        Annotated[
            str,
            Meta(
                pattern=f"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]+{_END}",
                max_length=4000,
                description="of a merge or squash commit; the user sees it",
            ),
        ]
        | None
    ) = None


class Branch(One, frozen=True, kw_only=True):
    names: Annotated[
        Words, Meta(description="branches of the sandbox, NAME or NAME:NEW; none: all that it made or moved")
    ] = []


class Undo(One, frozen=True, kw_only=True):
    what: Annotated[Literal["merge", "branch"], Meta(description="its last merge here, or its branches here")] = "merge"


class Drop(One, frozen=True, kw_only=True):
    force: Annotated[bool, Meta(description="even if its work exists nowhere else; needs the user's consent")] = False


class Network(One, frozen=True, kw_only=True):
    allow: Annotated[Words, Meta(description="additional names it may connect to; needs the user's consent")] = []


T = TypeVar("T", bound=Call)


def read(kind: type[T], arguments: Mapping[str, object]) -> T:
    """The call. Raises UsageError for one that is not of this form."""
    _sound(arguments)
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"not a call of this tool: {one_line(str(error), limit=300)}") from None


def schema(kind: type[Call]) -> dict[str, Any]:
    """JSON schema of its arguments, in words that every client knows: patterns are checked here only."""
    _, parts = msgspec.json.schema_components((kind,))
    plain: dict[str, Any] = _plain(parts[kind.__name__])
    return {name: value for name, value in plain.items() if name in ("type", "properties", "required")} | {
        "additionalProperties": False
    }


def _plain(value: Any) -> Any:
    """`value` without patterns, and without the null that stands for what is not given."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "anyOf" in value:
        (only,) = [choice for choice in value["anyOf"] if choice != {"type": "null"}]
        return _plain(only)
    unset = {"pattern", "propertyNames"} | ({"default"} if value.get("default") in (None, [], {}) else set())
    return {name: _plain(inner) for name, inner in value.items() if name not in unset}


def _sound(arguments: Mapping[str, object]) -> None:
    """No program's argument has a zero byte in it, and half a character is none."""
    left = MOST_CALL
    waiting: list[object] = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            left -= len(value)
            if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise UsageError("a text must not contain NUL characters or unpaired surrogates")
        left -= 1
        if left < 0:
            raise UsageError(f"a call has at most {MOST_CALL >> 20} Mi characters")
