"""Packages over the default image: what a build step changes, as a layer, is all that is built (`helpers/layer.py`)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image, ImageInfo
from git_sandbox.errors import ImageError
from git_sandbox.helpers import layer
from git_sandbox.image import layer as image_layer
from git_sandbox.image import spec, workshop
from support.examples import examples

NAMES = st.sampled_from(["a", "b", "c", "d e", "-x", "\N{SNOWMAN}", "n\nl", os.fsdecode(b"\xff")])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.sampled_from(["file", "more", "directory", "link", "gone", "mode"])
STEPS = st.lists(st.tuples(PATHS, KINDS), max_size=12)


def act(tree: Path, path: str, kind: str) -> None:
    """One step of a package's script; what is in its way goes, as `rm -rf` does."""
    target = tree / path
    for above in reversed(target.relative_to(tree).parents):
        if not (tree / above).is_dir() or (tree / above).is_symlink():
            (tree / above).unlink(missing_ok=True)
            (tree / above).mkdir()
    if kind == "mode" and target.exists() and not target.is_symlink():
        target.chmod(0o700 if target.is_dir() else 0o4755)
        return
    if target.is_dir() and not target.is_symlink():
        if kind == "directory":
            return
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    match kind:
        case "file" | "more":
            target.write_text(kind)
        case "directory":
            target.mkdir()
        case "link":
            target.symlink_to("/nowhere")


def listing(tree: Path) -> dict[str, tuple[object, ...]]:
    """All that a program can tell of a tree; times of directories are the file system's own."""
    rows: dict[str, tuple[object, ...]] = {}
    for above, directories, files in os.walk(tree):
        for name in (*directories, *files):
            path = Path(above, name)
            status = path.lstat()
            kind: object = None
            if stat.S_ISREG(status.st_mode):
                kind = (path.read_bytes(), status.st_mtime_ns)
            elif stat.S_ISLNK(status.st_mode):
                kind = path.readlink()
            rows[os.fspath(path.relative_to(tree))] = (status.st_mode, status.st_uid, kind)
    return rows


def merged(base: Path, over: Path) -> dict[str, tuple[object, ...]]:
    """What overlayfs shows, by its documentation: the oracle."""
    rows = listing(base)
    for path, row in listing(over).items():
        mode = row[0]
        assert isinstance(mode, int)
        if not stat.S_ISDIR(mode) or not stat.S_ISDIR(int(str(rows.get(path, (0,))[0]))):
            rows = {each: kept for each, kept in rows.items() if not f"{each}/".startswith(f"{path}/")}
        if mode != stat.S_IFCHR:
            rows[path] = row
    return rows


@settings(max_examples=examples(60), deadline=None)
@given(STEPS, STEPS)
def test_a_layer_over_the_tree_of_before_is_the_tree_of_after(
    first: list[tuple[str, str]], then: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tree, base, over, notes = (Path(scratch, name) for name in ("tree", "base", "layer", "notes"))
        tree.mkdir()
        for path, kind in first:
            act(tree, path, kind)
        shutil.copytree(tree, base, symlinks=True)
        layer.remember(str(tree), str(notes))
        for path, kind in then:
            act(tree, path, kind)
        after = listing(tree)
        layer.difference(str(tree), str(notes), str(over))
        assert merged(base, over) == after
        for path, (mode, *_) in listing(over).items():
            parts = path.split("/")
            assert mode != stat.S_IFCHR or (base / path).is_symlink() or (base / path).exists(), "of nothing"
            assert len(parts) < 5


def test_what_is_unchanged_is_not_in_a_layer(tmp_path: Path) -> None:
    for name in ("usr/bin/old", "usr/share/doc", "etc/passwd"):
        act(tmp_path / "tree", name, "file") if (tmp_path / "tree").exists() else (tmp_path / "tree").mkdir()
        act(tmp_path / "tree", name, "file")
    tree, over = tmp_path / "tree", tmp_path / "layer"
    (tree / "usr").chmod(0o711)
    layer.remember(str(tree), str(tmp_path / "notes"))
    (tree / "usr/bin/new").write_bytes(b"x" * 5000)
    (tree / "usr/bin/twin").hardlink_to(tree / "usr/bin/new")
    times = (tree / "usr").stat().st_mtime_ns
    layer.difference(str(tree), str(tmp_path / "notes"), str(over))
    assert sorted(listing(over)) == ["usr", "usr/bin", "usr/bin/new", "usr/bin/twin"]
    assert (over / "usr/bin/new").stat().st_nlink == 2, "hard links stay such"
    assert (stat.S_IMODE((over / "usr").stat().st_mode), (over / "usr").stat().st_mtime_ns) == (0o711, times)
    size, count = layer.measure(str(over))
    assert (count, size > 5000 * 2) == (4, True)


# --- which image is below which ---------------------------------------------------------------------------------------


def test_the_default_image_is_below_one_with_more_packages() -> None:
    plain, more = spec.load(), spec.load(packages=("golang", "fzf"))
    assert plain.base is None
    assert more.base == plain
    assert more.additions == ("fzf", "golang")
    assert spec.load(packages=("fzf", "golang", "fzf")).key == more.key, "in another order it is the same image"
    assert spec.load(packages=plain.packages).key == plain.key


@pytest.mark.parametrize(
    ("text", "below"),
    [
        ('npm = ["a", "b"]', True),
        ('commands = ["true"]', True),
        ('suite = "forky"\nextra_packages = ["fzf"]', True),
        ('suite = "forky"', False),
        ('packages = ["git"]', False),
        ('packages = ["git"]\npip = ["ruff"]', False),
    ],
)
def test_an_image_with_fewer_packages_is_built_whole(text: str, below: bool) -> None:
    asked = spec.load(Path("x"), read=lambda _name, _most: text.encode())
    assert (asked.base is not None) is below
    if asked.base:
        assert (asked.base.suite, asked.base.installs, asked.base.base) == (asked.suite, (), None)
        assert asked.base.key != asked.key


@given(st.permutations(["a", "b@1", "@c/d"]), st.permutations(["x", "y==1"]))
def test_the_order_of_packages_makes_no_other_image(npm: list[str], pip: list[str]) -> None:
    asked = msgspec.structs.replace(spec.load(), npm=tuple(npm), pip=tuple(pip))
    same = msgspec.structs.replace(spec.load(), npm=("a", "b@1", "@c/d"), pip=("x", "y==1"))
    assert asked.key == same.key
    other = msgspec.structs.replace(asked, commands=("one", "two"))
    assert other.key != msgspec.structs.replace(asked, commands=("two", "one")).key, "the order of commands does"


def test_every_script_of_a_layers_build_makes_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = spec.load(packages=("fzf",))
    assert asked.base is not None
    before, below = asked.key, asked.base.key
    read = Path.read_bytes
    for name, whole in (("layer.sh", False), ("layer.py", False), ("boot.sh", True)):
        monkeypatch.setattr(Path, "read_bytes", lambda path, name=name: read(path) + b"#" * (path.name == name))
        assert asked.key != before
        assert (asked.base.key != below) is whole


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_has_size_percentage_and_time() -> None:
    shown = image_layer.Status(spec.load(packages=("fzf",)))
    shown("Need to get 1,870 kB of archives.")
    assert shown("dlstatus:1:13.4478:Retrieving file 1 of 5").startswith("fetching fzf: 13 % of 1,870 kB, ")
    assert shown("pmstatus:libjq1:23.5:Unpacking libjq1").startswith("installing fzf: 23 %, ")
    assert shown("I: writing the layer") == "writing the layer"
    assert shown("Setting up jq (1.7.1) ...") == ""


@given(st.text(max_size=60), st.sampled_from(["", "dlstatus:", "pmstatus:a:", "Need to get ", "dlstatus:1:99"]))
def test_no_line_of_a_build_is_too_much(text: str, before: str) -> None:
    shown = image_layer.Status(spec.load(packages=tuple(f"package-{number}" for number in range(99))))
    assert len(shown(before + text)) < 200


# --- a build, of a root of its own, without a network ----------------------------------------------------------------

APT = """#!/bin/sh
[ "$1" = -q ] && [ "$2" = update ] && { echo updated > /var/updated; exit 0; }
[ "$1" = -q ] && [ "$2" = download ] && { : > git.deb; exit 0; }
[ -x /usr/sbin/policy-rc.d ] && [ -f /etc/resolv.conf ] && [ -d /proc/1 ] || exit 9
while [ "$1" != -- ]; do shift; done
shift
echo "Need to get 12 kB of archives."
echo "pmstatus:$1:50:Unpacking"
for each in "$@"; do echo "$each" > "/usr/bin/$each"; chown 3:4 "/usr/bin/$each"; chmod 4755 "/usr/bin/$each"; done
rm /etc/old
id -u
ls /root /work /home /build 2>/dev/null
exit 0
"""
DPKG = "#!/bin/sh\nprintf '100\\tfzf\\t1.7\\n'\n"


EXCLUDED, EXCLUDES = (
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/doc/*\n",
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image in a cache of its own, with a shell and an apt-get that does what this test says."""
    if workshop.namespace() is None:
        pytest.skip("this host lets no confined root be made: no bubblewrap, subordinate ids or user namespaces")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(image_layer, "SLACK", 1 << 20)
    tree = tmp_path / "tree"
    for name in ("dev", "proc", "tmp", "run", "etc", "usr/bin", "usr/sbin", "var/lib/apt", "var/log", "root"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    for program in (
        "/bin/sh",
        "/bin/id",
        "/bin/ls",
        "/bin/rm",
        "/bin/chmod",
        "/bin/chown",
        "/bin/mkdir",
        "/usr/bin/base64",
        "/bin/grep",
        "/usr/bin/xargs",
        "/bin/tar",
    ):
        install(Path("/bin", program), tree)
    manual = {"dpkg-deb": "#!/bin/sh\ntar -C /pages -c ./usr ./other\n", "mandb": "#!/bin/sh\n"}
    for path, text in (("pages/usr/share/man/man1/git.1", "git"), ("pages/other/x", "x"), (EXCLUDED, EXCLUDES)):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for name, text in {"apt-get": APT, "dpkg-query": DPKG, **manual}.items():
        (tree / "usr/bin" / name).write_text(text)
        (tree / "usr/bin" / name).chmod(0o755)
    (tree / "etc/old").write_text("old")
    place = guest_images.images_root() / ("b" * 16)
    place.mkdir(parents=True)
    make = ["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(place / "rootfs.ext4")]
    subprocess.run([*make, "64M"], check=True)
    for name in ("kernel", "initramfs"):
        (place / name).write_text(name)
    (place / "image.json").write_bytes(msgspec.json.encode(ImageInfo("b" * 16, "trixie", 0.0, ())))
    (place / "rootfs.ext4").chmod(0o644)
    return Image(place)


def install(program: Path, tree: Path) -> None:
    """A program of this host with its libraries."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    libraries = [word for line in said.splitlines() for word in line.split() if word.startswith("/")]
    for each in (program, *map(Path, libraries)):
        target = tree / "usr" / each.relative_to("/") if each.parts[1] != "usr" else tree / each.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each, target)


def built(base: Image, **changes: object) -> tuple[Image, list[str]]:
    asked = msgspec.structs.replace(spec.load(packages=("fzf", "golang")), **changes)
    said: list[str] = []
    with guest_images.building() as place:
        return image_layer.build(asked, base, place, said.append), said


def debugfs(request: str, image: Path) -> str:
    return subprocess.run(
        ["/usr/sbin/debugfs", "-R", request, image], capture_output=True, text=True, check=True
    ).stdout


def test_a_build_keeps_what_was_added_and_the_image_below(base: Image) -> None:
    made, said = built(base, commands=("echo more > /usr/bin/more\nrm -f /var/updated",))
    assert made.layer is not None
    assert (made.rootfs.stat().st_ino, made.kernel.stat().st_ino) == (
        base.rootfs.stat().st_ino,
        base.kernel.stat().st_ino,
    )
    assert made.info.base == base.root.name
    assert made.size < 4 << 20, "what is below is not counted twice"
    stat_of = debugfs("stat /usr/bin/golang", made.layer)
    assert "Mode:  04755" in stat_of
    assert "User:     3   Group:     4" in stat_of
    assert debugfs("cat /usr/bin/more", made.layer) == "more\n"
    assert "character special" in debugfs("stat /etc/old", made.layer)
    names = debugfs("ls -p /etc", made.layer) + debugfs("ls -p /usr/sbin", made.layer) + debugfs("ls -p /", made.layer)
    for absent in ("resolv.conf", "policy-rc.d", "proc", "dev", "tmp"):
        assert f"/{absent}/" not in names, absent
    assert any(line.startswith("installing fzf golang: 50 %") for line in said)
    assert (made.root / "installed").read_text() == "100\tfzf\t1.7\n"
    guest_images.remove(base)
    assert made.rootfs.exists(), "neither image needs the other"


def test_manual_pages_of_what_is_there_come_with_man_db(base: Image) -> None:
    """They are left out of the default image: one word brings them, and nothing else of its packages."""
    made, said = built(base, packages=(*spec.load().packages, "man-db"))
    assert made.layer is not None
    assert debugfs("cat /usr/share/man/man1/git.1", made.layer) == "git"
    assert debugfs(f"cat /{EXCLUDED}", made.layer) == "path-exclude=/usr/share/doc/*\n"
    assert "other" not in debugfs("ls -p /", made.layer) + debugfs("ls -p /var/cache", made.layer)
    assert "fetching the manual pages of the default image" in said


def places() -> set[Path]:
    return {*workshop.root().glob(f"{workshop.prefix_of_cache()}*"), *guest_images.images_root().glob("*/")}


def test_a_build_that_does_not_work_leaves_nothing(base: Image) -> None:
    before = places()
    with pytest.raises(ImageError) as caught:
        built(base, commands=("echo it does not work >&2; exit 3",))
    assert "it does not work" in str(caught.value.cause)
    assert places() == before


INTERRUPTED = """
import signal
import sys
from pathlib import Path
import msgspec
from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.image import layer, spec
layer.SLACK = 1 << 20
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background ignores it
asked = msgspec.structs.replace(spec.load(), commands=("echo I: at work; kill -STOP $$",))
with guest_images.building() as place:
    layer.build(asked, Image(Path(sys.argv[1])), place, lambda text: print(text, flush=True))
"""


def test_a_build_that_is_interrupted_leaves_nothing(base: Image) -> None:
    before = places()
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, base.root], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert any(line == "at work\n" for line in child.stdout)
        child.send_signal(signal.SIGINT)
        assert child.wait(120) == -signal.SIGINT
    assert places() == before
