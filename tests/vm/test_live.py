"""A sandbox that stays: reached by several at once, furnished by options, stopped with its work brought home."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from support import placetable
from support.gitrepo import GitRepo
from support.pace import SLOWNESS
from support.vm import SANDBOX, Sandboxes, wait_for

SETUP = """#!/bin/sh
test "$TOKEN" = 's3cret "x" $HOME \\' || exit 9
pwd > /tmp/setup-ran; cat >> /tmp/setup-ran; echo setup says hello
cd /tmp && nohup python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &
"""
VALUE = 's3cret "x" $HOME \\'
# As Remote-SSH of VS Code and Cursor does it: a script by way of bash's input unpacks a server, starts it for good and
# says where it listens; then the editor comes through ssh's SOCKS proxy, again and again.
EDITOR_SERVER = r"""
mkdir -p ~/.editor-server && tar -C ~/.editor-server -xf /tmp/server.tar && cd ~/.editor-server
nohup python3 -um http.server --bind 127.0.0.1 0 > log 2>&1 < /dev/null & echo $! > pid
until grep -q '^Serving' log; do sleep 0.1; done
sed -n 's/.* port \([0-9]*\) .*/listening at \1/p' log
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def arguments() -> str:
    """What every process of this machine was started with."""
    return "\n".join(
        place.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        for place in Path("/proc").glob("[0-9]*/cmdline")
        if place.exists()
    )


def test_options_and_everyone_who_speaks_ssh(boxes: Sandboxes, tmp_path: Path) -> None:
    setup, listed, number = tmp_path / "setup", tmp_path / "env", free_port()
    setup.write_text(SETUP)
    listed.write_text("# a file\nFROM_FILE=two words\n")
    given = tmp_path / "given"
    (given / "sub").mkdir(parents=True)
    (given / "sub" / "file").write_text("of the host\n")
    agent = boxes.runtime / "agent"
    with (
        subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as running,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(running.terminate)  # also when something below fails: Popen waits for its end
        wait_for("the agent", agent.exists)
        boxes.env |= {"TOKEN": VALUE, "SSH_AUTH_SOCK": str(agent)}
        _signs(boxes, tmp_path)
        boxes.ok(
            "spawn", "-d", "--env", "TOKEN", "--env-file", str(listed), "--setup", str(setup),
            "--publish", f"{number}:8000", "--ssh-agent", "--mount", str(given),
            "--workdir", "host",
        )  # fmt: skip
        assert VALUE not in arguments()
        assert boxes.ok("exec", "vm-1", "--", "sh", "-c", "pwd; git status -s").text == f"{boxes.repo.path}\n"
        script = f"ls /mnt/given; cat {given}/sub/file; ! touch {given}/new && ! sudo touch {given}/new"
        assert boxes.ok("exec", "vm-1", "--", "sh", "-ec", script).text == "sub\nof the host\n"
        assert boxes.ok("exec", "vm-1", "--", "cat", "/tmp/setup-ran").text == "/workspace\n"
        done = boxes.run("exec", "vm-1", "--", "sh", "-c", 'printf "%s|%s" "$TOKEN" "$FROM_FILE"; echo err >&2; exit 7')
        assert (done.text, done.err, done.code) == (f"{VALUE}|two words", b"err\n", 7)
        assert boxes.ok("exec", "vm-1", "--", "ssh-add", "-l").text.count("\n") == 1
        with socket.create_connection(("127.0.0.1", number), 20) as web:
            web.sendall(b"GET /setup-ran HTTP/1.0\r\n\r\n")
            assert web.makefile("rb").read().endswith(b"/workspace\n")
        table = placetable.check(
            state=boxes.state / "git-sandbox", cache=tmp_path / "none", runtime=boxes.runtime / "git-sandbox"
        )
        assert {"STATE/*/*/ssh_config", "STATE/*/*/keys", "RUNTIME/**"} <= table
        _ssh(boxes, tmp_path)
        _copies(boxes, tmp_path)
        boxes.ok("exec", "vm-1", "--", "sh", "-ec", "git commit -q --allow-empty -m signed; rm -f /tmp/.git_signing*")
        assert "/tmp/setup-ran" in boxes.ok("stop", "vm-1").text, "what only the disk has is said"
    boxes.repo.git("verify-commit", "sandbox/vm-1")
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", number)) != 0, "a published port ends with its sandbox"


def _signs(boxes: Sandboxes, tmp_path: Path) -> None:
    """Its user signs, by a key that only his agent has."""
    key = tmp_path / "signing"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-add", "-q", key], env=boxes.env, check=True)
    key.unlink()
    (tmp_path / "allowed").write_text(f"* {(tmp_path / 'signing.pub').read_text()}")
    settings = {"gpg.format": "ssh", "user.signingKey": f"{key}.pub", "commit.gpgSign": "true"}
    for name, value in (settings | {"gpg.ssh.allowedSignersFile": f"{tmp_path}/allowed"}).items():
        boxes.repo.git("config", name, value)


def _ssh(boxes: Sandboxes, tmp_path: Path) -> None:
    written = tmp_path / "ssh_config"
    written.write_text(boxes.ok("ssh-config", "vm-1").text)
    for each in range(6):  # each stood still more often than not while sshd polled its port twice
        target = tmp_path / f"copy-{each}"
        copied = subprocess.run(
            ["scp", "-q", "-r", "-F", written, "sandbox-vm-1:/workspace/.git", target], timeout=60, check=False
        )
        assert copied.returncode == 0
        assert (target / "HEAD").read_bytes() == boxes.repo.read(".git/HEAD")
    _editors(boxes, tmp_path, written)
    _editor_server(boxes, tmp_path, written)
    other = GitRepo.create(tmp_path / "other")
    fetched = subprocess.run(
        ["git", "fetch", "-q", "ssh://sandbox-vm-1/workspace", "main"], cwd=other.path, check=False, timeout=60,
        env=boxes.env | {"GIT_SSH_COMMAND": f"ssh -F {written}"},
    )  # fmt: skip
    assert fetched.returncode == 0
    assert other.git("rev-parse", "FETCH_HEAD") == boxes.repo.git("rev-parse", "main")


def _editors(boxes: Sandboxes, tmp_path: Path, config: Path) -> None:
    """An editor that is installed edits a file in there over ssh. ssh looks into its user's own configuration."""
    assert "ssh does not know `sandbox-vm-1` yet" in boxes.run("code", "vm-1", "--editor", "vim").said
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("ssh", "scp"):
        (programs / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {config} "$@"\n')
        (programs / name).chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    top = boxes.repo.path
    shown = boxes.run("code", "vm-1", "--editor", "zed", "--print", env=env)
    assert shown.text == f"zed ssh://sandbox-vm-1{top}\n"
    boxes.ok("exec", "vm-1", "--", "sh", "-c", "echo of nobody > edited")
    netrw = "--cmd 'runtime plugin/netrwPlugin.vim' '+1s/.*/of vim/' +wq scp://{host}/{netrw_path}"
    edited = boxes.run("code", "vm-1", "edited", "--editor", f"vim -es -N -u NONE {netrw}", env=env)
    assert edited.code == 0, edited.said
    assert boxes.ok("exec", "vm-1", "--", "cat", "edited").text == "of vim\n"
    boxes.ok("exec", "vm-1", "--", "rm", "edited")


def _editor_server(boxes: Sandboxes, tmp_path: Path, config: Path) -> None:
    (tmp_path / "page").write_text("of the editor\n")
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "server.tar", "page"], check=True)
    host, number = ("-F", str(config), "sandbox-vm-1"), free_port()
    put = f'put "{tmp_path}/server.tar" /tmp/'.encode()
    subprocess.run(["sftp", "-q", "-b", "-", *host], input=put, check=True, capture_output=True, timeout=60)
    begin = ["ssh", "-T", *host, "bash"]
    begun = subprocess.run(begin, input=EDITOR_SERVER, text=True, stdout=subprocess.PIPE, check=True, timeout=60)
    for _ in range(2):  # the server stays when its editor goes
        words = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-D", str(number), *host]
        with subprocess.Popen(words) as proxy, contextlib.ExitStack() as stack:
            stack.callback(proxy.terminate)
            wait_for("the proxy", lambda: _answers(number), 60)
            assert _through(number, int(begun.stdout.split()[-1])).endswith(b"\r\n\r\nof the editor\n")
    end = "kill $(cat ~/.editor-server/pid); rm -r ~/.editor-server /tmp/server.tar"
    boxes.ok("exec", "vm-1", "--", "sh", "-c", end)


def _answers(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


def _through(proxy: int, port: int) -> bytes:
    """A page of the guest's own loopback, by SOCKS (RFC 1928)."""
    with socket.create_connection(("127.0.0.1", proxy), 30) as way:
        way.sendall(b"\5\1\0")
        answer = way.makefile("rb")
        assert answer.read(2) == b"\5\0"
        way.sendall(b"\5\1\0\1\x7f\0\0\1" + port.to_bytes(2, "big"))
        assert answer.read(10)[1] == 0
        way.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        return answer.read()


def _copies(boxes: Sandboxes, tmp_path: Path) -> None:
    data = tmp_path / "data [1]"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "random*").write_bytes(os.urandom(2 << 20))
    boxes.ok("cp", str(data), "vm-1:/tmp/")
    boxes.ok("exec", "vm-1", "--", "sh", "-c", "ln -s /etc/hostname '/tmp/data [1]/link'")
    (tmp_path / "precious").write_text("mine")
    back = tmp_path / "back"
    back.mkdir()
    (back / "data [1]").mkdir()
    (back / "data [1]" / "link").symlink_to(tmp_path / "precious")
    boxes.ok("cp", "vm-1:/tmp/data [1]", str(back))
    assert (back / "data [1]" / "sub" / "random*").read_bytes() == (data / "sub" / "random*").read_bytes()
    assert (back / "data [1]" / "link").readlink() == tmp_path / "precious"  # the guest's leads out of the copy
    boxes.ok("cp", "--follow-links", "vm-1:/tmp/data [1]", str(back))
    assert (back / "data [1]" / "link").read_text() == "vm-1\n"
    assert (tmp_path / "precious").read_text() == "mine"
    missing = boxes.run("cp", "vm-1:/nowhere", str(back))
    assert (missing.code, missing.said) == (2, "error: there is no /nowhere in the sandbox\n")


BUSY = "while :; do head -c 200000 /dev/urandom > noise; done"


@pytest.mark.contract
def test_shells_pushes_a_frozen_machine_and_the_end(boxes: Sandboxes) -> None:
    boxes.ok("spawn", "-d")
    first, second = _shell(boxes), _shell(boxes)
    for number, (_, terminal) in enumerate((first, second)):
        os.write(terminal, f"touch /tmp/shell-{number}\n".encode())
    wait_for(
        "two shells at once", lambda: boxes.run("exec", "vm-1", "--", "ls", "/tmp/shell-0", "/tmp/shell-1").code == 0
    )
    os.close(first[1])  # the terminal's window is closed: its session gets SIGHUP
    first[0].wait(30 * SLOWNESS)
    assert boxes.listed()["vm-1"]["state"] == "running"
    boxes.ok(
        "exec", "vm-1", "--", "sh", "-ec", f"nohup sh -c '{BUSY}' >/dev/null 2>&1 & git commit -qm one --allow-empty"
    )
    assert "refs/sandbox/vm-1" in boxes.ok("exec", "vm-1", "--", "sandbox", "push").text
    pushed = boxes.refs()["refs/sandbox/vm-1"]
    os.kill(boxes.only_machine(), signal.SIGSTOP)
    time.sleep(8)
    os.kill(boxes.only_machine(), signal.SIGCONT)
    boxes.ok("exec", "vm-1", "--", "git", "commit", "-qm", "two", "--allow-empty")
    before = time.time()
    there = float(boxes.ok("exec", "vm-1", "--", "date", "+%s.%N").text)
    assert before - 4 < there < time.time() + 4, "the guest's clock went on while the machine stood still"
    boxes.ok("exec", "vm-1", "--", "sudo", "date", "-s", "+400 days")
    boxes.ok("sync", "vm-1")
    assert boxes.repo.git("rev-parse", "refs/sandbox/vm-1~1") == pushed
    boxes.ok("exec", "vm-1", "--", "sudo", "date", "-s", "-800 days")
    mine = boxes.repo.commit("host", {"host": "1\n"})
    boxes.ok("exec", "vm-1", "--", "sandbox", "pull")
    assert boxes.ok("exec", "vm-1", "--", "git", "rev-parse", "host/main").text.strip() == mine
    boxes.ok("exec", "vm-1", "--", "git", "commit", "-qm", "three", "--allow-empty")
    boxes.ok("stop", "vm-1")
    os.close(second[1])
    second[0].wait(30 * SLOWNESS)
    assert boxes.repo.git("log", "--format=%s", "-3", "sandbox/vm-1").split() == ["three", "two", "one"]
    assert boxes.repo.git("rev-parse", "main") == mine
    assert boxes.listed()["vm-1"]["state"] == "stopped"


def _shell(boxes: Sandboxes) -> tuple[subprocess.Popen[bytes], int]:
    """`sandbox shell` on a terminal of its own; our end of that terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["setsid", "--ctty", SANDBOX, "shell", "vm-1"], cwd=boxes.repo.path, env=boxes.env,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    return child, ours


def test_failed_setup_says_so_and_leaves_the_sandbox_for_a_look(boxes: Sandboxes, tmp_path: Path) -> None:
    script = tmp_path / "setup"
    script.write_text("echo half > half-done\necho the reason >&2\nexit 3\n")
    done = boxes.run("run", "--setup", str(script), "--", "echo", "never")
    assert done.code == 14, done.said
    assert done.text == ""
    assert "the reason" in done.said
    assert "setup script ended with 3" in done.said
    assert boxes.listed()["vm-1"]["state"] == "stopped"
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-1:half-done") == "half"
