"""What a stranger's image says of its environment: sshd's configuration stays ours, whatever it is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.guest.protocol import BIN, HERE
from git_sandbox.image import guestfiles, variables
from support.examples import examples

TEMPLATE = f"Port 22\nSetEnv PATH=/bin TERMINFO_DIRS={HERE}/terminfo\nSubsystem sftp internal-sftp\n".encode()
NAMES = st.sampled_from(("A", "PATH", "HOME", "LD_LIBRARY_PATH", "a-b", "", "1A", "A B", "X" * 300))
ENTRIES = st.one_of(st.text(max_size=40), st.builds("{}={}".format, NAMES, st.text(max_size=60)))


@given(st.lists(ENTRIES, max_size=12))
@settings(max_examples=examples(300))
def test_whatever_it_says_is_one_variable_on_one_line_or_nothing(env: list[str]) -> None:
    kept, path = variables.variables(env), variables.path(env)
    for name, value in kept.items():
        assert f"{name}={value}" in env
        assert variables.NAME.fullmatch(name)
        assert name not in variables.OF_SESSION
    assert path.endswith(f":{BIN}")
    assert all(each.startswith("/") for each in path.split(":"))
    made = guestfiles.foreign(guestfiles.sshd_config(TEMPLATE, kept, "/home/me", path))
    *before, last = made.splitlines()
    assert last == b"ChrootDirectory /proc/1/fd/3"
    assert len(before) == len(TEMPLATE.splitlines())
    assert [line.split()[0] for line in before] == [b"Port", b"SetEnv", b"Subsystem"]


def test_the_last_of_two_counts_and_the_session_knows_itself() -> None:
    env = ("A=1", "A=2", "HOME=/h", "USER=u", "EMPTY=", "B=x=y", "BYTES=\udcff")
    assert variables.variables(env) == {"A": "2", "EMPTY": "", "B": "x=y", "BYTES": "\udcff"}


def test_the_programs_of_the_image_come_first_and_ours_last() -> None:
    path = variables.path(["PATH=/old", "PATH=/opt/cargo/bin:.:../x::/usr/bin:/a\nb"])
    assert path.split(":") == [
        "/opt/cargo/bin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin", "/bin", BIN,
    ]  # fmt: skip


def test_too_much_is_left_out() -> None:
    big = [f"V{number}={'x' * 10_000}" for number in range(50)]
    kept = variables.variables([*big, f"HUGE={'x' * 20_000}"])
    assert "HUGE" not in kept
    assert sum(len(name) + len(value) for name, value in kept.items()) <= variables.MAX_BYTES
    assert len(variables.path([f"PATH={':'.join(f'/{number}' for number in range(5000))}"]).split(":")) < 200
