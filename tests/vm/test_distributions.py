"""Real distributions as the guest's root (docs/explanation/roots.md): a boot each, of what registries have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from git_sandbox.image.guestfiles import GuestUser
from support import distributions, vm
from support.vm import Sandboxes

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SANDBOX_TEST_LONG"), reason="fetches what roots are made of: SANDBOX_TEST_LONG=1 runs it"
    ),
    pytest.mark.timeout(3600),
]
# The same in each: who one is, becoming root, a login shell, a commit, what an installation leaves counts as a change.
EVERY = r"""
id -u; pwd; sudo id -u; sudo sh -c 'echo x > /usr/local/x'; sh -lc 'command -v git > /dev/null && echo login'
echo new > file; git add file; git -c user.name=A -c user.email=a@b commit -qm "from another root"
git status --porcelain; sandbox status > /dev/null; test -d /lib/modules/"$(uname -r)"; ls -d "$HOME"
"""
OWN = {
    "alpine": "apk --version | cut -d' ' -f1; apk info -e musl; ls /lib/ld-musl-x86_64.so.1",
    "debian-12": "apt-get --version | head -n1 | cut -c-3; dpkg -s libc6 > /dev/null; cut -d. -f1 /etc/debian_version",
    "debian-13": "sudo --version > /dev/null; readlink -f $(command -v sudo)",
    "few": "hello; command -v apt-get apk || echo none",
}
ANSWERS = {
    "alpine": ["apk-tools", "musl", "/lib/ld-musl-x86_64.so.1"],
    "debian-12": ["apt", "12"],
    "debian-13": ["/usr/bin/sudo"],
    "few": ["Hello, world!", "none"],
}


@pytest.mark.parametrize("name", distributions.ROOTS)
def test_a_distribution_is_a_root(boxes: Sandboxes, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "alpine" and shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    monkeypatch.setattr(vm, "TIMEOUT", 1500.0)
    image = distributions.image(name, tmp_path / name)
    done = boxes.run("run", "--image", image, "--", "sh", "-ec", f"{OWN[name]}\n{EVERY}")
    uid, home = str(os.getuid()), GuestUser.current().home
    assert done.text.splitlines() == [*ANSWERS[name], uid, "/workspace", "0", "login", home], done.said
    assert boxes.repo.git("show", "refs/sandbox/vm-1:file") == "new"
    assert "1 outside the workspace (/usr/local/x)" in done.said
