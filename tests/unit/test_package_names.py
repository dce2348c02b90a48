"""Which packages do not exist is said before anything is built (`image/package_names.py`)."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox import confine, process
from git_sandbox.cache import guest_images
from git_sandbox.errors import ImageError
from git_sandbox.image import build, package_names, spec
from git_sandbox.image.spec import PACKAGE, ImageSpec
from support.examples import examples

DEBIAN = b"\nbase-files\nbash\ndocker.io\nfzf\ngolang\ngolang-all\nkdocker\nnodejs\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The suites whose list was fetched; an archive has DEBIAN."""
    asked: list[str] = []

    def fetch(wanted: ImageSpec, path: Path) -> bytes:
        asked.append(wanted.suite)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DEBIAN)
        return DEBIAN

    monkeypatch.setattr(package_names, "_fetch", fetch)
    return asked


def require(*packages: str) -> None:
    package_names.require(spec.load(packages=packages), lambda _text: None)


def test_all_that_do_not_exist_are_named_before_anything_is_built(fetches: list[str]) -> None:
    with pytest.raises(ImageError) as caught:
        build.ensure(spec.load(packages=("golagn", "fzf", "docker", "qqqqqq")), lambda _text: None)
    assert caught.value.message == "Debian trixie has no packages `docker`, `golagn`, `qqqqqq`"
    assert caught.value.cause.splitlines() == [
        "`docker`: did you mean `docker.io`?",
        "`golagn`: did you mean `golang`?",
    ]
    assert (fetches, guest_images.every()) == (["trixie"], [])


def test_a_list_is_fetched_when_a_name_is_not_in_an_old_one(fetches: list[str]) -> None:
    require("fzf")
    for _ in range(2):
        with pytest.raises(ImageError, match="no package `golagn`"):
            require("golagn")
    assert fetches == ["trixie"], "once, and the list is a moment old"
    path = package_names._path(spec.load())
    old = time.time() - package_names.MAX_AGE - 60
    path.write_bytes(DEBIAN.replace(b"fzf\n", b""))
    os.utime(path, (old, old))
    require("golang")
    assert fetches == ["trixie"], "what is in an old list exists"
    require("fzf")
    assert fetches == ["trixie"] * 2


def test_without_a_list_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_names, "_fetch", lambda *_: b"")
    require("golagn")
    require()


def test_a_name_is_whole_and_no_pattern() -> None:
    assert package_names.absent(["fzf", "j", "q", "base", "files", "golang-all", "docker", ".*"], DEBIAN) == [
        "j", "q", "base", "files", "docker", ".*",
    ]  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"Package: fzf\n", b"Provides: awk, b (= 1), -x\n", b"\n", b"Package: A B\n"])).map(
        b"".join
    )
)
@example(b"Package: " + b"a" * 3_000_000 + b"\nPackage: fzf\n")
def test_every_index_of_a_mirror_is_names_or_nothing(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch, "Packages")
        index.write_bytes(text)
        names = [*package_names.parsed(index)]
    assert all(PACKAGE.fullmatch(name.decode()) for name in names)
    assert (b"fzf" in names) == any(line == b"Package: fzf" for line in text.split(b"\n")) or b"\r" in text


def test_no_link_is_read_and_no_more_than_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, link, fifo = (tmp_path / name for name in ("a_Packages", "b_Packages", "c_Packages"))
    one.write_bytes(b"Package: b\nPackage: a\nPackage: b\n")
    link.symlink_to(one)
    os.mkfifo(fifo)
    assert package_names.names_in([one, fifo]) == b"\na\nb\n"
    assert package_names.names_in([fifo]) == package_names.names_in([one, link]) == b""
    monkeypatch.setattr(package_names, "MAX_NAMES", 4)
    assert package_names.names_in([one]) == b"", "it could not be read again"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """A mirror on loopback, with one directory that is all of an archive (apt-get: a flat one)."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www/Packages").write_text(
        "Package: golagn\nVersion: 1\nArchitecture: all\nProvides: grep-like, other (= 2)\nFilename: ./x.deb\nSize: 1\n"
        f"SHA256: {'0' * 64}\n\n"
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_list_is_what_the_archive_has(
    archive: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if process.which("apt-get") is None or not confine.available():
        pytest.skip("apt-get or bubblewrap is not there")
    monkeypatch.setattr(package_names, "_sources", lambda _spec: [f"deb [trusted=yes] {archive} ./"])
    require("golagn", "grep-like", "other")
    with pytest.raises(ImageError, match="no package `golang`") as caught:
        require("golang")
    assert caught.value.cause == "`golang`: did you mean `golagn`?"
    path = package_names._path(spec.load())
    assert path.read_bytes() == b"\ngolagn\ngrep-like\nother\n"
    confined = "confinement.json"  # whether bubblewrap works here is remembered beside it
    assert [each.name for each in path.parent.iterdir() if each.name != confined] == [path.name]
    assert capfd.readouterr().out == ""
