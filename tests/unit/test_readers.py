"""Every reader of a small file: limits, no waiting, no traceback, and work that grows with the length."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox import files, jsontext, paths, projectfile, registry, tomltext
from git_sandbox import settings as configuration
from git_sandbox.cache.bases import Base
from git_sandbox.cache.guest_images import Image
from git_sandbox.errors import ImageError, MachineError, SandboxError, StateError, UsageError
from git_sandbox.git import identity
from git_sandbox.git.names import SandboxId
from git_sandbox.image import spec
from git_sandbox.projectfile import Consent
from git_sandbox.record import load
from git_sandbox.sandbox import machine_spec, reach
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import expiry, note
from support.examples import examples


def consent(root: Path) -> Consent:
    return Consent(lambda: root, lambda: root, lambda: "0123")


def config() -> Path:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    return paths.config_file()


# What is read, and the name it has below a directory; `config.toml` is where it always is.
WRITTEN: dict[str, Callable[[Path], object]] = {
    "sandbox.toml": lambda root: configuration.resolve(None, projectfile.read(root, consent(root))),
    "pyproject.toml": lambda root: configuration.resolve(None, projectfile.read(root, consent(root))),
    "config.toml": lambda _root: configuration.resolve(),
    "spec.toml": lambda root: spec.load(root / "spec.toml"),
}
OURS: dict[str, Callable[[Path], object]] = {
    "record.json": lambda root: load(SandboxDir(root)),
    "config.json": lambda root: machine_spec.guest_config(SandboxDir(root)),
    "channels.json": lambda root: reach.attachment(_Channels(root), "ssh"),
    "repository.json": registry._load,
    "sandbox-id": identity.read,
    "image.json": lambda root: _value_error(lambda: Image(root).info),
    "base.json": lambda root: _value_error(lambda: Base(root).info),
    ".trash/vm-1/trash.json": lambda root: note.read(root, SandboxId("vm-1")),
    "consent.json": lambda root: projectfile.ProjectFile(root / "sandbox.toml", {}, consent(root)).trusted,
}


class _Channels(SandboxDir, frozen=True):
    @property
    def channels(self) -> Path:
        return self.root / "channels.json"


def _value_error(call: Callable[[], object]) -> object:
    """Documented to raise OSError or ValueError; its callers pass over such an image."""
    try:
        return call()
    except (OSError, ValueError):
        return None


def place(root: Path, name: str) -> Path:
    found = config() if name == "config.toml" else root / name
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def answer(name: str, root: Path) -> None:
    """Read it; an error is one of ours, names the file, and has a documented exit code."""
    caught: SandboxError | None = None
    try:
        (WRITTEN | OURS)[name](root)
    except SandboxError as error:
        caught = error
    told = f"{caught.message} {caught.cause}" if caught else ""
    assert not caught or any(each in told for each in (Path(name).name, "image spec", "cannot be reached"))
    assert not caught or caught.exit_code in DOCUMENTED
    assert "\x1b" not in told


DOCUMENTED = {UsageError.exit_code, ImageError.exit_code, MachineError.exit_code, StateError.exit_code}
HOSTILE = {
    "integer": b"memory = " + b"9" * 5000,
    "hexadecimal": b"memory = 0x" + b"f" * 5000,
    "long hexadecimal of another tool": b"[tool.other]\nx = 0x" + b"f" * 5000 + b"\n[tool.sandbox]\nmemory = 1",
    "dotted": b".".join([b"a"] * 20_000) + b" = 1",
    "header": b"[" + b".".join([b"a"] * 20_000) + b"]",
    "header and lines": b"[" + b".".join([b"a"] * 8000) + b"]\n" + b"".join(b"a%d=1\n" % each for each in range(4000)),
    "quoted": b".".join([b'""'] * 15_000) + b" = 1",
    "arrays": b"memory = " + b"[" * 20_000,
    "closed arrays": b"memory = " + b"[" * 5_000 + b"]" * 5_000,
    "tables": b"memory = " + b"{a=" * 10_000,
    "not utf-8": b"memory = '\xff'",
    "surrogate": b'memory = "\\ud800"',
    "zero": b"memory = '\0'",
    "float": b"memory = 1e999999",
    "date": b"memory = 9999-99-99",
    "json deep": b"[" * 100_000,
    "json number": b'{"id": ' + b"9" * 5000 + b"}",
    "json float": b'{"created": 1e400, "when": ' + b"1" * 400 + b"}",
    "json surrogate": b'{"id": "\\ud800"}',
    "list of tools": b"extra_packages = 5",
    "empty": b"",
    "escape": b'"\\u001b[31m" = 1',
    "huge": b"#" * (2 << 20),
}


@pytest.mark.parametrize("name", [*WRITTEN, *OURS])
def test_whatever_it_holds_is_an_error_with_the_place(tmp_path: Path, name: str) -> None:
    for content in HOSTILE.values():
        place(tmp_path, name).write_bytes(content)
        answer(name, tmp_path)


@pytest.mark.parametrize("name", [*WRITTEN, *OURS])
def test_whatever_is_in_its_place_holds_nobody_up(tmp_path: Path, name: str) -> None:
    at = place(tmp_path, name)
    at.mkdir()
    answer(name, tmp_path)
    at.rmdir()
    os.mkfifo(at)
    answer(name, tmp_path)
    for target in ("/dev/zero", "/dev/tty", "nowhere", at.name):
        at.unlink()
        at.symlink_to(target)
        answer(name, tmp_path)


def test_where_two_say_what_is_too_long_the_limit_does(tmp_path: Path) -> None:
    for name, read in WRITTEN.items():
        place(tmp_path, name).write_bytes(b"[tool.sandbox]\n" + b"#" * files.WRITTEN)
        with pytest.raises(SandboxError, match=f"{name}|image spec"):
            read(tmp_path)
        place(tmp_path, name).unlink()
    big = b"[tool.other]\nname = 'sandbox'\n" + b"#\n" * files.WRITTEN
    (tmp_path / "pyproject.toml").write_bytes(big)
    assert projectfile.read(tmp_path, consent(tmp_path)) is None, "another tool's, of any length"


@given(st.binary(max_size=200) | st.text(alphabet="[]{}.=\"'\\\n# a1-:_,TZ\t", max_size=200).map(str.encode))
def test_decode_says_value_error_or_what_the_parser_says(data: bytes) -> None:
    try:
        expected = tomllib.loads(data.decode())
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - that is the contract
            tomltext.decode(data)
    else:
        assert repr(tomltext.decode(data)) == repr(expected)


def looked_at(data: bytes) -> int:
    """How many parts of keys the parser passes over: what its loops are as long as. A count, as clocks lie."""
    seen = 0

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal seen
        if event == "call" and frame.f_code.co_filename == tomllib._parser.__file__:  # type: ignore[attr-defined]
            key = frame.f_locals.get("key", ()) or frame.f_locals.get("key_parent", ())
            seen += len(key) if isinstance(key, tuple) else 1
            seen += len(frame.f_locals["header"]) if isinstance(frame.f_locals.get("header"), tuple) else 0

    sys.setprofile(profile)
    try:
        tomltext.decode(data)
    except ValueError:
        pass
    finally:
        sys.setprofile(None)
    return seen


part = st.sampled_from(["a", '""', "'x.y'", " b "])
line = st.one_of(
    st.builds(lambda n, each: ".".join([each] * n) + "=1", st.integers(1, 400), part),
    st.builds(lambda n, each: "[" + ".".join([each] * n) + "]", st.integers(1, 400), part),
    st.builds(lambda n: "a={" + ",".join(f"b{i}.c=1" for i in range(n)) + "}", st.integers(1, 50)),
    st.just("k=[1,2,3]"),
)


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(line, max_size=12))
def test_no_more_is_looked_at_than_the_bound_says(lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    assert looked_at(data) <= 20 * (tomltext.steps(data) + len(data) + 100)


@pytest.mark.parametrize("name", ["dotted", "header", "header and lines", "quoted"])
def test_what_would_take_long_is_not_begun(name: str) -> None:
    assert looked_at(HOSTILE[name]) == 0
    with pytest.raises(ValueError, match="too many parts"):
        tomltext.decode(HOSTILE[name])


def test_an_ordinary_file_is_far_below_the_bound() -> None:
    ordinary = b"exclude = [" + b'"*.iso", "a.b.c.d", ' * 400 + b"]\n" + b"[a.b.c]\nx.y = 1\n" * 500
    assert tomltext.steps(ordinary) < tomltext.MOST_STEPS


def test_json_of_ours_is_read_with_a_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": "' + "b" * 2000 + '"}')
    with pytest.raises(ValueError, match="more than 1 KiB"):
        jsontext.load(tmp_path / "x", dict[str, str], 1024)
    assert expiry.summary().size == 0
    paths.private_directory(paths.state_root())
    os.mkfifo(paths.trash_summary())
    assert expiry.summary().size == 0


def test_what_was_read_is_told_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("b/file")
    found = files.content(tmp_path / "c")
    assert (found.data, found.real) == (b"x", tmp_path / "a/file")
    with pytest.raises(OSError, match="symbolic"):
        files.content(tmp_path / "c", follow=False)
