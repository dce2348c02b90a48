"""skopeo(1) fetches images: it knows registries, their credentials and the stores of other engines.

It runs as this user with this user's own configuration (containers-auth.json(5), registries.conf(5), policy.json(5)),
because that is what credentials are for. What it fetched is a stranger's, and is looked at elsewhere.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from git_sandbox import process, transports
from git_sandbox.errors import ImageError, SandboxError
from git_sandbox.image.oci import manifest
from git_sandbox.image.oci.source import Source
from git_sandbox.later import regex
from git_sandbox.text import one_line, printable

PROGRAM = "skopeo"
# What says where credentials, registries, proxies and stores of this user are.
HEEDED = regex(
    r"(?:https?|no|all)_proxy|REGISTRY_AUTH_FILE|DOCKER_(?:CONFIG|HOST|CERT_PATH|TLS_VERIFY)|SSL_CERT_(?:FILE|DIR)"
    r"|CONTAINERS_(?:REGISTRIES|STORAGE)_CONF|XDG_DATA_HOME",
    re.IGNORECASE,
)
ANSWER_WITHIN = 120.0  # seconds for a manifest
STALLED = 300.0  # seconds in which a fetch makes no headway
SLACK = 16 << 20  # bytes of a fetch beside the blobs
MOST_OUTPUT = 64 << 10  # bytes
RETRIES = 3
ENDS = ("unauthorized", "authentication required", "denied")
Meter = Callable[[int], None]  # hears how many bytes have come


def raw(source: Source, name: str) -> bytes:
    """The manifest or index that `name` has in its registry, byte for byte. Raises ImageError."""
    try:
        done = process.run(
            [*_begin(), "inspect", "--raw", f"--retry-times={RETRIES}", name], env=_environment(),
            output=manifest.MOST_JSON, timeout=ANSWER_WITHIN,
        )  # fmt: skip
    except SandboxError as error:
        raise ImageError(f"cannot get the image {one_line(source.text)}", cause=error.message) from error
    if done.returncode != 0:
        raise _failed(source, done.complaint)
    return done.stdout


def copy(source: Source, name: str, target: Path, most: int, meter: Meter) -> None:
    """Copy an image to the directory `target`: its manifest as it is, and each blob by its digest (`dir:`).

    Raises ImageError, also when more than `most` bytes come, or none for a long time.
    """
    scratch = target.parent / "skopeo"
    scratch.mkdir()
    argv = [*_begin(), f"--tmpdir={scratch}", "copy", "--quiet", f"--retry-times={RETRIES}"]
    argv += ["--preserve-digests"] if source.repository else []  # stores make the layers anew
    argv += _daemon(name)
    watch = _Watch((target, scratch), most + SLACK, meter)
    done = process.run(
        [*argv, name, f"dir:{target}"], env=_environment(), output=MOST_OUTPUT, watch=watch, limits=_limits(most)
    )
    if done.returncode != 0:
        raise _failed(source, done.complaint)


def _daemon(name: str) -> list[str]:
    """Where this user's Docker listens (rootless Docker, Colima): skopeo does not ask the environment for it."""
    host = process.inherited(HEEDED).get("DOCKER_HOST", "")
    return [f"--src-daemon-host={host}"] if host and name.startswith("docker-daemon:") else []


def _begin() -> list[str]:
    return [PROGRAM, "--override-os=linux", f"--override-arch={manifest.architecture()}"]


def _limits(most: int) -> process.Limits:
    return process.Limits(file_size=most + SLACK)


def _environment() -> dict[str, str]:
    return process.environment(process.inherited(HEEDED))


class _Watch:
    """Looks at what a fetch has written."""

    def __init__(self, places: tuple[Path, ...], most: int, meter: Meter) -> None:
        self._places, self._most, self._meter = places, most, meter
        self._size, self._since = 0, time.monotonic()

    def __call__(self) -> None:
        size = sum(_size(path) for path in self._places)
        if size > self._most:
            raise ImageError(f"the image was not fetched: it has more than {self._most >> 20} MiB")
        if size != self._size:
            self._size, self._since = size, time.monotonic()
            self._meter(size)
        elif time.monotonic() - self._since > STALLED:
            raise ImageError(f"the image was not fetched: no data for {STALLED:g} s")


def _size(place: Path) -> int:
    """Bytes below a directory in which files come and go."""
    total = 0
    for top, _, names in os.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_size  # noqa: PTH118 - often
            except OSError:
                continue
    return total


def _failed(source: Source, complaint: str) -> ImageError:
    lines = [line for line in complaint.splitlines() if line.strip()]
    cause = _cause(lines[-1]) if lines else "skopeo does not say why"
    return ImageError(f"cannot get the image {one_line(source.text)}", cause=cause, hint=_hint(source, complaint))


def _cause(line: str) -> str:
    """What skopeo means, without the form of its log (`time="…" level=fatal msg="…"`)."""
    match = re.search(r'msg="((?:[^"\\]|\\.)*)"', line)
    return printable(match[1].replace('\\"', '"') if match else line, limit=600)


def _hint(source: Source, complaint: str) -> str:
    text = complaint.casefold()
    if source.repository and any(end in text for end in ENDS):
        host, slash, _ = source.repository.partition("/")
        registry = host if slash and ("." in host or ":" in host or host == "localhost") else "docker.io"
        return f"log in with `skopeo login {registry}`, or check the name: registries may deny access to missing images"
    if "manifest unknown" in text or "not found" in text or "no such image" in text:
        return "check the name and the tag"
    if "server gave http response to https client" in text or "certificate" in text:
        return "a registry without TLS, or with a certificate of your own, needs a line in registries.conf(5)"
    if "no such host" in text or "connection refused" in text or "timeout" in text:
        return "check the network and the registry in the name"
    if source.text.startswith(transports.STORES):
        return "check that this engine runs for your user and has the image"
    return f"try `{PROGRAM} inspect {source.name}`"
