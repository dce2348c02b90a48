"""A certificate authority for one sandbox, in the memory of this process and its supervisor: only its guest trusts it,
and only its public part goes there. It needs the extra `git-sandbox[inspect]`; nothing else imports it.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib.util
import os
import ssl
from typing import TYPE_CHECKING, Any

from git_sandbox.egress import names
from git_sandbox.egress.refusal import Refused

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 365  # a sandbox may run for long; programs refuse more than 398
MOST_CONTEXTS = 256
CERTIFICATE = "-----BEGIN CERTIFICATE-----"
NEEDED = "pip install 'git-sandbox[inspect]'"


def available() -> bool:
    return importlib.util.find_spec("cryptography") is not None


def missing(where: str) -> Refused:
    return Refused(403, f"the rules for {where} need the package `cryptography`, which is not installed", NEEDED)


class Authority:
    """`certificate`: PEM, for the guest's trust store. `secret`: of one that goes on, see there."""

    def __init__(self, secret: str = "") -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = serialization.load_pem_private_key(secret.encode("ascii"), None) if secret else None
        self._key: Any = key or ec.generate_private_key(ec.SECP256R1())
        self._leaf = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "git-sandbox, this sandbox only")])
        self.certificate: str = secret[secret.index(CERTIFICATE) :] if secret else self._own()
        self.context = functools.lru_cache(MOST_CONTEXTS)(self._context)

    def _own(self) -> str:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = self._signed(builder.add_extension(usage, critical=True))
        return str(certificate.public_bytes(serialization.Encoding.PEM), "ascii")

    def secret(self) -> str:
        """Key and certificate (PEM): whoever has it can be this authority."""
        return _private(self._key).decode("ascii") + self.certificate

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        from cryptography import x509

        now = dt.datetime.now(dt.UTC)
        begin, end = now - dt.timedelta(days=1), now + dt.timedelta(days=DAYS)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), begin, end)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(known, critical=False).sign(self._key, hashes.SHA256())

    def _chain(self, host: str) -> bytes:
        """Key and certificate for a host, PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID

        literal = names.address(host)
        name: x509.GeneralName = x509.DNSName(host) if literal is None else x509.IPAddress(literal)
        builder = self._builder(x509.Name([]), self._leaf.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate: bytes = self._signed(builder).public_bytes(serialization.Encoding.PEM)
        return _private(self._leaf) + certificate

    def _context(self, host: str) -> ssl.SSLContext:
        """For the guest's side of a connection to `host`; a handshake with another name fails."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)  # the module reads files only; this one is on no disk
        try:
            os.write(descriptor, self._chain(host))
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

        def check(_socket: object, name: str | None, _context: object) -> int | None:
            return None if _same(name, host) else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        context.sni_callback = check
        return context


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.PKCS8
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return pem


def _same(name: str | None, host: str) -> bool:
    if name is None:
        return names.address(host) is not None
    try:
        return names.host(name) == host
    except ValueError:
        return False
