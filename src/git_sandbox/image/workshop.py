"""Where an image is built: a directory and a namespace of ids that no account of this host uses, without root."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import confine, files, idspace, process
from git_sandbox.cache import guest_images
from git_sandbox.errors import HostResourceError, ImageError, RequirementError
from git_sandbox.helpers import scoped, userns
from git_sandbox.idspace import IdSpace
from git_sandbox.image.spec import data
from git_sandbox.progress import Progress
from git_sandbox.text import one_line, printable

TIDYING = 60.0  # seconds an interrupted build may take to remove what it made
BUILD, SCRIPTS = "/build", "/scripts"  # in the view of a confined build
_SCRIPTS = "scripts"  # beside its directory
RESOLVER = Path("/etc/resolv.conf")
# How this host reaches package registries: a build asks the same ones in the same way.
REACH = re.compile(r"(?:(?:https?|no)_proxy|pip_(?:index|extra_index)_url|npm_config_registry)", re.IGNORECASE)
MAX_PART = 64 << 30  # bytes of a file of an image
MAX_LINE = 1000  # bytes; what a build says beyond them is a line of its own
MAX_TAIL = 16 << 10  # bytes of a log that are looked at
TRANSIENT = (b"dlstatus:", b"pmstatus:")  # lines of apt-get that are progress only
NOTED = "I: "  # how a line of a build begins that is worth showing
Reader = Callable[[str], str]  # a line of a build -> what is shown as progress; nothing for most


def root() -> Path:
    """Where confined builds happen: not in a private home, which the namespace's root cannot enter."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp").absolute()  # noqa: S108 - mkdtemp makes a name of its own there


def require_space(needed: int, place: Path) -> None:
    """`needed`: bytes, beside the cache and where builds happen. Raises HostResourceError."""
    for directory in {place, root()}:
        free = shutil.disk_usage(directory).free
        if free < needed:
            raise HostResourceError(
                f"building an image needs {needed >> 20} MiB below {directory}, {free >> 20} MiB are free",
                hint="free some space, or set XDG_CACHE_HOME and TMPDIR to a larger disk",
            )


def namespace() -> IdSpace | None:
    """The ids of a confined build, None where this host gives us none (then mmdebstrap's own namespace has to do)."""
    try:
        space = IdSpace.ours()
    except RequirementError:
        return None
    probe = idspace.run_argv(space, confine.argv(["true"], confine.View(root=True)), os.getpid())
    cause = process.which(confine.PROGRAM) and process.run(probe, timeout=process.ASKED).returncode == 0
    return space if cause else None


def prefix_of_cache() -> str:
    """How the names of directories begin in which images of this cache are built."""
    own = hashlib.sha256(os.fsencode(guest_images.images_root())).hexdigest()[:8]
    return f"git-sandbox-build-{os.getuid()}-{own}-"


@contextlib.contextmanager
def opened(space: IdSpace) -> Iterator[Path]:
    """An empty directory of `space`, for one build of this cache at a time; it goes, with all that is in it."""
    prefix = prefix_of_cache()
    for stale in root().glob(f"{prefix}*"):  # of a build that was killed: there is one at a time for each cache
        space.remove(stale)
    workshop = Path(tempfile.mkdtemp(prefix=prefix, dir=root()))
    try:
        lay_out(workshop)
        space.give(workshop)
        yield workshop / userns.TREE
    finally:
        space.remove(workshop)


def lay_out(workshop: Path) -> None:
    """The directory of a build, and beside it our scripts: who is nobody cannot go through a private directory to where
    this program is installed.
    """
    workshop.chmod(0o711)
    scripts = workshop / _SCRIPTS
    for directory in (workshop / userns.TREE, scripts):
        directory.mkdir()
        directory.chmod(0o755)
    for script in data("boot.sh").parent.iterdir():
        if script.is_file():
            (scripts / script.name).write_bytes(script.read_bytes())
            (scripts / script.name).chmod(0o644)


def view(tree: Path, more: Sequence[tuple[Path, str]] = ()) -> confine.View:
    """What a build sees: its own directory, the programs and configuration of this host, our scripts, the network."""
    resolver = RESOLVER.resolve()  # often a link into /run
    readonly = [(Path("/etc"), "/etc"), (tree.parent / _SCRIPTS, SCRIPTS), *more]
    if resolver != RESOLVER:
        readonly.append((resolver, os.fspath(resolver)))
    return confine.View(tuple(readonly), ((tree, BUILD),), network=True, root=True)


def confined(space: IdSpace, command: Sequence[str], seen: confine.View) -> list[str]:
    """The words that run `command` as the root of a namespace who is nobody here. Of this host's network it has no
    abstract socket.
    """
    way = scoped.way() if seen.network else ""
    return idspace.run_argv(space, confine.argv(command, seen, BUILD), os.getpid(), way)


def fetch(source: Path, target: Path, limit: int = MAX_PART) -> None:
    """Copy what a confined build made: a file of its own of at most `limit` bytes, and nothing that a link leads to."""
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as written, target.open("xb") as kept:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise ImageError(f"the build left no usable {source.name}")
        shutil.copyfileobj(written, kept, 1 << 20)


def noted(line: str) -> str:
    return line.removeprefix(NOTED) if line.startswith(NOTED) else ""


def logged(
    argv: Sequence[str],
    place: Path,
    progress: Progress,
    *,
    under: Sequence[str] = (),
    reader: Reader = noted,
    source: IO[bytes] | None = None,
) -> None:
    """Run with output to `build.log`; ImageError with the log's tail on failure. `reader` makes progress of its lines.

    `source`: standard input.
    """
    log = place / "build.log"
    fixed = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": _path()}
    env = process.environment(process.inherited(REACH) | fixed)
    # mmdebstrap has mounts and a whole system below TMPDIR to take away again.
    with process.spawn(
        [*under, *argv],
        env=env,
        stdin=source,
        stdout=process.PIPE,
        stderr=process.STDOUT,
        cwd=place,
        grace=TIDYING,
        tidies=True,
    ) as child:
        with log.open("ab") as handle:
            for line in iter(lambda: child.stdout.readline(MAX_LINE), b""):
                if not line.startswith(TRANSIENT):
                    handle.write(line)
                if shown := reader(line.decode("utf-8", "replace").rstrip("\n")):
                    progress(one_line(shown))
        status = child.wait()
    if status != 0:
        tail = printable(b"\n".join(files.tail(log, MAX_TAIL).splitlines()[-15:]))
        raise ImageError(f"the build of the image ended with status {status}", cause=tail, hint=_hint(tail))
    log.unlink()


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _hint(tail: str) -> str:
    if "newuidmap" in tail or "unshare" in tail or "subuid" in tail:
        return "an ordinary user needs the package uidmap and a line in /etc/subuid and /etc/subgid"
    if "Temporary failure resolving" in tail or "Could not connect" in tail:
        return "check the network, or name another `mirror` in the image spec"
    if "No space left" in tail:
        return "free some space below TMPDIR and XDG_CACHE_HOME"
    return "run `sandbox doctor`; the lines above are the end of the build's log"
