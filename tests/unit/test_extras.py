"""Environment, ports, setup script and agent: what is refused before anything starts."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import paths, settings
from git_sandbox.errors import HostResourceError, UsageError
from git_sandbox.image import guestfiles
from git_sandbox.sandbox import session_options
from git_sandbox.sandbox.session_options import Port

HOST = {"TOKEN": "s3cret", "EMPTY": "", "TWO": "a\nb"}
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=30)


def test_later_wins_and_a_bare_name_takes_the_value_it_has_here(tmp_path: Path) -> None:
    listed = tmp_path / "env"
    listed.write_text('# comment\n\n  A=file\nB= spaced "quoted" # not a comment\nTOKEN\n')
    found = session_options.environment(["A=given", "EMPTY", "C=x=y"], [str(listed)], HOST)
    assert found == {
        "A": "given", "B": ' spaced "quoted" # not a comment', "TOKEN": "s3cret", "EMPTY": "", "C": "x=y",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["MISSING", "=x", "1A=x", "A-B=x", "A B=x", "TWO", "A=a\rb", "A=\udc80", "\u0391=1"])
def test_bad_variable_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        session_options.environment([text], [], HOST)
    assert "a\nb" not in str(caught.value) + caught.value.cause + caught.value.hint


def test_too_much_environment_and_no_file() -> None:
    with pytest.raises(UsageError, match="more than"):
        session_options.environment([f"A={'x' * session_options.MAX_ENVIRONMENT}"], [], {})
    with pytest.raises(UsageError, match="cannot read"):
        session_options.environment([], ["/nowhere"], {})


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), VALUES, max_size=4))
def test_sshd_reads_back_what_was_given(env: dict[str, str]) -> None:
    template = b"Port 22\nSetEnv PATH=/bin\nSubsystem sftp internal-sftp\n"
    text = guestfiles.sshd_config(template, env)
    assert text.count(b"\n") == template.count(b"\n")
    line = text.decode().split("\n")[1]
    # sshd splits like a shell inside double quotes, where $ and ` are plain (OpenSSH, misc.c, argv_split).
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace, words.whitespace_split, words.commenters, words.quotes = " ", True, "", '"'
    assert list(words) == ["SetEnv", *(f"{name}={value}" for name, value in env.items()), "PATH=/root/.local/bin:/bin"]


def test_no_secret_reaches_what_is_printed_of_it() -> None:
    assert "s3cret" not in repr(session_options.Extras({"TOKEN": "s3cret"}))


@pytest.mark.parametrize(
    "text", ["80", ":80", "80:", "0:80", "80:0", "65536:80", "80:65536", "a:b", "-1:80", "1:2:3", "٣:80"]
)
def test_bad_port(text: str) -> None:
    with pytest.raises(UsageError):
        session_options.port(text)


def test_taken_or_repeated_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(HostResourceError, match=str(number)):
            session_options.require_free([Port(number, 80)])
    session_options.require_free([Port(number, 80)])
    with pytest.raises(UsageError, match="twice"):
        session_options.require_free([Port(number, 80), Port(number, 81)])


def test_setup_and_agent_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="setup"):
        session_options.gather(settings.resolve({"setup": str(tmp_path / "no")})[0], {})
    for host in ({}, {"SSH_AUTH_SOCK": str(tmp_path / "no")}):
        with pytest.raises(UsageError, match="agent"):
            session_options.gather(settings.resolve({"ssh_agent": "yes"})[0], host)
    script = tmp_path / "up"
    script.write_text("true\n")
    wanted = settings.resolve({"setup": str(script), "publish": ("8:80",), "env": ("A=1 2", "B=3")})[0]
    assert wanted.env == ("A=1 2", "B=3")
    assert session_options._setup(wanted) == b"true\n"


def test_mounts(tmp_path: Path) -> None:
    (tmp_path / "a" / "data").mkdir(parents=True)
    (tmp_path / "b" / "data").mkdir(parents=True)
    found = session_options.mounts([f"{tmp_path}/a/data", f"{tmp_path}/b/data:ro"])
    assert [(each.path, each.name) for each in found] == [
        (tmp_path / "a" / "data", "data"), (tmp_path / "b" / "data", "data-2"),
    ]  # fmt: skip
    (tmp_path / "file").touch()
    nowhere = (f"{tmp_path}/missing", f"{tmp_path}/file", "~no-such-user/data", f"/{'x' * 300}")
    for text in (f"{tmp_path}/a/data:rw", *nowhere, "/", str(paths.state_root())):
        with pytest.raises(UsageError):
            session_options.mounts([text])
    with pytest.raises(UsageError):
        session_options.mounts([f"{tmp_path}/a"] * 9)
