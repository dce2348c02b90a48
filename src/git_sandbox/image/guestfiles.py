"""Our own files that a guest boots with: its init and helpers, its configuration, its keys."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
from collections.abc import Mapping
from importlib import resources

import msgspec

from git_sandbox import jsontext
from git_sandbox.guest import protocol
from git_sandbox.image.initrd import GuestFile
from git_sandbox.network import GuestNetwork

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # all that a guest trusts
FOREIGN = f"ChrootDirectory /proc/1/fd/{protocol.SYSTEM}\n".encode()
_PROGRAMS = ("init.py", "describe.py", "sandbox")
_NOT_IMPORTED = (*_PROGRAMS, "__init__.py")


class GuestUser(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    group: str
    full_name: str

    @property
    def home(self) -> str:
        """Where the guest puts it (guest/machine.py)."""
        return "/root" if self.uid == 0 else f"/home/{self.name}"

    @classmethod
    def current(cls) -> GuestUser:
        """The user who runs this process; unnamed ids (containers) get the name `user`."""
        uid, gid = os.getuid(), os.getgid()
        try:
            entry = pwd.getpwuid(uid)
            name, full_name = entry.pw_name, entry.pw_gecos.split(",")[0]
        except KeyError:
            name, full_name = "user", ""
        try:
            group = grp.getgrgid(gid).gr_name
        except KeyError:
            group = name
        return cls(name, uid, gid, group, full_name.replace(":", " "))

    def called(self, name: str) -> GuestUser:
        """The same under another name, where there is one; root stays root."""
        return msgspec.structs.replace(self, name=name) if name and self.uid != 0 else self


class GuestMount(msgspec.Struct, frozen=True):
    """A read-only disk after the workspace's, in order. `path`: where the host has it."""

    name: str
    path: str


class GuestPlace(msgspec.Struct, frozen=True):
    """A directory of the guest's at `path`, absolute: `source` of the workspace (`.` for all of it) shown there, or an
    empty one of the user's where that is empty.
    """

    path: str
    source: str = ""


class UserFile(msgspec.Struct, frozen=True):
    """A file for the guest. `path`: absolute, then it is root's, or `~/` and one below the user's home directory."""

    path: str
    content: bytes
    mode: int = 0o644


class GuestConfig(msgspec.Struct, frozen=True):
    """`config.json`, read by `guest/init.py`."""

    hostname: str
    mode: str  # run | rescue
    user: GuestUser
    host_path: str
    timezone: str  # its name, if it has one
    etc: dict[str, bytes]  # absolute path -> content
    network: GuestNetwork = GuestNetwork()
    authorities: dict[str, bytes] = {}  # certificates that its programs trust besides the image's, by `HASH.N`
    env: dict[str, str] = {}  # for every session of the user
    services: dict[str, str] = {}  # for what the guest starts by itself: proxies, and whom to trust
    zone: bytes = b""  # content of the time zone's file; empty: UTC
    stop_timeout: int = 10  # seconds between SIGTERM and SIGKILL for the user's programs
    auto_push: bool = False  # collect after every commit
    mounts: tuple[GuestMount, ...] = ()
    files: tuple[UserFile, ...] = ()
    places: tuple[GuestPlace, ...] = ()
    virtualization: bool = False  # KVM is to be offered to the user
    share: str = ""  # tag of the file system with the workspace; empty: it is on the disk
    share_files: int = 0  # files of it that the guest may remember at a time
    git_dirs: tuple[str, ...] = ()  # of repositories inside the worktree, relative to it
    worktrees: dict[str, tuple[str | None, str | None, str | None]] = {}  # linked ones: HEAD, trees of files and index
    apart: tuple[str, ...] = ()  # paths of large files that are not in W0; untouched ones do not come home
    shutdown: str = "poweroff"  # poweroff | reboot, whichever ends the VMM
    vsock: tuple[str, ...] = ()  # channels that are vsock ports and not virtio-serial ports
    root: str = ""  # key of the root image on the third disk; empty: the system is laid over the tools' root
    path: str = ""  # PATH of sessions, but for what is the user's own; empty: the usual one


def programs() -> dict[str, GuestFile]:
    """What is the same in every machine."""
    guest = resources.files("git_sandbox") / "guest"
    files = {name: GuestFile((guest / name).read_bytes(), 0o755) for name in _PROGRAMS}
    files[protocol.INIT] = GuestFile((resources.files("git_sandbox") / "data" / protocol.INIT).read_bytes(), 0o755)
    package = sorted(path.name for path in guest.iterdir() if path.name.endswith(".py"))
    return files | {
        f"git_sandbox/guest/{name}": GuestFile((guest / name).read_bytes())
        for name in package
        if name not in _NOT_IMPORTED
    }


def personal(
    config: GuestConfig, *, start: Mapping[str, str], host_key: bytes = b"", authorized_keys: bytes = b""
) -> dict[str, GuestFile]:
    """What makes a machine this sandbox's. `start`: the refs that went in; those are not listed on the way home."""
    template = (resources.files("git_sandbox") / "guest" / "sshd_config").read_bytes()
    sshd = sshd_config(template, config.env, config.user.home, config.path)
    return {
        protocol.SSHD_CONFIG: GuestFile(foreign(sshd) if config.root else sshd, 0o600),
        protocol.CONFIG: GuestFile(jsontext.encode(msgspec.structs.replace(config, env={}))),
        protocol.START_REFS: GuestFile(json.dumps(dict(start), separators=(",", ":")).encode("ascii"), 0o600),
        protocol.HOST_KEY: GuestFile(host_key, 0o600),
        protocol.AUTHORIZED_KEYS: GuestFile(authorized_keys),
    }


def sshd_config(template: bytes, env: Mapping[str, str], home: str = "/root", path: str = "") -> bytes:
    """The template with `env` for every session, and on its PATH what the user installs for himself, then `path`.

    sshd heeds the first SetEnv line only and the first of two values.
    """
    words = [b'"%s=%s" ' % (name.encode(), _quoted(value)) for name, value in env.items()]
    own = b'SetEnv "PATH=%s/.local/bin:' % os.fsencode(home)
    template = re.sub(rb"SetEnv PATH=(\S+)", lambda match: own + (_quoted(path) or match[1]) + b'"', template, count=1)
    return template.replace(b"\nSetEnv ", b"\nSetEnv " + b"".join(words), 1)


def _quoted(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def foreign(config: bytes) -> bytes:
    """The configuration of sshd for a system whose root is another than sshd's own: sessions begin there, and what it
    lacks of descriptions of terminals is in the tools.
    """
    known = f"TERMINFO_DIRS={protocol.HERE}/terminfo"
    tools = f"::{protocol.TOOLS}/usr/share/terminfo:{protocol.TOOLS}/usr/lib/terminfo"
    return config.replace(known.encode(), (known + tools).encode(), 1) + FOREIGN
