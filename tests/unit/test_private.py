"""Directories and files of ours have their modes whatever the umask."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox import files, paths
from git_sandbox.errors import HostResourceError


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    (tmp_path / "there").mkdir()
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_directory_and_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").chmod(0o755)
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "there" / "new" / variable))
    for root in (paths.state_root(), paths.cache_root()):
        made = paths.private_directory(root / "a" / "b")
        for each in (made, made.parent, root, root.parent, root.parent.parent):
            assert mode(each) == 0o700, each
    assert mode(tmp_path / "there") == 0o755, "not ours"
    files.write(made / "file", b"x")
    assert mode(made / "file") == 0o600
    with open(made / "lock", "a", opener=files.private):
        assert mode(made / "lock") == 0o600


def test_what_an_older_version_left_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    paths.state_root().mkdir()
    paths.state_root().chmod(0o777)
    made = paths.private_directory(paths.state_root() / "repository")
    assert (mode(paths.state_root()), mode(made)) == (0o700, 0o700)


def test_what_is_no_directory_of_ours_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(HostResourceError, match="not a directory owned by you"):
        paths.private_directory(tmp_path / "link")
    assert mode(tmp_path / "real") == 0o755


# What is not made by `files`, with the reason.
_OTHERS = {
    "bounded_log.py", "files.py",  # opened with the same mode
    "guest",  # in the guest
    "git", "workspace", "integrate",  # a copy has the modes of what it is a copy of; the user's own repository
    "sandbox/scp.py", "disk/reflink.py", "disk/ext4.py", "disk/qcow2.py",  # 0600 by chmod, touch
    "image/build.py", "image/workshop.py", "image/oci/flatten.py", "image/package_names.py",  # below one of 0700
    "helpers",  # run where nothing of ours can be imported; in such a directory
    "collect/quarantine.py", "collect/delivery.py",  # below a directory of 0700 that goes
    "cli/tour.py",  # a repository below one of 0700 that goes
    "process", "doctor",  # a log's append, a probe
}  # fmt: skip


def test_every_file_of_ours_is_made_by_one_function() -> None:
    root = Path(files.__file__).parent
    making = re.compile(r"write_text\(|write_bytes\(|\.open\(\"[wax]|\.touch\(")
    found = {each.relative_to(root).as_posix() for each in root.rglob("*.py") if making.search(each.read_text())}
    assert {name for name in found if not {name, name.split("/")[0]} & _OTHERS} == set()
