"""The package names of a Debian suite: unknown names are reported before anything is built."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from git_sandbox import confine, files, paths, process
from git_sandbox.errors import ImageError, SandboxError
from git_sandbox.image import workshop
from git_sandbox.image.spec import PACKAGE, ImageSpec
from git_sandbox.later import regex
from git_sandbox.progress import Progress

MAX_AGE = 24 * 3600.0  # seconds after which a name that is not in the list is looked up in a new one
FETCHED_WITHIN = 60.0  # seconds
MAX_NAMES = 16 << 20  # bytes of the list; Debian's has 1.6 MB
MAX_LINES = 20_000_000  # of an archive's index
MAX_LINE = 1 << 20  # bytes of one
MIRROR, SECURITY = "http://deb.debian.org/debian", "http://security.debian.org/debian-security"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ROLLING = ("sid", "unstable", "testing", "experimental")  # without suites for updates
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PLACE = "/lists"  # in the view of apt-get
# What people ask for, and what Debian calls it.
CALLED = {
    "cc": "gcc", "docker": "docker.io", "fd": "fd-find", "go": "golang", "java": "default-jdk", "man": "man-db",
    "mysql": "default-mysql-client", "node": "nodejs", "pip": "python3-pip", "postgres": "postgresql",
    "psql": "postgresql-client", "python": "python3", "redis": "redis-server", "rg": "ripgrep", "rust": "rustc",
    "sqlite": "sqlite3", "vi": "vim",
}  # fmt: skip
_ROW = regex(rb"(Package|Provides): (.+)")


def require(spec: ImageSpec, progress: Progress) -> None:
    """Raises ImageError that names every package of `spec` that its suite does not have, and what may have been meant.

    Nothing is refused where the names cannot be had: then the build says it.
    """
    path = _path(spec)
    names = _read(path)
    missing = absent(spec.additions, names)
    if spec.additions and (missing or not names) and _age(path) > MAX_AGE:
        progress("fetching the list of Debian's packages")
        names = _fetch(spec, path) or names
        missing = absent(spec.additions, names)
    if missing and names:
        raise _unknown(spec, missing, names)


def absent(packages: Iterable[str], names: bytes) -> list[str]:
    """Those of `packages` that are not in the list: a name a line, with a newline before the first one as well."""
    return [name for name in packages if f"\n{name}\n".encode() not in names]


def near(name: str, names: bytes) -> list[str]:
    """What may have been meant, the best first; at most three."""
    import difflib  # late: needed for an error only

    called = [alias for alias in (CALLED.get(name, ""),) if alias and not absent([alias], names)]
    if called:
        return called
    close = len(name) // 3 + 1
    candidates = [word for word in names.decode("ascii").split() if abs(len(word) - len(name)) <= close]
    return difflib.get_close_matches(name, candidates, n=3, cutoff=0.7)


def _unknown(spec: ImageSpec, missing: list[str], names: bytes) -> ImageError:
    guesses = {name: near(name, names) for name in missing}
    rows = [
        f"`{name}`: did you mean {' or '.join(f'`{guess}`' for guess in guesses[name])}?"
        for name in missing
        if guesses[name]
    ]
    one = len(missing) == 1
    listed = ", ".join(f"`{name}`" for name in missing)
    hint = "search https://packages.debian.org for the package of a program"
    if spec.components == "main":
        hint += '; packages outside `main` need `components = "main,contrib,non-free"` in an image spec'
    return ImageError(
        f"Debian {spec.suite} has no package{'' if one else 's'} {listed}", cause="\n".join(rows), hint=hint
    )


def _path(spec: ImageSpec) -> Path:
    key = hashlib.sha256(msgspec.json.encode(_sources(spec))).hexdigest()[:16]
    return paths.cache_root() / f"packages-{key}.txt"


def _read(path: Path) -> bytes:
    try:
        return files.read(path, MAX_NAMES)
    except (OSError, ValueError):
        return b""


def _age(path: Path) -> float:
    """Seconds; a clock that was set back makes nothing young for ever."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def _sources(spec: ImageSpec) -> list[str]:
    """Lines of sources.list(5), as mmdebstrap writes them into an image."""
    signed = f"[signed-by={KEYRING} arch={_architecture()}]" if KEYRING.exists() else f"[arch={_architecture()}]"
    components = spec.components.replace(",", " ")
    rows = [(spec.mirror or MIRROR, spec.suite)]
    if not spec.mirror and spec.suite not in ROLLING:
        rows += [(MIRROR, f"{spec.suite}-updates"), (SECURITY, f"{spec.suite}-security")]
    return [f"deb {signed} {url} {suite} {components}" for url, suite in rows]


def _architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def _fetch(spec: ImageSpec, path: Path) -> bytes:
    """What the archive has today, kept in `path`; nothing where it cannot be reached or nothing can be confined."""
    if process.which("apt-get") is None or not confine.available():
        return b""
    with tempfile.TemporaryDirectory(prefix=".packages-", dir=paths.private_directory(paths.cache_root())) as scratch:
        place = Path(scratch)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (place / name).mkdir(parents=True)
        (place / "sources.list").write_text("".join(f"{source}\n" for source in _sources(spec)))
        try:
            env = process.environment(process.inherited(workshop.REACH) | {"TMPDIR": "/tmp"})  # noqa: S108 - in the view
            process.run(confine.argv(update(), _view(place)), env=env, timeout=FETCHED_WITHIN, output=1 << 20)
        except SandboxError:
            return b""
        names = names_in(sorted((place / "state/lists").glob("*_Packages")))
    if names:
        files.write(path, names)
    return names


def names_in(indexes: Iterable[Path]) -> bytes:
    """The names of all, as `absent` takes them; nothing where one cannot be read, or they are more than MAX_NAMES."""
    names: set[bytes] = set()
    size = 0
    with contextlib.suppress(OSError):
        for name in (name for index in indexes for name in parsed(index)):
            size += 0 if name in names else len(name) + 1
            if size >= MAX_NAMES:
                return b""
            names.add(name)
        return b"".join(b"\n%s" % name for name in sorted(names)) + b"\n" if names else b""
    return b""


def update() -> list[str]:
    """The words that fetch the lists: apt-get with every directory of its own below `PLACE`."""
    options = {
        "Dir::State": f"{PLACE}/state", "Dir::State::status": "/dev/null", "Dir::Cache": f"{PLACE}/cache",
        "Dir::Etc::SourceList": f"{PLACE}/sources.list", "Dir::Etc::SourceParts": "/dev/null", "Dir::Log": PLACE,
        "APT::Architecture": _architecture(), "APT::Architectures": _architecture(), "APT::Sandbox::User": "root",
        "Acquire::Languages": "none", "Acquire::GzipIndexes": "false", "Acquire::Retries": "2",
    }  # fmt: skip
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), "update"]


def _view(place: Path) -> confine.View:
    resolver = workshop.RESOLVER.resolve()
    etc = ((Path("/etc"), "/etc"), *([(resolver, os.fspath(resolver))] if resolver != workshop.RESOLVER else []))
    return confine.View(etc, ((place, PLACE),), network=True)


def parsed(index: Path) -> Iterator[bytes]:
    """Names of an archive's packages, and of those that others provide: a mirror's text, whatever it is, in a place
    that a confined program wrote to: a link is none. Raises OSError.
    """
    with os.fdopen(os.open(index, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as lines:
        for _, line in zip(range(MAX_LINES), iter(lambda: lines.readline(MAX_LINE), b""), strict=False):
            if row := _ROW.match(line):
                for word in row[2].split(b","):
                    name = word.split(b"(")[0].strip()
                    if PACKAGE.fullmatch(name.decode("ascii", "replace")):
                        yield name
