"""What the integrations call is there: command lines are pure functions, looked at without the harnesses."""

from __future__ import annotations

import importlib.util
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.cli.main import cli
from git_sandbox.git.names import is_sandbox_id

ROOT = Path(__file__).parents[2] / "integrations"


def _loaded(harness: str) -> ModuleType:
    place = ROOT / harness / f"git_sandbox_{harness}/commands.py"
    spec = importlib.util.spec_from_file_location(f"{harness}_commands", place)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


commands, harbor = _loaded("inspect"), _loaded("harbor")


def parsed(words: list[str]) -> click.Context:
    """As the command line reads it. Raises click.UsageError."""
    assert words[0] == "sandbox"
    with click.Context(cli) as context:
        verb = cli.get_command(context, words[1])
        assert verb is not None
        return verb.make_context(words[1], words[2:], context)


def test_a_machine_is_started_with_settings_that_there_are() -> None:
    words = commands.spawn("a-task-01", ["--memory", "512M", "--allow", "pypi.org", "--allow=files.pythonhosted.org"])
    given_ = parsed(words).params
    assert (given_["name"], given_["detach"], given_["memory"]) == ("a-task-01", True, "512M")
    assert given_["allow"] == ("pypi.org", "files.pythonhosted.org")
    with pytest.raises(click.UsageError):
        parsed(commands.spawn("a", ["--no-such"]))


@given(st.text(), st.text("0123456789abcdef", min_size=8, max_size=8))
def test_any_task_gives_a_name_of_a_sandbox(task: str, number: str) -> None:
    assert is_sandbox_id(commands.name(task, number))
    assert is_sandbox_id(harbor.name(task, number))


WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), min_size=1, max_size=5)


@given(WORDS)
def test_the_words_of_a_command_arrive_as_they_are(words: list[str]) -> None:
    line = commands.inside("vm-1", ["printf", "%s\\0", *words], "/", {"A": "x y"}, None)
    params = parsed(line).params
    assert (params["name"], params["tty"]) == ("vm-1", False)
    inside = list(params["command_line"])
    done = subprocess.run(inside, capture_output=True, check=True)
    assert done.stdout == b"".join(word.encode() + b"\0" for word in words)


def test_a_user_is_reached_by_sudo_from_a_fixed_place() -> None:
    line = parsed(commands.inside("vm-1", ["id"], "sub", None, "1000")).params["command_line"]
    assert line[:6] == ("/usr/bin/sudo", "-n", "-u", "#1000", "--", "/bin/sh")
    assert "/workspace/sub" in line


def test_files_are_read_and_written_or_why_not(tmp_path: Path) -> None:
    def run(script: str, *words: str, data: bytes = b"") -> tuple[int, bytes]:
        done = subprocess.run(["sh", "-c", script, "sh", *words], input=data, capture_output=True, check=False)
        return done.returncode, done.stdout

    file = str(tmp_path / "new dir/-file")
    assert run(commands.WRITE, file, data=b"\xff\0x") == (0, b"")
    assert run(commands.READ, file, "3") == (0, b"\xff\0x")
    assert run(commands.READ, file, "2")[0] == commands.TOO_LARGE
    assert run(commands.READ, f"{file}x", "9")[0] == commands.MISSING
    assert run(commands.READ, str(tmp_path), "9")[0] == commands.DIRECTORY
    assert run(commands.WRITE, str(tmp_path), data=b"x")[0] == commands.DIRECTORY


def test_each_is_a_package_that_its_harness_finds() -> None:
    table = tomllib.loads((ROOT / "inspect/pyproject.toml").read_text())
    assert table["project"]["entry-points"]["inspect_ai"] == {"git_sandbox": "git_sandbox_inspect"}
    table = tomllib.loads((ROOT / "harbor/pyproject.toml").read_text())
    assert table["project"]["requires-python"] == ">=3.12", "so its own tests are no part of ours: Harbor's own"


def test_a_trial_of_harbors_has_the_network_and_the_size_it_asks_for() -> None:
    options = [*harbor.network("allowlist", ["pypi.org", "*.example.org"]), *harbor.size(2.0, 4096)]
    given_ = parsed(harbor.spawn("a-trial-01", options)).params
    assert (given_["net"], given_["allow"]) == ("allow", ("pypi.org", "*.example.org"))
    assert (str(given_["cpus"]), str(given_["memory"])) == ("2", "4096M")
    for mode, net in (("no-network", "none"), ("public", "nat")):
        assert parsed(harbor.spawn("a", harbor.network(mode, []))).params["net"] == net
    with pytest.raises(ValueError, match="not known"):
        harbor.network("other", [])
    assert harbor.size(None, None) == []


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_a_line_of_harbors_arrives_as_it_is(text: str) -> None:
    line = harbor.inside("vm-1", harbor.line('printf "%s" "$A"', {"A": text}), "/", "nobody")
    words = parsed(line).params["command_line"]
    assert words[:6] == ("/usr/bin/sudo", "-n", "-H", "-u", "nobody", "--")
    done = subprocess.run(words[6:], capture_output=True, check=True)
    assert done.stdout == text.encode()
    assert parsed(harbor.inside("vm-1", ["id"], "/", None)).params["command_line"][4] == "root"
    assert parsed(harbor.inside("vm-1", ["id"], "/", 1000)).params["command_line"][4] == "#1000"


def test_files_of_harbors_go_in_and_out(tmp_path: Path) -> None:
    def run(script: str, *words: str, data: bytes = b"") -> tuple[int, bytes]:
        done = subprocess.run(["sh", "-c", script, "sh", *words], input=data, capture_output=True, check=False)
        return done.returncode, done.stdout

    file = str(tmp_path / "new dir/-file")
    assert run(harbor.WRITE, file, "755", data=b"\xff\0x") == (0, b"")
    assert run(harbor.READ, file) == (0, b"\xff\0x")
    assert Path(file).stat().st_mode & 0o777 == 0o755
    assert run(harbor.WRITE, str(tmp_path), "644")[0] != 0
    assert run(harbor.READ, str(tmp_path))[0] != 0
    code, packed = run(harbor.PACK, str(tmp_path / "new dir"))
    assert code == 0
    assert run(harbor.UNPACK, str(tmp_path / "other/place"), data=packed)[0] == 0
    assert (tmp_path / "other/place/-file").read_bytes() == b"\xff\0x"


def test_the_directory_of_a_dockerfile_is_that_of_its_last_stage() -> None:
    assert harbor.workdir("FROM a\nWORKDIR /x\nFROM b AS c\nworkdir  /app\nWORKDIR sub\n") == "/app/sub"
    assert harbor.workdir("FROM a\nWORKDIR /x\nFROM b\nRUN true\n") is None
