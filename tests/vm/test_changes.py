"""Whether a sandbox changed is found out in its guest; what changed keeps it, and is named."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from git_sandbox.guest.sorting import KINDS
from support.gitrepo import GitRepo
from support.vm import Sandboxes, wait_for

# What a login, a shell and a look around leave behind: nothing that counts.
LOOK = """
git status; git diff; git log; ls -laR /workspace /etc /root /home /var /opt >/dev/null 2>&1; bash -lc true; sudo true
python3 -c 'import json, http.server'; rmdir "$(mktemp -d)"; find / -xdev >/dev/null 2>&1; cat <<X
here
X
"""
# A line for each change: where it is to be counted, what it is called there, and what makes it. (Public reports,
# section 1; new-user.md A3.) Everything at once, because none of them hides another.
CHANGES = r"""
ignored     out/result           mkdir out; echo r >out/result
ignored     node_modules/m/x     echo x >>node_modules/m/x
ignored     node_modules/gone/   rm node_modules/gone/y
uncommitted same                 cp -p same /tmp/t; printf bbbb >same; touch -r /tmp/t same; rm /tmp/t
uncommitted assumed              echo x >>assumed
uncommitted skipped              echo x >>skipped
uncommitted README               echo x >>README
uncommitted private/key          sudo sh -c 'echo x >>private/key'
uncommitted mode                 chmod +x mode
uncommitted attribute            python3 -c 'import os; os.setxattr("attribute", "user.a", b"b")'
uncommitted linked/other         mkdir linked; ln twice linked/other
uncommitted twice                :
uncommitted pipe/p               mkdir pipe; mkfifo pipe/p
uncommitted node/d               mkdir node; sudo mknod node/d c 1 7
uncommitted empty/               mkdir empty
uncommitted odd/caf\udce9        mkdir odd; touch odd/"$(printf 'caf\351')"
nested      inner/.git/hooks/h   touch inner/.git/hooks/h
nested      inner/f              echo x >>inner/f
git         .git/hooks/h         touch .git/hooks/h
git         .git/config          git config my.own setting
outside     /root/r              sudo touch /root/r
outside     /etc/e               sudo touch /etc/e
outside     /opt/o/              sudo mkdir /opt/o
outside     /var/lib/v           sudo touch /var/lib/v
outside     /srv/                sudo chmod 700 /srv
outside     /home/other/.x       sudo useradd -m other; sudo rm -rf /home/other/.[a-z]*; sudo touch /home/other/.x
outside     /usr/bin/cal-gone    sudo sh -c 'cp /bin/true /usr/bin/cal-gone'
outside     /etc/debian_version  sudo rm /etc/debian_version
"""


def prepare(repo: GitRepo) -> None:
    names = ("same", "assumed", "skipped", "README", "private/key", "mode", "attribute", "twice")
    files: dict[str, str | bytes] = dict.fromkeys(names, "aaaa")
    repo.commit("base", files | {".gitignore": "out/\nnode_modules/\n"})
    for name in ("node_modules/m/x", "node_modules/gone/y"):
        repo.write(name)
    GitRepo.create(repo.path / "inner").commit("inner", {"f": "f\n"})
    os.utime(repo.path / "same", (1_577_836_800, 1_577_836_800))
    repo.git("update-index", "--assume-unchanged", "assumed")
    repo.git("update-index", "--skip-worktree", "skipped")
    repo.git("config", "core.ignorecase", "true")
    (repo.path / "private").chmod(0o700)


def told(boxes: Sandboxes, name: str = "vm-1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((boxes.directory(name) / "record.json").read_bytes())["changes"]
    return found


def kill(boxes: Sandboxes) -> None:
    os.kill(boxes.only_machine(), signal.SIGKILL)
    wait_for("the rescue is over", lambda: not boxes.processes())


def test_each_change_is_counted_where_it_is_and_never_forgotten(boxes: Sandboxes) -> None:
    """Live, after a crash, after one more session, and in a copy of the disk."""
    prepare(boxes.repo)
    boxes.ok("spawn", "-d")
    boxes.ok("exec", "vm-1", "--", "sh", "-c", f"cd /workspace; {LOOK}")
    before = boxes.ok("sync", "--json", "vm-1").envelope["data"]["changes"]
    assert before["state"] == "unchanged", before
    rows = [line.split(None, 2) for line in CHANGES.strip().splitlines()]
    boxes.ok("exec", "vm-1", "--", "sh", "-c", "cd /workspace; sync; " + "\n".join(row[2] for row in rows) + "\nsync")
    expected = {kind: {name for where, name, _ in rows if where == kind} for kind in KINDS}
    live = boxes.ok("sync", "--json", "vm-1").envelope["data"]["changes"]
    for kind, names in expected.items():
        missing = names - {each.encode("utf-8", "backslashreplace").decode() for each in live[kind]["names"]}
        assert not missing or live[kind]["count"] > 10, (kind, missing, live)
        assert live[kind]["count"] >= len(names), (kind, live)
    kill(boxes)
    rescued = told(boxes)
    assert (rescued["state"], rescued["ignored"]) == ("changed", live["ignored"])
    assert rescued["outside"] == live["outside"]
    boxes.ok("fork", "vm-1", "--name", "copy")
    assert told(boxes, "copy")["outside"] == live["outside"]
    boxes.ok("shell", "-d", "vm-1")
    said = boxes.ok("stop", "vm-1").text
    assert told(boxes)["outside"] == live["outside"]
    assert "3 ignored" in said
    assert "on disk" in boxes.ok("ls").text


def test_what_only_looked_around_is_not_kept(boxes: Sandboxes) -> None:
    """After a clean end and after a crash; but not where the clock was set meanwhile."""
    prepare(boxes.repo)
    boxes.sh(f"{LOOK}")
    assert boxes.listed() == {}
    boxes.ok("spawn", "-d", "--name", "look")
    boxes.ok("exec", "look", "--", "sh", "-c", f"cd /workspace; {LOOK}\nsync")
    kill(boxes)
    assert boxes.listed() == {}
    clock = "at=$(date +%s); sudo date -s @$((at - 7200)); echo x >out; rm out; sudo date -s @$((at + 1))"
    done = boxes.sh(clock, "--name", "clock")
    assert "unknown (the clock was set)" in done.said
    assert "unknown" in boxes.ok("ls").text
