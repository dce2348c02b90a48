"""From a devcontainer.json to a sandbox: pure functions of what the user has agreed to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from git_sandbox.devcontainer import commands, mounts, ports, properties, run_args
from git_sandbox.devcontainer.commands import Stage
from git_sandbox.devcontainer.model import Devcontainer, MountTable, Options, given, unknown
from git_sandbox.devcontainer.mounts import Folders
from git_sandbox.devcontainer.variables import Replaced, Values
from git_sandbox.errors import UsageError
from git_sandbox.image.guestfiles import GuestPlace
from git_sandbox.later import dataclass, field, replace
from git_sandbox.text import listed, one_line

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_SIZE = re.compile(r"([0-9]{1,15})([tgmk]b)?", re.IGNORECASE)
_MEBIBYTES = {"t": 1 << 20, "g": 1 << 10, "m": 1.0, "k": 1 / 1024, "": 1 / (1 << 20)}
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
WORKSPACES = "/workspaces"  # where the specification has a repository that says nothing else
MAX_PLACES = 20
MAX_CPUS = 64
MAX_MEBIBYTES = 1 << 30


@dataclass(frozen=True)
class BuildPlan:
    """`dockerfile`, `context`: relative to the top of the repository. `content`: of the former, as it was agreed to."""

    dockerfile: str
    context: str
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True)
class Plan:
    """`place`: the file, relative to the worktree. `folder`: where the guest shows the repository, too, and sessions
    begin. `env`: variables, None taking one away; `${containerEnv:…}` stays in them (`environment`). `cpus`, `memory`
    and `storage` (MiB): at least, 0 for anything. `notes`: what is not done, safe to print.
    """

    place: str
    folder: str
    image: str = ""
    build: BuildPlan | None = None
    env: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    places: tuple[GuestPlace, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    stages: tuple[Stage, ...] = ()
    wait_for: str = ""
    features: Mapping[str, Options] = field(default_factory=dict)
    override: tuple[str, ...] = ()  # the order of features that the file wishes
    contents: Mapping[str, str] = field(default_factory=dict)  # digests of local features, by path in the repository
    cpus: int = 0
    memory: int = 0
    storage: int = 0
    user: str = ""
    notes: tuple[str, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """What differs from `base`, the environment that the image has, in the guest's sessions. Raises ValueError."""
        variables = dict(base)
        for name, value in self.env.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = Values("", "", container=variables).replaced(value)
        return {name: value for name, value in variables.items() if base.get(name) != value}

    def completed(self, environment: Mapping[str, str]) -> tuple[Stage, ...]:
        """The commands, as `environment` of the sessions has their variables. Raises ValueError."""
        last = Values("", "", container=environment).replaced
        return tuple(Stage(stage.name, tuple(map(last, stage.words)), stage.waited) for stage in self.stages)


def require_one(file: Devcontainer, place: str) -> None:
    """Raises UsageError for a file that is about several containers."""
    if file.docker_compose_file or file.service or file.run_services:
        raise UsageError(
            f"{one_line(place)} asks for several containers (dockerComposeFile)",
            cause="a sandbox is one machine",
            hint="start without it: --devcontainer none; for compose inside a sandbox, see `sandbox help devcontainer`",
        )


def plan(file: Devcontainer, table: dict[str, object], place: str, known: Values) -> Plan:
    """`known`: the folder of this host, the identity, and its environment. Raises UsageError for what is refused."""
    require_one(file, place)
    try:
        return _planned(file, table, place, known)
    except ValueError as error:
        raise UsageError(f"cannot use {one_line(place)}", cause=one_line(str(error))) from error


def _planned(file: Devcontainer, table: dict[str, object], place: str, known: Values) -> Plan:
    folder = _folder(file, known)
    replaced = replace(known, container_folder=folder).replaced
    words = run_args.read(tuple(map(replaced, file.run_args)))
    env, bad = _variables(file, words.env, replaced)
    shown, left_out = _places(file, Folders(known.local_folder, folder), replaced)
    pairs, odd = ports.asked(file)
    user = replaced(file.remote_user or file.container_user)
    needs = file.host_requirements
    if user and not USER.fullmatch(user):
        left_out.append(f"remoteUser {one_line(user, limit=60)}: not a valid user name for the guest")
    return Plan(
        place, folder, replaced(file.image), _build(file, place, replaced), env, shown, tuple(pairs),
        commands.stages(file, replaced), file.wait_for,
        {name: _options(item, replaced) for name, item in file.features.items()},
        file.override_feature_install_order, {},
        min(max(needs.cpus, 0), MAX_CPUS), _mebibytes(needs.memory),
        _mebibytes(needs.storage), user if USER.fullmatch(user) else "",
        tuple(_notes(table, words.ignored, bad, left_out, odd)),
    )  # fmt: skip


def _folder(file: Devcontainer, known: Values) -> str:
    """Where the repository is shown. Raises ValueError."""
    name = re.sub(r"[^A-Za-z0-9._@+-]", "_", PurePosixPath(known.local_folder).name).lstrip(".") or "project"
    given_folder = file.workspace_folder or (_target_of(file, known) if file.workspace_mount else "")
    folder = replace(known, container_folder=f"{WORKSPACES}/{name}").replaced(given_folder or f"{WORKSPACES}/{name}")
    if mounts.inside(folder, "/workspace") is not None:
        return mounts.clean(folder)
    return mounts.free(folder)


def _options(given_options: Options, replaced: Replaced) -> Options:
    """Of a feature."""
    if isinstance(given_options, dict):
        return {name: replaced(item) if isinstance(item, str) else item for name, item in given_options.items()}
    return replaced(given_options) if isinstance(given_options, str) else given_options


def _target_of(file: Devcontainer, known: Values) -> str:
    return mounts.parsed(file.workspace_mount, known.replaced).target


def _build(file: Devcontainer, place: str, replaced: Replaced) -> BuildPlan | None:
    dockerfile = file.build.dockerfile or file.docker_file
    if not dockerfile:
        return None
    context = file.build.context or file.context or "."
    args = {name: replaced(value) for name, value in file.build.args.items()}
    if bad := [name for name in args if not _NAME.fullmatch(name)]:
        raise ValueError(f"`{one_line(bad[0], limit=60)}` is not a valid name of a build argument")
    target = replaced(file.build.target)
    if target and not _STAGE.fullmatch(target):
        raise ValueError("build.target is not the name of a stage")
    return BuildPlan(below(place, dockerfile), below(place, context), target, args)


def below(place: str, text: str) -> str:
    """A path that the file at `place` has, relative to the top of the repository. Raises UsageError if it leads out."""
    parts: list[str] = []
    for part in (PurePosixPath(place).parent / text).parts:
        if part == "/" or (part == ".." and not parts):
            raise UsageError(f"{one_line(text, limit=100)} of {one_line(place)} is outside of the repository")
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts) or "."


def one_variable(name: str, value: str) -> bool:
    """Whether it can be a variable of a session: its value is one line of UTF-8."""
    odd = any(character in "\n\r\0" or "\ud800" <= character <= "\udfff" for character in value)
    return bool(_NAME.fullmatch(name)) and not odd


def _variables(
    file: Devcontainer, given_env: tuple[str, ...], replaced: Replaced
) -> tuple[dict[str, str | None], list[str]]:
    """Variables, and names of those that cannot be one."""
    rows: dict[str, str | None] = dict(value.partition("=")[::2] for value in given_env)
    rows |= file.container_env | file.remote_env
    published = {name: value if value is None else replaced(value) for name, value in rows.items()}
    bad = [name for name, value in published.items() if not one_variable(name, value or "")]
    return {name: value for name, value in published.items() if name not in bad}, bad


def _places(file: Devcontainer, folders: Folders, replaced: Replaced) -> tuple[tuple[GuestPlace, ...], list[str]]:
    """The repository in its folder and what is mounted, and why not for what is left out."""
    supported, left_out = [], []
    if mounts.inside(folders.container, "/workspace") is None:
        supported.append(GuestPlace(folders.container, source="."))
    for row in file.mounts:
        try:
            mount = mounts.parsed(row, replaced)
            if place := mounts.place(mount, folders):
                if len(supported) >= MAX_PLACES:
                    raise ValueError(f"a sandbox has at most {MAX_PLACES} of them")  # noqa: TRY301 - of the same kind
                supported.append(place)
        except ValueError as error:
            left_out.append(f"mount {_shown(row)}: {error}")
    return tuple(supported), left_out


def _shown(mount: str | MountTable) -> str:
    return one_line(mount if isinstance(mount, str) else f"{mount.type} {mount.source} -> {mount.target}", limit=120)


def _mebibytes(text: str) -> int:
    """0 for nothing. Raises ValueError."""
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"`{one_line(text, limit=40)}` is not a size such as 8gb")
    return min(int(int(match[1]) * _MEBIBYTES[(match[2] or "")[:1].lower()]), MAX_MEBIBYTES)


def _notes(
    table: dict[str, object], options: tuple[str, ...], variables: list[str], left_out: list[str], odd_ports: list[str]
) -> Iterator[str]:
    for row in properties.ignored(given(table), reported=True):
        yield f"{row.name} does nothing here: {row.text}"
    for what, names in (
        ("unknown properties", unknown(table)), ("runArgs that have no meaning here", list(options)),
        ("variables that cannot be set", variables), ("ports that are not forwarded", odd_ports),
    ):  # fmt: skip
        if names:
            yield f"{what}: {listed(names)}"
    yield from left_out
