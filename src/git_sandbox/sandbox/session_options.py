"""The session's options: environment, ports, an ssh agent, a setup script. Checked before the sandbox starts."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from git_sandbox import files, network, paths, process, tomltext
from git_sandbox.devcontainer.commands import Stage
from git_sandbox.devcontainer.model import Command
from git_sandbox.egress import keys
from git_sandbox.egress.keys import Keys
from git_sandbox.errors import HostResourceError, SessionError, UsageError
from git_sandbox.git.configtext import Pair
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.image import authorities
from git_sandbox.image.guestfiles import GuestPlace, UserFile
from git_sandbox.later import dataclass, field, replace
from git_sandbox.session import Session
from git_sandbox.settings import Settings
from git_sandbox.text import one_line, printable
from git_sandbox.workspace import signing

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_ENVIRONMENT = 96 << 10  # bytes; Linux takes 128 KiB for one string and sshd wants all on one line
MAX_MOUNTS = 8
MAX_SETUP = 8 << 20  # bytes
SETUP = "/var/tmp/sandbox-setup"  # noqa: S108 - in the guest, which has one user
Reader = Callable[[str, int], bytes]  # gets a name and a limit; raises OSError, ValueError
NO_DIGESTS: Mapping[str, str] = {}
UPLOAD = 120.0  # seconds
MAX_SAID = 1 << 20  # bytes that a guest may say to that


@dataclass(frozen=True)
class Port:
    """`host` on the host's loopback leads to `guest` on the guest's."""

    host: int
    guest: int


@dataclass(frozen=True)
class Mount:
    """A directory of the host's, and what the guest calls it below /mnt."""

    path: Path
    name: str
    digest: str = ""  # of what was agreed to, where a project file names it


@dataclass(frozen=True)
class Extras:
    """`agent`: socket of the user's ssh agent, empty for none. `git`: settings for sessions that have it (`signing`).
    `setup`: the script's content.
    """

    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # no secrets in a traceback
    ports: tuple[Port, ...] = ()
    agent: str = ""
    setup: bytes | None = None
    mounts: tuple[Mount, ...] = ()
    keys: Keys = field(default_factory=Keys)
    authorities: Mapping[str, bytes] = field(default_factory=dict)  # as `image.authorities` has them
    files: tuple[UserFile, ...] = ()
    git: tuple[Pair, ...] = ()
    places: tuple[GuestPlace, ...] = ()  # these and the rest: of a devcontainer
    stages: tuple[Stage, ...] = ()
    commands: tuple[tuple[str, Command], ...] = ()  # of features, by stage
    folder: str = ""  # where sessions begin; empty: where the settings say
    user: str = ""  # name of the guest's user; empty: the one of this host's


def _read(name: str, most: int) -> bytes:
    return files.read(Path(name).expanduser(), most)


Tables = Mapping[str, Mapping[str, object]]
NO_TABLES: Tables = {}


def gather(settings: Settings, host: Mapping[str, str], agent: Tables = NO_TABLES) -> Extras:
    """Raises UsageError, HostResourceError for what cannot work. `host`: the user's environment. `agent`: the keys that
    an agent's manifest declares.
    """
    ports = tuple(port(text) for text in settings.publish)
    require_free(ports)
    env = environment(settings.env, settings.env_file, host, settings.read)
    trusted = authorities.for_guest(settings.ca, settings.read) if settings.net != network.NONE else {}
    used = _keys(settings, host, agent)
    return Extras(
        {**used.variables, **env}, ports, _agent(settings, host), _setup(settings),
        mounts(settings.mount, settings.trees), used, trusted,
    )  # fmt: skip


def refuse(settings: Settings) -> None:
    """Of what `gather` raises, what is told without a secret or a file that can be read once only."""
    require_free(port(text) for text in settings.publish)
    _of_file(settings)


def with_agent(extras: Extras, repo: Repository, host: Mapping[str, str]) -> Extras:
    """The same, and git signs by the agent that the user lends, as it does here. Raises RepositoryError."""
    return replace(extras, git=signing.by_agent(repo, extras.agent, host)) if extras.agent else extras


def _keys(settings: Settings, host: Mapping[str, str], agent: Tables) -> Keys:
    """Those that are wanted: of the user's own file, and an agent's where there is none of that name. Raises
    SandboxError.
    """
    tables = {**(agent if settings.net == network.ALLOW else {}), **_of_file(settings)}
    return keys.given(tables, host, network.PROXY_PORT) if tables else Keys()


def _of_file(settings: Settings) -> dict[str, Mapping[str, object]]:
    if not settings.key:
        return {}
    if settings.net != network.ALLOW:
        raise UsageError("a key needs `--net allow`", hint="add --net allow, or omit --key")
    path = paths.config_file().with_name("keys.toml")
    try:
        tables = tomltext.decode(files.read(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}", cause=files.why(error), hint="`sandbox help keys`") from error
    credentials: dict[str, Mapping[str, object]] = {}
    for name in settings.key:
        table = tables.get(name)
        if not isinstance(table, dict):
            known = ", ".join(map(str, tables)) or "none"
            raise UsageError(f"there is no key `{printable(name, limit=40)}` in {path}", hint=f"known: {known}")
        credentials[name] = table
    return credentials


def environment(
    given: Iterable[str], names: Iterable[str], host: Mapping[str, str], read: Reader = _read
) -> dict[str, str]:
    """Variables for the guest: those of the files `names`, then those `given`; the later one of two wins.

    `read`: for who has read them already.
    """
    variables: dict[str, str] = {}
    for name in names:
        variables |= dict(_variable(line, host, name) for line in _lines(name, read))
    variables |= dict(_variable(text, host, "--env") for text in given)
    if sum(len(name) + len(os.fsencode(value)) for name, value in variables.items()) > MAX_ENVIRONMENT:
        raise UsageError(f"more than {MAX_ENVIRONMENT >> 10} KiB of environment", hint="send a file: `sandbox cp`")
    return variables


def _lines(path: str, read: Reader) -> Iterator[str]:
    try:
        text = read(path, MAX_ENVIRONMENT).decode("utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"cannot read the environment file {path}", cause=files.why(error)) from error
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.lstrip()


def _variable(text: str, host: Mapping[str, str], origin: str) -> tuple[str, str]:
    """`NAME=VALUE`, the value as it stands, or `NAME`, the value being that of the host. Never shows a value."""
    name, given, value = text.partition("=")
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{printable(name, limit=40)}` cannot be the name of a variable ({origin})")
    if not given:
        if name not in host:
            raise UsageError(f"{name} is not set here ({origin})", hint=f"set it, or write {name}=VALUE")
        value = host[name]
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"the value of {name} is not UTF-8 ({origin})", hint="send a file: `sandbox cp`")
    if set(value) & {"\n", "\r", "\0"}:
        raise UsageError(f"the value of {name} has more than one line ({origin})", hint="send a file: `sandbox cp`")
    return name, value


def port(text: str) -> Port:
    """`HOST:GUEST`, both 1 to 65535."""
    match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", text)
    numbers = [int(digits) for digits in match.groups()] if match else []
    if not numbers or not all(0 < number < 1 << 16 for number in numbers):
        raise UsageError(f"invalid value `{text}` for publish", hint="use HOST:GUEST, e.g. 8080:80; loopback only")
    return Port(*numbers)


def require_free(ports: Iterable[Port]) -> None:
    """Raises HostResourceError when the host's port cannot be had, UsageError when it is named twice."""
    seen: set[int] = set()
    for port in ports:
        if port.host in seen:
            raise UsageError(f"port {port.host} is published twice")
        seen.add(port.host)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port.host))
            except OSError as error:
                raise HostResourceError(
                    f"port {port.host} of 127.0.0.1 cannot be published", cause=error.strerror or str(error)
                ) from error


def mounts(given: Iterable[str], agreed: Mapping[str, str] = NO_DIGESTS) -> tuple[Mount, ...]:
    """`PATH` or `PATH:ro`, directories of this host. Raises UsageError for what cannot be had."""
    copies: list[Mount] = []
    for text in given:
        path, mode = (text[:-3], text[-2:]) if text.endswith((":ro", ":rw")) else (text, "ro")
        if mode == "rw":
            raise UsageError(
                f"`{printable(path, limit=200)}` cannot be mounted read-write",
                cause="there is no directory that host and guest can both write to",
                hint="without :rw the guest gets a read-only copy; `sandbox cp` brings files back",
            )
        place = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - pathlib raises where `~name` is nobody
        mount = _mount(place, {mount.name for mount in copies})
        copies.append(replace(mount, digest=agreed.get(path, "")))
    if len(copies) > MAX_MOUNTS:
        raise UsageError(f"more than {MAX_MOUNTS} mounts", hint="mount a directory that holds them")
    return tuple(copies)


def _mount(path: Path, taken: set[str]) -> Mount:
    if not os.path.isdir(path):  # noqa: PTH112 - is_dir raises where a directory above is locked
        raise UsageError(f"there is no directory {one_line(str(path))} to mount")
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise UsageError(f"the name of {one_line(str(path))} is not UTF-8: it cannot be mounted")
    real = path.resolve()
    if paths.state_root().resolve().is_relative_to(real):
        raise UsageError(f"{path} holds the disks of the sandboxes: it cannot be mounted", hint="mount a part of it")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", real.name).lstrip(".") or "root"
    numbered = (f"{name}-{number}" for number in range(2, MAX_MOUNTS + 3))
    return Mount(path, next(free for free in (name, *numbered) if free not in taken))


def _agent(settings: Settings, host: Mapping[str, str]) -> str:
    if settings.ssh_agent != "yes":
        return ""
    place = host.get("SSH_AUTH_SOCK", "")
    with contextlib.suppress(OSError):
        if place and Path(place).is_socket():
            return os.fspath(Path(place).absolute())  # ssh takes what begins with `$` for a variable's name
    raise UsageError(
        "there is no ssh agent to forward", cause="SSH_AUTH_SOCK names no socket", hint="eval $(ssh-agent)"
    )


def _setup(settings: Settings) -> bytes | None:
    if not settings.setup:
        return None
    try:
        return settings.read(settings.setup, MAX_SETUP)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the setup script {settings.setup}", cause=files.why(error)) from error


def publish(session: Session, ports: Iterable[Port]) -> None:
    """Raises SessionError when ssh cannot listen."""
    for port in ports:
        rule = f"127.0.0.1:{port.host}:localhost:{port.guest}"  # sshd tries ::1, too
        done = process.run(["ssh", "-F", str(session.config), "-O", "forward", "-L", rule, session.host], timeout=20)
        if done.returncode != 0:
            raise SessionError(f"port {port.host} cannot be published", cause=printable(done.complaint, limit=500))


def run_setup(session: Session, script: bytes, log: Path | None) -> None:
    """Run the script once in the workspace, as the user, without input; its output to stderr, or to `log`.

    Raises SessionError when it fails.
    """
    command = f"umask 077 && cat > {SETUP} && chmod 700 {SETUP}"
    if process.run(session.argv(command, tty=False), input=script, timeout=UPLOAD, output=MAX_SAID).returncode != 0:
        raise SessionError("cannot copy the setup script into the sandbox")
    if log is None:
        code = session.run((SETUP,), protocol.WORKSPACE, stdin=process.DEVNULL, stdout=2)
    else:
        code = session.run_logged((SETUP,), protocol.WORKSPACE, log, MAX_SETUP)
    if code != 0:
        cause = printable(log.read_bytes()[-2000:]).strip() if log else ""
        hint = f"the sandbox is kept: `sandbox shell {session.name}` starts it again"
        raise SessionError(f"the setup script ended with {code}", cause=cause, hint=hint)
