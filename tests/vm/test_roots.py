"""Systems whose root is not ours: one static program, and musl with traps. One boot each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.image.guestfiles import GuestUser
from git_sandbox.network import DNS_ADDRESS
from git_sandbox.vmm.backends import BY_NAME
from support import roots
from support.vm import Sandboxes

NEXT_TO_NOTHING = r"""
/hello; echo "$GREETING|$BAD|$PATH"; pwd; id -u; sudo id -u; sudo -u "$(id -un)" sh -c 'id -u'
[ "$(sh -c 'tty')" = "not a tty" ] && unshare -U true && echo not in a chroot
echo new > file; git add file; git -c user.name=A -c user.email=a@b commit -qm "from next to nothing"
git clone -q . /tmp/copy && git -C /tmp/copy submodule status && ls /tmp/copy/file; rm -r /tmp/copy
sandbox status | head -1; test -d /lib/modules/$(uname -r) && echo modules; echo x | sudo tee /root/x > /dev/null
"""
MUSL = r"""
hello; id node | cut -d' ' -f1; sh -lc 'echo $PATH'; cat /proc/sys/kernel/modprobe
mount -t squashfs none /mnt 2>/dev/null || true; /run/git-sandbox/bin/git --version | cut -d' ' -f1-2
command -v git python3; ls -ld / /tmp | cut -d' ' -f1; cat /etc/resolv.conf /proc/net/route
"""
ON_A_SHARE = r"""
/hello; cat /proc/mounts | grep -c '^[^ ]* /workspace virtiofs'; cat dir/file; echo new > dir/new; git add dir/new
git -c user.name=A -c user.email=a@b commit -qm "on a share"; sudo id -u
"""


@pytest.mark.contract
def test_two_roots_that_are_not_ours(boxes: Sandboxes, tmp_path: Path, cache: Path) -> None:
    """The first boots, the second starts warm where that can be. What the second did not change is nothing."""
    uid, home = str(os.getuid()), GuestUser.current().home
    one, musl = roots.one_program(tmp_path), roots.musl(tmp_path, 1000, cache)
    done = boxes.run("run", "--image", one, "--warm", "no", "--", "sh", "-ec", NEXT_TO_NOTHING)
    path = "/opt/x:/:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/git-sandbox/bin"
    assert done.text.splitlines() == [
        "hello", f"good day||{home}/.local/bin:{path}", "/workspace", uid, "0", uid,
        "not in a chroot", "/tmp/copy/file", "sandbox vm-1: the repository is at /workspace", "modules",
    ], done.said  # fmt: skip
    assert boxes.repo.git("show", "refs/sandbox/vm-1:file") == "new"
    assert "1 outside the workspace (/root/x)" in done.said
    device = BY_NAME[boxes.env["SANDBOX_BACKEND"]].capabilities.network_device
    done = boxes.run("run", "--image", musl, *(("--net", "nat") if device else ()), "--", "sh", "-ec", MUSL)
    node = "node" if uid != "1000" else GuestUser.current().name
    assert done.text.splitlines()[:2] == ["hello", f"uid=1000({node})"], done.said
    assert "git version" in done.text.splitlines()
    assert (DNS_ADDRESS in done.text, "eth0" in done.text) == (device, device)
    assert "No changes" in done.said, "neither a trap nor the login left anything"
    assert boxes.trash() != []


@pytest.mark.transports
def test_a_root_that_is_not_ours_works_on_a_share(boxes: Sandboxes, tmp_path: Path) -> None:
    boxes.repo.commit("base", {"dir/file": "text\n"})
    one = roots.one_program(tmp_path)
    done = boxes.run("run", "--image", one, "--warm", "no", "--", "sh", "-ec", ON_A_SHARE)
    assert done.text.splitlines() == ["hello", "1", "text", "0"], done.said
    assert boxes.repo.git("show", "refs/sandbox/vm-1:dir/new") == "new"
