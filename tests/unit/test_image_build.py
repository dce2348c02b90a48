"""Nothing of an image spec becomes a command of this host, and what a build runs sees nothing of it."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox import confine, idspace
from git_sandbox.errors import ImageError
from git_sandbox.helpers import scoped, userns
from git_sandbox.idspace import IdSpace
from git_sandbox.image import build, spec, workshop
from git_sandbox.image.spec import ImageSpec
from support.examples import examples

HOSTILE = [
    "--setup-hook=touch x", "-v", "deb [trusted=yes] http://x/ a b", "http://x/ y", "http://x/\n", "file:///etc", "x y",
    "", " ", "/etc/passwd", "http://-x/", "http://x/;id", "$(id)", "`id`", "a,--b", "main,", "copy:/etc", "..",
    "http://user:secret@x/", "x\0", "\N{GREEK QUESTION MARK}",
]  # fmt: skip
KEYS = ("suite", "components", "mirror", "packages", "modules", "kernel", "extra_packages")


def written(directory: Path, key: str, value: str) -> Path:
    import json

    text = json.dumps(value)
    text = f"[{text}]" if key in ("packages", "modules", "extra_packages", "npm", "pip", "commands") else text
    text = f"{{ x86_64 = {text}, aarch64 = {text} }}" if key == "kernel" else text
    path = directory / "spec.toml"
    path.write_text(f"{key} = {text}\n")
    return path


def loaded(key: str, value: str) -> ImageSpec | None:
    """None where it is refused."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return spec.load(written(Path(scratch), key, value))
        except ImageError:
            return None


def command(wanted: ImageSpec) -> list[str]:
    return build.mmdebstrap(wanted, Path("/tree"), Path("/place"), Path("/scripts"))


@given(st.sampled_from(KEYS), st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)))
def test_every_value_is_one_word_that_is_no_option(key: str, value: str) -> None:
    wanted = loaded(key, value)
    if wanted is None:
        return
    argv = command(wanted)
    end = argv.index("--")
    assert argv[end + 1 : end + 3] == [wanted.suite, "/tree"]
    assert [word for word in argv[end + 3 :] if not word.startswith(("http://", "https://"))] == []
    plain = command(spec.load())
    assert [word.partition("=")[0] for word in argv[:end]] == [
        word.partition("=")[0] for word in plain[: plain.index("--")]
    ]
    assert not any(set(word) & set(" \n\0") for word in argv[end:])


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", [*KEYS, "npm", "pip"])
def test_hostile_values_are_refused(tmp_path: Path, key: str, value: str) -> None:
    if (key, value) == ("mirror", ""):
        return  # the default: mmdebstrap's own
    with pytest.raises(ImageError):
        spec.load(written(tmp_path, key, value))


@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(["npm", "pip", "commands"]), st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)))
def test_what_is_installed_is_words_of_one_script(key: str, value: str) -> None:
    """The shell that mmdebstrap gives a hook to sees the words of `install.sh`, whatever they are."""
    wanted = loaded(key, value)
    if wanted is None:
        return
    hooks = [each.partition("=")[2] for each in command(wanted) if "chroot" in each and "/tmp/install.sh" in each]
    script = f'chroot() {{ shift; printf "%s\\0" "$@"; }}\n{hooks[0]}'
    said = subprocess.run(["sh", "-c", script, "sh", "/root"], capture_output=True, check=True).stdout
    kind = "run" if key == "commands" else key
    *words, last = said.removesuffix(b"\0").split(b"\0")
    assert words == [b"sh", b"/tmp/install.sh", kind.encode()]
    assert (base64.b64decode(last) if kind == "run" else last) == value.encode()


def test_the_default_image_installs_nothing_else_and_a_new_word_makes_another_image(tmp_path: Path) -> None:
    plain = spec.load()
    assert plain.installs == ()
    assert "install.sh" not in " ".join(command(plain))
    made = spec.load(written(tmp_path, "npm", "@scope/name@1.2.3"))
    assert (made.installs, made.key != plain.key) == ((("npm", "@scope/name@1.2.3"),), True)
    (tmp_path / "again.toml").write_text(made.toml)
    assert spec.load(tmp_path / "again.toml") == made


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), max_size=3))
@example(["echo \N{WASTEBASKET}", "echo \N{GRINNING FACE}", "\x7f", "\r\n", "\\u0041"])
def test_a_spec_that_is_written_down_is_read_as_it_was(commands: list[str]) -> None:
    """An agent's spec goes to the build as a file; its commands are any text."""
    plain = spec.load()
    asked = msgspec.structs.replace(plain, commands=tuple(commands))
    assert asked.toml.isascii()
    assert spec.load(Path("x"), read=lambda _name, _most: asked.toml.encode()) == asked


def test_root_without_a_confinement_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "namespace", lambda: None)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(build, "NEEDED_SPACE", 0)
    with pytest.raises(ImageError, match="root cannot build this image"):
        build._build(spec.load(written(tmp_path, "commands", "true")), tmp_path, lambda _text: None)


@pytest.mark.parametrize(("key", "mode"), [("packages", "auto"), ("npm", "unshare"), ("commands", "unshare")])
def test_what_is_installed_never_runs_as_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, mode: str
) -> None:
    """mmdebstrap's `auto` falls back to fakechroot, which confines nothing."""
    argvs: list[list[str]] = []

    def logged(argv: list[str], *_others: object, **_more: object) -> None:
        argvs.append(argv)
        raise ImageError("far enough")

    monkeypatch.setattr(workshop, "namespace", lambda: None)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(build, "NEEDED_SPACE", 0)
    monkeypatch.setattr(workshop, "logged", logged)
    with pytest.raises(ImageError, match="far enough"):
        build._build(spec.load(written(tmp_path, key, "true")), tmp_path, lambda _text: None)
    assert f"--mode={mode}" in argvs[0]


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    """Scripts of packages say what they like, and nothing else may end either."""
    shown: list[str] = []
    said = "echo 'I: one'; head -c 40000000 /dev/zero | tr '\\0' x; echo; echo 'I: two'; echo last; exit 3"
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="ended with status 3") as caught:
            workshop.logged(["sh", "-c", said], tmp_path, shown.append)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert shown == ["one", "two"]
    assert caught.value.cause.splitlines()[-2:] == ["I: two", "last"]


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


def test_progress_of_a_whole_build_has_size_percentage_and_time() -> None:
    shown = build.Phases(spec.load())
    assert re.fullmatch(
        r"downloading packages with apt of [0-9]+ MiB: 4 %, [0-9]+ s", shown("I: downloading packages with apt...")
    )
    percents = [int(shown(f"I: {step}...").rpartition(":")[2].split()[0]) for step in build.STEPS]
    assert percents == sorted(percents)
    assert shown("I: done") == "done"
    assert shown("Setting up git ...") == ""


# --- the namespace a build runs in ------------------------------------------------------------------------------------


@pytest.fixture
def place_of_a_build() -> Iterator[tuple[IdSpace, Path]]:
    """A directory like a build's, given to the ids it runs with."""
    space = workshop.namespace()
    if space is None:
        pytest.skip("this host lets no confined root be made: no bubblewrap, subordinate ids or user namespaces")
    place = Path(tempfile.mkdtemp(prefix="git-sandbox-test-", dir="/var/tmp"))
    workshop.lay_out(place)
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


def test_what_a_build_runs_sees_and_changes_nothing_of_the_host(
    place_of_a_build: tuple[IdSpace, Path], tmp_path: Path
) -> None:
    space, tree = place_of_a_build
    secret = tmp_path / "secret"
    secret.write_text("precious")
    variables = {"HOME_OF_HOST": str(Path.home()), "SECRET": str(secret), "HOST_PROCESS": str(os.getpid())}
    argv = idspace.run_argv(space, confine.argv(["sh", "-c", ESCAPE], workshop.view(tree), workshop.BUILD), os.getpid())
    done = subprocess.run(
        argv, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
    assert (tree / "made").read_text() == "made\n"
    assert (tree / "made").stat().st_uid == space.uid, "its root is nobody here"
    assert not Path("/etc/escaped").exists()


# Connects, and sends, to abstract sockets of the host.
REACH = r"""
import os, socket, subprocess, sys
stream, datagram, port = sys.argv[1:]
def tried(name, do):
    try: do()
    except OSError: return
    print(name)
def sent(made):
    made.sendto(b"x", "\0" + datagram)
def moved(made):
    made.connect("\0" + datagram); made.send(b"x")
tried("stream", lambda: socket.socket(socket.AF_UNIX).connect("\0" + stream))
tried("packets", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("\0" + stream))
tried("datagram", lambda: sent(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))
tried("raw", lambda: sent(socket.socket(socket.AF_UNIX, socket.SOCK_RAW)))
for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    tried(f"one of a pair, {kind}", lambda: sent(socket.socketpair(socket.AF_UNIX, kind)[0]))
    tried(f"one of a pair that is moved, {kind}", lambda: moved(socket.socketpair(socket.AF_UNIX, kind)[0]))
"""
# What it has to be able to do, in this order.
WORKS = r"""
tried("tcp", lambda: socket.create_connection(("127.0.0.1", int(port)), 5))
tried("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", int(port))))
tried("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    both = socket.socketpair(socket.AF_UNIX, kind)
    tried("pair", lambda: both[0].sendall(b"x"))
tried("owners", lambda: (open("/build/file", "w").close(), os.chown("/build/file", 100, 100)))
def ran(*words):
    if subprocess.run(words, stderr=subprocess.DEVNULL).returncode: raise OSError
tried("another user", lambda: ran("setpriv", "--reuid=100", "--clear-groups", "true"))
tried("mount", lambda: ran("mount", "-t", "tmpfs", "t", "/tmp"))
"""
BUILDS = ["tcp", "udp", "netlink", "pair", "pair", "owners", "another user", "mount"]


@pytest.mark.parametrize("way", [scoped.LANDLOCK, scoped.FILTER])
def test_what_a_build_runs_has_the_network_and_no_abstract_socket_of_the_host(
    place_of_a_build: tuple[IdSpace, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way not in scoped.ways():
        pytest.skip(f"this kernel has no {way}")
    monkeypatch.setattr(scoped, "way", lambda: way)
    space, tree = place_of_a_build
    kinds = (("-stream", socket.SOCK_STREAM), ("-datagram", socket.SOCK_DGRAM))
    with contextlib.ExitStack() as stack:
        names = []
        for name, kind in kinds:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            names.append(f"{tmp_path.name}{name}")
            listening.bind(f"\0{names[-1]}")
            if kind == socket.SOCK_STREAM:
                listening.listen()
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        words = [*names, str(server.getsockname()[1])]
        outside = subprocess.run(
            ["/usr/bin/python3", "-c", REACH, *words], capture_output=True, text=True, check=True
        ).stdout
        assert {"stream", "datagram", "raw", f"one of a pair, {int(socket.SOCK_DGRAM)}"} <= set(outside.split("\n"))
        done = subprocess.run(
            workshop.confined(space, ["python3", "-c", REACH + WORKS, *words], workshop.view(tree)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout.splitlines(), done.returncode) == (BUILDS, 0), done.stderr


def test_a_build_reaches_the_scripts_of_a_program_in_a_private_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (space := workshop.namespace()) is None:
        pytest.skip("no namespace for a confined build here")
    private = tmp_path / "private/clone/data"
    shutil.copytree(spec.data("boot.sh").parent, private)
    (tmp_path / "private").chmod(0o700)
    monkeypatch.setattr(workshop, "data", private.joinpath)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # builds of one cache remove what killed ones left
    with workshop.opened(space) as tree:
        argv = workshop.confined(space, ["cat", f"{workshop.SCRIPTS}/boot.sh"], workshop.view(tree))
        done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.stdout, done.returncode) == ((private / "boot.sh").read_bytes(), 0), done.stderr


def test_only_a_file_of_its_own_is_taken_from_a_build(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "kernel").write_text("code")
    for name in ("link", "fifo"):
        with pytest.raises((OSError, ImageError)):
            workshop.fetch(tmp_path / name, tmp_path / "taken")
        (tmp_path / "taken").unlink(missing_ok=True)
    workshop.fetch(tmp_path / "kernel", tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "code"
