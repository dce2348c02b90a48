"""A host directory as a file system of the guest: virtiofsd(1), which the VMM talks to over vhost-user."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import confine, idspace, process
from git_sandbox.errors import RequirementError
from git_sandbox.helpers import userns
from git_sandbox.idspace import IdSpace
from git_sandbox.later import dataclass
from git_sandbox.vmm import confined as views
from git_sandbox.vmm.machine import Cleanup, Share

PROGRAM = "virtiofsd"
VERSIONS = ((1, 10), (2,))  # from, below; what is tested is in docs/how-to/share.md
ELSEWHERE = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib")  # distributions keep it away from users' PATH
LOOKED_AT_EVERY = 1.0  # seconds
QUEUE = 1024  # requests under way; the most that QEMU takes
HOW = "Debian 13 and Ubuntu 24.04: `sudo apt-get install virtiofsd`; `sandbox help share` for others"

# The version in C, of QEMU before 8.0, says "virtiofsd version 7.2.22 (…)", the one in Rust "virtiofsd 1.13.2".
_RUST = re.compile(rb"virtiofsd (?:backend )?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Virtiofsd:
    """One program of that name. `version` (): not the one written in Rust."""

    path: Path
    version: tuple[int, ...]

    @property
    def usable(self) -> bool:
        return VERSIONS[0] <= self.version < VERSIONS[1]

    @property
    def words(self) -> str:
        version = ".".join(map(str, self.version)) if self.version else "the old C version, which needs root"
        return f"{self.path} ({version})"


def candidates(path: str) -> list[Path]:
    """Where one may be, in order. `path`: the variable PATH."""
    directories = dict.fromkeys([*filter(None, path.split(":")), *ELSEWHERE])
    return [Path(directory, PROGRAM) for directory in directories]


def look() -> list[Virtiofsd]:
    """Every one this host has."""
    path = process.environment().get("PATH", "")
    return [Virtiofsd(place, version(place)) for place in candidates(path) if os.access(place, os.X_OK)]


def version(program: Path) -> tuple[int, ...]:
    done = process.run([str(program), "--version"], timeout=process.ASKED)
    match = _RUST.match(done.stdout + done.stderr)
    return tuple(int(digits) for digits in match.groups() if digits) if match else ()


def choose(candidates: Sequence[Virtiofsd]) -> Virtiofsd:
    """The first that can be used. Pure. Raises RequirementError."""
    for candidate in candidates:
        if candidate.usable:
            return candidate
    lowest = ".".join(map(str, VERSIONS[0]))
    raise RequirementError(
        f"`--transport share` needs virtiofsd {lowest} or newer",
        cause="found: " + ", ".join(candidate.words for candidate in candidates)
        if candidates
        else "it is not installed",
        hint=f"{HOW}; or use `--transport disk`",
    )


def argv(descriptor: int) -> list[str]:
    """The command line. `descriptor`: a listening socket.

    `--sandbox namespace`: it sees only the shared directory, of what `confined.virtiofsd` shows, too. Nobody else
    writes there, so the guest may believe what it has seen (`--cache always`). No `--writeback`: what the guest has
    written is the host's at once.
    """
    return [
        PROGRAM, "--fd", str(descriptor), "--shared-dir", userns.SERVED, "--sandbox", "namespace", "--seccomp", "kill",
        "--cache", "always", "--xattr", "--log-level", "error",
    ]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A virtiofsd. `place`: the socket at which it serves one VMM."""

    place: Path
    child: process.Child

    @contextlib.contextmanager
    def needed(self, vmm: process.Child) -> Iterator[None]:
        """While the block lasts, the end of this server is the machine's: its guest would wait for an answer for ever.

        What was written is in the directory, and a rescue machine brings it home.
        """
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOKED_AT_EVERY):
                if self.child.poll() is not None and vmm.poll() is None:
                    process.kill_group(vmm.pid)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()


@contextlib.contextmanager
def served(
    share: Share, runtime: Path, complaints: IO[bytes], cleanup: Cleanup, *, confined: bool = True
) -> Iterator[Server]:
    """A running virtiofsd. It ends when its VMM hangs up, or with the block.

    Raises RequirementError when there is none that can be used.
    """
    program = choose(look()).path.resolve()
    place, space = runtime / "share", IdSpace.of(share.place)
    confined = confined and not confine.obstacle(str(program))
    with cleanup.listener(place) as listening:
        words = argv(listening.fileno())
        if confined:
            view = confine.needed(program, views.virtiofsd(), Path(userns.PROGRAM))
            words = confine.argv([str(program), *words[1:]], view, alone=True)
        copied = confined and confine.elsewhere(program)
        order = idspace.serve_argv(space, share.place, program, words, confined=confined, copied=copied)
        with process.spawn(
            order, stdout=complaints, stderr=complaints, pass_fds=[listening.fileno()], watched=True
        ) as child:
            listening.close()  # a dead virtiofsd must not seem to listen
            yield Server(place, child)
