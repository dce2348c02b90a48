"""Process 1 of the guest: sets up the machine for the user, answers the host's channels, reaps, powers off.

Started by init.sh in the read-only root image; `/run/git-sandbox` holds this file, the package of its siblings,
`config.json` and keys, fresh at every boot and out of reach of what an earlier boot left on the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, "/run/git-sandbox")  # isolated mode (-I) leaves it out

from git_sandbox.guest import processes, protocol, refresh, repair, start
from git_sandbox.guest.boot import DiskError, awaited_disks, enter_system, kernel_word
from git_sandbox.guest.channels import is_socket
from git_sandbox.guest.common import HERE, REPO, WORKSPACE, Config, fork_task, grace, log, shed
from git_sandbox.guest.loop import Loop
from git_sandbox.guest.machine import prepare_kernel, prepare_rest, prepare_user, watch_commits
from git_sandbox.guest.system import in_system
from git_sandbox.guest.template import wait_for_sandbox


def power_off(config: Config) -> None:
    """End the user's programs, who have their grace also when it was one of them that asked for this, and then ours;
    write everything out, and stop the machine.
    """
    with contextlib.suppress(OSError):
        processes.end(grace(config))
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    os.sync()
    rb_power_off, rb_autoboot = 0x4321FEDC, 0x01234567
    ctypes.CDLL(None).reboot(ctypes.c_int(rb_autoboot if config.get("shutdown") == "reboot" else rb_power_off))


def configuration() -> Config:
    config: Config = json.loads((HERE / protocol.CONFIG).read_text())
    return config


def main() -> None:
    config = configuration()
    try:
        prepare_kernel()
        loop = booted(config) if config["mode"] != protocol.TEMPLATE else personalized(config)
        config = loop.config
        loop.run()
    except BaseException as error:  # noqa: BLE001 - process 1 must not end: the kernel would panic without a word
        if not isinstance(error, DiskError):
            import traceback  # late, and not `sys.excepthook`: that has colours on a console

            log(f"init failed: {error!r}")
            traceback.print_exception(error)
    power_off(config)
    while True:
        time.sleep(60)


def booted(config: Config) -> Loop:
    """All that a machine needs before it may answer, one after the other."""
    disks, foreign = awaited_disks(), bool(config.get("root"))
    enter_system(disks, mode=str(config["mode"]), base=kernel_word(protocol.BASE), foreign=foreign)
    boot = begin(config)
    home = prepare_user(config)
    offer_way_out(config)
    prepare_rest(config, home)
    loop = Loop.on_every_channel(config)
    mend(boot, config)
    offer_stamps(config)
    finish(boot, config)
    believe_stamps(config)
    watch_commits(config)
    return loop


def offer_way_out(config: Config) -> None:
    """Here, where what is begun counts as ours and not as the user's."""
    network = config["network"]
    assert isinstance(network, dict)  # noqa: S101 - written by our own host side
    if network["proxy"]:
        from git_sandbox.guest import egress  # late: other machines do without

        egress.begin(config)


def begin(config: Config) -> start.Boot:
    """A rescue machine runs nothing of the user's, and only reads what an earlier one wrote down."""
    try:
        return start.begin() if config["mode"] == protocol.RUN else start.Boot(usable=False)
    except OSError as error:
        log(f"cannot read the record of the start: {error}")
        return start.Boot(usable=False)


def mend(boot: start.Boot, config: Config) -> None:
    """On a disk that had a session before; that may have ended with the machine (`guest/repair.py`)."""
    if boot.earlier is None:
        return
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side

    def work() -> None:
        shed(int(str(user["uid"])), int(str(user["gid"])))
        for note in repair.repair_all(str(REPO)):
            print(f"git-sandbox: {note}", file=sys.stderr)

    with contextlib.suppress(ChildProcessError):
        os.waitpid(fork_task(work), 0)


def offer_stamps(config: Config) -> None:
    """Git heeds a setting that `believe_stamps` may make, in the workspace's repository only."""
    places = [str(path / ".git") for path in (REPO, WORKSPACE, Path(str(config["host_path"])))]

    def append() -> None:
        with Path("/etc/gitconfig").open("a") as out:
            out.write(refresh.included(places))

    append()
    if config.get("root"):
        in_system(config, append)


def believe_stamps(config: Config) -> None:
    """Let git see edits of the same size and time (`guest/refresh.py`): at once, or beside the session where there are
    many files. Not where the files are a share's, whose inodes are another kernel's.
    """
    many, user = refresh.entries(REPO / ".git/index"), config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    if config.get("share") or config["mode"] != "run" or not many:
        return

    def work() -> None:
        with contextlib.suppress(start.NoStartError):
            since = start.load().disk
            child = fork_task(lambda: os._exit(as_user(user, since)))
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
                refresh.INCLUDED.write_text(refresh.BELIEVE)

    task = fork_task(work)
    if many <= refresh.AT_ONCE:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(task, 0)


def as_user(user: dict[str, object], since: int) -> int:
    shed(int(str(user["uid"])), int(str(user["gid"])))
    os.nice(10)
    return 0 if refresh.refresh(REPO, since) else 1


def finish(boot: start.Boot, config: Config) -> None:
    """Without a record of the start nothing counts as unchanged: that is no reason to go without a sandbox."""
    try:
        start.complete(boot, config)
    except (OSError, ValueError) as error:
        log(f"cannot write the record of the start: {error}")


def personalized(template: Config) -> Loop:
    """The same for a template's machine once it is a sandbox's own; what no login needs happens beside the first one.

    The host waits for our reply before it lets anybody use its session.
    """
    personalization = wait_for_sandbox(template)
    config = configuration()
    boot = begin(config)
    home = prepare_user(config)
    offer_way_out(config)
    loop = Loop.on_every_channel(config, but={protocol.CONTROL})

    def rest() -> None:
        prepare_rest(config, home)
        mend(boot, config)
        offer_stamps(config)
        finish(boot, config)
        believe_stamps(config)
        watch_commits(config)

    completing = fork_task(lambda: personalization.complete(rest))
    if is_socket(personalization.port):
        os.close(personalization.port)
    else:
        loop.add_port(protocol.CONTROL, personalization.port, busy=completing)
    return loop


if __name__ == "__main__":
    main()
