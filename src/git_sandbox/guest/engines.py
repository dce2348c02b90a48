"""Container engines (Podman, Docker): where they store data, and sockets that start them on the first connection.

An engine lays the layers of its images over each other with overlayfs, whose upper directory cannot be on an overlay as
the guest's system is. So each store is shown from the disk below the system, where that overlay keeps it anyway.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.guest.account import put_line
from git_sandbox.guest.common import DISK, ENVIRONMENT, PATH, Config, default_signals, fork_task, log
from git_sandbox.guest.mounts import MS_BIND, MS_REC, MS_SHARED, mount

PROGRAMS = {"podman": ("/var/lib/containers",), "dockerd": ("/var/lib/docker", "/var/lib/containerd")}
ROOTLESS = ".local/share/containers"  # Podman's store of a user, in his home
FIRST = 3  # descriptor of the socket that a started service gets (sd_listen_fds(3))
SUBORDINATE = (100_000, 65_536)  # first of a user's ids and how many he has, as useradd(8) gives them
# There is no systemd: what these settings say otherwise is found out by asking it (containers.conf(5)).
CONTAINERS = '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n[containers]\nlog_driver = "k8s-file"\n'


@dataclass(frozen=True)
class Service:
    """`place`: of its socket; `owner`: user and group of that, and who the service runs as."""

    name: str
    argv: tuple[str, ...]
    place: Path
    owner: tuple[int, int]
    environment: Mapping[str, str]
    mode: int = 0o600


def prepare(config: Config, home: Path) -> None:
    """What the engines in this image need. Without it they work less well, and the machine as it did."""
    try:
        arrange(config, home)
    except OSError as error:
        log(f"container engines: {error}")


def arrange(config: Config, home: Path) -> None:
    present = [name for name in PROGRAMS if shutil.which(name, path=PATH)]
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    name, uid, gid = str(user["name"]), int(str(user["uid"])), int(str(user["gid"]))
    mount("none", Path("/"), flags=MS_REC | MS_SHARED)  # volumes of a container show what is mounted later (mount(2))
    for store in (store for engine in present for store in PROGRAMS[engine]):
        show_store(Path(store), (0, 0), 0o711)
    if "podman" in present:
        write_missing(Path("/etc/containers/containers.conf.d/50-sandbox.conf"), CONTAINERS)
        if uid:
            subordinate(name, Path("/etc"))
            show_store(home / ROOTLESS, (uid, gid), 0o700)
    if "dockerd" in present and uid:
        join(Path("/etc/group"), "docker", name)
    wanted_services = services(present, name, (uid, gid), home, variables(config))
    listening = [(service, listen(service)) for service in wanted_services]
    fork_task(lambda: serve(listening))


def show_store(path: Path, owner: tuple[int, int], mode: int) -> None:
    """Have the directory that the system's overlay keeps on the disk at its own place, without the overlay.

    Not where an earlier session left something else there: a link leads elsewhere.
    """
    if Path(os.path.realpath(path)) != path or (path.exists() and not path.is_dir()):
        return
    for missing in [parent for parent in reversed([path, *path.parents]) if not parent.exists()]:
        missing.mkdir(mode=0o755)
        os.chown(missing, *owner)
    path.chmod(mode)  # also has the overlay make its own copy of one that is the image's
    mount(str(DISK / "system/upper" / path.relative_to("/")), path, flags=MS_BIND)


def write_missing(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text)


def subordinate(name: str, etc: Path) -> None:
    """Ids that a user's containers have, where he has none."""
    first, count = SUBORDINATE
    for table in (etc / "subuid", etc / "subgid"):
        rows = table.read_text().splitlines() if table.exists() else []
        if not any(row.startswith(f"{name}:") for row in rows):
            table.write_text("".join(f"{row}\n" for row in [*rows, f"{name}:{first}:{count}"]))


def join(groups: Path, group: str, name: str) -> None:
    """Make `name` a member of the group, where there is one."""
    for row in groups.read_text().splitlines():
        fields = row.split(":")
        members = fields[-1].split(",") if fields[-1] else []
        if fields[0] == group and name not in members:
            put_line(groups, group, ":".join([*fields[:-1], ",".join([*members, name])]))


def variables(config: Config) -> dict[str, str]:
    """Proxies among them, by which an engine reaches a registry."""
    environment = config.get("services")
    return {**ENVIRONMENT, **(environment if isinstance(environment, dict) else {})}


def services(
    present: Sequence[str], name: str, user: tuple[int, int], home: Path, environment: Mapping[str, str]
) -> list[Service]:
    installed = []
    podman = ("podman", "system", "service", "--time=0")
    if "dockerd" in present:
        argv = ("dockerd", "--host=fd://", "--exec-root=/run/docker", "--pidfile=/run/docker.pid")
        installed.append(
            Service("dockerd", argv, Path("/run/docker.sock"), (0, group_of("docker")), environment, 0o660)
        )
    if "podman" in present:
        installed.append(Service("podman", podman, Path("/run/podman/podman.sock"), (0, 0), environment))
    if "podman" in present and user[0]:
        runtime = Path("/run/user", str(user[0]))
        own = {"HOME": str(home), "USER": name, "LOGNAME": name, "XDG_RUNTIME_DIR": str(runtime)}
        installed.append(
            Service(f"podman-{user[0]}", podman, runtime / "podman/podman.sock", user, {**environment, **own})
        )
    if "dockerd" not in present:  # docker(1), Compose and Testcontainers look there
        with contextlib.suppress(FileExistsError):
            Path("/run/docker.sock").symlink_to(installed[-1].place)
    return installed


def group_of(name: str) -> int:
    rows = (row.split(":") for row in Path("/etc/group").read_text().splitlines())
    return next((int(row[2]) for row in rows if row[0] == name), 0)


def listen(service: Service) -> socket.socket:
    for missing in [parent for parent in reversed(service.place.parents) if not parent.exists()]:
        missing.mkdir(mode=0o700)
        os.chown(missing, *service.owner)
    service.place.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(service.place))
    os.chown(service.place, *service.owner)
    service.place.chmod(service.mode)
    listener.listen(128)
    return listener


def serve(listening: Sequence[tuple[Service, socket.socket]]) -> None:
    """Start each service when the first one connects to its socket, which it gets; returns when all are started."""
    waiting = {listener.fileno(): (service, listener) for service, listener in listening}
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting:
        for descriptor, _ in poll.poll():
            service, listener = waiting.pop(descriptor)
            poll.unregister(descriptor)
            start(service, listener)
            listener.close()


def start(service: Service, listener: socket.socket) -> None:
    """As a process that is nobody's child: it is the user's and ends with his others (`processes.py`)."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            become(service, listener)
        os._exit(0)
    os.waitpid(child, 0)


def become(service: Service, listener: socket.socket) -> None:
    """Replace a forked child by the service; never returns."""
    try:
        default_signals()
        os.setsid()
        uid, gid = service.owner
        output = os.open(service.place.parent / f"{service.name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.dup2(listener.fileno(), FIRST, inheritable=True)
        os.closerange(FIRST + 1, os.sysconf("SC_OPEN_MAX"))
        if uid != os.geteuid():
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        activation = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execvpe(service.argv[0], service.argv, {**service.environment, **activation})
    except OSError as error:
        log(f"{service.name}: {error}")
    finally:
        os._exit(127)
