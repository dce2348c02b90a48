"""`files.remove_tree`: whatever the modes below it are. They do not bind root, so root is tried as somebody else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox import files
from support.examples import examples

NOBODY = 65534


def as_somebody_else(root: Path, modes: list[int]) -> int:
    if os.geteuid() == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
    outside = root / "outside"
    outside.mkdir(mode=0o500)
    place, made = root / "tree", []
    for mode in modes:
        place.mkdir()
        (place / "file").touch()
        (place / "link").symlink_to(outside)
        made.append((place, mode))
        place /= "below"
    for directory, mode in reversed(made):
        directory.chmod(mode)
    files.remove_tree(root / "tree")
    return int((root / "tree").exists()) + 2 * int(outside.stat().st_mode & 0o777 != 0o500)


@settings(max_examples=examples(20), deadline=None)
@given(modes=st.lists(st.sampled_from([0o000, 0o100, 0o300, 0o400, 0o500, 0o700]), min_size=1, max_size=5))
def test_everything_goes_and_what_links_lead_to_stays(modes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        if not (child := os.fork()):
            code = 9
            try:
                code = as_somebody_else(Path(directory), modes)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    files.remove_tree(tmp_path / "link")
    files.remove_tree(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
