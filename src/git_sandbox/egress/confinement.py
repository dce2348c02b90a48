"""What the proxy can see of the host, since it parses untrusted bytes: its policy, its log, the network.

Beside these only what a program needs to find names and to verify servers, and Python. Secrets come through a socket
(`sources`), so there are no keys, no home and no other sandbox.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import git_sandbox
from git_sandbox import files
from git_sandbox.confine import LINKER, PROGRAMS, View, named

ETC = Path("/etc")
CHANGING = ("resolv.conf", "hosts")  # of /etc: as networks come and go
MOST = 16 << 20  # bytes of one of those: some block thousands of names in their hosts
FIXED = ("nsswitch.conf", "host.conf", "gai.conf", "ssl/openssl.cnf", "pki/tls/openssl.cnf", "crypto-policies")
AUTHORITIES = (
    "ssl/certs",
    "ssl/cert.pem",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/ca-trust/extracted",
    "ca-certificates",
)
RESOLVED = Path("/run/systemd/resolve")
STORES = (Path("/nix/store"), Path("/gnu/store"))  # where such systems have all programs
PARTS = ("bin", "lib", "lib64", "ssl", "pyvenv.cfg")  # of a Python
PACKAGES = ("site-packages", "dist-packages")
MOST_LINKS = 40


def view(directory: Path, request_log: Path, authorities: str = "") -> View:
    """`directory`: with the policy, and what `copy_resolver` copies. `request_log`: a directory that it may write.

    `authorities`: a PEM file that servers are verified by.
    """
    etc = named(*(ETC / name for name in (*FIXED, *AUTHORITIES)), RESOLVED)
    copies = tuple((directory / name, os.fspath(ETC / name)) for name in CHANGING)
    own = named(directory, *([Path(authorities)] if authorities else []), *python())
    return View((*LINKER, *etc, *copies, *own), named(request_log), network=True)


def copy_resolver(directory: Path) -> None:
    """Copy what says how names are found, where that changed. In place: what is bound is the file and not its name."""
    for name in CHANGING:
        try:
            now = files.read(ETC / name, MOST)
        except (OSError, ValueError):
            now = b""
        target = directory / name
        if not target.exists() or files.read(target, MOST) != now:
            files.write(target, now)


def python() -> tuple[Path, ...]:
    """What this Python and this package consist of, as far as it is not below /usr."""
    prefixes = dict.fromkeys([Path(sys.prefix), Path(sys.base_prefix), *(path.parent.parent for path in _links())])
    places = [prefix / part for prefix in prefixes if prefix != Path("/") for part in PARTS]
    places += [Path(entry) for entry in sys.path if Path(entry).name in PACKAGES]
    places += [Path(git_sandbox.__file__).parent, *STORES]
    return tuple(path for path in dict.fromkeys(places) if not path.is_relative_to(PROGRAMS) and path.exists())


def _links() -> list[Path]:
    """The program, and what it is a link to, and so on."""
    programs = [Path(sys.executable)]
    while programs[-1].is_symlink() and len(programs) < MOST_LINKS:
        programs.append(Path(os.path.normpath(programs[-1].parent / programs[-1].readlink())))
    return programs
