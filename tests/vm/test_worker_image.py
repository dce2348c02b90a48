"""The worker's image of docs/how-to/batch.md: built by `sandbox` from what is here, and a try of a Job runs in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from support import vm
from support.vm import Sandboxes, real_cache

TOP = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SANDBOX_TEST_LONG"), reason="installs QEMU in a guest: SANDBOX_TEST_LONG=1 runs it"
    ),
    pytest.mark.timeout(7200),
]
CERTIFICATES = "usr/local/share/ca-certificates"
HOSTS = ("deb.debian.org", "pypi.org", "files.pythonhosted.org")


def page() -> str:
    return (TOP / "docs/how-to/batch.md").read_text("utf-8")


def base(target: Path) -> None:
    """The page's base image comes from a registry; Debian's packages make the same. It trusts what this host trusts."""
    hooks = (f"copy-in /{CERTIFICATES} /{CERTIFICATES.rpartition('/')[0]}/", 'chroot "$1" update-ca-certificates')
    options = ["--variant=minbase", "--include=ca-certificates", *(f"--customize-hook={hook}" for hook in hooks)]
    subprocess.run(["mmdebstrap", "--quiet", *options, "trixie", target], check=True, capture_output=True)


def build(boxes: Sandboxes, clone: Path) -> Path:
    (line,) = re.findall(r"^sandbox (image build .*)$", page(), re.MULTILINE)
    words = shlex.split(line)
    # Addresses that no name may lead to are allowed by themselves: those of mirrors in a private network.
    mirrors = sorted({str(row[4][0]) for host in HOSTS for row in socket.getaddrinfo(host, 80, socket.AF_INET)})
    done = boxes.run(*words, *(word for address in mirrors for word in ("--allow", address)), cwd=clone)
    assert done.code == 0, done.said
    return clone / words[words.index("--archive") + 1]


def test_the_workers_image_is_built_and_a_try_runs_in_it(
    boxes: Sandboxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "TIMEOUT", 3000.0)
    clone, data = tmp_path / "clone", tmp_path / "data"
    subprocess.run(["git", "clone", "-q", TOP, clone], check=True)
    base(clone / "root.tar")
    containerfile = clone / "worker.Containerfile"
    text, count = re.subn(r"^FROM .*$", "FROM scratch\nADD root.tar /", containerfile.read_text(), flags=re.MULTILINE)
    assert count == 1
    containerfile.write_text(text)
    archive = build(boxes, clone)
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{archive}", f"oci:{tmp_path}/oci:worker"], check=True)
    rootless = ["--rootless"] if os.getuid() else []
    unpack = ["umoci", "unpack", *rootless, "--image", f"{tmp_path}/oci:worker", f"{tmp_path}/bundle"]
    subprocess.run(unpack, check=True, capture_output=True)

    (data / "jobs").mkdir(parents=True)
    boxes.ok("run", "--name", "try-1", "--job-out", str(data / "jobs/1.job"), "--", "sh", "-c",
             "echo made >made && git add made && git commit -qm 'from a pod'")  # fmt: skip
    (job,) = re.findall(r"^```json\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    (container,) = json.loads(job)["spec"]["template"]["spec"]["containers"]
    (variables,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    # What a container engine would do: this root, the volume, nothing else of the host, no network.
    where = shutil.which("bwrap")
    assert where
    words = [
        where, "--unshare-all", "--die-with-parent", "--bind", tmp_path / "bundle/rootfs", "/", "--proc", "/proc",
        "--dev", "/dev", "--tmpfs", "/tmp", "--bind", data, "/data",
        "--bind", real_cache() / "git-sandbox/images", "/data/cache/git-sandbox/images", "--chdir", "/data",
        "--clearenv", "--setenv", "PATH", os.defpath + ":/usr/local/bin:/usr/sbin", "--setenv", "HOME", "/root",
        "--setenv", "JOB_COMPLETION_INDEX", "0",
        *(word for pair in variables.split() for word in ("--setenv", *pair.split("=", 1))), *container["command"],
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=vm.TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    boxes.ok("collect", str(data / "jobs/1.result"))
    assert boxes.repo.git("show", "refs/sandbox/try-1:made") == "made"
    assert boxes.repo.git("log", "-1", "--format=%s", "refs/sandbox/try-1") == "from a pod"
