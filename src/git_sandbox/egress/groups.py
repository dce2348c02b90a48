"""The rules `@apt`, `@pip`, `@npm`, `@cargo`, `@go` and `@git`: the hosts that this host's own package managers and the
repository's remotes are configured with, so that they include a company's mirror.

Only the user's and the system's configuration is read, nothing of the repository but its remotes: a project that says
where packages come from does not say what a guest may reach. Files are read with limits; one that cannot be read or
makes no sense is as good as none.
"""

from __future__ import annotations

import configparser
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from git_sandbox import files, tomltext
from git_sandbox.egress import names
from git_sandbox.later import dataclass, field, regex

DEFAULTS = {
    "apt": ("deb.debian.org", "security.debian.org"),
    "pip": ("pypi.org", "files.pythonhosted.org"),
    "npm": ("registry.npmjs.org", "registry.yarnpkg.com"),
    "cargo": ("index.crates.io", "static.crates.io", "crates.io"),
    "go": ("proxy.golang.org", "sum.golang.org"),
    "git": (),
}
# Where the files of an index are, when that is another host; and what a guest's Debian asks besides.
FILES_OF = {
    "pypi.org": ("files.pythonhosted.org",), "index.crates.io": ("static.crates.io", "crates.io"),
    "deb.debian.org": ("security.debian.org",),
}  # fmt: skip
PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418, "git+ssh": 22, "ssh+git": 22}
MOST_FILES = 100  # of a directory of sources
MOST_HOSTS = 100  # of a group
_URL = regex(r"\bhttps?://(?:\[[0-9a-f:]+\])?[^\s\"'<>\]]*", re.IGNORECASE)
_SCP = regex(r"(?:[^@/:\s]+@)?(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):(?!//|:)")


@dataclass(frozen=True)
class Sources:
    """Where to look. `environment`: the user's. `root`: of the file system, for tests. `remotes`: URLs.

    `apt`: more URLs of Debian's, those the guest's image is configured with.
    """

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path("/")
    remotes: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()


def lookup(sources: Sources) -> Callable[[str], list[str]]:
    """What a group's name stands for, as rules (`NAME` or `NAME:PORT`): for `rules.parse_all`."""
    return lambda name: members(name, sources)


def members(name: str, sources: Sources) -> list[str]:
    readers: Mapping[str, Callable[[Sources], Iterator[str]]] = {
        "apt": _apt, "pip": _pip, "npm": _npm, "cargo": _cargo, "go": _go, "git": lambda urls: iter(urls.remotes),
    }  # fmt: skip
    names: dict[str, None] = {}
    for url in readers[name](sources):
        for host_name in _of(url):
            if len(names) < MOST_HOSTS:
                names[host_name] = None
    return list(names) or list(DEFAULTS[name])


def _of(url: str) -> Iterator[str]:
    place = place_of(url)
    if place is None:
        return
    host, port = place
    yield host if port in (80, 443) else names.joined(host, port)
    yield from FILES_OF.get(host, ())


def place_of(url: str) -> tuple[str, int] | None:
    """(host, port) of a URL, or of what git takes for one (`user@host:path`); None for a path and for nonsense."""
    with contextlib.suppress(ValueError):
        if "://" in url:
            parts = urlsplit(url.removeprefix("sparse+").removeprefix("git+"))
            port = parts.port or PORTS.get(parts.scheme.lower())
            return (names.host(parts.hostname or ""), port) if port else None
        match = _SCP.match(url)
        return (names.host(match["host"].strip("[]")), 22) if match else None
    return None


def remotes_of(urls: Iterable[str]) -> tuple[str, ...]:
    """`NAME:PORT/PATH` of those URLs that git reaches by https: the repositories the host's credentials can be for."""
    secure = [url for url in urls if url.lower().startswith("https://")]
    rows = [(place_of(url), unquote(urlsplit(url).path).strip("/").removesuffix(".git")) for url in secure]
    return tuple(dict.fromkeys(f"{names.joined(*place)}/{path}" for place, path in rows if place and path))


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return files.read(path).decode("utf-8", "replace")
    return ""


def _listed(directory: Path, suffixes: tuple[str, ...]) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.iterdir() if path.suffix in suffixes)[:MOST_FILES]
    return []


def _config(sources: Sources) -> Path:
    return Path(sources.environment.get("XDG_CONFIG_HOME") or sources.home / ".config")


def _apt(sources: Sources) -> Iterator[str]:
    """sources.list(5), both formats: what is commented out, disabled or no binary packages does not matter here."""
    yield from sources.apt
    apt = sources.root / "etc/apt"
    for path in (apt / "sources.list", *_listed(apt / "sources.list.d", (".list", ".sources"))):
        for line in _read(path).splitlines():
            if not line.lstrip().startswith("#"):
                yield from _URL.findall(line)


def _pip(sources: Sources) -> Iterator[str]:
    """Pip and uv: their variables and configuration files."""
    env = sources.environment
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"):
        yield from _URL.findall(env.get(name, ""))
    etc = sources.root / "etc"
    places = [
        etc / "pip.conf",
        etc / "xdg/pip/pip.conf",
        sources.home / ".pip/pip.conf",
        _config(sources) / "pip/pip.conf",
    ]
    for path in [*places, *([Path(env["PIP_CONFIG_FILE"])] if env.get("PIP_CONFIG_FILE") else [])]:
        yield from _ini(_read(path), ("index-url", "extra-index-url"))
    for path in (etc / "uv/uv.toml", _config(sources) / "uv/uv.toml"):
        yield from _strings(_toml(path), ("index-url", "extra-index-url", "url"))


def _ini(text: str, keys: tuple[str, ...]) -> Iterator[str]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    with contextlib.suppress(configparser.Error):
        parser.read_string(text)
    for section in parser.sections():
        for key in keys:
            yield from _URL.findall(parser.get(section, key, fallback="") or "")


def _npm(sources: Sources) -> Iterator[str]:
    env = {name.lower(): value for name, value in sources.environment.items()}
    yield from _URL.findall(env.get("npm_config_registry", ""))
    given = env.get("npm_config_userconfig")
    for path in (sources.root / "etc/npmrc", sources.home / ".npmrc", *([Path(given)] if given else [])):
        for line in _read(path).splitlines():
            key, _, value = line.partition("=")
            if key.strip().endswith("registry") and not key.lstrip().startswith(("#", ";")):
                yield from _URL.findall(value)


def _cargo(sources: Sources) -> Iterator[str]:
    """Cargo's configuration; crates.io stays unless `[source.crates-io]` is replaced."""
    home = Path(sources.environment.get("CARGO_HOME") or sources.home / ".cargo")
    table = _toml(home / "config.toml") or _toml(home / "config")
    urls = list(_strings(table, ("registry", "index")))
    replaced = table.get("source")
    own = replaced.get("crates-io") if isinstance(replaced, dict) else None
    if urls and not (isinstance(own, dict) and "replace-with" in own):
        yield "https://index.crates.io/"
    yield from urls


def _toml(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        return tomltext.decode(files.read(path))
    return {}


def _strings(value: object, keys: tuple[str, ...]) -> Iterator[str]:
    """URLs below any of these keys, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            for key, inner in item.items():
                texts = inner if isinstance(inner, list) else [inner]
                yield from (text for text in texts if key in keys and isinstance(text, str) and "://" in text)
            waiting += item.values()


def _go(sources: Sources) -> Iterator[str]:
    """GOPROXY and GOSUMDB, of the environment or of what `go env -w` wrote."""
    env = sources.environment
    written = dict(line.split("=", 1) for line in _read(_config(sources) / "go/env").splitlines() if "=" in line)
    proxy = env.get("GOPROXY") or written.get("GOPROXY") or ""
    database = env.get("GOSUMDB") or written.get("GOSUMDB") or "sum.golang.org"
    urls = _URL.findall(proxy.replace(",", " ").replace("|", " "))
    if urls:
        yield from urls
        if database != "off":
            yield f"https://{database.split()[-1].split('+')[0].removeprefix('https://')}/"
