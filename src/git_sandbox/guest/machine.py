"""Sets up the machine: mounts, kernel settings, network, the user, /etc, the repository at its paths."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import socket
import stat
import struct
import subprocess
import time
from pathlib import Path

from git_sandbox.guest import authorities, tail
from git_sandbox.guest.account import add_user, home_of, write_etc, write_files, write_user
from git_sandbox.guest.common import (
    ENVIRONMENT,
    HERE,
    PATH,
    REPO,
    SCRATCH,
    TOOLS,
    WORKSPACE,
    Config,
    background,
    log,
)
from git_sandbox.guest.interfaces import begin_network, interface_up, name_servers
from git_sandbox.guest.mounts import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, mount
from git_sandbox.guest.protocol import CANNOT_USE
from git_sandbox.guest.share import begin_share
from git_sandbox.guest.system import in_system

CGROUPS = Path("/sys/fs/cgroup")
# Nodes through which the kernel loads the module behind them, as `kmod static-nodes` and systemd's udev rules have
# them: name below /dev, major and minor number, mode, group (6: disk).
DEVICE_NODES = (("net/tun", 10, 200, 0o666, 0), ("fuse", 10, 229, 0o666, 0), ("loop-control", 10, 237, 0o660, 6))
OPEN_FILES = (1024, 524_288)
LIMITS = (
    ("fs/inotify/max_user_watches", "524288"), ("fs/inotify/max_user_instances", "1024"), ("fs/nr_open", "1048576"),
    ("kernel/pid_max", "4194304"), ("vm/max_map_count", "1048576"),
)  # fmt: skip
TERMINALS = "terminfo"  # below HERE: descriptions that a session brings along (see sshd_config)
WAYS_TO_END = ("halt", "poweroff", "reboot")
ENGINES = ("podman", "dockerd")  # programs that run containers
DISK_WITHIN = 10.0  # seconds for a disk to appear


def mount_system() -> None:
    for target, kind, options in (
        ("/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
        ("/dev/shm", "tmpfs", "mode=1777"),
    ):
        Path(target).mkdir(exist_ok=True)
        mount(kind, Path(target), kind, 0, options)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            Path(f"/dev/{name}").symlink_to(target)
    make_device_nodes(Path("/dev"))
    mount_cgroups()


def make_device_nodes(directory: Path) -> None:
    """What a container engine or a file system in user space opens before its kernel module is loaded."""
    for name, major, minor, mode, group in DEVICE_NODES:
        path = directory / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
        os.chmod(path, mode)  # noqa: PTH101 - mknod(2) obeys the umask, and the kernel makes its own nodes 0600
        os.chown(path, 0, group)


def mount_cgroups() -> None:
    """The unified hierarchy (cgroups(7), version 2) with its controllers handed down, as systemd leaves it."""
    mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate,memory_recursiveprot")
    for controller in (CGROUPS / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # one that cannot be handed down keeps no other from it
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")


def tune_kernel() -> None:
    # What an editor saved should survive a killed VMM: write dirty pages out after about two seconds, not thirty.
    for name, value in (("dirty_writeback_centisecs", "100"), ("dirty_expire_centisecs", "200")):
        Path(f"/proc/sys/vm/{name}").write_text(value)
    for name, value in LIMITS:  # what Linux distributions with systemd have
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/{name}").write_text(value)
    resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES)  # every session inherits it
    # Ctrl-Alt-Del, which some VMMs send as a power button, becomes SIGINT to us instead of an instant reset.
    Path("/proc/sys/kernel/ctrl-alt-del").write_text("0")


def order_refs(config: Config) -> None:
    """What moves a ref is on the disk when it returns: `git commit` that came back survives a killed machine.

    Git syncs objects and ref files (core.fsync), but not the rename that puts a ref file in place. The attribute makes
    the kernel do that, and directories made below inherit it; it costs two writes of the journal for each commit.
    """
    fs_ioc_getflags, fs_ioc_setflags, dirsync = 0x80086601, 0x40086602, 0x00010000
    git_dirs = [path.parent for path in (REPO / ".git").glob("modules/**/HEAD")] if (REPO / ".git").is_dir() else []
    inside = config.get("git_dirs")
    git_dirs += [REPO / str(place) for place in inside] if isinstance(inside, list) else []
    for git_dir in (REPO / ".git", *git_dirs):
        below = [
            Path(directory) for name in ("refs", "reftable", "worktrees") for directory, _, _ in os.walk(git_dir / name)
        ]
        for path in (git_dir, *below):
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    (flags,) = struct.unpack("i", fcntl.ioctl(handle, fs_ioc_getflags, b"\0" * 4))
                    if not flags & dirsync:  # else it would look as if it had been touched now
                        fcntl.ioctl(handle, fs_ioc_setflags, struct.pack("i", flags | dirsync))
                finally:
                    os.close(handle)


def name_host(name: str) -> None:
    Path("/etc/hostname").write_text(name + "\n")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")


def set_machine_id() -> None:
    """One of its own for every sandbox, kept on its disk; the image has none."""
    path = Path("/etc/machine-id")
    if not path.exists() or not path.stat().st_size:
        path.write_text(os.urandom(16).hex() + "\n")


def mount_workspace(config: Config, home: Path) -> None:
    """The repository at /workspace, and at its own host path, so that absolute paths in it keep working."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    mount(str(REPO), WORKSPACE, flags=MS_BIND)
    mirror = Path(str(config["host_path"]))
    if mirror != WORKSPACE:
        show_at(mirror, REPO, home, user)
    if config.get("places"):
        from git_sandbox.guest import places  # late: most machines have none

        places.prepare(config, lambda place, source: show_at(place, source, home, user))


def show_at(mirror: Path, source: Path, home: Path, user: dict[str, object]) -> None:
    """Have `source` at `mirror`, too, unless something of the guest's own is there."""
    for missing in [parent for parent in reversed([mirror, *mirror.parents]) if not parent.exists()]:
        missing.mkdir()
        if home in missing.parents:
            os.chown(missing, int(str(user["uid"])), int(str(user["gid"])))
    if not mirror.is_dir() or any(mirror.iterdir()):
        log(f"{mirror} exists in the guest: {source} is not mounted there")
        return
    mount(str(source), mirror, flags=MS_BIND)


def mount_copies(config: Config, home: Path) -> None:
    """Copies of the host's directories, disks after the workspace's: below /mnt, and where the host has them."""
    user, mounts = config["user"], config.get("mounts") or []
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    assert isinstance(mounts, list)  # noqa: S101
    first = ord("d" if config.get("root") else "c")  # after the disks of every machine
    for number, row in enumerate(mounts):
        device = Path(f"/dev/vd{chr(first + number)}")
        deadline = time.monotonic() + DISK_WITHIN
        while not device.is_block_device() and time.monotonic() < deadline:
            time.sleep(0.02)
        target = Path("/mnt") / row["name"]
        target.mkdir(parents=True, exist_ok=True)
        mount(str(device), target, "ext4", MS_RDONLY | MS_NOSUID | MS_NODEV)
        show_at(Path(row["path"]), target, home, user)


def prepare_kernel() -> None:
    """What is the same in every machine; a template has it before it is saved."""
    mount_system()
    tune_kernel()
    interface_up("lo")


def prepare_user(config: Config) -> Path:
    """What a login needs; returns the home directory."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    Path("/run/sshd").mkdir(exist_ok=True)
    (HERE / TERMINALS).mkdir(mode=0o755, exist_ok=True)
    os.chown(HERE / TERMINALS, int(str(user["uid"])), int(str(user["gid"])))
    if config.get("root"):
        from git_sandbox.guest import tooling  # late: other machines do without

        login = in_system(config, lambda: tooling.settle(config, lambda: furnish(config)))
        tooling.prepare(login, int(str(user["gid"])))
        write_user(user, login["shell"])
        write_etc(config)
    else:
        furnish(config)
    return Path(home_of(user))


def furnish(config: Config) -> None:
    """The user and what is his, in the sandbox's system."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    home = add_user(user)
    write_etc(config)
    authorities.trust(config)
    write_files(config, home)


def update_repository() -> None:
    try:
        tail.apply()
    except BaseException:
        log(CANNOT_USE)
        raise


def prepare_rest(config: Config, home: Path) -> None:
    with contextlib.suppress(OSError):  # a full disk
        SCRATCH.mkdir(mode=0o711, exist_ok=True)
    update_repository()
    begin_share(config)
    order_refs(config)
    socket.sethostname(str(config["hostname"]))
    if config.get("root"):
        from git_sandbox.guest import engines  # noqa: F401 - in the system nothing can be imported

    if config.get("virtualization"):
        load_kvm()
    in_system(config, lambda: prepare_system(config, home))
    if config.get("root"):
        mount(str(REPO), WORKSPACE, flags=MS_BIND)  # for our own programs
    begin_network(config)
    make_ways_to_end(config)


def prepare_system(config: Config, home: Path) -> None:
    """What the sandbox's system has besides, whatever root it has."""
    mount_workspace(config, home)
    mount_copies(config, home)
    name_host(str(config["hostname"]))
    set_machine_id()
    name_servers(config)
    if any(shutil.which(name, path=PATH) for name in ENGINES):
        from git_sandbox.guest import engines  # late: most images have none

        engines.prepare(config, home)
    if config.get("virtualization"):
        with contextlib.suppress(OSError):
            Path("/dev/kvm").chmod(0o666)
    offer_ways_to_end()


def make_ways_to_end(config: Config) -> None:
    """Busybox tells process 1 by signal, with -f the kernel at once. What they do is decided anew at every boot.

    A machine that ends by a reset has no power to switch off and would stand still for ever; a reset ends it.
    """
    resets, busybox = config.get("shutdown") == "reboot", (TOOLS if config.get("root") else Path("/")) / "bin/busybox"
    for name in WAYS_TO_END:
        if resets and name != "reboot":
            (HERE / name).write_text(f'#!{busybox} sh\nexec {busybox} reboot "$@"\n')
            (HERE / name).chmod(0o755)
        else:
            (HERE / name).symlink_to(busybox)


def offer_ways_to_end() -> None:
    for name in WAYS_TO_END:
        with contextlib.suppress(FileExistsError):
            Path("/usr/local/sbin", name).symlink_to(HERE / name)


def load_kvm() -> None:
    """The module is the processor's: a machine without udev loads none by itself."""
    module = "kvm_intel" if "vmx" in Path("/proc/cpuinfo").read_text().split() else "kvm_amd"
    subprocess.run(["modprobe", module], env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=False)


def watch_commits(config: Config) -> None:
    user = config["user"]
    if config.get("auto_push") and isinstance(user, dict):
        ids = [f"--reuid={user['uid']}", f"--regid={user['gid']}", "--clear-groups"]
        background(["setpriv", *ids, "--", str(HERE / "sandbox"), "watch"])
