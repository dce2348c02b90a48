"""`--net`: no way out, or a way out that does not lead back into the host."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator

from support.vm import Sandboxes


class Secret(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"secret")

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextlib.contextmanager
def listener(address: str) -> Iterator[tuple[int, list[str]]]:
    """A web server on one address of the host; the port, and who has connected."""
    seen: list[str] = []

    class Server(http.server.ThreadingHTTPServer):
        def verify_request(self, request: object, client_address: object) -> bool:
            del request
            seen.append(str(client_address))
            return True

    with Server((address, 0), Secret) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, seen
        finally:
            server.shutdown()


def own_address() -> str:
    """The address this host would use for the outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_without_network_there_is_no_route(boxes: Sandboxes) -> None:
    script = "ip -o addr | awk '{print $2}' | sort -u; ip route; ip -6 route | grep -v '^::1\\|^$' || true; "
    script += "! getent hosts example.com; ! curl -s --max-time 5 http://192.0.2.1/; cat /proc/net/dev | wc -l"
    done = boxes.sh(script, "--net", "none")
    assert done.text.splitlines() == ["lo", "3"]


NEIGHBOUR = """
nohup sh -c 'mkdir -p /tmp/w/neighbour; cd /tmp/w; exec python3 -m http.server 8123' > /tmp/log 2>&1 &
cat > /tmp/hear <<'END'
import socket
ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ear.bind(("", 8124))
print(ear.recvfrom(99), flush=True)
END
nohup python3 /tmp/hear > /tmp/heard 2>&1 &
until curl -s http://127.0.0.1:8123/ | grep -q neighbour; do sleep 0.1; done
echo up; sleep 600
"""


def test_nat_reaches_out_but_not_back_into_the_host_or_a_neighbour(boxes: Sandboxes) -> None:
    """The neighbour has the same network, and answers at port 8123 and to broadcasts."""
    small = ("--net", "nat")
    with listener("127.0.0.1") as (port, seen), boxes.started("run", *small, "--", "sh", "-c", NEIGHBOUR) as neighbour:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == b"up\n"
        script = f"""
        ip -4 -o addr show eth0 | awk '{{print "address", $4}}'; gateway=$(ip route | awk '/^default/ {{print $3}}')
        echo gateway $gateway
        dns=$(awk '/^nameserver/ {{print $2}}' /etc/resolv.conf); echo dns $dns; getent hosts localhost >/dev/null
        for each in 127.0.0.1 $gateway {own_address()} $dns 10.0.2.2 169.254.1.1 0.0.0.0; do
          curl -s --max-time 4 "http://$each:{port}/" && echo " reached by $each"
          curl -s --max-time 2 "http://$each:8123/" | grep neighbour && echo " by $each"
        done
        python3 - <<'END'
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sender.sendto(b"hi", ("<broadcast>", 8124))
END
        curl -s --max-time 4 'http://[::1]:{port}/' && echo ' reached by ::1'
        echo end
        """
        done = boxes.run("run", *small, "--", "sh", "-c", script)
        heard = boxes.ok("exec", "vm-1", "--", "sh", "-c", "grep -v 127.0.0.1 /tmp/log; cat /tmp/heard").text
    assert done.code == 0, done.said
    rows = done.text.splitlines()
    words = dict(row.split(" ", 1) for row in rows[:3])
    assert words["address"].count(".") == 3
    assert words["gateway"].count(".") == 3
    assert words["dns"] == "198.51.100.53"
    assert rows[3:] == ["end"]
    assert seen == []
    assert [row for row in heard.splitlines() if "Serving" not in row] == []


def test_nat_ends_with_a_killed_supervisor(boxes: Sandboxes) -> None:
    """passt gives up its user id when root starts it, and with that the kernel's promise to kill it with its parent."""
    from support.vm import wait_for

    with boxes.started("run", "--net", "nat", "--", "sh", "-c", "echo up; sleep 300") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert any(name.startswith("passt") for name in boxes.processes().values()), boxes.processes()
        child.kill()
        child.wait()
    wait_for("everything gone", lambda: not boxes.processes(), 15)
    for each in boxes.sockets():  # a killed process cannot tidy up; the next command of this sandbox does
        each.unlink()
