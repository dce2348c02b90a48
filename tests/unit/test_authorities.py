"""Certificate authorities of the host: found, named as OpenSSL names them, and trusted in a guest's file system."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import UsageError
from git_sandbox.guest import authorities as in_guest
from git_sandbox.image import authorities

# By the hash that `openssl x509 -subject_hash` prints: spaces, letters beyond ASCII, several values in one name.
CERTIFICATES = {
    "af45840e": (
        "MIIB5zCCAY2gAwIBAgIUSqwF9rPsNiieLb/5oECLVecCdAQwCgYIKoZIzj0EAwIwSDELMAkGA1UEBhMCREUxGjAYBgNVBAoMESAg"
        "U29tZSAgIENvbXBhbnkgMR0wGwYDVQQDDBRTb21lIENvbXBhbnkgUm9vdCBDQTAgFw0yNjExMzAxMDA3NTJaGA8yMTI2MTEwNjEw"
        "MDc1MlowSDELMAkGA1UEBhMCREUxGjAYBgNVBAoMESAgU29tZSAgIENvbXBhbnkgMR0wGwYDVQQDDBRTb21lIENvbXBhbnkgUm9v"
        "dCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNWZLfTeU+ZqcJHYaE150GzQNXaxmkZVHowH7VgZRQnJNfZtKGPyiaPY+pQv"
        "JNyf6BEMkM/c9D0RuW0/hNsU95SjUzBRMB0GA1UdDgQWBBQNhMuTsSFoEmDdxfgd8R3C9y2kqzAfBgNVHSMEGDAWgBQNhMuTsSFo"
        "EmDdxfgd8R3C9y2kqzAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDzVJM2N5d84aJeLS838i3j4/+PPAj/eX6e"
        "zhJwL8Zd/gIgRRkXj/pdmU7fLbNGUnLtaxiADD5HzQbjFsopY7nxz8Q="
    ),
    "b41f8894": (
        "MIIB/DCCAaOgAwIBAgIUVT7XAbQX+dKJCvqkWiS9oE6pVsIwCgYIKoZIzj0EAwIwUzEdMBsGA1UEAwwUWsO8cmljaCDDnG7Dr2Nv"
        "ZGUgQUcxFjAIBgNVBAsMAXgwCgYDVQQLDANhYmMxGjAYBgkqhkiG9w0BCQEWC0FAQi5leGFtcGxlMCAXDTI2MTEzMDEwMDc1MloY"
        "DzIxMjYxMTA2MTAwNzUyWjBTMR0wGwYDVQQDDBRaw7xyaWNoIMOcbsOvY29kZSBBRzEWMAgGA1UECwwBeDAKBgNVBAsMA2FiYzEa"
        "MBgGCSqGSIb3DQEJARYLQUBCLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATZRWl2uUvZo2M5LaW6xozkhP1zp7Am"
        "ZYMGd5UodDzfCAP3bgQHFbzBYsCQ4eehUUZvooojmnpoTmUMgS996yCEo1MwUTAdBgNVHQ4EFgQUQTSQj4M/Yf0VyyfjIo/zavcr"
        "fKgwHwYDVR0jBBgwFoAUQTSQj4M/Yf0VyyfjIo/zavcrfKgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiAKl9Zp"
        "vMQWFx0ZyWqeAUtEKBUbvlm126vnSA31XZmexQIgX4ZQmgXJvDhKyVFiwtNhflLs3d9sQNBBtZsViI6Wjak="
    ),
    "383da733": (
        "MIIBiTCCAS+gAwIBAgIUdTlJYSlGw03dnjPCyuejXd7txX0wCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOUFJJTlRBQkxFIG9ubHkw"
        "IBcNMjYxMTMwMTAwNzUzWhgPMjEyNjExMDYxMDA3NTNaMBkxFzAVBgNVBAMMDlBSSU5UQUJMRSBvbmx5MFkwEwYHKoZIzj0CAQYI"
        "KoZIzj0DAQcDQgAEUfIW71xIMW6NTEitKWu4xVJBywgOYgbMhubqykynTCN7aBfLUIpKkIrAYTvHTCAgjp4buayMLFhsecmsTcCS"
        "naNTMFEwHQYDVR0OBBYEFGWsDuljTBhOXey79n/ZfAWL8vOfMB8GA1UdIwQYMBaAFGWsDuljTBhOXey79n/ZfAWL8vOfMA8GA1Ud"
        "EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAJnmJ8LHJ0WL0jCuJw60q1BIUv4e4jCTs+FM0GVwy+/vAiBg9slhxczkIVjq"
        "6hA0WyYs03cxJnIWfeptChY5BKxnfQ=="
    ),
}
PEM = {name: authorities.pem(base64.b64decode(text)) for name, text in CERTIFICATES.items()}


def never(name: str, _most: int) -> bytes:
    raise AssertionError(name)


KEY = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("name", CERTIFICATES)
def test_names_are_those_of_openssl(name: str) -> None:
    assert authorities.subject_hash(base64.b64decode(CERTIFICATES[name])) == name


def test_what_was_added_to_the_host_is_found_without_keys_and_once(tmp_path: Path) -> None:
    one, two, three = PEM.values()
    debian, fedora = (tmp_path / each for each in authorities.PLACES[:2])
    for place in (debian / "below", fedora):
        place.mkdir(parents=True)
    (debian / "below/one.crt").write_bytes(KEY + one + KEY)
    (debian / "two.crt").write_bytes(two + one + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (debian / "binary.crt").write_bytes(bytes(range(256)))
    (debian / "gone.crt").symlink_to("/does/not/exist")
    (fedora / "three.pem").write_bytes(three.replace(b"\n", b"\r\n"))
    found = authorities.for_guest("host", never, tmp_path)
    assert found == {f"{name}.0": content for name, content in PEM.items()}
    assert authorities.for_guest("host", never, tmp_path / "other") == {}
    assert authorities.for_guest("none", never, tmp_path) == {}


def test_a_file_without_certificates_is_named() -> None:
    with pytest.raises(UsageError, match=r"no certificate in /x/ca\.pem"):
        authorities.for_guest("/x/ca.pem", lambda _name, _most: KEY)
    assert list(authorities.for_guest("/x/ca.pem", lambda _name, _most: PEM["383da733"])) == ["383da733.0"]

    def missing(name: str, _most: int) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", name)

    with pytest.raises(UsageError, match="cannot read") as caught:
        authorities.for_guest("/x/ca.pem", missing)
    assert caught.value.cause == "No such file or directory"


@given(st.binary(max_size=300) | st.tuples(st.integers(0, 3000), st.integers(0, 255)))
def test_any_bytes_are_certificates_or_not(change: bytes | tuple[int, int]) -> None:
    whole = bytearray(base64.b64decode(CERTIFICATES["b41f8894"]))
    if isinstance(change, tuple):
        whole[change[0] % len(whole)] = change[1]
    else:
        whole = bytearray(change)
    for der in authorities.certificates(authorities.pem(bytes(whole))):
        assert len(authorities.subject_hash(der)) == 8


def test_numbers_are_limited() -> None:
    made = [base64.b64decode(CERTIFICATES["383da733"])[:-4] + n.to_bytes(4, "big") for n in range(authorities.MOST + 5)]
    found = authorities.named(made)
    assert len(found) == authorities.MOST
    assert list(found)[:2] == ["383da733.0", "383da733.1"]


def test_a_guest_trusts_them_in_every_place_and_once(tmp_path: Path) -> None:
    hashed, source = tmp_path / "etc/ssl/certs", tmp_path / "usr/local/share/ca-certificates"
    for each in (hashed, source):
        each.mkdir(parents=True)
    bundle = hashed / "ca-certificates.crt"
    bundle.write_bytes(b"debian's")
    (hashed / "383da733.0").write_bytes(b"of another one with this hash")
    given_ = {f"{name}.0": base64.b64encode(content).decode() for name, content in PEM.items()}
    for _ in range(2):  # it starts again
        in_guest.trust({"authorities": given_}, tmp_path)
    assert bundle.read_bytes() == b"debian's\n" + b"".join(PEM.values())
    assert {each.name for each in hashed.iterdir()} - {bundle.name} == {
        "383da733.0", "383da733.1", "af45840e.0", "b41f8894.0",
    }  # fmt: skip
    assert sorted(each.read_bytes() for each in source.iterdir()) == sorted(PEM.values())
    in_guest.trust({}, tmp_path)
    in_guest.trust({"authorities": given_}, tmp_path / "an image that has no such places")


def test_openssl_finds_them(tmp_path: Path) -> None:
    if subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no openssl here")
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    in_guest.add("b41f8894.0", PEM["b41f8894"], tmp_path)
    (tmp_path / "one.pem").write_bytes(PEM["b41f8894"])
    argv = ["openssl", "verify", "-no-CAfile", "-CApath", str(tmp_path / "etc/ssl/certs"), str(tmp_path / "one.pem")]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
