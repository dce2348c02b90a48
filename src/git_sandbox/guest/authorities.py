"""Certificate authorities passed in by the host: programs in the guest trust them like the image's own."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from git_sandbox.guest.common import Config, log

# Where those are that a later `update-ca-certificates` or `update-ca-trust` reads.
SOURCES = ("usr/local/share/ca-certificates", "etc/pki/ca-trust/source/anchors")
HASHED = "etc/ssl/certs"  # OpenSSL looks here by a hash of the subject
BUNDLES = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem")


def trust(config: Config, root: Path = Path("/")) -> None:
    """Each in its places, once. What cannot be written costs trust, and no start."""
    given = config.get("authorities")
    assert given is None or isinstance(given, dict)  # noqa: S101 - written by our own host side
    for name, content in (given or {}).items():
        try:
            add(str(name), base64.b64decode(str(content)), root)
        except OSError as error:
            log(f"cannot trust the certificate authority {name}: {error}")


def add(name: str, certificate: bytes, root: Path) -> None:
    """`name`: `HASH.N`."""
    digest, _, number = name.partition(".")
    for place in SOURCES:
        if (root / place).is_dir():
            (root / place / f"git-sandbox-{digest}-{number}.crt").write_bytes(certificate)
    if (root / HASHED).is_dir():
        (root / HASHED / free(root / HASHED, digest, certificate)).write_bytes(certificate)
    for bundle in {(root / name).resolve() for name in BUNDLES if (root / name).is_file()}:
        known = bundle.read_bytes()
        if certificate.strip() not in known:
            with bundle.open("ab") as out:
                out.write((b"" if known.endswith(b"\n") else b"\n") + certificate)


def free(place: Path, digest: str, certificate: bytes) -> str:
    """The first name that is free, or has this certificate already: several may have one hash."""
    number = 0
    while (place / f"{digest}.{number}").exists():
        with contextlib.suppress(OSError):
            if (place / f"{digest}.{number}").read_bytes() == certificate:
                break
        number += 1
    return f"{digest}.{number}"
