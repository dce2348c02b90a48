"""The files of one sandbox, by name. `docs/reference/state.md` describes the same names."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from git_sandbox.errors import HostResourceError
from git_sandbox.paths import runtime


class SandboxDir(msgspec.Struct, frozen=True):
    """What one sandbox keeps on disk, below `state_root()/<repository>/<id>` (`registry`)."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    @property
    def lock(self) -> Path:
        """Held with flock(2) by the process that supervises the machine: held means running."""
        return self.root / "lock"

    @property
    def disk(self) -> Path:
        return self.root / "workspace.ext4"

    def has_disk(self) -> bool:
        """A link to a volume counts, also while the volume is not there."""
        return os.path.lexists(self.disk)

    @property
    def share(self) -> Path:
        """A working copy that the guest has as a file system of this host's; see `disk/share_dir.py`.

        Where it is, `disk` is for the guest's changes to its system only.
        """
        return self.root / "share"

    @property
    def mounts(self) -> Path:
        """A read-only file system image for each directory given with --mount, in the order of the guest's disks."""
        return self.root / "mounts"

    @property
    def base(self) -> Path:
        """A link to the image of the repository's base. Where it is, `disk` is a qcow2 image laid over it, else raw."""
        return self.root / "base.ext4"

    @property
    def lower(self) -> Path:
        """A link to that image for a guest that lays the disk over it. Where it is, `disk` is a dm-snapshot store."""
        return self.root / "lower.ext4"

    @property
    def staging(self) -> Path:
        """The copy of the repository from which the disk is made; gone once the disk exists."""
        return self.root / "staging"

    @property
    def objects(self) -> Path:
        """A store of git's with what the repository has not got of the snapshot W0. Nothing of the user's needs it."""
        return self.root / "objects"

    @property
    def start_refs(self) -> Path:
        """The refs that went in (JSON), where they are too many for the record."""
        return self.root / "start-refs.json"

    @property
    def apart(self) -> Path:
        """Large files that went in and are not in W0: their stamps on the host (JSON), by path."""
        return self.root / "apart.json"

    @property
    def config(self) -> Path:
        """What the guest is told about itself (`image/guestfiles.GuestConfig`)."""
        return self.root / "config.json"

    @property
    def initrd(self) -> Path:
        return self.root / "initrd"

    @property
    def console(self) -> Path:
        return self.root / "console.log"

    @property
    def rescue_console(self) -> Path:
        """Like `console`, of the last rescue machine."""
        return self.root / "rescue.log"

    @property
    def vmm_log(self) -> Path:
        return self.root / "vmm.log"

    @property
    def rescue_vmm_log(self) -> Path:
        """Like `vmm_log`, of the last rescue machine: why the first one ended must not be lost."""
        return self.root / "rescue-vmm.log"

    @property
    def supervisor_log(self) -> Path:
        """What a detached supervisor had to say."""
        return self.root / "supervisor.log"

    @property
    def host_agent(self) -> Path:
        """There where `sandbox mcp` started it: the agents of this host may use it without asking."""
        return self.root / "host-agent"

    @property
    def output(self) -> Path:
        """Output of a command that runs detached."""
        return self.root / "output.log"

    @property
    def activity(self) -> Path:
        """What its guest says of itself: working, waiting, done or failed (`record.Activity`)."""
        return self.root / "activity.json"

    @property
    def setup_log(self) -> Path:
        """Output of the setup script of a detached sandbox."""
        return self.root / "setup.log"

    @property
    def commands(self) -> Path:
        """A directory: commands of a devcontainer for later starts, and what they printed with nobody at a terminal."""
        return self.root / "commands"

    @property
    def stop_timeout(self) -> Path:
        """Exists once `sandbox stop` has asked the supervisor to end; seconds for the programs, or nothing."""
        return self.root / "stop-timeout"

    @property
    def recovering(self) -> Path:
        """Exists, while the lock is held, from the end of the machine until its disk has been read."""
        return self.root / "recovering"

    @property
    def control_lock(self) -> Path:
        """Held with flock(2) while somebody talks to the guest's init."""
        return self.root / "control.lock"

    @property
    def pushes(self) -> Path:
        """What all pushes of the guest have cost so far (JSON)."""
        return self.root / "pushes.json"

    @property
    def egress_view(self) -> Path:
        """The one directory of a sandbox that its egress proxy sees and may not write."""
        return self.root / "egress"

    @property
    def egress(self) -> Path:
        """What a guest with the network `allow` may reach (`egress.policyfile`); the proxy reads it when it changes."""
        return self.egress_view / "policy.json"

    @property
    def egress_lock(self) -> Path:
        """Held with flock(2) while the rules in `egress` are read and changed."""
        return self.root / "egress.lock"

    @property
    def request_log(self) -> Path:
        """Its network requests (`egress.request_log`). In a directory of its own: the proxy writes there."""
        return self.root / "ledger" / "ledger.json"

    @property
    def egress_log(self) -> Path:
        """What the proxy had to say."""
        return self.root / "egress.log"

    @property
    def authority(self) -> Path:
        """The certificate (PEM) that stands for servers whose connections the proxy inspects, of the last run."""
        return self.root / "authority.pem"

    @property
    def dispatch(self) -> Path:
        """Exists while another machine has the job of this sandbox, or may have it: which job, and where (JSON)."""
        return self.root / "dispatch.json"

    @property
    def job(self) -> Path:
        """The files of a job, until its result is here."""
        return self.root / "job"

    @property
    def result(self) -> Path:
        """What a worker sends back (`jobs.result`): on a worker until it goes to the trash, else while it is read."""
        return self.root / "result"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def nested(self) -> Path:
        """Bare repositories with the work done in repositories that the host has not got."""
        return self.root / "nested"

    @property
    def trash_note(self) -> Path:
        """Why and when it went to the trash, and its refs. Means something only while the sandbox is there."""
        return self.root / "trash.json"

    @property
    def trash_packs(self) -> Path:
        """The objects that its refs had to themselves, a pack for each repository with refs of its."""
        return self.root / "trash"

    @property
    def ssh_config(self) -> Path:
        """Exists while a session is open; `ssh -F` with it reaches the guest. For ourselves, who prove where it is."""
        return self.sockets / "ssh_config"

    @property
    def ssh_include(self) -> Path:
        """The same for the user's own ssh: what it says holds only where the runtime directory is proved to be ours."""
        return self.root / "ssh_config"

    @property
    def channels(self) -> Path:
        """How to reach each channel of the running machine (JSON)."""
        return self.sockets / "channels.json"

    @property
    def sockets(self) -> Path:
        """A short private directory for this sandbox's sockets, outside the state directory.

        Raises HostResourceError when the one above it is not ours (`runtime`).
        """
        import hashlib  # late: `ls` does without

        return runtime() / hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    @property
    def egress_socket(self) -> Path:
        """The proxy's. Beside `sockets`, which a VMM can see into."""
        return self.sockets.with_name(f"{self.sockets.name}.net")

    def forget_sockets(self) -> None:
        """Remove what a supervisor that was killed left. Where another user has the place, nothing there is ours."""
        import shutil  # late: `sandbox ls` does without

        with contextlib.suppress(HostResourceError):
            shutil.rmtree(self.sockets, ignore_errors=True)
            self.egress_socket.unlink(missing_ok=True)
        self.ssh_include.unlink(missing_ok=True)
