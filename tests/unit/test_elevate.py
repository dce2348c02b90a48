"""The program that is `sudo` where an image has none: its instructions, and what the script makes of words."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.guest import elevate
from git_sandbox.guest.common import TOOLS
from support.examples import examples

# As GNU as has it; the numbers are those of the system calls setgroups, setresgid, setresuid, execve, exit.
SOURCE = """
  xor %edi,%edi; xor %esi,%esi; mov $116,%eax; syscall
  xor %edi,%edi; xor %esi,%esi; xor %edx,%edx; mov $119,%eax; syscall
  mov $117,%eax; syscall
  test %eax,%eax; jnz 1f
  pop %rcx; mov 8(%rsp),%rdi; lea 8(%rsp),%rsi; lea 8(%rsp,%rcx,8),%rdx; mov $59,%eax; syscall
1: mov $126,%edi; mov $60,%eax; syscall
"""


def test_the_instructions_are_these(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text(SOURCE)
    for argv in (["as", "--64", "-o", "a.o", "a.s"], ["objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"]):
        subprocess.run(argv, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "a.bin").read_bytes() == elevate.CODE["x86_64"][1]


def written(path: Path, mode: int) -> Path:
    path.write_bytes(elevate.program(os.uname().machine))
    path.chmod(mode)
    return path


def test_without_the_right_nothing_runs() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # where nobody can look: pytest's own are root's alone
        Path(place).chmod(0o755)
        program = written(Path(place, "elevate"), 0o755)
        lower = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run([*lower, program, "/bin/echo", "hello"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (126, b"")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a program its rights; VM tests run it as well")
def test_with_it_a_program_is_roots_and_has_its_words_and_variables(tmp_path: Path) -> None:
    program = written(tmp_path / "elevate", 0o755)
    done = subprocess.run(
        [program, "/bin/sh", "-c", 'id -u; id -G; echo "$A|$0|$1"', "zero", "o ne"], capture_output=True, text=True,
        check=False, env={"A": "b"}, extra_groups=[1, 2],
    )  # fmt: skip
    assert done.stdout == "0\n0\nb|zero|o ne\n"
    assert subprocess.run([program], check=False).returncode == 126, "nothing to run"


@pytest.fixture
def sudo(tmp_path: Path) -> Path:
    """The script, with a program that only says what it was given in the place of ours."""
    (tmp_path / "elevate").write_text('#!/bin/sh\nprintf "%s\\0" "$HOME" "$@"\n')
    (tmp_path / "elevate").chmod(0o755)
    text = elevate.SUDO.replace(str(elevate.PROGRAM), str(tmp_path / "elevate"))
    path = tmp_path / "sudo"
    path.write_text("#!/bin/sh" + text.replace(f"{TOOLS}/bin/busybox", "/usr/bin/env"))
    path.chmod(0o755)
    return path


def said(sudo: Path, *words: str) -> list[str]:
    env = {"HOME": "/home/me", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sudo, *words], capture_output=True, check=True, env=env)
    return done.stdout.decode().split("\0")[:-1]


WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12), max_size=4)


@given(words=WORDS)
@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_words_arrive_as_they_were_for_root_and_for_another(sudo: Path, words: list[str]) -> None:
    home, program, *given_words = said(sudo, "-n", "--", "env", *words)
    assert (home, Path(program).name, given_words) == ("/root", "env", words)
    *su, command, user = said(sudo, "-u", "other", "printf", *words)
    assert (su[1:], user) == (["/usr/bin/env", "su", "-s", "/bin/sh", "-c"], "other")
    assert shlex.split(command) == ["exec", "printf", *words]


def test_options_that_people_type(sudo: Path) -> None:
    assert said(sudo, "-E", "true")[0] == "/home/me"
    assert said(sudo, "-i")[1:] == ["/bin/sh", "-l"]
    assert said(sudo, "A=1", "/x/y", "-v")[1:] == ["/x/y", "-v"]
    assert said(sudo, "-v") == []
    for wrong in (["-Z", "true"], [], ["-u"]):
        done = subprocess.run([sudo, *wrong], capture_output=True, check=False)
        assert (done.returncode, done.stderr[:11]) == (1, b"usage: sudo")
    gone = subprocess.run([sudo, "no-such-program"], capture_output=True, check=False)
    assert (gone.returncode, b"command not found" in gone.stderr) == (127, True)
