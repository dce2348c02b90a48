"""What is added to the default image lies over it in the guest. Built here without a network, and kept in the cache."""

from __future__ import annotations

from pathlib import Path

import msgspec

from git_sandbox.image import spec
from git_sandbox.image.spec import ImageSpec
from support.gitrepo import GitRepo
from support.vm import Sandboxes

ADDED = "echo added > /usr/share/added; rm /usr/bin/zdiff; chmod 0711 /srv; ln -s /usr/share/added /usr/bin/added"
# Everything is as the layer has it, and what only looks like a change is none: the layer is part of the image.
LOOK = r"""
test "$(cat /usr/bin/added)" = added
test ! -e /usr/bin/zdiff && test -e /usr/bin/zcmp
test "$(stat -c %a /srv)" = 711
sudo chmod 0644 /usr/share/added
test "$(findmnt --noheadings --output FSTYPE / 2>/dev/null || stat -f -c %T /)" != ext4
"""


def asked(directory: Path) -> tuple[Path, ImageSpec]:
    made = msgspec.structs.replace(spec.load(), commands=(ADDED,))
    path = directory / "image.toml"
    path.write_text(made.toml)
    return path, made


def test_what_was_added_lies_over_the_image_and_is_no_change(boxes: Sandboxes, repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("base", {"file": "text"})
    path, made = asked(tmp_path)
    script = " && ".join(LOOK.split("\n")[1:-1])
    said = boxes.ok("run", "--image", str(path), "--name", "one", "--", "sh", "-c", f"{script} && echo all-of-it")
    assert "all-of-it" in said.text
    assert "outside the workspace" not in said.text
    assert boxes.listed() == {}, "unchanged: it is in the trash"
    rows = {row["key"]: row for row in boxes.ok("image", "ls", "--json").envelope["data"]}
    assert rows[made.key]["base"] == spec.load().key
    assert rows[made.key]["bytes"] < 16 << 20
