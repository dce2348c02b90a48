"""The user of the guest, as on the host: name, ids, files of the configuration, time zone."""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from git_sandbox.guest.common import Config

# Variables that root's programs need as well: for the terminal, and to find the way out.
KEPT = (
    "TERMINFO_DIRS http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY"
    " SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT NODE_EXTRA_CA_CERTS"
)


def add_user(user: dict[str, object]) -> Path:
    """Make the host's user exist with the same name, ids and sudo; returns the home directory."""
    name, uid, gid = str(user["name"]), int(str(user["uid"])), int(str(user["gid"]))
    home = Path("/root") if uid == 0 else Path("/home") / name
    if uid != 0:
        replace_line(Path("/etc/passwd"), name, f"{name}:x:{uid}:{gid}:{user['full_name']}:{home}:/bin/bash", uid)
        replace_line(Path("/etc/group"), str(user["group"]), f"{user['group']}:x:{gid}:", gid)
        replace_line(Path("/etc/shadow"), name, f"{name}:*:20000:0:99999:7:::", None)
    sudoers = Path("/etc/sudoers.d/sandbox")
    rule = f"#{uid} ALL=(ALL:ALL) NOPASSWD: ALL\n" if uid != 0 else ""
    if sudoers.parent.is_dir():  # else there is no sudo
        sudoers.write_text(f'{rule}Defaults env_keep += "{KEPT}"\n')
        sudoers.chmod(0o440)
    if not home.exists():
        home.mkdir(mode=0o755, parents=True)
        for each in Path("/etc/skel").iterdir():
            (home / each.name).write_bytes(each.read_bytes())
            os.chown(home / each.name, uid, gid)
        os.chown(home, uid, gid)
    return home


def replace_line(path: Path, name: str, line: str, number: int | None) -> None:
    """Put `line` into a colon-separated table instead of any that has the same name or the same id."""
    kept = [
        each
        for each in path.read_text().splitlines()
        if each.split(":")[0] != name and (number is None or each.split(":")[2] != str(number))
    ]
    path.write_text("\n".join([*kept, line]) + "\n")


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
    for each in files:
        own = each["path"].startswith("~/")
        target = home / each["path"].removeprefix("~/") if own else Path(each["path"])
        if own and os.path.lexists(target):
            continue
        made = [target, *(each for each in target.parents if not each.exists())]
        with contextlib.suppress(OSError):  # something else is in the way: that is the user's
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(each["content"]))
            target.chmod(each["mode"])
            for path in made if own else ():
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
