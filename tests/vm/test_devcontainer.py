"""A devcontainer.json from Dockerfile to session: built in a machine of its own, used in another one. Two boots."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from git_sandbox.sandbox import image_builder
from support import oci
from support.vm import Sandboxes

DOCKERFILE = r"""
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; mkdir -p /etc /tmp /opt"]
FROM base AS dev
ARG WHAT=nothing
ENV GREETING=hello
RUN echo "$WHAT" > /opt/built && test ! -e /ignored.log
FROM base
RUN false
"""
TABLE = {
    "build": {"dockerfile": "Dockerfile", "context": "..", "target": "dev", "args": {"WHAT": "it's $HOME"}},
    "features": {"./tool": {"flavour": "sour"}},
    "containerEnv": {"NAMED": "${localEnv:DEVCONTAINER_NAME:nobody}"},
    "remoteEnv": {"PATH": "/opt/tool:${containerEnv:PATH}"},
    "mounts": [
        "source=cache,target=/opt/cache,type=volume",
        "source=${localWorkspaceFolder}/d,target=/data,type=bind",
        "source=${localWorkspaceFolder}/out,target=/out,type=bind",
    ],
    "workspaceFolder": "/code",
    "onCreateCommand": ["sh", "-c", "echo create >> /tmp/order; pwd >> /tmp/order"],
    "postCreateCommand": {"a": "echo both >> /tmp/order", "b": "echo both >> /tmp/order"},
    "postStartCommand": "echo start $NAMED >> /tmp/order",
    "postAttachCommand": "touch /tmp/attached; sleep 1000",
}
FEATURE = {
    "id": "tool",
    "options": {"flavour": {"type": "string", "default": "sweet"}},
    "containerEnv": {"OF_TOOL": "$GREETING"},
    "onCreateCommand": "echo feature > /tmp/order",
}
INSTALL = r"""#!/bin/sh
echo "$FLAVOUR $_REMOTE_USER" > /opt/flavour
mkdir /opt/tool; printf '#!/bin/sh\necho tool\n' > /opt/tool/tool; chmod +x /opt/tool/tool
"""
LOOK = r"""
cat /opt/built /opt/flavour /data/file; tool; cat /tmp/order; echo "$GREETING $OF_TOOL"; pwd
test -w /opt/cache && until [ -e /tmp/attached ]; do sleep 0.1; done
test ! -e /out && test -e /workspace/ignored.log && echo home >> d/file && echo done
"""


def test_from_dockerfile_to_session(boxes: Sandboxes) -> None:
    top, place = boxes.repo.path, boxes.repo.path / ".devcontainer"
    for each in (place / "tool", top / "d"):
        each.mkdir(parents=True)
    for name, text in {
        "Dockerfile": DOCKERFILE, "devcontainer.json": f"// of a test\n{json.dumps(TABLE)}",
        "tool/devcontainer-feature.json": json.dumps(FEATURE), "tool/install.sh": INSTALL,
        "../d/file": "data\n", "../.gitignore": "*.log\n", "../ignored.log": "",
    }.items():  # fmt: skip
        (place / name).write_text(text)
    (top / "out").symlink_to("/etc")
    images = (Path(boxes.env["XDG_CACHE_HOME"]) / "git-sandbox/images").glob("*/rootfs.ext4")
    (top / "busybox").write_bytes(oci.asked(next(images), "cat /usr/bin/busybox"))
    (top / "busybox").chmod(0o755)
    boxes.repo.git("add", "-A")
    boxes.repo.git("commit", "-qm", "a devcontainer")
    boxes.ok("image", "build", "--packages", ",".join(image_builder.PACKAGES))  # has its own time
    assert "not trusted" in boxes.run("config").text
    assert boxes.run("config", "--trust").code == 0
    boxes.env["DEVCONTAINER_NAME"] = "somebody"
    done = boxes.run("run", "--", "sh", "-ec", LOOK)
    assert done.text.splitlines() == [
        "it's $HOME", "sour root", "data", "tool", "feature", "create", "/code", "both", "both", "start somebody",
        "hello hello", "/code", "done",
    ], done.said  # fmt: skip
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:d/file") == "data\nhome"
    assert "Containerfile of" in boxes.run("image", "ls").text
    builders = Path(boxes.env["XDG_CACHE_HOME"]) / "git-sandbox/builders"
    own = builders / (top / ".git/sandbox-id").read_text().strip()
    assert sorted(each.name for each in own.iterdir()) == ["builder", "built.json", "lock", "repository"]
    shutil.rmtree(own)
