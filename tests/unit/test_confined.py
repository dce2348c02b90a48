"""A program in the place of the VMM, or of another that works on a guest's data, looks for what is not its business."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox import confine, network, process, settings, signals, store
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import ImageInfo
from git_sandbox.collect.confinement import MOST_LINKS, confinement
from git_sandbox.confine import View
from git_sandbox.doctor import Verdict, machine
from git_sandbox.errors import CollectError, HostResourceError, Interrupted, MachineError, RequirementError
from git_sandbox.git.repo import discover
from git_sandbox.helpers import scoped, userns
from git_sandbox.idspace import IdSpace
from git_sandbox.image import spec
from git_sandbox.protocol import channel
from git_sandbox.sandbox import lifecycle, machines
from git_sandbox.sandbox.options import Options
from git_sandbox.vmm import calls, confined, launch, qemu_state, virtiofs
from git_sandbox.vmm.launch import RunningProcess
from git_sandbox.vmm.machine import Cleanup, Disk, MachineLogs, MachineSpec, Saved, Share
from git_sandbox.vmm.rest import Api, Call
from support import fabricated, static
from support.gitrepo import GitRepo
from support.specs import specs

# Prints what it could do. Its arguments, as names: disk and image of its machine, `open` a descriptor of the image, and
# what is nobody's business: a file of the home directory, another sandbox's disk, unix sockets (an agent, D-Bus, X11 by
# its abstract name), a TCP port, a process.
SPY = r"""
import ctypes, os, socket, sys
disk, image, open_, home, other, agent, bus, abstract, port, pid = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, do):
    try: do()
    except OSError: return
    print(name)
def unix(place):
    socket.socket(socket.AF_UNIX).connect(place)
def call(result):
    if result: raise OSError(ctypes.get_errno())
tried("disk", lambda: open(disk, "r+b").write(b"mine"))
tried("image", lambda: open(image, "rb").read())
tried("wrote image", lambda: open(image, "r+b"))
tried("wrote what is open to read", lambda: open("/proc/self/fd/" + open_, "r+b"))
tried("home", lambda: open(home, "rb").read())
tried("other sandbox", lambda: open(other, "rb").read())
tried("neighbours", lambda: os.listdir(os.path.dirname(other)))
tried("agent", lambda: unix(agent))
tried("bus", lambda: unix(bus))
tried("abstract", lambda: unix(chr(0) + abstract))
tried("network", lambda: socket.create_connection(("127.0.0.1", int(port)), 2))
tried("process", lambda: os.kill(int(pid), 0))
tried("passwd", lambda: open("/etc/passwd"))
tried("shadow", lambda: open("/etc/shadow"))
tried("sysctl", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
tried("usr", lambda: (open("/usr/escaped", "w"), os.unlink("/usr/escaped")))
tried("device", lambda: (os.mknod("/tmp/spy", 0o60600, os.makedev(8, 0)), os.unlink("/tmp/spy")))
tried("mount", lambda: os.chroot("/"))
tried("unshared", lambda: call(libc.unshare(0x10000000 | 0x20000)))
tried("remounted", lambda: call(libc.mount(None, b"/proc", None, 4128, None)))
tried("sysctl of its own mount", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
"""
# What whoever has all rights of this user could do: else a test of what cannot be done would say nothing.
OUTSIDE = {"disk", "image", "home", "other sandbox", "neighbours", "agent", "bus", "abstract", "network", "process"}


@pytest.fixture
def needs() -> None:
    if not confine.available():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")


def listening(place: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(place)
    made.listen()
    return made


@dataclass
class Host:
    """Files of two sandboxes and a user, and who listens there."""

    files: dict[str, Path]
    top: Path
    port: int

    @property
    def spec(self) -> MachineSpec:
        disks = Disk(self.files["image"], readonly=True), Disk(self.files["mine"])
        return MachineSpec("m", self.files["kernel"], self.files["initrd"], (), disks)

    def words(self, **changed: object) -> list[str]:
        """The arguments of the spy."""
        known: dict[str, object] = {
            "disk": self.files["mine"], "image": self.files["image"], "open": -1, "home": self.files["home"],
            "other": self.files["other"], "agent": self.top / "agent", "bus": self.top / "bus",
            "abstract": self.top.name, "port": self.port, "pid": os.getpid(),
        }  # fmt: skip
        return [str(each) for each in (known | changed).values()]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    place = tmp_path / ("long" * 20) / "state, with a comma"
    files = {name: place / name / "disk.raw" for name in ("mine", "other")} | {
        name: tmp_path / name for name in ("kernel", "initrd", "image", "home")
    }
    for each in files.values():
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text("precious")
        each.chmod(0o600)
    with (
        listening(f"{tmp_path}/agent"),
        listening(f"{tmp_path}/bus"),
        listening(f"\0{tmp_path.name}"),
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        yield Host(files, tmp_path, server.getsockname()[1])


def spy(words: Sequence[str]) -> list[str]:
    """By the Python of `/usr`, whichever runs this test."""
    return ["sh", "-c", 'PATH=/usr/bin:/usr/local/bin exec python3 -c "$0" "$@"', SPY, *words]


def spied(view: View, words: Sequence[str], keep: Sequence[int] = ()) -> set[str]:
    with confine.spawned(spy(words), view, stdout=process.PIPE, stderr=process.PIPE, pass_fds=keep) as child:
        said = child.stdout.read().decode().splitlines()
        assert child.wait(10) == 0
    return set(said)


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("program", ["qemu", "firecracker", "cloud-hypervisor"])
def test_what_stands_in_for_a_vmm_reaches_its_disks_and_nothing_else(host: Host, program: str) -> None:
    place = host.top / "vmm"
    place.mkdir()
    view = {
        "qemu": confined.qemu(host.spec, kvm=False),
        "firecracker": confined.firecracker(host.spec, place),
        "cloud-hypervisor": confined.cloud_hypervisor(host.spec, place),
    }[program]
    assert program == "qemu" or view.devices == (Path("/dev/kvm"),)
    view = dataclasses.replace(view, devices=())  # which is not everywhere
    outside = set(process.run(spy(host.words())).text.split("\n"))
    assert outside >= OUTSIDE | {"passwd"}
    # What QEMU is handed open to read, it cannot open once more to write. The others are handed no file.
    with host.files["image"].open("rb") as image:
        given = [image.fileno()] if program == "qemu" else []
        assert spied(view, host.words(open=image.fileno()), given) - {"unshared"} == {"disk", "image"}
    assert host.files["mine"].read_bytes() == b"mineious"
    assert host.files["image"].read_bytes() == b"precious"


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("way", [scoped.LANDLOCK, scoped.FILTER])
def test_what_stands_in_for_passt_has_the_network_and_no_file(
    host: Host, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of this host comes with its abstract sockets, which have no file and are kept out by themselves."""
    if way not in scoped.ways():
        pytest.skip(f"this kernel has no {way}")
    monkeypatch.setattr(confine, "_scoped", lambda: (sys.executable, "-I", "-S", scoped.__file__, way))
    seen = spied(confined.passt(root=os.getuid() == 0), host.words())
    assert seen - {"passwd", "unshared", "remounted"} == {"network"}


def children() -> set[str]:
    """Process ids; a test before may have left one that nobody has waited for."""
    return set(Path("/proc/thread-self/children").read_text().split())


@pytest.mark.usefixtures("needs")
def test_what_stands_in_for_virtiofsd_has_the_share_and_no_right_of_ours(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started as virtiofsd is, from a directory where only this user can go."""
    try:
        space = IdSpace.ours()
    except RequirementError as error:
        pytest.skip(error.message)
    share, private = host.top / "share", host.top / "private"
    (share / "tree").mkdir(parents=True)
    (share / "tree" / "disk").write_text("precious")
    space.give(share)
    private.mkdir(mode=0o700)
    program = private / "virtiofsd"
    words = host.words(disk=f"{userns.SERVED}/disk", image=share / "tree" / "disk")
    program.write_text(f"#!/usr/bin/python3\nimport sys\nsys.argv[1:] = {words}\n{SPY}\nsys.stdout.flush()\n")
    program.chmod(0o700)
    monkeypatch.setattr(virtiofs, "look", lambda: [virtiofs.Virtiofsd(program, (1, 13))])
    before = children()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as runtime:
        with virtiofs.served(Share("work", share), Path(runtime), said, Cleanup()) as server:
            assert len(children() - before) == 2, "it, and who ends it with us"
            status = server.child.wait(30)
        said.seek(0)
        assert status == 0, said.read()
        said.seek(0)
        seen = set(said.read().decode().split("\n")) - {""}
    assert seen - {"mount", "unshared", "remounted"} == {"disk"}, (
        "it is root where it is nobody, to confine itself further"
    )
    space.remove(share)


@pytest.mark.skipif(os.getuid() != 0, reason="only root reads files of others")
@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_root_is_confined_with_files_that_are_somebody_elses(host: Host, mode: int) -> None:
    for each in host.files.values():
        os.chown(each, 1234, 1234)
        os.chown(each.parent, 1234, 1234)
        each.parent.chmod(0o700)
        each.chmod(mode)
    assert spied(confined.qemu(host.spec, kvm=False), host.words()) - {"unshared"} == {"disk", "image"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root opens devices of others")
@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize(("owner", "mode", "passes"), [(0, 0o600, False), (1234, 0o660, True), (1234, 0o666, False)])
def test_root_is_confined_with_a_device_that_is_somebody_elses(
    tmp_path: Path, owner: int, mode: int, *, passes: bool
) -> None:
    """As /dev/kvm may be: of another user, and not for all."""
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    os.chown(device, owner, owner)
    view = confine.owned(View(devices=(device,)))
    assert bool(view.rights) is passes
    done = process.run(confine.argv(["sh", "-c", f"exec 3<>{device}"], view))
    assert done.returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be one without rights")
@pytest.mark.usefixtures("needs")
def test_a_root_who_may_not_mount_learns_it_before_anything_starts() -> None:
    """As in a container: in a user namespace of his own he could, and would lack the files of others."""
    code = "from git_sandbox import confine; print(confine.unavailable())"
    less = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = subprocess.run([*less, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bubblewrap does not work" in done.stdout


def test_disks_that_come_later_are_not_in_the_view() -> None:
    disks = Disk(Path("/root.ext4"), readonly=True), Disk(Path("/mine")), Disk(Path("/dev/x"), block=True)
    spec = MachineSpec("m", Path("/k"), Path("/i"), (), disks, saved=Saved(Path("/t"), restore=True, later=True))
    words = confine.argv(["q"], confined.qemu(spec, kvm=True))
    assert not {"/mine", "/dev/x"} & set(words)
    assert {"/root.ext4", "/k", "/i", "/t", "/dev/kvm"} <= set(words)


KINDS = {
    "qemu": lambda spec: confined.qemu(spec, kvm=True),
    "firecracker": lambda spec: confined.firecracker(spec, Path("/run/x/vmm")),
    "cloud-hypervisor": lambda spec: confined.cloud_hypervisor(spec, Path("/run/x/vmm")),
}


@given(specs(), st.sampled_from(sorted(KINDS)), st.sampled_from((None, False, True)))
def test_only_what_is_the_machines_own_can_be_written(spec: MachineSpec, program: str, restore: bool | None) -> None:
    template = Path("/cache/template")
    saved = None if restore is None else Saved(template, restore)
    view = KINDS[program](dataclasses.replace(spec, saved=saved))
    own = {str(disk.path) for disk in spec.disks if not disk.readonly}
    place = set() if program == "qemu" else {"/run/x/vmm"}
    assert {there for _, there in view.writable} == own | place | ({str(template)} if restore is False else set())
    read = {there for _, there in view.readonly}
    assert read >= {str(disk.path) for disk in spec.disks if disk.readonly} | {str(spec.kernel), str(spec.initrd)}
    assert (str(template) in read) is (restore is True), "who starts from a template cannot change it"
    assert all(here == Path(there) for here, there in (*view.readonly, *view.writable))
    assert not view.network
    assert not view.root
    assert not view.rights
    assert view.devices == (Path("/dev/kvm"),)


def test_only_passt_has_the_network_and_keeps_rights_of_roots_to_give_them_up() -> None:
    assert confined.passt(root=False).network
    assert confined.passt(root=False).rights == ()
    assert confined.passt(root=True).rights == ("CAP_SETUID", "CAP_SETGID")
    assert not confined.passt(root=True).writable
    assert not confined.virtiofsd().network


def elf(*kinds: int) -> bytes:
    """The beginning of a program of 64 bits with these program headers."""
    head = (
        b"\x7fELF\x02\x01\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, len(kinds))
    )
    return head.ljust(64, b"\0") + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in kinds)


def test_a_static_program_sees_no_other(tmp_path: Path) -> None:
    program = tmp_path / "program"
    for content, alone in ((elf(1, 3), False), (elf(1, 2), True), (b"#!/bin/sh\n", False), (b"", False)):
        program.write_bytes(content)
        assert confine.interpreted(program) is not alone
        view = confine.needed(program, View())
        assert view.programs is not alone
        assert (program, str(program)) in view.readonly
        assert ("/usr" in confine.argv(["p"], view)) is not alone
        assert ("/etc/ld.so.cache" in confine.argv(["p"], view)) is not alone
    assert confine.interpreted(tmp_path / "none")


@pytest.mark.usefixtures("needs")
def test_a_program_outside_of_usr_is_confined_where_it_runs_with_the_libraries_of_usr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, content in (("fine", "#!/bin/sh\necho 1.2\n"), ("strange", "#!/opt/nowhere/sh\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    assert confine.obstacle("fine") == ""
    assert "strange needs libraries outside /usr" in confine.obstacle("strange")
    assert confine.obstacle("not-installed-at-all") == ""


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host without bubblewrap."""
    which = process.which
    caches = (confine.unavailable, confine.obstacle)
    for each in caches:
        each.cache_clear()
    monkeypatch.setattr(process, "which", lambda name: None if name == confine.PROGRAM else which(name))
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("without")
def test_a_host_that_cannot_confine_is_told_of_at_each_start_or_refused() -> None:
    asked = dataclasses.replace(settings.resolve({})[0], net=network.NAT)
    (told,) = machines.unconfined("qemu", asked, share=False)
    assert told.startswith("qemu-system-")
    assert "git" in told
    assert "can open all of your files: bubblewrap is not installed" in told
    assert "`sandbox help backends`" in told
    assert machines.unconfined("qemu", dataclasses.replace(asked, confinement="no"), share=False) == ()
    with pytest.raises(RequirementError) as refused:
        machines.unconfined("qemu", dataclasses.replace(asked, confinement="yes"), share=False)
    assert "bubblewrap" in refused.value.hint
    row = machine.confinement(asked)
    assert (row.verdict, "bubblewrap is not installed" in row.result) == (Verdict.NOTE, True)


@pytest.mark.usefixtures("without")
def test_a_start_that_is_refused_changes_nothing(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a new sandbox nor a stopped one, which stays what it was, and no process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fabricated.spawn(repo, "old")
    for key in ("none", spec.load().key):
        image = guest_images.images_root() / key
        image.mkdir(parents=True)
        image.joinpath("image.json").write_bytes(msgspec.json.encode(ImageInfo(key, "trixie", 1.0, ())))
    given, found = {"confinement": "yes", "accelerator": "tcg", "memory": "128M"}, discover(repo.path)
    asked, refs = settings.resolve(given)[0], repo.refs()
    before, processes = store.find(found, "old"), children()
    with pytest.raises(RequirementError, match="cannot be confined"):
        lifecycle.spawn(found, Options(asked, "new"), lambda _text: None)
    with pytest.raises(RequirementError, match="cannot be confined"):
        lifecycle.resume(found, "old", Options(asked), lambda _text: None)
    assert {each.name for each in store.state_directory(found).iterdir() if each.is_dir()} == {"old", ".trash"}
    assert list(store.state_directory(found).joinpath(".trash").glob("[!.]*/")) == []
    assert repo.refs() == refs
    assert store.find(found, "old") == before
    assert before.state is store.State.STOPPED
    assert children() == processes


@pytest.mark.usefixtures("needs")
def test_a_host_that_can_says_nothing() -> None:
    for rule in ("auto", "yes", "no"):
        asked = dataclasses.replace(settings.resolve({})[0], confinement=rule)
        assert machines.unconfined("qemu", asked, share=False) == ()


def test_a_link_in_the_place_of_a_vmms_socket_leads_nowhere(tmp_path: Path) -> None:
    with listening(f"{tmp_path}/agent"), listening(f"{tmp_path}/vsock"):
        channel.connect(channel.UNIX, f"{tmp_path}/vsock", timeout=5).close()
        (tmp_path / "vsock").unlink()
        (tmp_path / "vsock").symlink_to(tmp_path / "agent")
        for kind in (channel.UNIX, channel.HYBRID_VSOCK):
            with pytest.raises(OSError, match="non-socket"):
                channel.connect(kind, f"{tmp_path}/vsock", 22, timeout=5)
        api = Api("VMM", tmp_path / "vsock", 5.0)
        with pytest.raises(MachineError, match="does not respond"):
            api.send(Call("GET", "/"))


def test_where_the_guest_calls_is_ours_alone_and_no_link_is_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "vsock_1025"
    victim.write_text("x")
    victim.chmod(0o640)
    path.symlink_to(victim)
    calls._listener(str(path)).close()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o640
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_an_old_qemu_gets_a_copy_of_the_memory_and_a_newer_one_reads(tmp_path: Path) -> None:
    template, own = tmp_path / "template", tmp_path / "own"
    for each in (template, own):
        each.mkdir()
    (template / "memory").write_bytes(b"precious")
    saved = Saved(template, restore=True)
    with qemu_state.memory_of(saved, (7, 2, 22), own) as copied:
        assert copied is not None
        assert copied.private == own / "memory"
        assert copied.private.read_bytes() == b"precious"
        (backend,) = (json.loads(each) for each in qemu_state.words(copied, 1) if each.startswith("{"))
        assert (backend["mem-path"], "readonly" in backend) == (str(own / "memory"), False)
        spec = dataclasses.replace(SPEC, saved=copied)
        assert {there for _, there in confined.qemu(spec, kvm=False).writable} == {str(own / "memory")}
    assert list(own.iterdir()) == []
    with qemu_state.memory_of(saved, (8, 2), own) as reads:
        assert reads == saved
        (backend,) = (json.loads(each) for each in qemu_state.words(saved, 1) if each.startswith("{"))
        assert (backend["mem-path"], backend["readonly"], backend["rom"]) == (str(template / "memory"), True, "off")
    assert confined.qemu(dataclasses.replace(SPEC, saved=saved), kvm=False).writable == ()
    with qemu_state.memory_of(Saved(template, restore=False), (7, 2), own) as made:
        assert made == Saved(template, restore=False), "who makes it writes there"


def test_the_copy_of_a_memory_stays_nowhere_and_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template, own = tmp_path / "template", tmp_path / "own"
    for each in (template, own):
        each.mkdir()
    (template / "memory").write_bytes(b"precious")
    left, saved = own / "memory", Saved(template, restore=True)
    for version, what in (((7, 2), None), ((8, 2), saved), ((7, 2), Saved(template, restore=False))):
        left.write_bytes(b"of a supervisor that was killed")
        with qemu_state.memory_of(what, version, own):
            assert not left.exists()
    monkeypatch.setattr(qemu_state, "SPARE", 1 << 60)
    with pytest.raises(HostResourceError, match="MiB below"), qemu_state.memory_of(saved, (7, 2), own):
        pass
    monkeypatch.setattr(qemu_state, "SPARE", 0)
    for failure in (RuntimeError, Interrupted):
        with contextlib.suppress(failure), qemu_state.memory_of(saved, (7, 2), own):
            assert left.exists()
            raise failure(2)
        assert list(own.iterdir()) == []
    (template / "memory").unlink()
    (template / "memory").mkdir()
    with pytest.raises(HostResourceError, match="cannot copy"), qemu_state.memory_of(saved, (7, 2), own):
        pass
    assert list(own.iterdir()) == []
    assert [each.name for each in template.iterdir()] == ["memory"]


SPEC = MachineSpec("m", Path("/k"), Path("/i"), ())
POLITE = 'trap "echo asked; exit 7" TERM; echo up; while :; do sleep 0.05; done'


@pytest.mark.usefixtures("needs")
def test_what_is_confined_is_asked_to_end_and_says_how_it_ended() -> None:
    view = confine.View(first=True)
    with confine.spawned(["sh", "-c", POLITE], view, stdout=process.PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        assert child.stop() == 7
        assert child.stdout.read() == b"asked\n"


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("first", [False, True])
def test_ended_at_any_moment_of_its_start_it_leaves_no_process(tmp_path: Path, *, first: bool) -> None:
    """Bubblewrap's child waits for a word of its parent, and does not end with it before its program begins."""
    view = View(readonly=((tmp_path, "/shown"),), first=first)
    for moment in range(40):
        with confine.spawned(["sleep", "600"], view) as child:
            time.sleep(moment / 1000)
            child.stop(0.1)
    assert nobody_has(tmp_path)


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("alone", [False, True], ids=["linked", "static"])
@pytest.mark.parametrize("first", [False, True])
def test_killed_at_any_moment_of_its_start_we_leave_nothing(tmp_path: Path, *, alone: bool, first: bool) -> None:
    """Neither the program nor a bubblewrap that waits for its parent."""
    program = static.written(tmp_path / "program") if alone else Path("/usr/bin/sleep")
    mark = f"{time.time_ns() % 10**9 + 10**9}"
    killed_at_any_moment(lambda: confine.spawned([os.fspath(program), mark], View(first=first)), mark)


def killed_at_any_moment(start: Callable[[], contextlib.AbstractContextManager[object]], mark: str) -> None:
    """In processes of their own; then no process with `mark` among its words is left."""
    for moment in range(0, 160, 8):
        if not (child := os.fork()):
            with start():
                time.sleep(600)
        time.sleep(moment / 1000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        assert soon(lambda: not list(running(mark)))
    finally:
        for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - of names that go meanwhile
            with contextlib.suppress(OSError):
                if os.fsencode(mark) in Path("/proc", name, "cmdline").read_bytes():
                    os.kill(int(name), signal.SIGKILL)


@pytest.mark.usefixtures("needs")
def test_a_static_program_runs_alone_and_is_ended(tmp_path: Path) -> None:
    program = static.written(tmp_path / "program")
    with confine.spawned([os.fspath(program)], View()) as child:
        assert soon(lambda: list(running(os.fspath(program))).count(os.fspath(program)) == 1)
        assert child.poll() is None
    assert nobody_has(program)


def nobody_has(path: Path) -> bool:
    """Whether the path is in no process's arguments, or soon is in none."""
    name, left = os.fsencode(path), [b""]
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:  # who was killed a moment ago may still be on its way out
        left = [words for words in _command_lines() if name in words]
    return not left


def _command_lines() -> Iterator[bytes]:
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - of names that go meanwhile
        with contextlib.suppress(OSError):
            yield Path("/proc", name, "cmdline").read_bytes()


def test_the_end_of_whoever_watches_is_the_end_of_what_is_confined() -> None:
    """SIGKILL, which nobody can handle."""
    mark = f"{time.time_ns() % 10**9 + 10**9}"
    script = textwrap.dedent(f"""
        import time
        from git_sandbox import confine
        with confine.spawned(["sleep", "{mark}"], confine.View(first=True)):
            time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script]) as watcher:
        assert soon(lambda: any(each.endswith("sleep") for each in running(mark)))
        watcher.send_signal(signal.SIGKILL)
    assert soon(lambda: not list(running(mark)))


def running(mark: str) -> Iterator[str]:
    """First words of the processes that have `mark` among theirs."""
    for line in _command_lines():
        words = line.decode(errors="replace").split("\0")
        if mark in words:
            yield words[0]


def soon(happened: object, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.usefixtures("needs")
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(
    ("does", "ends"),
    [("echo broken >&2; exit 3", MachineError), (POLITE, Interrupted)],
    ids=["dies", "hangs"],
)
def test_nobody_waits_for_a_vmm_that_died_or_after_ctrl_c(
    tmp_path: Path, does: str, ends: type[BaseException], *, wanted: bool, first: bool
) -> None:
    logs, began = MachineLogs(tmp_path / "console", tmp_path / "vmm"), time.monotonic()
    start = launch.Start(["sh", "-c", does], View(first=first), Path("/"), confined=wanted)
    children = []

    def begin() -> None:
        if ends is Interrupted:
            threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
        with logs.vmm.open("wb") as complaints, launch.spawned(start, logs, complaints) as child:
            children.append(child)
            launch.boot(Api("The VMM", tmp_path / "api"), RunningProcess("The VMM", child, tmp_path, logs, str), [])

    with pytest.raises(ends) as caught, signals.signals_raise():
        begin()
    assert [child.poll() is None for child in children] == [False]
    assert time.monotonic() - began < launch.API_WITHIN / 2
    if isinstance(caught.value, MachineError):
        assert caught.value.message == "The VMM did not start"
        assert "The VMM ended: 3" in caught.value.cause
        assert "broken" in caught.value.cause


@pytest.mark.usefixtures("needs")
def test_the_git_of_a_quarantine_sees_no_more_than_its_objects(tmp_path: Path) -> None:
    common, place = tmp_path / "repo" / ".git", tmp_path / "quarantine"
    for each in (common / "objects" / "pack", place):
        each.mkdir(parents=True)
    (common / "config").write_text("precious")
    before = confinement(place, common)
    look = f"pwd; ls {tmp_path} {common}; touch {common}/objects/x {place}/y; ls /home /root /etc; cat /proc/net/dev"
    seen = process.run([*before, "sh", "-c", look]).text
    assert seen.startswith(f"{place}\n")
    assert "objects" in seen
    assert "config" not in seen
    assert "eth" not in seen
    assert (place / "y").exists()
    assert not (common / "objects" / "x").exists()


@pytest.mark.usefixtures("needs")
def test_objects_that_are_links_are_shown_as_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole stores, directories and files, by relative and absolute links, through others."""
    common, place, away = tmp_path / "repo" / ".git", tmp_path / "quarantine", tmp_path / "away"
    for each in (common / "objects" / "pack", place, away / "pack", away / "ab", tmp_path / "far"):
        each.mkdir(parents=True)
    (tmp_path / "far" / "one").write_text("one")
    (away / "hop").symlink_to(tmp_path / "far" / "one")
    (away / "ab" / "two").write_text("two")
    (away / "secret").write_text("precious")
    objects = common / "objects"
    (objects / "pack" / "one.pack").symlink_to(away / "hop")
    (objects / "ab").symlink_to("../../../away/ab")
    (objects / "pack" / "gone.pack").symlink_to("/elsewhere")
    (objects / "cd").mkdir()
    (objects / "cd" / "three").symlink_to(away / "ab" / "two")
    look = f"cd {objects}; cat pack/one.pack ab/two cd/three; ls {away}"
    seen = process.run([*confinement(place, common), "sh", "-c", look])
    assert (seen.text, seen.returncode) == ("onetwotwoab\nhop\n", 0)
    monkeypatch.setattr("git_sandbox.collect.confinement.MOST_LINKS", 1)
    with pytest.raises(CollectError, match="cannot be examined in confinement"):
        confinement(place, common)


@pytest.mark.usefixtures("needs")
def test_of_many_objects_that_are_links_the_store_is_shown_they_lead_to(tmp_path: Path) -> None:
    """As `cp -rs` makes them: thousands, of which none is more than a store's."""
    common, place = tmp_path / "repo" / ".git", tmp_path / "quarantine"
    store, names = tmp_path / "other" / "objects", [f"{number:040x}" for number in range(MOST_LINKS + 1)]
    place.mkdir()
    (store / "pack").mkdir(parents=True)
    (tmp_path / "other" / "config").write_text("precious")
    (store / "pack" / "pack-1.pack").write_text("pack")
    for name in names:
        for top in (store, common / "objects"):
            (top / name[38:]).mkdir(parents=True, exist_ok=True)
        (store / name[38:] / name[:38]).write_text("x")
        (common / "objects" / name[38:] / name[:38]).symlink_to(store / name[38:] / name[:38])
    look = f"cat {common}/objects/[0-9a-f][0-9a-f]/* | wc -c; ls {tmp_path}/other"
    seen = process.run([*confinement(place, common), "sh", "-c", look])
    assert (seen.text.split(), seen.returncode) == ([str(len(names)), "objects"], 0)
