"""What host and guest share is written once; what cannot import it says the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import git_sandbox
from git_sandbox.guest import protocol
from git_sandbox.protocol.wire import Wire

SOURCE = Path(git_sandbox.__file__).parent
WRITTEN = {
    "data/initramfs-init.sh": (protocol.END, protocol.TOKEN),
    "data/init.sh": (protocol.HERE, protocol.DISK, protocol.END),
    "data/boot.sh": (protocol.HERE, protocol.WORKSPACE),
    "guest/sshd_config": (f"{protocol.HERE}/{protocol.HOST_KEY}", f"{protocol.HERE}/{protocol.AUTHORIZED_KEYS}"),
    "guest/sandbox": (protocol.HERE, protocol.WORKSPACE, protocol.PUSH, protocol.PULL),
}  # fmt: skip


def test_the_module_imports_nothing() -> None:
    tree = ast.parse((SOURCE / "guest/protocol.py").read_text())
    assert protocol.FIRST.endswith(f"/{protocol.INIT}")
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_cannot_import_it_says_the_same(name: str) -> None:
    text = (SOURCE / name).read_text()
    assert not [value for value in WRITTEN[name] if value not in text]


def test_every_field_of_a_manifest_is_read_by_the_host() -> None:
    assert set(Wire.__struct_fields__) == set(protocol.MANIFEST)


def test_neither_side_spells_out_what_is_shared() -> None:
    """Paths, ports and formats; words such as `status` mean other things elsewhere."""
    shared = (protocol.HERE, protocol.PORT_PREFIX, protocol.DELTA_HEADER, protocol.NO_WORK, protocol.CANNOT_USE)
    literal = re.compile("|".join(f"[\"']{re.escape(value)}" for value in shared))
    spelled = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.name != "protocol.py" and literal.search(path.read_text())
    }
    assert spelled == {"guest/init.py"}, "which finds the others by that path"
