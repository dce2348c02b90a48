"""Checks of the host: programs, git, user namespaces, directories, disk space."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from git_sandbox import network, paths, process
from git_sandbox.errors import HostResourceError
from git_sandbox.git import command
from git_sandbox.git import repo as repos
from git_sandbox.later import dataclass

_MAX_SSH_CONFIG = 1 << 20  # bytes


MINIMUM_FREE = 4 << 30  # bytes for an image build and a first sandbox


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, but something optional is missing
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """`packages`: of Debian and Ubuntu, that would help. `command`: one of root's that would."""

    name: str
    verdict: Verdict
    result: str
    hint: str = ""
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tool:
    program: str
    package: str  # Debian and Ubuntu
    purpose: str
    version: tuple[str, ...] = ("--version",)
    optional: bool = False


TOOLS = (
    Tool("mke2fs", "e2fsprogs", "makes disks", ("-V",)),
    Tool("ssh", "openssh-client", "sessions", ("-V",)),
    Tool("ssh-keygen", "openssh-client", "keys of a sandbox", ()),
    Tool("setpriv", "util-linux", "no left-over processes"),
    Tool("prlimit", "util-linux", "limits for reading guest data"),
    Tool("mmdebstrap", "mmdebstrap", "builds the guest image"),
    Tool("fakeroot", "fakeroot", "builds the guest image"),
    Tool("skopeo", "skopeo", "fetches OCI images (`--image docker://…`)", optional=True),
    Tool("bwrap", "bubblewrap", "keeps VMMs and the programs of a build away from this host's files", optional=True),
    *(
        Tool(program.name, program.package, f"`--net {mode.name}`", (), optional=True)
        for mode in network.MODES
        for program in mode.programs
    ),
)


def git_version() -> Check:
    if process.which("git") is None:
        return Check("git", Verdict.MISSING, "not installed", "`sudo apt-get install git`", ("git",))
    version = repos.host_version()
    shown, minimum = _dotted(version), _dotted(command.MINIMUM_VERSION)
    if version < command.MINIMUM_VERSION:
        return Check("git", Verdict.MISSING, shown, f"{minimum} or newer is needed: `sudo apt-get install git`")
    return Check("git", Verdict.OK, shown)


def program(tool: Tool) -> Callable[[], Check]:
    def check() -> Check:
        path = process.which(tool.program)
        if path is None:
            verdict = Verdict.NOTE if tool.optional else Verdict.MISSING
            hint = f"`sudo apt-get install {tool.package}`"
            return Check(tool.program, verdict, f"not installed ({tool.purpose})", hint, (tool.package,))
        return Check(tool.program, Verdict.OK, _version(tool) or path)

    return check


def _version(tool: Tool) -> str:
    if not tool.version:
        return ""
    done = process.run([tool.program, *tool.version], timeout=process.ASKED)
    match = re.search(r"\d+\.\d[\w.+~-]*", (done.stdout + done.stderr).decode("utf-8", "replace"))
    return match[0].rstrip(".,") if match else ""


def user_namespaces() -> Check:
    """An ordinary user builds an image inside a user namespace with subordinate ids; root needs neither."""
    name = "user namespaces"
    if os.getuid() == 0:
        return Check(name, Verdict.OK, "not needed by root")
    if process.which("newuidmap") is None:
        hint = "`sudo apt-get install uidmap`"
        return Check(name, Verdict.MISSING, "no newuidmap (builds the guest image)", hint, ("uidmap",))
    user = user_name()
    tables = {place: _lines(Path(place)) for place in ("/etc/subuid", "/etc/subgid")}
    for table, lines in tables.items():
        if not any(line.split(":")[0] in (user, str(os.getuid())) for line in lines):
            ids = free_ids([line for lines in tables.values() for line in lines])
            command = ("usermod", "--add-subuids", ids, "--add-subgids", ids, user)
            hint = f"`sudo {' '.join(command)}`"
            return Check(name, Verdict.MISSING, f"{table} has no line for {user}", hint, command=command)
    done = process.run(["unshare", "--user", "--map-root-user", "true"], timeout=process.ASKED)
    if done.returncode != 0:
        hint = "allow them: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu"
        return Check(name, Verdict.NOTE, "the kernel refuses them to programs without a profile", hint)
    return Check(name, Verdict.OK, "allowed, with subordinate ids")


def _lines(table: Path) -> list[str]:
    return table.read_text("utf-8", "replace").splitlines() if table.exists() else []


def free_ids(lines: Iterable[str]) -> str:
    """A range above all that subuid(5) and subgid(5) give to somebody: no two users may have the same."""
    first = 100_000
    for line in lines:
        _, begin, count = [*line.split(":"), "", "", ""][:3]
        if begin.isdecimal() and count.isdecimal():
            first = max(first, int(begin) + int(count))
    return f"{first}-{first + 65_535}"


def user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def space() -> Check:
    root = existing(paths.state_root())
    free = shutil.disk_usage(root).free
    result = f"{free >> 30} GiB free for {paths.state_root()}"
    if free < MINIMUM_FREE:
        hint = "free some space, or set XDG_STATE_HOME and XDG_CACHE_HOME"
        return Check("disk space", Verdict.MISSING, result, hint)
    return Check("disk space", Verdict.OK, result)


def directories() -> Check:
    for path in (paths.state_root(), paths.cache_root(), paths.runtime_root()):
        place = existing(path)
        if not os.access(place, os.W_OK):
            hint = "set XDG_STATE_HOME, XDG_CACHE_HOME or XDG_RUNTIME_DIR to a place you can write"
            return Check("directories", Verdict.MISSING, f"{place} cannot be written", hint)
    try:
        paths.runtime()
    except HostResourceError as error:
        return Check("directories", Verdict.MISSING, f"{error.message} ({error.cause})", error.hint)
    return Check("directories", Verdict.OK, "state, cache and runtime directory can be written")


def ssh_config() -> Check:
    """An Include that older versions recommended: whoever makes that directory after a reboot is obeyed by ssh."""
    place = Path.home() / ".ssh" / "config"
    try:
        with place.open("rb") as file:
            text = file.read(_MAX_SSH_CONFIG)
    except OSError:
        text = b""
    if re.search(rb"(?im)^[ \t]*include\b.*/git-sandbox-\d+/", text):
        cause = f"{place} includes files below a directory that another user can create"
        return Check("ssh", Verdict.NOTE, cause, "replace that line with the one of `sandbox ssh-config`")
    return Check("ssh", Verdict.OK, "your ssh configuration includes no directory that another user can create")


def existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
