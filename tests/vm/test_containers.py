"""Container engines in the guest (docs/how-to/containers.md). One machine for all: minutes in emulation."""

from __future__ import annotations

import os

import pytest

from support import vm
from support.gitrepo import GitRepo
from support.vm import Sandboxes

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SANDBOX_TEST_LONG"), reason="takes minutes in emulation: SANDBOX_TEST_LONG=1 runs it"
    ),
    pytest.mark.timeout(3600),
]
ROOT = r"""
mkdir -p /tmp/r/bin /tmp/c
cp /bin/busybox /tmp/r/bin/
for each in sh wget httpd cat echo sleep id; do ln -s busybox /tmp/r/bin/$each; done
echo hello > /tmp/r/index.html
tar -C /tmp/r -cf /tmp/bb.tar . && chmod 644 /tmp/bb.tar
until_hello() { for _ in $(seq 60); do "$@" 2>/dev/null | grep -q hello && return; sleep 1; done; return 1; }
sudo podman import -q /tmp/bb.tar localhost/bb > /dev/null
form='{{.Store.GraphDriverName}} {{index .Store.GraphStatus "Backing Filesystem"}} {{.Host.NetworkBackend}}'
echo "store: $(sudo podman info -f "$form")"
echo "limit: $(sudo podman run --rm --memory 64m localhost/bb cat /sys/fs/cgroup/memory.max)"
sudo podman run -d --name web -p 8080:80 localhost/bb httpd -f -h / > /dev/null
until_hello curl -sf localhost:8080/index.html && echo "port: published"
sudo podman rm -f -t 0 web > /dev/null
cat > /tmp/c/compose.yaml <<X
services:
  web: {image: localhost/bb, command: httpd -f -h /, stop_signal: SIGKILL}
  client:
    image: localhost/bb
    command: sh -c "until wget -qO- http://web/index.html; do sleep 1; done"
    depends_on: [web]
X
cd /tmp/c
sudo podman-compose up -d > /dev/null 2>&1
until_hello sudo podman logs c_client_1 && echo "compose: found by name"
sudo podman-compose down -t 1 > /dev/null 2>&1
"""
# As Testcontainers does it: over the socket where Docker's would be, a container with any port of the guest.
API = r"""
import http.client, json, socket, time, urllib.request
class Docker(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")
def call(method, path, body=None):
    docker = Docker("docker")
    docker.request(method, f"/v1.41{path}", json.dumps(body), {"Content-Type": "application/json"})
    return docker.getresponse().read()
web = {"Image": "localhost/bb", "Cmd": ["httpd", "-f", "-h", "/"], "ExposedPorts": {"80/tcp": {}}}
call("POST", "/containers/create?name=tc", web | {"HostConfig": {"PublishAllPorts": True}})
call("POST", "/containers/tc/start")
port = json.loads(call("GET", "/containers/tc/json"))["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
for _ in range(60):
    try:
        print("api:", urllib.request.urlopen(f"http://localhost:{port}/index.html").read().decode(), end="")
        break
    except OSError:
        time.sleep(1)
call("DELETE", "/containers/tc?force=true")
"""
# Another user: where these tests run as root, so does the guest's.
ROOTLESS = r"""
podman import -q /tmp/bb.tar localhost/bb > /dev/null
form='{{.Host.Security.Rootless}} {{.Store.GraphDriverName}}'
echo "rootless: $(podman info -f "$form") $(podman run --rm localhost/bb id -u)"
printf 'FROM localhost/bb\nRUN echo built > /built\n' | podman build -q -t localhost/two - > /dev/null
echo "build: $(podman run --rm localhost/two cat /built)"
"""
EXPECTED = """store: overlay extfs netavark
limit: 67108864
port: published
compose: found by name
api: hello
rootless: true overlay 0
build: built
"""


def test_podman_works_as_on_any_host(boxes: Sandboxes, repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "TIMEOUT", 3000.0)
    repo.commit("base", {"root.sh": ROOT, "api.py": API, "rootless.sh": ROOTLESS})
    script = (
        "sh -e root.sh; sudo -E python3 api.py; sudo useradd -m dev; cp rootless.sh /tmp/; "
        "sudo su - dev -c 'sh -e /tmp/rootless.sh'"
    )
    options = ("--packages", "podman", "--packages", "podman-compose", "--memory", "1G")
    assert boxes.sh(script, *options).text == EXPECTED
