"""Settings: one row each gives the default, the key in config.toml, the environment variable and the help text.

Precedence: command line, environment (`SANDBOX_<NAME>`), configuration file, project file, default: what a repository
brings along never overrules what the user has said himself. Only this module reads configuration from the environment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_sandbox import consent, files, network, notices, paths, projectfile, setting_values, tomltext, transports
from git_sandbox.consent import NamedFile
from git_sandbox.errors import UsageError
from git_sandbox.network import Network
from git_sandbox.projectfile import ProjectFile, bare
from git_sandbox.setting_values import AUTO, one_word

_VARIABLE = re.compile("SANDBOX_[A-Z_]{1,60}")
_OURS = ("SANDBOX_INDEX", "SANDBOX_COUNT", "SANDBOX_TEST_")  # no settings, and near to some
_REPLACED = {"jailer": "confinement"}  # settings of earlier versions
_SHORTENED = 3  # letters with which a setting's name may begin that is meant
BACKENDS = (AUTO, "qemu", "cloud-hypervisor", "firecracker")  # as in `vmm.backends`, which may not be imported here
COW = (AUTO, "thin", "qcow2", "reflink", "overlay", "copy")  # as in `disk.cow`, for the same reason
ANY, VALUES, INSIDE = "any", "values", "inside"


@dataclass(frozen=True)
class Row:
    """`kind`: rules are words, and those of every source count together.

    `free`: what a project file may say without the user's consent: some of the choices, or `ANY` text, or `VALUES`
    (variables with a value, none by name only), or a file `INSIDE` the repository. Nothing, unless said otherwise.
    """

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()
    kind: str = "text"  # text | path | network | count | mebibytes | room | seconds | duration | list | rules | lines
    free: tuple[str, ...] = ()
    least: int = 128  # MiB of a size; no guest boots with less
    most: int = 100_000  # of a count or of seconds; beyond any machine or patience


ROWS = (
    Row("backend", AUTO, "virtual machine monitor", BACKENDS),
    Row(
        "transport",
        AUTO,
        "where the working copy is: on a disk image (disk, auto), or in a directory shared by virtiofsd (share)",
        (AUTO, "disk", "share"),
        free=("disk",),
    ),
    Row("accelerator", AUTO, "auto proves KVM by booting; tcg is software emulation", (AUTO, "kvm", "tcg")),
    Row("warm", AUTO, "start from a saved machine where that works (auto), or boot every time (no)", (AUTO, "no")),
    Row(
        "nested",
        "no",
        "let the guest run virtual machines of its own, with KVM (QEMU only)",
        ("no", "yes"),
        free=("no",),
    ),
    Row("vsock", "no", "let QEMU's sessions use the host's vsock (/dev/vhost-vsock)", ("no", "yes"), free=("no",)),
    Row(
        "confinement",
        AUTO,
        "show the programs beside a guest their own files only: where that works, never, or refuse to start without",
        (AUTO, "no", "yes"),
    ),
    Row(
        "cpus",
        AUTO,
        "virtual processors (auto: as many as the host has, at most 4)",
        kind="count",
        free=(ANY,),
        most=254,
    ),
    Row("memory", "2G", "memory of the machine", kind="mebibytes", free=(ANY,)),
    Row("disk", "16G", "room for new files on the workspace disk (sparse)", kind="mebibytes"),
    Row("net", "none", "network of the guest", network.OFFERED, kind="network", free=("none",)),
    Row(
        "allow",
        "",
        "what the guest may reach with `--net allow`: NAME, NAME:PORT, *.example.org, @pip, get:NAME, deny:NAME",
        kind="rules",
    ),
    Row("key", "", "keys of keys.toml that the guest uses and does not have (network allow)", kind="list"),
    Row(
        "git_credentials",
        "none",
        "what git in the guest may do at the repository's remotes with this host's credentials (network allow)",
        ("none", "fetch", "push"),
    ),
    Row(
        "egress_limit", "", "limits of that network: connections=N, rate=N (new ones a second), sent=SIZE", kind="list"
    ),
    Row(
        "ca",
        "host",
        "more certificate authorities for a guest with a network: those added to this host (host), none, or a FILE",
        kind="path",
    ),
    Row(
        "image",
        "",
        "another guest: an OCI image (docker://NAME:TAG, oci:PATH …), a Containerfile, or an image spec (TOML)",
        kind="image",
    ),
    Row("packages", "", "more Debian packages for the guest image", kind="list"),
    Row("on_exit", AUTO, "what happens with the commits at exit", (AUTO, "ask", "merge", "keep"), free=("ask", "keep")),
    Row(
        "dirty",
        "ask",
        "what happens with uncommitted work at exit",
        ("ask", "commit", "stash", "keep", "discard"),
        free=("ask", "keep"),
    ),
    Row(
        "ignored",
        "all",
        "ignored files that go in: all, or none but those in .worktreeinclude",
        ("all", "none"),
        free=("none",),
    ),
    Row(
        "exclude",
        "",
        "untracked and ignored files that never go in (patterns as in .gitignore)",
        kind="list",
        free=(ANY,),
    ),
    Row(
        "git_extra",
        "",
        "files and settings of `.git` to copy although git does not know them; * matches anything (svn, my.key)",
        kind="list",
    ),
    Row("auto_push", "no", "bring work home after every commit, not only at the end", ("no", "yes"), free=(ANY,)),
    Row(
        "env",
        "",
        "variable for the guest: NAME=VALUE, or NAME for the value it has here",
        kind="lines",
        free=(VALUES,),
    ),
    Row(
        "devcontainer",
        AUTO,
        "devcontainer.json: the repository's, once you agreed to it (auto), none, or PATH in the repository",
        free=("none",),
    ),
    Row("env_file", "", "file of such variables, one a line", kind="lines"),
    Row("setup", "", "script to run once in a new guest, before anything else", kind="path", free=(INSIDE,)),
    Row("mount", "", "directory of which the guest gets a read-only copy: PATH or PATH:ro", kind="lines"),
    Row("publish", "", "port of this host's loopback to forward to the guest: HOST:GUEST", kind="list"),
    Row("ssh_agent", "no", "let the guest use your ssh agent", ("no", "yes")),
    Row("bases", "8G", "cache size for the images that later sandboxes start from, or no", kind="room"),
    Row("cow", AUTO, "how a workspace disk is laid over the image it starts from", COW),
    Row("thin_pool", "", "LVM thin pool (VG/POOL) for the disks of root's sandboxes"),
    Row(
        "notify",
        AUTO,
        "command to run when a sandbox waits, is done or failed (auto: notify-send, for agents; no: none)",
        kind="command",
    ),
    Row(
        "workdir",
        "guest",
        "where sessions begin: /workspace (guest), or the repository's own path (host)",
        ("guest", "host"),
        free=(ANY,),
    ),
    Row(
        "trash",
        "7d",
        "how long a sandbox that was dropped or ended unchanged can be restored (30m, 12h, 7d, 4w, never, 0)",
        kind="duration",
    ),
    Row("trash_size", "10G", "size limit of the trash; the oldest go first", kind="room", least=0),
    Row(
        "stop_timeout",
        "10",
        "seconds that programs may take to end when the sandbox stops",
        kind="seconds",
        free=(ANY,),
        most=3600,
    ),
    Row("boot_timeout", "180", "seconds that a machine may take to answer", kind="seconds", free=(ANY,)),
)
BY_NAME = {row.name: row for row in ROWS}


@dataclass(frozen=True)
class Settings:
    """Effective values; field names are those of `ROWS`."""

    backend: str
    transport: str  # auto | disk | share
    accelerator: str
    nested: str  # no | yes
    vsock: str  # no | yes
    warm: str  # auto | no
    confinement: str  # auto | no | yes
    cpus: int
    memory: int  # MiB
    disk: int  # MiB
    net: Network
    allow: tuple[str, ...]
    key: tuple[str, ...]
    git_credentials: str  # none | fetch | push
    egress_limit: tuple[str, ...]
    ca: str  # host | none | a path
    image: str  # a path, or the name of an image with one of `transports`; empty: the default one
    packages: tuple[str, ...]
    on_exit: str
    dirty: str
    ignored: str
    exclude: tuple[str, ...]
    git_extra: tuple[str, ...]
    auto_push: str  # no | yes
    env: tuple[str, ...]
    devcontainer: str  # auto | none | a path
    env_file: tuple[str, ...]
    setup: str
    mount: tuple[str, ...]
    publish: tuple[str, ...]
    ssh_agent: str  # no | yes
    bases: int  # MiB; 0: none are kept
    cow: str
    thin_pool: str
    notify: str  # auto | no | a command line
    workdir: str  # guest | host
    trash: int | None  # seconds; None: for ever
    trash_size: int  # MiB
    stop_timeout: int  # seconds
    boot_timeout: int  # seconds
    # What a project file names, as it was when its content was judged: by path, a file's content (or nothing for one
    # that was not there), and the digest of a directory.
    contents: Mapping[str, bytes | None] = field(default_factory=dict, repr=False)
    trees: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str, most: int) -> bytes:
        """The file that one of these settings names. Raises OSError or ValueError, as `files.read`."""
        if name not in self.contents:
            return files.read(Path(name).expanduser(), most)
        known = self.contents[name]
        if known is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if len(known) > most:
            raise ValueError(f"it has more than {most >> 10} KiB")
        return known


@dataclass(frozen=True)
class Value:
    """One setting as given, and where it came from."""

    name: str
    text: str
    source: str  # default | environment | the configuration or project file's path | command line
    withheld: str = ""  # what the project file asks for, and the user has not agreed to


def environment() -> Mapping[str, str]:
    """The user's environment, for the few who need more of it than a setting (git identity, time zone)."""
    return os.environ


def resolve(
    given: Mapping[str, object] | None = None, project: ProjectFile | None = None
) -> tuple[Settings, list[Value]]:
    """The effective settings and the origin of each. `given`: from the command line, None meaning not given.

    Raises UsageError naming the source of a value that cannot work.
    """
    configured = _config_file()
    _mention_unknown()
    if project is not None:
        _refuse_unknown(project.path, project.values)
    values = [_find(row, given or {}, configured, project) for row in ROWS]
    parsed: dict[str, Any] = {value.name: _parse(BY_NAME[value.name], value) for value in values}
    named = [each for value in values for each in _named_by(value, project)]
    contents = {str(each.place): each.content for each in named if consent.NAMES[each.setting] == consent.FILE}
    trees = {str(each.place): each.state for each in named if consent.NAMES[each.setting] == consent.TREE}
    return Settings(**parsed, contents=contents, trees=trees), values


def named_below(worktree: Path) -> dict[str, str]:
    """Paths below the worktree that a sandbox of this user would read on the host: by path, the setting that names it.

    Of the project file, trusted or not, of the user's configuration and of his environment.
    """
    found = dict(projectfile.names(worktree))
    with contextlib.suppress(UsageError):
        found |= projectfile.below(worktree, _config_file())
    given = {name: os.environ.get(f"SANDBOX_{name.upper()}", "") for name in consent.NAMES}
    return found | projectfile.below(worktree, given)


def _find(
    row: Row, given: Mapping[str, object], configured: Mapping[str, object], project: ProjectFile | None
) -> Value:
    found = list(_given(row, given, configured, project))
    if row.kind == "rules" and len(found) > 1:
        withheld = next((each.withheld for each in found if each.withheld), "")
        said = [each for each in found if each.text]
        return Value(
            row.name, " ".join(each.text for each in said), " and ".join(each.source for each in said), withheld
        )
    return found[0] if found else Value(row.name, row.default, "default")


def _given(
    row: Row, given: Mapping[str, object], configured: Mapping[str, object], project: ProjectFile | None
) -> Iterator[Value]:
    """The strongest first."""
    if given.get(row.name) not in (None, ()):
        yield Value(row.name, _text(row, given[row.name]), "command line")
    variable = f"SANDBOX_{row.name.upper()}"
    if os.environ.get(variable):
        yield Value(row.name, os.environ[variable], f"environment ({variable})")
    if row.name in configured:
        yield Value(row.name, _text(row, configured[row.name]), str(paths.config_file()))
    if project is not None and row.name in project.values:
        yield _of_project(row, project)


def _of_project(row: Row, project: ProjectFile) -> Value:
    asked = _text(row, project.values[row.name])
    named = _named_of_project(row, asked, project)
    if not (project.trusted or _free(row, asked, named)):
        return Value(row.name, row.default, "default", withheld=asked or '""')
    if any(each.too_large for each in named):  # its content cannot be agreed to once and for all
        return Value(row.name, row.default, "default", withheld=f"{asked} ({consent.TOO_LARGE}: give it yourself)")
    if named:  # whole paths, each with how it is mounted
        asked = "\n".join(f"{each.place}{each.text.strip()[len(bare(row.name, each.text)) :]}" for each in named)
    elif row.kind == "image":
        asked = transports.absolute(asked.strip(), project.root)
    return Value(row.name, asked, str(project.path))


def _named_by(value: Value, project: ProjectFile | None) -> tuple[NamedFile, ...]:
    if project is None or value.source != str(project.path):
        return ()
    row = BY_NAME[value.name]
    return _named_of_project(row, _text(row, project.values[row.name]), project)


def _named_of_project(row: Row, asked: str, project: ProjectFile) -> tuple[NamedFile, ...]:
    """What it names: for who trusts it whatever that is, else only files of the repository's own."""
    if row.name not in consent.NAMES or not asked.strip():
        return ()
    if project.trusted:
        return tuple(each for each in project.named if each.setting == row.name)
    return (project.setup,) if project.setup and INSIDE in row.free else ()


def _free(row: Row, asked: str, named: tuple[NamedFile, ...]) -> bool:
    """Whether a project file may say so without the user's consent."""
    if VALUES in row.free:
        return all("=" in line for line in asked.split("\n") if line)
    if INSIDE in row.free:
        return bool(named)
    return ANY in row.free or asked.strip() in row.free


def _text(row: Row, value: object) -> str:
    joint = "\n" if row.kind == "lines" else " "
    return joint.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _config_file() -> dict[str, object]:
    path = paths.config_file()
    try:
        content = tomltext.decode(files.read(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error
    content = {name.replace("-", "_"): value for name, value in content.items()}
    _refuse_unknown(path, content)
    return content


def _refuse_unknown(path: Path, content: Mapping[str, object]) -> None:
    unknown = sorted(set(content) - set(BY_NAME))
    if unknown:
        near = _nearest(unknown[0])
        hint = f"did you mean `{near}`?" if near else f"known: {', '.join(BY_NAME)}"
        raise UsageError(f"{path}: unknown setting `{one_word(unknown[0])}`", hint=hint)


def _nearest(word: str) -> str:
    """The setting somebody who wrote `word` most likely means; empty when there is none like it."""
    import difflib  # late: nobody needs it who writes what there is

    if word in _REPLACED:
        return _REPLACED[word]
    begun = [name for name in BY_NAME if len(word) >= _SHORTENED and name.startswith(word)]
    return next(iter([*begun, *difflib.get_close_matches(word, BY_NAME, n=1, cutoff=0.75)]), "")


def _mention_unknown() -> None:
    """A variable that is nearly one of ours does nothing. What is nothing like them is somebody else's."""
    for name in filter(_VARIABLE.fullmatch, os.environ):
        word = name.removeprefix("SANDBOX_").lower()
        near = "" if word in BY_NAME or name.startswith(_OURS) else _nearest(word)
        if near:
            notices.say(f"{name} is no setting: did you mean SANDBOX_{near.upper()}?")


def _parse(row: Row, value: Value) -> object:
    try:
        return setting_values.read(row.kind, value.text, choices=row.choices, least=row.least, most=row.most)
    except ValueError as error:
        raise _bad(value, str(error)) from None


def parsed(name: str, text: str, source: str) -> Any:
    """The value of a setting that somebody else than the user gives. Raises UsageError."""
    return _parse(BY_NAME[name], Value(name, text, source))


def size(name: str, text: str) -> int:
    """Bytes, of an option that is no setting but is written like one. Raises UsageError."""
    try:
        return setting_values.mebibytes(text) << 20
    except ValueError as error:
        raise _bad(Value(name, text, "command line"), str(error)) from None


def _bad(value: Value, hint: str) -> UsageError:
    option = value.name.replace("_", "-")
    return UsageError(f"`{one_word(value.text)}` is not a valid value of {option} ({value.source})", hint=hint)
