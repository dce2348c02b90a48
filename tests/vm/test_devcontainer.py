"""A devcontainer.json in a machine: its commands, folders, variables and places. One boot."""

from __future__ import annotations

import json

from support.vm import Sandboxes

TABLE = {
    "containerEnv": {"NAMED": "${localEnv:DEVCONTAINER_NAME:nobody}"},
    "remoteEnv": {"PATH": "/opt/tool:${containerEnv:PATH}"},
    "mounts": [
        "source=cache,target=/opt/cache,type=volume",
        "source=${localWorkspaceFolder}/d,target=/data,type=bind",
        "source=${localWorkspaceFolder}/out,target=/out,type=bind",
    ],
    "workspaceFolder": "/code",
    "onCreateCommand": ["sh", "-c", "echo create > /tmp/order; pwd >> /tmp/order"],
    "postCreateCommand": {"a": "echo both >> /tmp/order", "b": "echo both >> /tmp/order"},
    "postStartCommand": "echo start $NAMED >> /tmp/order",
    "postAttachCommand": "touch /tmp/attached; sleep 1000",
}
LOOK = r"""
cat /data/file /tmp/order; pwd; case $PATH in /opt/tool:*) echo path;; esac
test -w /opt/cache && until [ -e /tmp/attached ]; do sleep 0.1; done
test ! -e /out && echo home >> d/file && echo done
"""


def test_what_a_devcontainer_asks_for(boxes: Sandboxes) -> None:
    top, place = boxes.repo.path, boxes.repo.path / ".devcontainer"
    for each in (place, top / "d"):
        each.mkdir()
    (place / "devcontainer.json").write_text(f"// of a test\n{json.dumps(TABLE)}")
    (top / "d/file").write_text("data\n")
    (top / "out").symlink_to("/etc")
    boxes.repo.git("add", "-A")
    boxes.repo.git("commit", "-qm", "a devcontainer")
    assert "not trusted" in boxes.run("config").text
    assert boxes.run("config", "--trust").code == 0
    boxes.env["DEVCONTAINER_NAME"] = "somebody"
    done = boxes.run("run", "--", "sh", "-ec", LOOK)
    assert done.text.splitlines() == [
        "data",
        "create",
        "/code",
        "both",
        "both",
        "start somebody",
        "/code",
        "path",
        "done",
    ], done.said
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:d/file") == "data\nhome"
