"""From an image of each kind of source to a root image of the cache, by the programs that do it for users."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
from pathlib import Path
from typing import cast

import pytest

from git_sandbox import confine
from git_sandbox.cache import root_images
from git_sandbox.cache.root_images import RootImage
from git_sandbox.errors import HostResourceError, ImageError, SandboxError
from git_sandbox.image.oci import flatten, manifest, pull, source
from git_sandbox.image.oci.pull import Pulled
from git_sandbox.progress import Progress
from support import oci, registry
from support.oci import Layout, directory, file, hardlink, symlink
from support.registry import Registry

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
CAPABILITY = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # cap_net_raw, see capabilities(7)
BASE = oci.layer(
    directory("etc", owner=(0, 0)), file("etc/old", b"old", owner=(0, 0)),
    directory("home/user", 0o750, owner=(1000, 1000)), file("home/user/own", b"x", owner=(1000, 1_000_660_000)),
    file("bin/ping", b"ping", mode=0o4755, owner=(0, 5), pax={"SCHILY.xattr.security.capability": CAPABILITY}),
    file("bin/secret", b"s", mode=0, owner=(0, 0)), symlink("lib", "usr/lib"), file("bin/epoch", mtime=1),
    directory(".", 0o711, owner=(7, 0)), hardlink("bin/hard", "bin/ping"), directory("bin", 0o1777, owner=(0, 0)),
)  # fmt: skip
TOP = oci.layer(file("etc/.wh.old"), file("etc/new", b"new", owner=(0, 0)), file("bin/Ping", b"", owner=(0, 0)))
QUIET = cast("Progress", [].append)
CONFIG = {
    "Env": ["PATH=/usr/bin:/bin", "LANG=C"], "User": "1000:users", "WorkingDir": "/srv", "Entrypoint": ["/init"],
    "Cmd": ["-x"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))


def pulled(text: str, steps: list[str] | None = None) -> Pulled:
    return pull.pull(source.parse(text), "auto", (steps if steps is not None else []).append)


def refused(text: str) -> SandboxError:
    """The error; nothing is left of the attempt."""
    with pytest.raises(SandboxError) as caught:
        pulled(text)
    left = [each.name for each in root_images.images_root().iterdir()] if root_images.images_root().exists() else []
    assert set(left) <= {".lock", "sources.json", "sources.lock"}
    return caught.value


def test_the_file_system_has_what_the_layers_say(layout: Layout) -> None:
    digest = layout.image([BASE, TOP], config=CONFIG)
    steps: list[str] = []
    image = pulled(f"oci:{layout.root}:latest", steps).image
    found = oci.listed(image.rootfs, ["/", "/etc", "/bin", "/home", "/home/user"])
    assert found["/home/user"] == (0o40750, 1000, 1000)
    assert found["/home/user/own"] == (0o100644, 1000, 1_000_660_000)
    assert found["/bin/ping"] == (0o104755, 0, 5)
    assert found["/bin/secret"] == (0o100000, 0, 0)
    assert {"/etc/new", "/bin/Ping", "/dev", "/proc", "/lib"} <= found.keys()
    assert "/etc/old" not in found
    assert oci.asked(image.rootfs, "ea_get -V /bin/ping security.capability").startswith(CAPABILITY.encode("latin-1"))
    assert oci.asked(image.rootfs, "cat /bin/secret") == b"s"
    assert oci.listed(image.rootfs, ["/.."])["/../bin"] == found["/bin"] == (0o41777, 0, 0)
    assert b"Mode:  0711" in (top := oci.asked(image.rootfs, "stat /"))
    assert b"User:     7" in top
    assert b"mtime: 0x00000001" in oci.asked(image.rootfs, "stat /bin/epoch")
    assert b"mtime: 0x3b9aca00" in oci.asked(image.rootfs, "stat /bin")
    assert b"Links: 2" in oci.asked(image.rootfs, "stat /bin/hard")
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", image.rootfs], check=False, capture_output=True).returncode == 0
    config = image.config
    assert (config.env, config.user, config.workdir) == (("PATH=/usr/bin:/bin", "LANG=C"), "1000:users", "/srv")
    assert (config.entrypoint, config.cmd, config.digest) == (("/init",), ("-x",), digest)
    assert sorted(each.name for each in image.root.iterdir()) == ["config.json", "info.json", "rootfs.ext4"]
    assert steps[-3:] == ["unpacking layer 1 of 2", "unpacking layer 2 of 2", "packing the root file system"]


def test_there_is_room_for_directories_that_no_entry_names(layout: Layout) -> None:
    deep = "/".join(["d"] * 190)
    layout.image([oci.layer(*(file(f"{n}/{deep}/file") for n in range(6)))])
    image = pulled(f"oci:{layout.root}").image
    assert image.info.entries == 6 * 192
    assert oci.listed(image.rootfs, [f"/5/{deep}"])[f"/5/{deep}/file"][0] == 0o100644


@pytest.mark.parametrize("name", ["\N{LATIN SMALL LETTER E WITH ACUTE}", "n" * 250, "a\\b", "<2>", "#$;"])
def test_attributes_have_the_names_that_they_had(layout: Layout, name: str) -> None:
    layout.image([oci.layer(file("a", pax={f"SCHILY.xattr.user.{name}": "value"}))])
    image = pulled(f"oci:{layout.root}").image
    assert oci.asked(image.rootfs, f'ea_get -V /a "user.{name}"').strip() == b"value"


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_archives_that_skopeo_writes_are_read(layout: Layout, tmp_path: Path, transport: str) -> None:
    layout.image([BASE, TOP], config=CONFIG)
    archive = f"{transport}:{tmp_path / 'archive.tar'}"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.root}:latest", f"{archive}:team/tool:1"], check=True)
    image = pulled(archive).image
    assert "/etc/new" in oci.listed(image.rootfs, ["/etc"])
    assert pull.known(source.parse(archive)) == image
    (tmp_path / "archive.tar").write_bytes(b"another one")
    assert pull.known(source.parse(archive)) is None, "it is another file by now"


@pytest.mark.skipif(os.getuid() != 0, reason="a store of another user's needs ids of its own")
def test_the_store_of_other_engines_is_read(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.image([oci.layer(directory("etc", owner=(0, 0)), file("etc/a", owner=(3, 7)))], config=CONFIG)
    places = f'graphroot = "{tmp_path}/store"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\n{places}')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    name = "containers-storage:localhost/tool:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.root}:latest", name], check=True)
    image = pulled(name).image
    assert oci.listed(image.rootfs, ["/etc"])["/etc/a"] == (0o100644, 3, 7)
    assert image.config.cmd == ("-x",)


class Docker(http.server.BaseHTTPRequestHandler):
    """As much of Docker's API as `docker save` uses; `archive` is what it saves."""

    archive = b""

    def do_HEAD(self) -> None:
        self.answer(b"OK")

    def do_GET(self) -> None:
        self.answer(self.archive if "/images/get" in self.path else b"OK")

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def address_string(self) -> str:
        return "a user of the socket"

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_the_users_own_docker_is_asked(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DOCKER_HOST names it: one without root listens elsewhere."""
    layout.image([BASE, TOP], config=CONFIG)
    archive = f"docker-archive:{tmp_path / 'saved.tar'}:tool:1"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout.root}:latest", archive], check=True)
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), Docker) as server:
        monkeypatch.setattr(Docker, "archive", (tmp_path / "saved.tar").read_bytes())
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 's'}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            image = pulled("docker-daemon:tool:1").image
        finally:
            server.shutdown()
    assert "/etc/new" in oci.listed(image.rootfs, ["/etc"])
    assert image.config.entrypoint == ("/init",)


@pytest.mark.parametrize("confinement", ["no", "yes"])
def test_it_is_the_same_in_confinement_and_without(layout: Layout, confinement: str) -> None:
    if confinement == "yes" and confine.unavailable():
        pytest.skip(f"nothing can be confined here: {confine.unavailable()}")
    layout.image([BASE], config=CONFIG)
    image = pull.pull(source.parse(f"oci:{layout.root}"), confinement, QUIET).image
    assert oci.listed(image.rootfs, ["/bin"])["/bin/ping"] == (0o104755, 0, 5)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
@pytest.mark.parametrize("pack", ["zstd", ""])
def test_layers_may_be_packed_otherwise(layout: Layout, pack: str) -> None:
    layout.image([BASE], pack=pack)
    assert "/etc/old" in oci.listed(pulled(f"oci:{layout.root}").image.rootfs, ["/etc"])


def test_one_image_by_several_names_is_there_once(server: Registry) -> None:
    digest = server.layout.image([BASE], tag="latest")
    server.tags |= {"latest": digest, "old": digest}
    first = pulled(server.source()).image
    before = len(server.asked)
    assert pulled(server.source(":old")).image == first == pulled(server.source(f"@{digest}")).image
    assert not [each for each in server.asked[before:] if "/blobs/" in each], "nothing is fetched again"
    before = len(server.asked)
    assert pull.ensure(source.parse(server.source()), "auto", QUIET) == first
    assert len(server.asked) == before, "a start asks no registry"


def test_of_several_platforms_this_hosts_is_taken(server: Registry) -> None:
    server.layout.image([TOP], architecture="riscv64")
    own = server.layout.image([BASE])
    index = server.index()
    found = pulled(server.source())
    assert (found.digest, found.image.config.digest) == (index, own)
    assert pulled(server.source(f"@{index}")).image == found.image


def test_a_tag_that_moves_is_seen_when_it_is_asked_for(server: Registry) -> None:
    server.tags["latest"] = first = server.layout.image([BASE])
    one = pulled(server.source())
    server.tags["latest"] = second = server.layout.image([BASE, TOP])
    assert pull.ensure(source.parse(server.source()), "auto", QUIET) == one.image
    other = pulled(server.source())
    assert (other.before, other.digest) == (first, second)
    assert other.image.key != one.image.key


def test_credentials_are_the_users_and_stay_with_him(
    server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tags["latest"] = server.layout.image([BASE], config=CONFIG)
    server.login = "me:hunter2secret"
    error = refused(server.source())
    assert isinstance(error, ImageError)
    assert error.hint.startswith(f"log in with `skopeo login {server.address}`")
    auth = tmp_path / "auth.json"
    secret = base64.b64encode(server.login.encode()).decode()
    auth.write_text(json.dumps({"auths": {server.address: {"auth": secret}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    image = pulled(server.source()).image
    for path in image.root.iterdir():
        content = path.read_bytes()
        assert secret.encode() not in content
        assert b"hunter2secret" not in content


def lie(server: Registry, what: str) -> str:
    """A source that is not what its digests say."""
    digest = server.layout.image([BASE], config=CONFIG)
    server.tags["latest"] = digest
    described = json.loads(server.content(f"/v2/{registry.NAME}/manifests/latest") or b"")
    blob, config = (
        f"/v2/{registry.NAME}/blobs/{each['digest']}" for each in (described["layers"][0], described["config"])
    )
    match what:
        case "manifest":
            server.answers[f"/v2/{registry.NAME}/manifests/{digest}"] = json.dumps(described, indent=1).encode()
            return server.source(f"@{digest}")
        case "layer":
            server.answers[blob] = oci.packed(TOP, "gzip")
        case "configuration":
            server.answers[config] = b"{}"
        case "endless layer":
            server.answers[blob] = bytes(40 << 20)
        case "size":
            described["layers"][0]["size"] = 1
            server.tags["latest"] = str(server.layout.blob(json.dumps(described).encode())["digest"])
    return server.source()


@pytest.mark.parametrize("what", ["manifest", "layer", "configuration", "endless layer", "size"])
def test_what_is_not_what_its_digest_says_is_refused(server: Registry, what: str) -> None:
    error = refused(lie(server, what))
    assert isinstance(error, ImageError)
    assert error.exit_code == 12


@pytest.mark.parametrize(
    ("source_", "said"),
    [(":nothing", "manifest unknown"), ("@sha256:" + "0" * 64, "manifest unknown")],
)
def test_what_is_not_there_is_said(server: Registry, source_: str, said: str) -> None:
    error = refused(server.source(source_))
    assert said in error.cause
    assert error.hint == "check the name and the tag"


def test_an_image_for_another_machine_is_refused(layout: Layout, server: Registry) -> None:
    layout.image([BASE], architecture="riscv64")
    server.index()
    assert "linux/riscv64" in refused(server.source()).cause
    server.tags["latest"] = layout.image([BASE], architecture="s390x")
    assert "the image is for linux/s390x" in refused(server.source()).message


def test_what_is_no_image_is_refused(layout: Layout) -> None:
    layout.image([b"x" * 600])
    assert "layer 1 of 1: a number in a header is malformed" in refused(f"oci:{layout.root}").cause
    layout.manifests.clear()
    layout.image([BASE], manifest={"layers": []})
    assert "its manifest has 0 layers, its configuration 1" in refused(f"oci:{layout.root}").cause


def test_names_in_an_image_cannot_write_on_the_terminal(layout: Layout) -> None:
    layout.image([oci.layer(file("\x1b]0;evil\x07/../x"))])
    error = refused(f"oci:{layout.root}")
    assert "contains `..`" in error.cause
    assert error.cause.isprintable()


def test_a_layer_that_unpacks_to_too_much_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatten, "LIMITS", flatten.Limits(entries=10, content=1 << 20, stream=2 << 20))
    layout.image([bytes(3 << 20)])  # nothing but an end that does not end
    assert "it unpacks to more than 2 MiB" in refused(f"oci:{layout.root}").cause
    layout.manifests.clear()
    layout.image([oci.layer(*(file(f"f{n}") for n in range(11)))])
    assert "more than 10 files" in refused(f"oci:{layout.root}").cause


def test_memory_does_not_grow_with_an_image(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of more than the memory there is, and a directory of more than a block: all of it arrives."""
    monkeypatch.setattr(flatten, "MEMORY", 48 << 20)
    many = [file(f"many/{'x' * 200}{number}", owner=(number, 0), mtime=number) for number in range(1500)]
    layout.image([oci.layer(file("large", bytes(64 << 20), owner=(0, 0)), *many)])
    image = pulled(f"oci:{layout.root}").image
    assert oci.listed(image.rootfs, ["/many"])[f"/many/{'x' * 200}1499"] == (0o100644, 1499, 0)
    assert len(oci.listed(image.rootfs, ["/many"])) == 1500
    assert image.info.content == 64 << 20
    assert image.size < 20 << 20, "zeros take no room"
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", image.rootfs], check=False, capture_output=True).returncode == 0


def test_a_full_disk_is_said_before_anything_is_fetched(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    server.tags["latest"] = server.layout.image([BASE])
    monkeypatch.setattr(pull, "ROOM", 1 << 50)
    assert isinstance(refused(server.source()), HostResourceError)
    assert not [each for each in server.asked if "/blobs/" in each]


def test_a_fetch_that_grows_beyond_its_limit_is_stopped(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.image([oci.layer(file("noise", os.urandom(1 << 20)))], pack="")
    monkeypatch.setattr(manifest, "MOST_PACKED", 100 << 10)
    monkeypatch.setattr("git_sandbox.image.oci.skopeo.SLACK", 0)
    refused(f"oci:{layout.root}")


def test_what_is_forgotten_is_fetched_again(layout: Layout) -> None:
    layout.image([BASE])
    text = f"oci:{layout.root}"
    image: RootImage = pulled(text).image
    root_images.remove(image)
    assert pull.known(source.parse(text)) is None
    assert pull.ensure(source.parse(text), "auto", QUIET).key == image.key
