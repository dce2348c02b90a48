from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import notices, paths, settings
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
        ({"cpus": "1.5"}, "whole"), ({"cpus": "\N{SUPERSCRIPT TWO}"}, "whole"), ({"net": "wifi"}, "none, allow, nat"),
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


@pytest.mark.parametrize(
    ("word", "meant"),
    [("memroy", "memory"), ("mem", "memory"), ("stop-timeuot", "stop_timeout"), ("jailer", "confinement")],
)
def test_a_setting_that_is_nearly_one_names_the_one_that_is_meant(
    word: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(f'{word} = "1G"\n')
    with pytest.raises(UsageError) as caught:
        settings.resolve()
    assert caught.value.hint == f"did you mean `{meant}`?"
    configure("")
    notices.heard()
    for name in ("STRIPE_KEY", "INDEX", "COUNT", "ENABLED", "TEST_EXAMPLES", word.upper().replace("-", "_")):
        monkeypatch.setenv(f"SANDBOX_{name}", "3")
    settings.resolve()
    (said,) = notices.heard()
    assert said.endswith(f" is not a setting: did you mean SANDBOX_{meant.upper()}?")


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("12h", 43200), ("7d", 604800), ("4w", 2419200), ("90s", 90), (" 1 D ", 86400), ("0", 0),
     ("0d", 0), ("never", None)],
)  # fmt: skip
def test_durations(text: str, seconds: int | None) -> None:
    assert settings.resolve({"trash": text})[0].trash == seconds


@given(st.integers(0, 999_999), st.sampled_from("smhdw"))
def test_every_duration_means_what_it_says(number: int, unit: str) -> None:
    factor = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}[unit]
    assert settings.resolve({"trash": f"{number}{unit}"})[0].trash == number * factor


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "7 days", "forever", "1d2h", "9999999d", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid value of trash") as caught:
        settings.resolve({"trash": text})
    assert "30m, 12h, 7d or 4w" in caught.value.hint


def test_room_in_the_trash_may_be_little_or_none() -> None:
    sizes = {text: settings.resolve({"trash_size": text})[0].trash_size for text in ("10G", "1M", "0", "no")}
    assert sizes == {"10G": 10240, "1M": 1, "0": 0, "no": 0}
    with pytest.raises(UsageError, match="trash-size"):
        settings.resolve({"trash_size": "much"})
    with pytest.raises(UsageError, match="bases") as caught:
        settings.resolve({"bases": "1M"})
    assert "at least 128M" in caught.value.hint
