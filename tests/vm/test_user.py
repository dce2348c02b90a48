"""When root runs the tests, the machine of an ordinary user is tried as well: other ids, a name, no privileges."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.confined import check_vmm
from support.gitrepo import GitRepo
from support.vm import Sandboxes, sandboxes

NAME, UID, GID = "tester", 21_234, 21_235
CHECKOUT = Path(__file__).parents[2]
# In a mount namespace of its own: a user database with the tester in it, and interpreter and checkout where he can
# reach them, whatever directories they are in. $1: scratch, $2: interpreter, $3: checkout, $4: repository, $5: hidden.
ENTER = r"""
mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group
mount --bind "$2" "$1/python"; mount --bind "$3" "$1/checkout"
for each in $5; do mount -t tmpfs -o mode=0755 tmpfs "$each"; done
mkdir -p "$2" "$3"; mount --bind "$1/python" "$2"; mount --bind "$1/checkout" "$3"
cd "$4"; shift 5; exec setpriv --reuid=21234 --regid=21235 --clear-groups --inh-caps=-all "$@"
"""


def hidden(*places: str | Path) -> str:
    """The outermost directories above `places` that the tester cannot enter."""
    found = []
    for place in places:
        closed = [each for each in Path(place).parents if not each.stat().st_mode & stat.S_IXOTH]
        found += [os.fspath(each) for each in closed[-1:]]
    return " ".join(sorted(set(found)))


@pytest.fixture
def ordinary(cache: Path) -> Iterator[Sandboxes]:
    if os.getuid() != 0:
        pytest.skip("the tests run as an ordinary user already: every other VM test is this test")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not make a mount namespace, which the tester's /etc/passwd needs")
    with tempfile.TemporaryDirectory(prefix="sb-user-", dir="/tmp") as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        home = root / "home"
        repo = GitRepo.create(home / "repo")
        repo.commit("first", {"README": "hello\n"})
        shutil.copy(Path.home() / ".gitconfig", home / ".gitconfig")
        _lend_image(cache, home / ".cache")
        for name, line in (
            ("passwd", f"{NAME}:x:{UID}:{GID}:Ada Tester,,,:{home}:/bin/bash"),
            ("group", f"crew:x:{GID}:"),
        ):
            (root / name).write_text(Path("/etc", name).read_text() + line + "\n")
        for name in ("python", "checkout"):
            (root / name).mkdir()
        subprocess.run(["chown", "-hR", f"{UID}:{GID}", home], check=True)
        with sandboxes(repo, home / "state", home / ".cache") as made:
            os.chown(made.runtime, UID, GID)
            made.env |= {"HOME": str(home), "USER": NAME, "LOGNAME": NAME, "XDG_CONFIG_HOME": str(home / ".config")}
            made.prefix = (
                "unshare", "--mount", "sh", "-ec", ENTER, "sh", scratch, sys.base_prefix, str(CHECKOUT), str(repo.path),
                hidden(sys.base_prefix, CHECKOUT),
            )  # fmt: skip
            yield made


def _lend_image(cache: Path, target: Path) -> None:
    """A copy where the tester can read it; sparse, and sharing blocks where the file system can."""
    for source in sorted((cache / "git-sandbox" / "images").glob("[!.]*/*")):
        place = target / "git-sandbox" / "images" / source.parent.name
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", source, place], check=True)


def test_ordinary_user_has_his_own_name_and_ids_and_sudo(ordinary: Sandboxes) -> None:
    script = "id -un; id -u; id -g; id -gn; echo ~; sudo -n id -u; stat -c %u:%g README; git config user.name; pwd"
    script += "; echo new > new; git add new; git commit -qm inside; stat -c %u:%g new"
    done = ordinary.sh(script)
    assert done.text.splitlines() == [
        NAME, str(UID), str(GID), "crew", f"/home/{NAME}", "0", f"{UID}:{GID}", "Test User", "/workspace",
        f"{UID}:{GID}",
    ]  # fmt: skip
    assert ordinary.repo.git("-c", "safe.directory=*", "log", "-1", "--format=%s", "sandbox/vm-1") == "inside"
    assert {path.lstat().st_uid for path in ordinary.repo.path.rglob("*")} == {UID}, "nothing of root's was made"


SPY = r"""
cat > /tmp/spy <<'X'
p=$PPID; while [ "$(cat /proc/$p/comm)" != python3 ]; do p=$(cut -d' ' -f4 /proc/$p/stat); done
{ grep -E '^(Uid|CapEff)' /proc/$p/status; cat /proc/$p/environ || echo refused; cat /proc/$p/maps || echo refused
ls /proc/$p/fd || echo refused; } > /tmp/seen 2> /dev/null
cat
X
git config filter.spy.clean 'sh /tmp/spy'; echo 'new filter=spy' > .git/info/attributes; echo new > new
sandbox push > /tmp/pushed; cat /tmp/seen
"""


def test_what_exports_is_an_ordinary_process_that_its_user_cannot_read(ordinary: Sandboxes) -> None:
    """It has been process 1. A filter is started by git, and git by it: the user's program looks at its ancestor."""
    seen = ordinary.sh(SPY).text.split()
    assert seen == ["Uid:", *[str(UID)] * 4, "CapEff:", "0" * 16, "refused", "refused", "refused"]


def test_qemu_of_an_ordinary_user_sees_its_machines_files_only(ordinary: Sandboxes) -> None:
    check_vmm(ordinary)


def test_qemu_of_whoever_runs_the_tests_sees_its_machines_files_only(boxes: Sandboxes) -> None:
    check_vmm(boxes)
