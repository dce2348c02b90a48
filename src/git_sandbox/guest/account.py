"""The user account of the guest, as on the host: name, ids, configuration files, time zone."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from pathlib import Path

from git_sandbox.guest import places
from git_sandbox.guest.common import Config

# Variables that root's programs need as well: for the terminal, and to find the way out.
KEPT = (
    "TERMINFO_DIRS http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY"
    " SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT NODE_EXTRA_CA_CERTS"
)
SHELLS = ("/bin/bash", "/bin/sh")
MAX_TABLE = 1 << 20  # bytes of a table of users, and of a file that a new home begins with


def home_of(user: dict[str, object]) -> str:
    return "/root" if int(str(user["uid"])) == 0 else f"/home/{user['name']}"


def shell() -> str:
    """What the user logs in with: bash, or what there is."""
    return next((shell for shell in SHELLS if os.access(shell, os.X_OK)), SHELLS[-1])


def add_user(user: dict[str, object]) -> Path:
    """Make the host's user exist with the same name, ids and sudo; returns the home directory."""
    uid, gid = int(str(user["uid"])), int(str(user["gid"]))
    home = Path(home_of(user))
    if uid != 0:
        write_user(user, shell())
    sudoers = Path("/etc/sudoers.d/sandbox")
    rule = f"#{uid} ALL=(ALL:ALL) NOPASSWD: ALL\n" if uid != 0 else ""
    if sudoers.parent.is_dir():  # else there is no sudo
        sudoers.write_text(f'{rule}Defaults env_keep += "{KEPT}"\n')
        sudoers.chmod(0o440)
    if not home.exists():
        home.mkdir(mode=0o755, parents=True)
        for path in skeleton():
            (home / path.name).write_bytes(path.read_bytes())
            os.chown(home / path.name, uid, gid)
        os.chown(home, uid, gid)
    elif uid != 0:
        places.claim_home(home, uid, gid)
    return home


def skeleton() -> list[Path]:
    """Small files that a new home begins with; none that a link names, which may be the kernel's and have no end."""
    with contextlib.suppress(OSError):
        seen = [(path, path.lstat()) for path in Path("/etc/skel").iterdir()]
        return [path for path, status in seen if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_TABLE]
    return []


def write_user(user: dict[str, object], login: str) -> None:
    """Into the tables of users and groups. `login`: the shell."""
    name, uid, gid, home = str(user["name"]), int(str(user["uid"])), int(str(user["gid"])), home_of(user)
    put_line(Path("/etc/passwd"), name, f"{name}:x:{uid}:{gid}:{user['full_name']}:{home}:{login}")
    put_line(Path("/etc/group"), str(user["group"]), f"{user['group']}:x:{gid}:")
    if uid != 0:
        put_line(Path("/etc/shadow"), name, f"{name}:*:20000:0:99999:7:::", mode=0o640)


def put_line(path: Path, name: str, line: str, mode: int = 0o644) -> None:
    """Put `line` at the beginning of a colon-separated table, instead of any with the same name.

    Others with the same id stay, and can be named: who asks for the name of an id gets the first line's.
    """
    kept = [line for line in table(path) if line.split(":")[0] != name]
    fresh = path.with_name(f"{path.name}.sandbox")
    fresh.write_text("\n".join([line, *kept]) + "\n", "utf-8", "surrogateescape")
    with contextlib.suppress(OSError):  # there is none
        seen = path.stat()
        os.chown(fresh, seen.st_uid, seen.st_gid)
        mode = seen.st_mode & 0o777
    fresh.chmod(mode)
    fresh.replace(path)


def table(path: Path) -> list[str]:
    """Its lines. A root image may have anything at its place: what is no file of a likely size has none."""
    with contextlib.suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            content = file.read(MAX_TABLE + 1) or b""
            text = content.decode("utf-8", "surrogateescape") if len(content) <= MAX_TABLE else ""
            return [line for line in text.split("\n") if line]
    return []


def write_etc(config: Config) -> None:
    etc = config["etc"]
    assert isinstance(etc, dict)  # noqa: S101 - written by our own host side
    for name, content in etc.items():
        target = Path(str(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(base64.b64decode(str(content)))
    set_timezone(str(config["timezone"]), base64.b64decode(str(config.get("zone", ""))))


def write_files(config: Config, home: Path) -> None:
    """Files that came along for the user, or for a program of his. What is at its place in his home stays as it is:
    a later boot finds what was made of it.
    """
    user, files = config["user"], config.get("files") or []
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    assert isinstance(files, list)  # noqa: S101
    for file in files:
        own = file["path"].startswith("~/")
        target = home / file["path"].removeprefix("~/") if own else Path(file["path"])
        if own and os.path.lexists(target):
            continue
        created = [target, *(parent for parent in target.parents if not parent.exists())]
        with contextlib.suppress(OSError):  # something else is in the way: that is the user's
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(file["content"]))
            target.chmod(file["mode"])
            for path in created if own else ():
                os.chown(path, int(str(user["uid"])), int(str(user["gid"])), follow_symlinks=False)


def set_timezone(name: str, content: bytes) -> None:
    """A link where this system knows the same under that name, because programs read the name off it."""
    known, local = Path("/usr/share/zoneinfo") / name, Path("/etc/localtime")
    if content:
        local.unlink(missing_ok=True)
        if name and known.is_file() and known.read_bytes() == content:
            local.symlink_to(known)
        else:
            local.write_bytes(content)
