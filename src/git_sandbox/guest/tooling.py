"""Our programs in a root file system of any kind: with another libc (musl), or with a single file in it.

They run from the tools image with its own loader and libraries: below `BIN`, last on the PATH, are scripts for busybox,
which is static. The image's own programs come first.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from git_sandbox.guest import account, elevate
from git_sandbox.guest.common import BIN, HERE, PATH, TOOLS, Config
from git_sandbox.guest.mounts import MS_BIND, mount

BUSYBOX = TOOLS / "bin/busybox"
OFFERED = ("git", "git-lfs", "git-upload-pack", "git-receive-pack", "tmux", "infocmp")  # what others need of ours
GIT_CORE = Path("usr/lib/git-core")
RUN = HERE / "run-tool"
INTERPRETER = re.compile(rb"/lib[^\0]{0,40}/ld-[^\0]{1,60}")  # near the beginning of a dynamic program
NOT_OFFERED = frozenset(("halt", "init", "linuxrc", "login", "poweroff", "reboot", "su", "sulogin", "passwd"))
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
BUNDLES = ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem")  # elsewhere
PROFILE = Path("/etc/profile.d/zz-git-sandbox.sh")
# $loader, $libraries, $tools: set before.
RUN_SCRIPT = r"""
name=${0##*/}
case $name in git|git-*|scalar)
  export GIT_EXEC_PATH="${GIT_EXEC_PATH:-/run/git-sandbox/git-core}"
  export GIT_TEMPLATE_DIR="${GIT_TEMPLATE_DIR:-$tools/usr/share/git-core/templates}" ;;
esac
for place in usr/bin usr/lib/git-core; do
  [ -e "$tools/$place/$name" ] || continue
  exec "$loader" --inhibit-cache --library-path "$libraries" --argv0 "$name" "$tools/$place/$name" "$@"
done
echo "$name: the tools have no such program" >&2
exit 127
"""


class Login(TypedDict):
    """What a system has. `shell`: to log in with. `sudo`: one of its own. `sparse`: not even `ls`."""

    shell: str
    sudo: bool
    sparse: bool


def settle(config: Config, furnish: Callable[[], object]) -> Login:
    """In the system: what `furnish` does for the user, and where ours is to be found."""
    find_authorities()
    furnish()
    link(Path("/usr/local/bin/sandbox"), HERE / "sandbox")
    if PROFILE.parent.is_dir():
        PROFILE.write_text(profile(str(config.get("path") or PATH)))
    with contextlib.suppress(OSError):  # a system without is one that has them built in, as far as it can tell
        mount(str(TOOLS / "usr/lib/modules"), Path("/lib/modules"), flags=MS_BIND)
    return {"shell": account.shell(), "sudo": has("sudo"), "sparse": not has("ls")}


def has(name: str) -> bool:
    return any(os.access(f"{place}/{name}", os.X_OK) for place in PATH.split(":"))


def find_authorities() -> None:
    """Sessions are told of one file; distributions have it at several places."""
    known = next((Path(bundle) for bundle in BUNDLES if Path(bundle).is_file()), None)
    if known and not BUNDLE.exists():
        with contextlib.suppress(OSError):
            BUNDLE.parent.mkdir(parents=True, exist_ok=True)
            link(BUNDLE, known)


def link(path: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def profile(path: str) -> str:
    """For login shells, whose /etc/profile may throw away the PATH they were given."""
    return f'case ":$PATH:" in *:{BIN}:*) ;; *) PATH={shlex.quote(path)}; export PATH ;; esac\n'


def prepare(login: Login, gid: int, root: Path = Path("/")) -> None:
    """In the tools' root: `BIN` and what it needs. `gid`: the user's. `root`: where the tools are."""
    BIN.mkdir(mode=0o755)
    loader, libraries = (
        found_loader(root / "usr/bin/git"),
        f"{TOOLS}/usr/lib/{os.uname().machine}-linux-gnu:{TOOLS}/usr/lib",
    )
    known = f"tools={TOOLS} loader={TOOLS}{loader} libraries={libraries}\n"
    script(RUN, known + RUN_SCRIPT)
    for name in OFFERED:
        (BIN / name).symlink_to(RUN)
    offer_git(root / GIT_CORE, HERE / "git-core")
    (HERE / "sandbox").rename(HERE / "sandbox.py")
    python = f"{TOOLS}/usr/bin/python3"
    words = f'"$loader" --inhibit-cache --library-path "$libraries" --argv0 {python} {python} -I {HERE}/sandbox.py "$@"'
    script(HERE / "sandbox", f"{known}exec {words}\n")
    (BIN / "sandbox").symlink_to(HERE / "sandbox")
    if login["sparse"]:
        offer_applets(root)
    if not login["sudo"]:
        elevate.offer(gid)


def found_loader(program: Path) -> str:
    """The path of the loader that a program of the tools names."""
    with program.open("rb") as file:
        named = INTERPRETER.search(file.read(4096))
    if named is None:
        raise OSError(f"{program} names no loader")
    return named[0].decode()


def script(path: Path, text: str) -> None:
    path.write_text(f"#!{BUSYBOX} sh\n{text}")
    path.chmod(0o755)


def offer_git(core: Path, place: Path) -> None:
    """Where git looks for its own programs: what is no script runs as `RUN` runs it."""
    place.mkdir(mode=0o755)
    for path in core.iterdir():
        plain = path.is_symlink() or (path.is_file() and is_program(path))
        (place / path.name).symlink_to(RUN if plain else TOOLS / GIT_CORE / path.name)


def is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def offer_applets(root: Path) -> None:
    """Busybox's, for a system that has next to nothing."""
    done = subprocess.run([root / "bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in set(done.stdout.split()) - NOT_OFFERED:
        if not (BIN / name).exists():
            (BIN / name).symlink_to(BUSYBOX)
