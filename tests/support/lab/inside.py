"""Process 1 of the lab. Started like a guest's init, in whose place it is, with `plan.json` beside it.

Makes a usable host out of the machine, runs the plan's command, ships its output, report and results through
virtio ports, and switches off. Standard library only; of the repository under test it has the boot of a guest.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path("/run/git-sandbox")
BEAT = 5.0  # seconds
LAB = Path("/lab")
PORTS = Path("/sys/class/virtio-ports")
MOUNTS = (
    ("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("securityfs", "/sys/kernel/security", ""),
)
SANDBOX = "#!/usr/bin/python3\nimport sys\nfrom git_sandbox.cli.main import main\nsys.exit(main())\n"
DEVICES = ("/dev/kvm", "/dev/vhost-vsock", "/dev/net/tun", "/dev/mapper/control", "/dev/loop-control", "/dev/fuse")


def prepare() -> None:
    """Mounts, names, and the command `sandbox` of the repository under test beside Python."""
    for kind, target, options in MOUNTS:
        Path(target).mkdir(exist_ok=True)
        mount(kind, target, kind, options)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            Path("/dev", name).symlink_to(target)
    LAB.mkdir(exist_ok=True)
    mount(str(HERE / "disk"), str(LAB), "", "", bind=True)
    mount(str(LAB / "tmp"), "/tmp", "", "", bind=True)
    Path("/proc/sys/kernel/hostname").write_text("lab")
    Path("/etc/hosts").write_text("127.0.0.1 localhost lab\n")
    call("ip", "link", "set", "lo", "up")
    for name in ("sandbox", "git-sandbox"):
        Path("/usr/bin", name).write_text(SANDBOX)
        Path("/usr/bin", name).chmod(0o755)
    Path("/usr/lib/python3/dist-packages/git-sandbox-lab.pth").write_text(f"{LAB}/repository/src\n")


def mount(source: str, target: str, kind: str, options: str, *, bind: bool = False) -> None:
    flags = 4096 if bind else 0  # MS_BIND
    words = (source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    if ctypes.CDLL(None, use_errno=True).mount(*words) != 0:
        say(f"cannot mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def idle_machine() -> list[int]:
    """A virtual machine with a processor that never runs; it lives as long as the descriptors returned are open.

    The first machine's start and the last one's end switch static keys, which rewrites the scheduler's code while the
    other processor may be in it. QEMU's emulation can then run a stale copy of the instruction in the making, and the
    kernel dies in `__schedule`. With a machine that is always there the keys stay as they are.
    """
    create_vm, create_irqchip, create_vcpu = 0xAE01, 0xAE60, 0xAE41  # linux/kvm.h
    kvm = os.open("/dev/kvm", os.O_RDWR)
    machine = fcntl.ioctl(kvm, create_vm, 0)
    fcntl.ioctl(machine, create_irqchip, 0)
    return [kvm, machine, fcntl.ioctl(machine, create_vcpu, 0)]


def beat(port: Port) -> None:
    """Tell the host of every processor, from a thread on each: one that has lost its timer is never heard of again."""

    def beating(processor: int) -> None:
        os.sched_setaffinity(0, {processor})
        while True:
            port.write(bytes([processor]))
            time.sleep(BEAT)

    for processor in os.sched_getaffinity(0):
        threading.Thread(target=beating, args=(processor,), daemon=True).start()


def call(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def say(text: str) -> None:
    """To the console, which the host shows when the lab dies."""
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def facts() -> dict[str, str]:
    """What this lab has, for the record of a run."""
    found = {name: "yes" if Path(name).exists() else "no" for name in DEVICES}
    found["kernel"] = os.uname().release
    for name in ("qemu-system-x86_64", "firecracker", "cloud-hypervisor", "virtiofsd"):
        path = shutil.which(name)
        said = call(path, "--version").splitlines() if path else []
        found[name] = said[0] if said else "not there"
    return found


def port_device(name: str) -> str | None:
    for each in PORTS.iterdir():
        with contextlib.suppress(OSError):  # a console is a port without a name
            if (each / "name").read_text().strip() == name:
                return each.name
    return None


class Port:
    """One channel to the host, by the name it was given there."""

    def __init__(self, name: str) -> None:
        while (device := port_device(name)) is None:  # names come a moment after the ports themselves
            time.sleep(0.05)
        self.descriptor = os.open(f"/dev/{device}", os.O_WRONLY)

    def write(self, data: bytes) -> int:
        """All of it: a port takes part of a write when the host is slow."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]
        return len(data)

    def event(self, **fields: object) -> None:
        self.write(json.dumps(fields).encode() + b"\n")


def run(plan: dict[str, Any], report: Port, output: Port) -> int:
    """The plan's command to its end; its exit code, 128 + n for signal n."""
    env = plan["env"] | {"LAB_REPORT_FD": str(report.descriptor)}
    if plan["terminal"]:
        child = on_terminal(plan, env)
    else:
        stream = output.descriptor
        child = subprocess.Popen(
            plan["argv"], cwd=plan["cwd"], env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            pass_fds=[report.descriptor], start_new_session=True,
        )  # fmt: skip
    while True:
        pid, status = os.wait()  # reaps whatever was left to process 1, too
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def on_terminal(plan: dict[str, Any], env: dict[str, str]) -> subprocess.Popen[bytes]:
    terminal = os.open("/dev/hvc0", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *plan["terminal"], 0, 0))
    argv = ["setsid", "--ctty", *plan["argv"]]
    return subprocess.Popen(argv, cwd=plan["cwd"], env=env, stdin=terminal, stdout=terminal, stderr=terminal)


def ship(results: Path, port: Port) -> None:
    """What a failed test left behind, as a tar stream."""
    with tarfile.open(fileobj=port, mode="w|") as archive:  # type: ignore[call-overload]
        if results.is_dir():
            archive.add(results, arcname=".")


def power_off() -> None:
    os.kill(-1, signal.SIGKILL)
    os.sync()
    ctypes.CDLL(None).reboot(ctypes.c_int(0x4321FEDC))
    while True:
        time.sleep(60)


def main() -> None:
    plan = json.loads((HERE / "plan.json").read_text())
    os.environ.clear()
    os.environ.update(plan["env"])
    try:
        sys.path.insert(0, str(HERE))  # isolated mode (-I) leaves it out
        from git_sandbox.guest.boot import awaited_disks, enter_system

        enter_system(awaited_disks(), mode="run")
        prepare()
        idle = idle_machine()
        report, output, results = Port("lab.report"), Port("lab.output"), Port("lab.results")
        report.event(event="ready", facts=facts())
        beat(Port("lab.beats"))
        code = run(plan, report, output)
        ship(Path(plan["results"]), results)
        os.sync()
        report.event(event="end", code=code, token=plan["token"])
        say(f"done, with machine {idle} still there")
    except BaseException as error:  # noqa: BLE001 - process 1 must not end: the kernel would panic without a word
        sys.excepthook(type(error), error, error.__traceback__)
    power_off()


if __name__ == "__main__":
    main()
