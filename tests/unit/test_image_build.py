"""Nothing of an image spec becomes a command of this host, and what a build runs sees nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import confine, idspace
from git_sandbox.errors import ImageError
from git_sandbox.helpers import userns
from git_sandbox.idspace import IdSpace
from git_sandbox.image import build, spec

HOSTILE = [
    "--setup-hook=touch x", "-v", "deb [trusted=yes] http://x/ a b", "http://x/ y", "http://x/\n", "file:///etc", "x y",
    "", " ", "/etc/passwd", "http://-x/", "http://x/;id", "$(id)", "`id`", "a,--b", "main,", "copy:/etc", "..",
    "http://user:secret@x/", "x\0", "\N{GREEK QUESTION MARK}",
]  # fmt: skip
KEYS = ("suite", "components", "mirror", "packages", "modules", "kernel", "extra_packages")


def written(directory: Path, key: str, value: str) -> Path:
    import json

    text = json.dumps(value)
    text = {"packages": f"[{text}]", "modules": f"[{text}]", "extra_packages": f"[{text}]"}.get(key, text)
    text = f"{{ x86_64 = {text}, aarch64 = {text} }}" if key == "kernel" else text
    path = directory / "spec.toml"
    path.write_text(f"{key} = {text}\n")
    return path


@given(st.sampled_from(KEYS), st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)))
def test_every_value_is_one_word_that_is_no_option(key: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wanted = spec.load(written(Path(scratch), key, value))
        except ImageError:
            return
    argv = build.mmdebstrap(wanted, Path("/tree"), Path("/place"), Path("/scripts"))
    end = argv.index("--")
    assert argv[end + 1 : end + 3] == [wanted.suite, "/tree"]
    assert [word for word in argv[end + 3 :] if not word.startswith(("http://", "https://"))] == []
    plain = build.mmdebstrap(spec.load(), Path("/tree"), Path("/place"), Path("/scripts"))
    assert [word.partition("=")[0] for word in argv[:end]] == [
        word.partition("=")[0] for word in plain[: plain.index("--")]
    ]
    assert not any(set(word) & set(" \n\0") for word in argv[end:])


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", KEYS)
def test_hostile_values_are_refused(tmp_path: Path, key: str, value: str) -> None:
    if (key, value) == ("mirror", ""):
        return  # the default: mmdebstrap's own
    with pytest.raises(ImageError):
        spec.load(written(tmp_path, key, value))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[" * 10_000,
        b"a." * 5_000 + b"b = 1",
        b"n = " + b"9" * 5_000,
        b"#" * 20_000,
        b"packages = 3",
        b"x = 1",
    ],
)
def test_what_is_no_spec_is_an_error_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        spec.load(path)
    with pytest.raises(ImageError):
        spec.load(tmp_path)


# --- the namespace a build runs in ------------------------------------------------------------------------------------


@pytest.fixture
def workshop() -> Iterator[tuple[IdSpace, Path]]:
    """A directory like a build's, given to the ids it runs with."""
    space = build._namespace()
    if space is None:
        pytest.skip("this host lets no confined root be made: no bubblewrap, subordinate ids or user namespaces")
    place = Path(tempfile.mkdtemp(prefix="git-sandbox-test-", dir="/var/tmp"))
    place.chmod(0o711)
    (place / userns.TREE).mkdir(mode=0o755)
    space.give(place)
    try:
        yield space, place / userns.TREE
    finally:
        space.remove(place)
        shutil.rmtree(place, ignore_errors=True)


ESCAPE = r"""
id -u
ls "$HOME_OF_HOST" "$SECRET" /root/* /home/* /work /srv /var/cache 2>/dev/null
for where in /usr/bin /etc /var/lib/dpkg /scripts; do
  touch "$where/escaped" 2>/dev/null && echo "wrote $where"
done
kill -0 "$HOST_PROCESS" 2>/dev/null && echo "sees processes"
mknod /build/disk b 8 0 2>/dev/null && echo "made a device"
mkdir -p /build/root; chroot / sh -c "ls $SECRET" 2>/dev/null
mount -t proc proc /build/root 2>/dev/null && ls "/build/root/$HOST_PROCESS" 2>/dev/null
echo made > /build/made
"""


def test_what_a_build_runs_sees_and_changes_nothing_of_the_host(workshop: tuple[IdSpace, Path], tmp_path: Path) -> None:
    space, tree = workshop
    secret = tmp_path / "secret"
    secret.write_text("precious")
    variables = {"HOME_OF_HOST": str(Path.home()), "SECRET": str(secret), "HOST_PROCESS": str(os.getpid())}
    argv = idspace.run_argv(space, confine.argv(["sh", "-c", ESCAPE], build._view(tree), build.BUILD), os.getpid())
    done = subprocess.run(
        argv, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
    assert (tree / "made").read_text() == "made\n"
    assert (tree / "made").stat().st_uid == space.uid, "its root is nobody here"
    assert not Path("/etc/escaped").exists()


def test_only_a_file_of_its_own_is_taken_from_a_build(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "kernel").write_text("code")
    for name in ("link", "fifo"):
        with pytest.raises((OSError, ImageError)):
            build._fetch(tmp_path / name, tmp_path / "taken")
        (tmp_path / "taken").unlink(missing_ok=True)
    build._fetch(tmp_path / "kernel", tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "code"
