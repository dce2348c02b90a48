from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import paths, settings
from git_sandbox.errors import UsageError
from git_sandbox.settings import ROWS, Value


def configure(text: str) -> Path:
    target = paths.config_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def origin(name: str, given: dict[str, object] | None = None) -> Value:
    return next(value for value in settings.resolve(given)[1] if value.name == name)


def test_command_line_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin("memory") == Value("memory", "2G", "default")
    path = configure('memory = "1G"\nboot-timeout = 7\npackages = ["jq", "tmux"]\n')
    assert origin("memory") == Value("memory", "1G", str(path))
    found, _ = settings.resolve()
    assert (found.memory, found.boot_timeout, found.packages) == (1024, 7, ("jq", "tmux"))
    monkeypatch.setenv("SANDBOX_MEMORY", "512M")
    assert origin("memory") == Value("memory", "512M", "environment (SANDBOX_MEMORY)")
    assert origin("memory", {"memory": "4G"}) == Value("memory", "4G", "command line")
    assert settings.resolve({"memory": "4G"})[0].memory == 4096
    assert origin("memory", {"memory": None}).text == "512M"


@pytest.mark.parametrize(
    ("given_", "hint"),
    [
        ({"memory": "lots"}, "512M"),
        ({"memory": "64M"}, "128M"), ({"memory": "-1G"}, "512M"), ({"cpus": "0"}, "whole"),
        ({"cpus": "1.5"}, "whole"), ({"cpus": "\N{SUPERSCRIPT TWO}"}, "whole"), ({"net": "wifi"}, "none, nat"),
        ({"boot_timeout": "100001"}, "whole"), ({"on_exit": "yes"}, "merge"),
    ],
)  # fmt: skip
def test_value_that_cannot_work_names_itself_and_its_source(given_: dict[str, object], hint: str) -> None:
    (name, value), *_ = given_.items()
    with pytest.raises(UsageError) as caught:
        settings.resolve(given_)
    assert f"`{value}`" in caught.value.message
    assert name.replace("_", "-") in caught.value.message
    assert "command line" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["memory = ", "colour = 1\n", "\xff", "[memory]\nx = 1\n", "cpus = true\n"])
def test_bad_file_is_named(text: str) -> None:
    path = configure("")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        settings.resolve()
    assert str(path) in caught.value.message


def test_directory_in_place_of_the_file_is_named() -> None:
    paths.config_file().mkdir(parents=True)
    with pytest.raises(UsageError):
        settings.resolve()


@given(st.integers(128, 999_999), st.sampled_from(("", "M", "MB", "MiB", "m", " mib")))
def test_mebibytes(number: int, unit: str) -> None:
    assert settings.resolve({"memory": f"{number}{unit}"})[0].memory == number


@given(st.text(max_size=12))
def test_no_text_breaks_the_parser(text: str) -> None:
    for row in ROWS:
        with contextlib.suppress(UsageError):
            settings.resolve({row.name: text})
