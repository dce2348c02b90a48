"""The first minutes: what is missing is said before minutes of building, and what is slower here as well."""

from __future__ import annotations

import pytest

from git_sandbox import settings
from git_sandbox.cache import guest_images
from git_sandbox.cli import first
from git_sandbox.doctor import Check, Verdict, surroundings
from git_sandbox.doctor.surroundings import Surroundings
from git_sandbox.errors import RequirementError
from git_sandbox.settings import Settings
from git_sandbox.vmm import qemu

from .conftest import Cli

SLOW = Surroundings(container="docker", ssh=True, kvm="there is no /dev/kvm")
LITTLE = Check("disk space", Verdict.MISSING, "2 GiB free")


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Without an image."""
    monkeypatch.setattr(guest_images, "find", lambda _key: None)
    monkeypatch.setattr(surroundings, "look", lambda: SLOW)
    return settings.resolve()[0]


def said(wanted: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    first.first_use(wanted, lambda _text: None, quiet=False)
    return capsys.readouterr().err


def test_what_is_built_how_long_it_takes_and_how_it_is_here(
    wanted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("git_sandbox.doctor.checks", lambda *_: [LITTLE])
    lines = said(wanted, capsys).splitlines()
    assert lines[0].startswith("First use: building the guest image (Debian trixie, about ")
    assert lines[0].endswith("this takes 2 to 5 minutes, once.")
    assert lines[1:] == ["Low disk space: 2 GiB free.", *SLOW.lines]
    assert len(SLOW.lines) == 3


def test_what_is_missing_is_said_before_anything_is_built(
    wanted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = [Check("qemu", Verdict.MISSING, "too old"), Check("fakeroot", Verdict.MISSING, "not installed"), LITTLE]
    monkeypatch.setattr("git_sandbox.doctor.checks", lambda *_: lacking)
    with pytest.raises(RequirementError, match="2 things that sandboxes need are missing") as caught:
        said(wanted, capsys)
    assert caught.value.cause == "qemu: too old\nfakeroot: not installed"
    assert "`sandbox doctor --fix`" in caught.value.hint


@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize("version", [(5, 2, 0), None])
def test_an_old_qemu_or_none_ends_a_first_start_at_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...] | None
) -> None:
    found = qemu.version
    monkeypatch.setattr(qemu, "version", lambda: version)
    done = cli("run", "--", "true")
    assert found is not qemu.version
    assert (done.code, done.out) == (11, "")
    assert "qemu-system" in done.err
    assert "building" not in done.err


@pytest.mark.usefixtures("wanted")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--allow", "https://example.org"), "a rule names a host"),
        (("--key", "nothing"), "keys.toml"),
        (("--publish", "8080"), "invalid value `8080` for publish"),
        (("--allow", "example.org", "--egress-limit", "many"), "is not a limit of the network"),
    ],
)
def test_what_no_sandbox_can_start_with_is_said_before_an_image_is_announced(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    monkeypatch.setattr("git_sandbox.doctor.checks", lambda *_: [])
    for verb in (("run",), ("run", "--count", "2"), ("spawn", "--detach")):
        done = cli(*verb, *words, *(("--", "true") if "run" in verb else ()))
        assert (done.code, done.out) == (2, ""), (verb, done.err)
        assert why in done.err
        assert "First use" not in done.err


def test_without_a_repository_there_are_two_ways_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))
    done = cli("run", "--", "true")
    assert done.code == 10
    assert "is not in a git repository" in done.err
    assert "`git init`" in done.err
    assert "`sandbox tour`" in done.err
