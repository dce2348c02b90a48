from __future__ import annotations

import time

import pytest

from git_sandbox.guest import share

SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
fuse_request         48     52    152   26    1 : tunables    0    0    0 : slabdata      2      2      0
fuse_inode         {}  3020    832   19    4 : tunables    0    0    0 : slabdata      1      1      0
dentry            41000  41000    192   21    1 : tunables    0    0    0 : slabdata   1952   1952      0
"""


class EnoughError(Exception):
    """Ends a loop that has no end."""


@pytest.mark.parametrize(("said", "found"), [(SLABINFO.format(3015), 3015), ("", 0), ("fuse_inode_x 7 8\n", 0)])
def test_files_in_memory_are_counted(said: str, found: int) -> None:
    assert share.remembered(said) == found


@pytest.mark.parametrize(("files", "forgets"), [(6000, False), (6001, True)])
def test_the_kernel_is_told_to_forget_in_good_time(
    files: int, monkeypatch: pytest.MonkeyPatch, *, forgets: bool
) -> None:
    written: list[str] = []

    class Place:
        def __init__(self, path: str) -> None:
            self.path = path

        def read_text(self) -> str:
            assert self.path == "/proc/slabinfo"
            return SLABINFO.format(files)

        def write_text(self, text: str) -> None:
            assert self.path == "/proc/sys/vm/drop_caches"
            written.append(text)

    def rest(_seconds: float) -> None:
        raise EnoughError

    monkeypatch.setattr(share, "Path", Place)
    monkeypatch.setattr(time, "sleep", rest)
    with pytest.raises(EnoughError):
        share.keep_forgetting(10_000)
    assert written == (["2"] if forgets else [])
