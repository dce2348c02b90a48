"""The settings: for each a row for the user (name, default, help, choices), and a field with its value."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from git_sandbox import files, network
from git_sandbox.later import dataclass, field
from git_sandbox.network import Network
from git_sandbox.setting_values import AUTO

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
    own: bool = False  # of the user's only: no project file can say it, whoever trusts it


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
    Row("warm", AUTO, "start from a saved machine if possible (auto), or boot every time (no)", (AUTO, "no")),
    Row(
        "nested",
        "no",
        "let the guest run virtual machines with KVM (QEMU only)",
        ("no", "yes"),
        free=("no",),
    ),
    Row("vsock", "no", "let QEMU's sessions use the host's vsock (/dev/vhost-vsock)", ("no", "yes"), free=("no",)),
    Row(
        "confinement",
        AUTO,
        "confine VMMs and helpers to their own files: if possible (auto), never, or refuse to start without (yes)",
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
    Row(
        "key",
        "",
        "keys of keys.toml that the guest uses through the proxy, without having them (network allow)",
        kind="list",
    ),
    Row(
        "git_credentials",
        "none",
        "what git in the guest may do at the repository's remotes with this host's credentials (network allow)",
        ("none", "fetch", "push"),
    ),
    Row(
        "egress_limit",
        "",
        "limits of the network allow: connections=N, rate=N (new connections a second), sent=SIZE",
        kind="list",
    ),
    Row(
        "ca",
        "host",
        "certificate authorities for a guest with a network: those added to this host (host), none, or those in a FILE",
        kind="path",
    ),
    Row(
        "image",
        "",
        "guest image: an OCI image (docker://NAME:TAG, oci:PATH …), a Containerfile, or an image spec (TOML)",
        kind="image",
    ),
    Row("packages", "", "Debian packages to add to the guest image", kind="list"),
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
        "ignored files to copy: all, or only those in .worktreeinclude (none)",
        ("all", "none"),
        free=("none",),
    ),
    Row(
        "exclude",
        "",
        "untracked and ignored files never to copy (patterns as in .gitignore)",
        kind="list",
        free=(ANY,),
    ),
    Row(
        "git_extra",
        "",
        "more files and settings of `.git` to copy, that git itself does not use; * matches anything (svn, my.key)",
        kind="list",
    ),
    Row("auto_push", "no", "bring work home after every commit, not only at the end", ("no", "yes"), free=(ANY,)),
    Row(
        "env",
        "",
        "variable for the guest: NAME=VALUE, or NAME for its value on this host",
        kind="lines",
        free=(VALUES,),
    ),
    Row(
        "devcontainer",
        AUTO,
        "devcontainer.json: the repository's, once you agreed to it (auto), none, or PATH in the repository",
        free=("none",),
    ),
    Row("env_file", "", "file of such variables, one per line", kind="lines"),
    Row("setup", "", "script to run once in a new guest, before anything else", kind="path", free=(INSIDE,)),
    Row("mount", "", "directory of which the guest gets a read-only copy: PATH or PATH:ro", kind="lines"),
    Row("publish", "", "port of this host's loopback to forward to the guest: HOST:GUEST", kind="list"),
    Row("ssh_agent", "no", "forward your ssh agent to the guest", ("no", "yes")),
    Row("bases", "8G", "cache size for repository images that later sandboxes start from, or no", kind="room"),
    Row("cow", AUTO, "how a workspace disk is overlaid on the image it starts from", COW),
    Row("thin_pool", "", "LVM thin pool (VG/POOL) for workspace disks (root only)"),
    Row(
        "notify",
        AUTO,
        "command to run when a sandbox waits, is done or failed (auto: notify-send, for agents; no: none)",
        kind="command",
    ),
    Row(
        "banner",
        "yes",
        "three lines before a shell: what this is, its network, how work comes home",
        ("yes", "no"),
    ),
    Row(
        "workdir",
        "guest",
        "where sessions start: /workspace (guest), or the repository's own path (host)",
        ("guest", "host"),
        free=(ANY,),
    ),
    Row(
        "trash",
        "7d",
        "how long a sandbox that was dropped or ended unchanged can be restored (30m, 12h, 7d, 4w, never, 0)",
        kind="duration",
    ),
    Row("trash_size", "10G", "size limit of the trash; the oldest sandboxes are deleted first", kind="room", least=0),
    Row(
        "stop_timeout",
        "10",
        "seconds that programs may take to end when the sandbox stops",
        kind="seconds",
        free=(ANY,),
        most=3600,
    ),
    Row("boot_timeout", "180", "seconds that a machine may take to answer", kind="seconds", free=(ANY,)),
    Row(
        "editor_command",
        AUTO,
        "what `sandbox code` opens: vscode, cursor, zed, jetbrains, toolbox, emacs, neovim, vim, or words with {host}",
        kind="command",
        own=True,
    ),
    Row(
        "mcp_allow",
        "",
        "what agents on this host may do without asking: merge, drop, sandboxes, or SETTING:VALUE",
        kind="lines",
        own=True,
    ),
    Row(
        "mcp_repositories",
        "",
        "directories whose repositories `sandbox mcp` also serves",
        kind="lines",
        own=True,
    ),
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
    banner: str  # yes | no
    workdir: str  # guest | host
    trash: int | None  # seconds; None: for ever
    trash_size: int  # MiB
    stop_timeout: int  # seconds
    boot_timeout: int  # seconds
    editor_command: str  # auto | a name of `sandbox.editors` | a command line
    mcp_allow: tuple[str, ...]
    mcp_repositories: tuple[str, ...]
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
