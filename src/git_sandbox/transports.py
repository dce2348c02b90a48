"""The source of an image that is not built here, by the first word of its name: skopeo's transports
(containers-transports(5)). A value of the setting `image` without one is a path.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

REGISTRY = "docker"
FILES = ("oci", "oci-archive", "docker-archive")  # those that name a file or directory of this host
STORES = ("containers-storage", "docker-daemon")
ALL = (REGISTRY, *FILES, *STORES)
_CONTAINERFILE = re.compile(r"(?:container|docker)file(?:\.(?!toml$).*)?|.+\.(?:container|docker)file")
_UNKNOWN = re.compile(r"([a-z][a-z0-9+-]{1,20}):")
PART = r"[a-z0-9]+(?:(?:\.|_|__|-{1,9})[a-z0-9]+){0,9}"  # of a name in a registry (OCI distribution spec)
# What somebody means who writes `debian:13` or `ghcr.io/owner/name`.
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9.-]{{1,253}}(?::[0-9]{{1,5}})?/)?{PART}(?:/{PART}){{0,9}}(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)


def named(text: str) -> bool:
    """Whether `text` begins with one of the transports."""
    return text.partition(":")[0] in ALL and ":" in text


def containerfile(text: str) -> bool:
    """Whether `text`, of the setting `image`, is the path of a Containerfile or Dockerfile: by its name, as usual."""
    name = os.path.basename(text).lower()  # noqa: PTH119 - a string
    return not named(text) and bool(_CONTAINERFILE.fullmatch(name))


def absolute(text: str, root: Path) -> str:
    """`text` with its path, if it names one, seen from `root`."""
    transport, _, rest = text.partition(":")
    if transport not in FILES:
        return text
    path, colon, more = rest.partition(":")
    home = os.path.expanduser(path)  # noqa: PTH111 - pathlib raises where `~name` is nobody
    return f"{transport}:{os.path.normpath(root / home)}{colon}{more}" if path else text


def advice(text: str) -> str:
    """What to say of an `image` that is no file: what was meant, or which words there are."""
    match = _UNKNOWN.match(text)
    if _REFERENCE.fullmatch(text) and not text.endswith((".toml", ".tar")):
        return f"did you mean `docker://{text}`?"
    if match and not _REFERENCE.fullmatch(text):
        return f"images come from docker://, {', '.join(f'{transport}:' for transport in (*FILES, *STORES))}"
    return "`sandbox image spec` prints a valid one; an image of a registry begins with `docker://`"
