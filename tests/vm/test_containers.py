"""Container engines in the guest (docs/how-to/containers.md). One machine for each engine: minutes in emulation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import vm
from support.gitrepo import GitRepo
from support.kvm import HALTS
from support.vm import Sandboxes

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SANDBOX_TEST_LONG"), reason="takes minutes in emulation: SANDBOX_TEST_LONG=1 runs it"
    ),
    pytest.mark.timeout(3600),
]
# Arguments: the engine, and what makes services of a compose file.
ROOT = r"""
engine=$1; shift
mkdir -p /tmp/r/bin /tmp/c
cp /bin/busybox /tmp/r/bin/
for name in sh wget httpd cat echo sleep id; do ln -s busybox /tmp/r/bin/$name; done
echo hello > /tmp/r/index.html
tar -C /tmp/r -cf /tmp/bb.tar . && chmod 644 /tmp/bb.tar
until_hello() { for _ in $(seq 60); do "$@" 2>/dev/null | grep -q hello && return; sleep 1; done; return 1; }
sudo $engine import /tmp/bb.tar localhost/bb > /dev/null 2>&1
echo "limit: $(sudo $engine run --rm --memory 64m localhost/bb cat /sys/fs/cgroup/memory.max)"
sudo $engine run -d --name web -p 8080:80 localhost/bb httpd -f -h / > /dev/null
until_hello curl -sf localhost:8080/index.html && echo "port: published"
sudo $engine rm -f web > /dev/null
cat > /tmp/c/compose.yaml <<X
services:
  web: {image: localhost/bb, command: httpd -f -h /, stop_signal: SIGKILL}
  client:
    image: localhost/bb
    container_name: client
    command: sh -c "until wget -qO- http://web/index.html; do sleep 1; done"
    depends_on: [web]
X
cd /tmp/c
sudo "$@" up -d > /tmp/compose.log 2>&1 || cat /tmp/compose.log
until_hello sudo $engine logs client && echo "compose: found by name"
sudo "$@" down -t 1 > /dev/null 2>&1
printf 'FROM localhost/bb\nRUN echo built > /built\n' > /tmp/c/Dockerfile
sudo $engine build -q -t localhost/two /tmp/c > /dev/null
echo "build: $(sudo $engine run --rm localhost/two cat /built)"
"""
# Testcontainers itself, over the socket where Docker's is: a container with any port of the guest.
CONTAINERS = r"""
import time, urllib.request
from testcontainers.core.container import DockerContainer
with DockerContainer("localhost/bb").with_command("httpd -f -h /").with_exposed_ports(80) as web:
    for _ in range(60):
        try:
            url = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/index.html"
            print("testcontainers:", urllib.request.urlopen(url).read().decode(), end="")
            break
        except OSError:
            time.sleep(1)
"""
PYTHON = "sudo -E env TESTCONTAINERS_RYUK_DISABLED=true /opt/pip/bin/python containers.py"
# Another user: where these tests run as root, so does the guest's.
ROOTLESS = r"""
podman import -q /tmp/bb.tar localhost/bb > /dev/null
form='{{.Host.Security.Rootless}} {{.Store.GraphDriverName}}'
echo "rootless: $(podman info -f "$form") $(podman run --rm localhost/bb id -u)"
printf 'FROM localhost/bb\nRUN echo built > /built\n' | podman build -q -t localhost/two - > /dev/null
echo "build: $(podman run --rm localhost/two cat /built)"
"""
PODMAN_STORE = '{{.Store.GraphDriverName}} {{index .Store.GraphStatus "Backing Filesystem"}} {{.Host.NetworkBackend}}'
DOCKER_STORE = "{{.Driver}} cgroup {{.CgroupVersion}} {{.CgroupDriver}}"
EVERY = """limit: 67108864
port: published
compose: found by name
build: built
testcontainers: hello
"""


def options(place: Path, *packages: str) -> tuple[str, ...]:
    spec = place / "engine.toml"
    spec.write_text(f'extra_packages = {list(packages)}\npip = ["testcontainers"]\n')
    return "--image", str(spec), "--memory", "1G"


@pytest.fixture
def prepared(boxes: Sandboxes, repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Sandboxes:
    monkeypatch.setattr(vm, "TIMEOUT", 3000.0)
    repo.commit("base", {"root.sh": ROOT, "containers.py": CONTAINERS, "rootless.sh": ROOTLESS, "kvm.py": HALTS})
    return boxes


def test_podman_works_as_on_any_host(prepared: Sandboxes, tmp_path: Path) -> None:
    script = (
        f"echo store: $(sudo podman info -f '{PODMAN_STORE}'); sh -e root.sh podman podman-compose; {PYTHON}; "
        "sudo useradd -m dev; cp rootless.sh /tmp/; sudo su - dev -c 'sh -e /tmp/rootless.sh'"
    )
    done = prepared.sh(script, *options(tmp_path, "podman", "podman-compose"))
    assert done.text == f"store: overlay extfs netavark\n{EVERY}rootless: true overlay 0\nbuild: built\n", done.said


def test_docker_works_as_on_any_host_and_kvm_is_inside(prepared: Sandboxes, tmp_path: Path) -> None:
    """Who is in the group `docker` needs no root. KVM inside: what QEMU emulates, or what this host's KVM passes on."""
    script = (
        f"echo store: $(docker info -f '{DOCKER_STORE}'); sh -e root.sh docker docker compose; {PYTHON}; "
        "sudo useradd -m -G docker dev; echo member: $(sudo su - dev -c 'docker run --rm localhost/bb id -u'); "
        "python3 kvm.py"
    )
    done = prepared.sh(script, "--nested", "yes", *options(tmp_path, "docker.io", "docker-compose"))
    assert done.text == f"store: overlay2 cgroup 2 cgroupfs\n{EVERY}member: 0\nkvm: halted\n", done.said
