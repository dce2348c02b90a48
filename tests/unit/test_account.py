"""The table of users of a root that may be anybody's: our line is the first, the image's other users stay."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.guest import account
from support.examples import examples

LINE = "me:x:1000:1000::/home/me:/bin/sh"


def put(path: Path) -> list[bytes]:
    account.put_line(path, "me", LINE)
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


@given(st.binary(max_size=200))
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(content)
    first, *others = put(path)
    assert first == LINE.encode()
    assert not any(each.startswith(b"me:") for each in others)


def test_the_image_keeps_its_user_of_the_same_number_and_ours_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nme:x:7:7::/:/bin/false\n")
    path.chmod(0o600)
    assert put(path) == [LINE.encode(), b"root:x:0:0::/root:/bin/sh", b"node:x:1000:1000::/home/node:/bin/sh"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_table_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    assert put(path) == [LINE.encode()], "there was none"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert put(path) == [LINE.encode()]
    assert not path.is_symlink()
    path.unlink()
    os.mkfifo(path)
    assert put(path) == [LINE.encode()], "nobody waits for a writer"
    path.write_bytes(b"x" * (account.MAX_TABLE + 1))
    assert put(path) == [LINE.encode()]
