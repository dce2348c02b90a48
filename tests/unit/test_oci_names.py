"""What a user may write for an image, and what an image may say of itself."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import transports
from git_sandbox.errors import ImageError, UsageError
from git_sandbox.image.oci import manifest, source
from support.oci import ARCHITECTURE

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("docker://debian", "docker://debian"),
        ("docker://debian:13", "docker://debian:13"),
        ("docker://ghcr.io/owner/name_x:v1.2-3", "docker://ghcr.io/owner/name_x:v1.2-3"),
        ("docker://localhost:5000/a", "docker://localhost:5000/a"),
        (f"docker://[::1]:5000/a/b@{DIGEST}", f"docker://[::1]:5000/a/b@{DIGEST}"),
        (f"docker://debian:13@{DIGEST}", f"docker://debian@{DIGEST}"),
        ("docker-daemon:name:tag", "docker-daemon:name:tag"),
        ("containers-storage:localhost/name:tag", "containers-storage:localhost/name:tag"),
    ],
)
def test_the_name_is_a_word_that_skopeo_knows(text: str, name: str) -> None:
    assert source.parse(text).name == name


def test_a_path_is_whole_and_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my image").mkdir()
    assert source.parse("oci:my image:v1").name == f"oci:{tmp_path}/my image:v1"
    with pytest.raises(UsageError, match="there is no"):
        source.parse("oci-archive:other.tar")
    for text in ("oci:~nobody-of-this-name/x", "oci:" + "x" * 300):
        with pytest.raises(UsageError, match="there is no"):
            source.parse(transports.absolute(text, tmp_path))
    assert transports.absolute("oci:a/../b:c", tmp_path) == f"oci:{tmp_path}/b:c"
    assert transports.absolute("docker://a/b", tmp_path) == "docker://a/b"


@pytest.mark.parametrize(
    "text",
    [
        "docker:debian", "docker:///x", "docker://", "docker://-x", "docker://Debian", "docker://a b",
        "docker://a@sha256:0", "docker://a:b:c", "docker://user:password@host/x",
        "docker://a/../b", "docker://a\nb", "docker://a?b", "oci:",
        "oci:a\x1bb", "oci::", "docker-daemon:", "docker-daemon:-x", "containers-storage:[overlay@/x]y", "dir:/x",
        "--help", f"docker://a@{DIGEST}0", "docker://" + "a/" * 50 + "a",
    ],
)  # fmt: skip
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        source.parse(text)
    assert caught.value.hint
    assert caught.value.message.isprintable()


@given(st.text(max_size=40), st.sampled_from([f"{each}:" for each in transports.ALL] + ["docker://", "docker://a/"]))
def test_no_text_becomes_an_option_or_more_than_one_word(text: str, transport: str) -> None:
    with contextlib.suppress(UsageError):
        name = source.parse(transport + text).name
        assert name.startswith(tuple(f"{each}:" for each in transports.ALL))
        assert name.isprintable()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("debian:13", "did you mean `docker://debian:13`?"),
        ("ghcr.io/owner/name:1", "did you mean `docker://ghcr.io/owner/name:1`?"),
        ("alpine", "did you mean `docker://alpine`?"),
        ("http://registry/x", "images come from docker://"),
        ("dir:/x", "images come from docker://"),
        ("./my-image.toml", "`sandbox image spec`"),
        ("my-image.toml", "`sandbox image spec`"),
    ],
)
def test_what_was_meant_is_said(text: str, advice: str) -> None:
    assert advice in transports.advice(text)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


PART = {"digest": DIGEST, "size": 1}
BAD_MANIFESTS: dict[str, Any] = {
    "nothing": {}, "a list": [], "no layers": {"config": PART}, "a digest of another kind":
    {"config": {"digest": "md5:0", "size": 1}, "layers": []}, "a path as a digest":
    {"config": {"digest": "sha256:../../etc/passwd", "size": 1}, "layers": []},
    "a size below zero": {"config": {"digest": DIGEST, "size": -1}, "layers": []},
    "a size of petabytes": {"config": PART, "layers": [{"digest": DIGEST, "size": 1 << 50}]},
    "much in many layers": {"config": PART, "layers": [{"digest": DIGEST, "size": 1 << 34}] * 3},
    "too many layers": {"config": PART, "layers": [PART] * 501},
    "a large configuration": {"config": {"digest": DIGEST, "size": 5 << 20}, "layers": []},
    "encrypted layers": {"config": PART, "layers": [PART | {"mediaType": "application/x.tar+gzip+encrypted"}]},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_a_manifest_that_cannot_be_true_is_refused(kind: str) -> None:
    with pytest.raises(ImageError):
        manifest.manifest(encoded(BAD_MANIFESTS[kind]))


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[" * 100_000, b"{" * (5 << 20), b'{"schemaVersion": 1, "fsLayers": []}']
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ImageError):
        manifest.is_index(raw)


def platform(architecture: str, variant: str = "", os: str = "linux") -> dict[str, Any]:
    return {"digest": "sha256:" + f"{hash((architecture, variant, os)) % (1 << 60):064x}", "size": 1} | {
        "platform": {"architecture": architecture, "variant": variant, "os": os}
    }


def test_the_image_for_this_host_is_chosen() -> None:
    own, special = platform(ARCHITECTURE), platform(ARCHITECTURE, "v9")
    others = [platform("unknown", os="unknown"), platform("s390x"), platform(ARCHITECTURE, os="windows")]
    chosen = manifest.chosen(encoded({"manifests": [*others, special, own]}))
    assert chosen.digest == own["digest"]
    assert manifest.chosen(encoded({"manifests": [special]})).digest == special["digest"]
    with pytest.raises(ImageError) as caught:
        manifest.chosen(encoded({"manifests": others}))
    assert caught.value.cause == f"it has linux/s390x, windows/{ARCHITECTURE}"


RUN = {"Env": ["A=1", "=x", "B"], "Entrypoint": None, "Cmd": ["sh"], "User": None}


def test_what_a_configuration_leaves_out_is_nothing() -> None:
    made, diff_ids = manifest.config(encoded({"config": RUN}), "oci:x", DIGEST)
    assert (made.env, made.user, made.workdir, made.entrypoint, made.cmd) == (("A=1",), "", "", (), ("sh",))
    assert diff_ids == ()
    assert manifest.config(encoded({}), "oci:x", DIGEST)[0].cmd == ()


BAD_RUNS: dict[str, dict[str, Any]] = {
    "a zero byte in a variable": {"Env": ["A=\0"]}, "a zero byte in a command": {"Cmd": ["\0"]},
    "too many variables": {"Env": ["A=1"] * 1001}, "a long variable": {"Env": ["A=" + "x" * (129 << 10)]},
    "long ones": {"Env": ["A=" + "x" * (100 << 10)] * 6}, "a user of two lines": {"User": "a\nb"},
    "a long user": {"User": "a" * 301}, "a directory with a control character": {"WorkingDir": "/\x1b"},
    "words that are none": {"Cmd": [1]}, "a command that is one text": {"Cmd": "sh"},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_RUNS)
def test_a_configuration_that_no_system_takes_is_refused(kind: str) -> None:
    with pytest.raises(ImageError):
        manifest.config(encoded({"config": BAD_RUNS[kind]}), "oci:x", DIGEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["config", "layers", "manifests", "digest", "size", "Env", "User", "rootfs", "diff_ids", "os"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_an_image_or_an_error(value: Any) -> None:
    for parse in (manifest.is_index, manifest.manifest, manifest.chosen, lambda raw: manifest.config(raw, "x", DIGEST)):
        with contextlib.suppress(ImageError):
            parse(encoded(value))
