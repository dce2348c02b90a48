from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.image import guestfiles, initrd
from git_sandbox.image.initrd import GuestFile

FILES = st.dictionaries(
    st.from_regex(r"[a-z_.-]{1,20}", fullmatch=True).filter(lambda name: name not in (".", "..")),
    st.builds(GuestFile, st.binary(max_size=300), st.sampled_from((0o644, 0o755, 0o600))),
    max_size=6,
)


def read(archive: bytes) -> list[tuple[str, int, bytes]]:
    """A reader of "newc" archives (buffer-format.rst): name, mode and content, up to the trailer."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11]]
        assert name.endswith(b"\0")
        start = at + 110 + fields[11] + -(110 + fields[11]) % 4
        if name == b"TRAILER!!!\0":
            assert archive[start:].strip(b"\0") == b""
            return found
        assert (fields[2], fields[3]) == (0, 0), "owned by root"
        found.append((name[:-1].decode(), fields[1], archive[start : start + fields[6]]))
        at = start + fields[6] + -fields[6] % 4


@given(FILES)
def test_archive_can_be_read_back(files: dict[str, GuestFile]) -> None:
    first, *rest = read(initrd.cpio(files))
    assert first == ("sandbox", stat.S_IFDIR | 0o755, b"")
    assert rest == [(f"sandbox/{name}", stat.S_IFREG | each.mode, each.content) for name, each in sorted(files.items())]


def test_initrd_is_the_initramfs_and_then_our_archive_and_private(tmp_path: Path) -> None:
    base, target = tmp_path / "initramfs", tmp_path / "initrd"
    base.write_bytes(b"compressed!")
    initrd.write(target, base, {"key": GuestFile(b"secret", 0o600)})
    whole = target.read_bytes()
    assert whole.startswith(b"compressed!\0" + b"070701")
    assert read(whole[12:])[1] == ("sandbox/key", stat.S_IFREG | 0o600, b"secret")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    initrd.write(target, base, {})
    assert len(read(target.read_bytes()[12:])) == 1


def test_everything_a_guest_imports_of_ours_is_in_it(tmp_path: Path) -> None:
    for name, each in guestfiles.programs().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(each.content)
    modules = [f"git_sandbox.guest.{path.stem}" for path in (tmp_path / "git_sandbox/guest").iterdir()]
    script = "import importlib, sys; sys.path.insert(0, sys.argv[1]); [*map(importlib.import_module, sys.argv[2:])]"
    words = [sys.executable, "-I", "-S", "-c", script, str(tmp_path), *modules]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stderr == ""
    assert "git_sandbox.guest.exporter" in modules
