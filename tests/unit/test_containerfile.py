"""What goes into a build: files as git sees them, features, and nothing that the machine takes for something else."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from git_sandbox import consent, settings, transports
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.cli.main import main
from git_sandbox.devcontainer import features, install
from git_sandbox.devcontainer.features import Feature, Reference
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.errors import ImageError, SandboxError, UsageError
from git_sandbox.git.repo import discover
from git_sandbox.image import context
from git_sandbox.sandbox import builder_output, built_images, feature_sources, image_build, image_builder, provision
from git_sandbox.sandbox.image_build import Build
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.session_options import Extras
from support import oci, registry
from support.examples import examples
from support.gitrepo import GitRepo


def packed(repo: GitRepo, build: Build) -> tuple[dict[str, bytes | str], str]:
    """What is in the stream (a link: where it leads), and the key."""
    out = io.BytesIO()
    key = build.write(discover(repo.path), out)
    out.seek(0)
    with tarfile.open(fileobj=out) as stream:
        found: dict[str, bytes | str] = {}
        for member in stream:
            assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
            file = stream.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file else member.linkname
    return found, key


def test_the_context_is_what_git_sees(repo: GitRepo) -> None:
    repo.commit("start", {"a": "1", "d/b": "2", ".gitignore": "*.log\nbuild/\n", "gone": "x", "run.sh": "#!\n"})
    for name, text in {"new": "3", "x.log": "ignored", "build/out": "ignored", "a": "changed", "d/-x y": "odd"}.items():
        (repo.path / name).parent.mkdir(exist_ok=True)
        (repo.path / name).write_text(text)
    (repo.path / "gone").unlink()
    (repo.path / "link").symlink_to("/etc/passwd")
    os.mkfifo(repo.path / "fifo")
    (repo.path / "run.sh").chmod(0o711)
    found, key = packed(repo, Build(b"FROM scratch\nCOPY . /\n"))
    assert found == {
        "arguments": b"set -- \n", "Containerfile": b"FROM scratch\nCOPY . /\n",
        "context/a": b"changed", "context/d/b": b"2",
        "context/d/-x y": b"odd", "context/.gitignore": b"*.log\nbuild/\n", "context/new": b"3",
        "context/link": "/etc/passwd", "context/run.sh": b"#!\n", "context/README": b"hello\n",
    }  # fmt: skip
    assert packed(repo, Build(b"FROM scratch\nCOPY . /\n"))[1] == key, "the same again"
    assert set(packed(repo, Build(b"FROM x\nADD . /\n", "d"))[0]) == {
        "arguments", "Containerfile", "context/b", "context/-x y",
    }  # fmt: skip


def test_nothing_behind_a_link_goes_in(repo: GitRepo) -> None:
    """A link of the repository's may lead to a directory of the host that has a file of the same name."""
    outside = repo.path.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("key", "deep/key"):
        (outside / name).write_text("secret")
    repo.commit("start", {"d/key": "1", "d/deep/key": "2"})
    shutil.rmtree(repo.path / "d")
    for link in ("d", "key"):
        (repo.path / link).symlink_to(outside)
    text = b"FROM scratch\nCOPY . /\n"
    found, _ = packed(repo, Build(text))
    assert {name: what for name, what in found.items() if name.startswith(("context/d", "context/key"))} == {
        "context/d": str(outside), "context/key": str(outside),
    }  # fmt: skip
    for directory in ("key", "d", "d/deep"):
        with pytest.raises(ImageError, match="through a symbolic link"):
            packed(repo, Build(text, directory))


def test_whatever_goes_in_makes_another_image(repo: GitRepo) -> None:
    repo.commit("start", {"a": "1"})
    text = b"FROM scratch\nCOPY a /\n"
    keys = [packed(repo, build)[1] for build in (
        Build(text), Build(text + b"#"), Build(text, target="x"), Build(text, args={"A": "1"}),
        Build(text, args={"A": "2"}),
    )]  # fmt: skip
    (repo.path / "a").write_text("2")
    keys.append(packed(repo, Build(text))[1])
    (repo.path / "a").chmod(0o755)
    keys.append(packed(repo, Build(text))[1])
    assert len({*keys}) == len(keys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nRUN y\n", False), ("FROM x\nCOPY --from=b /a /b\n", False),
        ("FROM x\n  copy --chown=1 --from=0 a b", False),
        ("FROM x\nCOPY a b", True), ("FROM x\nadd a b", True), ("FROM x\nCOPY --chown=1:1 a b", True),
        ("FROM x\nRUN --mount=type=bind,target=/x ls", True), ("FROM x\nONBUILD COPY . .", True),
        ("FROM x\nCOPY \\\n --from=a b c", True), ("FROM x\nCOPY\ta b", True), ("# COPY a b\nRUN COPYX", False),
    ],
)  # fmt: skip
def test_a_build_that_copies_nothing_needs_no_context(text: str, expected: bool) -> None:
    assert context.needed(text.encode()) is expected


def test_without_need_nothing_of_the_repository_is_read(repo: GitRepo) -> None:
    repo.commit("start", {"a": "1"})
    assert set(packed(repo, Build(b"FROM x\nRUN true\n"))[0]) == {"arguments", "Containerfile"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with context.packing(io.BytesIO()) as pack, pytest.raises(ImageError, match=r"cannot read .*/file/below"):
        pack.add("x", tmp_path / "file/below")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Containerfile", True), ("/a/Dockerfile", True), ("x/Dockerfile.dev", True), ("dev.Dockerfile", True),
        ("web.containerfile", True), ("image.toml", False), ("docker://Dockerfile", False), ("Dockerfile.toml", False),
        ("", False), ("Dockerfiles", False), ("oci:Dockerfile", False),
    ],
)  # fmt: skip
def test_a_containerfile_is_known_by_its_name(text: str, expected: bool) -> None:
    assert transports.containerfile(text) is expected


def of_file(repo: GitRepo, path: Path) -> Build | None:
    wanted, _ = settings.resolve({"image": str(path)}, None)
    return built_images.build_of(discover(repo.path), Options(wanted), lambda _: None)


def test_the_directory_of_a_containerfile_is_its_context(repo: GitRepo) -> None:
    (repo.path / "dev").mkdir()
    for name in ("Containerfile", "dev/Dockerfile"):
        (repo.path / name).write_text("FROM scratch\n")
    assert of_file(repo, repo.path / "Containerfile") == Build(b"FROM scratch\n", ".")
    assert of_file(repo, repo.path / "dev/Dockerfile") == Build(b"FROM scratch\n", "dev")
    outside = repo.path.parent / "Dockerfile"
    outside.write_text("FROM scratch\n")
    for path in (outside, repo.path / "none/Dockerfile"):
        with pytest.raises(SandboxError):
            of_file(repo, path)


# --- the machine's script, with a buildah that says what it is told ---


def script(tmp_path: Path, stream: bytes) -> tuple[list[list[str]], bytes]:
    """The calls of buildah, and what comes out."""
    top, programs = tmp_path / "top", tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    top.mkdir(exist_ok=True)
    (programs / "buildah").write_text(
        '#!/bin/sh\nfor each do printf "%s\\0" "$each"; done >> "$CALLS"; printf "\\n" >> "$CALLS"\n'
        'for each do case $each in oci-archive:*) path=${each#oci-archive:}; echo made > "${path%:made}";; esac; done\n'
    )
    (programs / "buildah").chmod(0o755)
    calls = tmp_path / "calls"
    calls.unlink(missing_ok=True)
    text = image_build.SCRIPT.replace("/run/git-sandbox/disk/builder", str(top))
    done = subprocess.run(
        ["/bin/sh", "-c", text], input=stream, capture_output=True, check=True,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls)},
    )  # fmt: skip
    return [line.decode().split("\0")[:-1] for line in calls.read_bytes().split(b"\n")[:-1]], done.stdout


@settings_of(max_examples=examples(10), deadline=None)
@given(st.dictionaries(st.from_regex("[A-Z]{1,3}", fullmatch=True), st.text("a $'\"\\-;*`", max_size=8), max_size=3))
def test_no_argument_of_a_build_becomes_another_word(tmp_path_factory: Any, args: dict[str, str]) -> None:
    out = io.BytesIO()
    with context.packing(out) as pack:
        pack.add_bytes("arguments", Build(b"", target="dev", args=args).arguments())
        pack.add_bytes("Containerfile", b"FROM scratch\n")
    (build, push), made = script(tmp_path_factory.mktemp("b"), out.getvalue())
    rest = build[build.index("-f") + 2 : -1]
    expected = ["--target", "dev", *(word for name in sorted(args) for word in ("--build-arg", f"{name}={args[name]}"))]
    assert (rest, made, push[-1].rpartition("/")[2]) == (expected, b"made\n", "out.tar:made")


# --- features ---


def says(**table: Any) -> features.Metadata:
    return features.metadata(json.dumps({"id": "x", **table}).encode(), "x")


def test_features_are_installed_by_a_containerfile(repo: GitRepo) -> None:
    place = repo.path / ".devcontainer/tool"
    (place / "more").mkdir(parents=True)
    (place / "install.sh").write_text("#!/bin/sh\n")
    (place / "more/data").write_text("x")
    description = {"id": "tool", "containerEnv": {"P": '/opt:${PATH} "q"'}, "options": {"v": {"default": "1"}}}
    (place / "devcontainer-feature.json").write_text(json.dumps(description))
    digest = consent.tree(place)
    made = Plan(
        ".devcontainer/devcontainer.json", "/w", image="ghcr.io/a/b:1", features={"./tool": {"v": "it's; $x"}},
        contents={".devcontainer/tool": digest}, user="vscode",
    )  # fmt: skip
    wanted, _ = settings.resolve({}, None)
    build = built_images.build_of(discover(repo.path), Options(wanted, plan=made), lambda _: None)
    assert build is not None
    found, _ = packed(repo, build)
    assert found.keys() == {
        "arguments", "features/Containerfile", "features/0/install.sh", "features/0/more/data",
        "features/0/devcontainer-feature.json", f"features/0/{install.OPTIONS}",
    }  # fmt: skip
    text = found["features/Containerfile"]
    assert isinstance(text, bytes)
    lines = text.decode().splitlines()
    assert lines[:3] == ["FROM ghcr.io/a/b:1", "USER 0:0", "COPY 0 /tmp/dev-container-features/0"]
    assert lines[4] == 'ENV P="/opt:${PATH} \\"q\\""'
    options = found[f"features/0/{install.OPTIONS}"]
    assert isinstance(options, bytes)
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{options.decode()}\necho "$V|$_REMOTE_USER_HOME"'], capture_output=True, check=True
    )
    assert shown.stdout == b"it's; $x|/home/vscode\n"
    (place / "install.sh").write_text("#!/bin/sh\ncurl evil\n")
    with pytest.raises(ImageError, match="has changed since"):
        packed(repo, build)


def test_what_a_feature_asks_for_in_vain_is_said_at_each_start(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = {"type": "volume", "source": "x", "target": "/var/lib/x"}
    described = {"entrypoint": "/x.sh", "mounts": [mount, "type=tmpfs,target=/y"], "init": True, "customizations": {}}
    archive = feature_sources.Seen("sha256:0", json.dumps({"id": "x", "postStartCommand": "up", **described}))
    monkeypatch.setattr(feature_sources, "fetched", lambda *_: archive)
    monkeypatch.setattr(provision, "image", lambda *_: Image(repo.path))
    monkeypatch.setattr(image_builder, "ensure", lambda *_: RootImage(repo.path))
    monkeypatch.setattr(built_images, "identity", lambda _: "0")
    wanted, _ = settings.resolve({}, None)
    made = Plan("devcontainer.json", "/w", image="ghcr.io/a/b", features={"ghcr.io/x/y:1": {}})
    _, extras, notes = built_images.chosen(discover(repo.path), Options(wanted, plan=made), Extras(), lambda _: None)
    assert extras.commands == (("postStartCommand", "up"),)
    assert [note.partition(" does nothing here: ")[0] for note in notes] == [
        "entrypoint of the feature ghcr.io/x/y:1", "mounts of the feature ghcr.io/x/y:1",
    ]  # fmt: skip
    assert tuple(install.notes([Feature(Reference("x", "x"), says(entrypoint="", mounts=[]), "0")])) == ()


@pytest.mark.parametrize("image", ["", "a b", "x\nRUN y", "--x", "oci:/etc", "$X"])
def test_a_base_that_is_no_name_is_refused(image: str) -> None:
    with pytest.raises(UsageError):
        built_images._base(image)


def test_a_feature_that_is_not_named_in_the_file_is_not_used(repo: GitRepo) -> None:
    looked = feature_sources._Looked(repo.path, {}, repo.path, lambda _: None)
    with pytest.raises(UsageError, match="not named"):
        looked.load(Reference("./x", "x", local=True))


@settings_of(max_examples=examples(50), deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6), st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=12), max_size=3
    )
)
def test_options_are_only_ever_values(table: dict[str, str]) -> None:
    feature = Feature(Reference("x", "x"), says(), "0", features.options({**table}, says(), "x"))
    for line in install.options(feature, "").decode().split("\n")[:-1]:
        name, _, value = line.partition("=")
        assert name.isidentifier()
        assert len(shlex.split(value)) == 1


def test_a_feature_of_a_registry_is_fetched_once(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    layout = oci.Layout(tmp_path / "layout")
    archive = oci.layer(oci.file("./install.sh", b"#!/bin/sh\n"))
    described = json.dumps({"id": "tool", "options": {"version": {"default": "3"}}, "postCreateCommand": "tool up"})
    layer = layout.blob(archive) | {"mediaType": "application/vnd.devcontainers.layer.v1+tar"}
    config = layout.blob(b"{}") | {"mediaType": "application/vnd.devcontainers"}
    whole = {"config": config, "layers": [layer], "annotations": {feature_sources.DESCRIBED: described}}
    digest = layout.image([oci.layer()], manifest=whole)
    with registry.served(layout) as server:
        registry.allow_plain(server.address, tmp_path / "home")
        server.tags["1"] = digest
        name = f"{server.address}/{registry.NAME}:1"
        made = Plan("devcontainer.json", "/w", image="ghcr.io/a/b", features={name: "9"})
        wanted, _ = settings.resolve({}, None)
        build = built_images.build_of(discover(repo.path), Options(wanted, plan=made), lambda _: None)
        assert build is not None
        before = len(server.asked)
        assert built_images.build_of(discover(repo.path), Options(wanted, plan=made), lambda _: None) == build
        assert len(server.asked) == before, "the second time nobody is asked"
        found, _ = packed(repo, build)
        assert found["features/0.tar"] == archive
        assert b"VERSION=9\n" in bytes(found[f"features/0/{install.OPTIONS}"])  # type: ignore[arg-type]
        assert dict(install.commands([each.feature for each in build.features])) == {"postCreateCommand": "tool up"}
        lies: tuple[dict[str, Any], ...] = (
            {"layers": []}, {"layers": [layer, layer]}, {"layers": [layer | {"size": 1 << 40}]}, {"annotations": {}},
        )  # fmt: skip
        for lie in lies:
            server.answers[f"/v2/{registry.NAME}/manifests/2"] = json.dumps(whole | lie).encode()
            with pytest.raises(ImageError):
                feature_sources.fetched(features.reference(name[:-1] + "2", "x"), tmp_path / "other", lambda _: None)


def test_each_of_two_versions_of_a_feature_has_its_own_archive(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(reference: Reference, *_: object) -> feature_sources.Seen:
        return feature_sources.Seen(f"sha256:{reference.tag * 64}", '{"id": "x"}')

    monkeypatch.setattr(feature_sources, "fetched", fetched)
    made = Plan("devcontainer.json", "/w", features={f"ghcr.io/x/y:{tag}": {} for tag in "21"})
    found = feature_sources.installed(repo.path, made, repo.path, lambda _: None)
    assert [(each.feature.reference.tag, each.archive) for each in found] == [
        (tag, repo.path / f"{tag * 64}.tar") for tag in "12"
    ]


def test_what_the_builder_says_is_shown_and_kept_to_its_end() -> None:
    """Nothing of it is obeyed by a terminal, and a line without an end does not fill the memory."""
    seen: list[str] = []
    with builder_output.Lines(seen.append) as lines, os.fdopen(os.dup(lines.descriptor), "wb") as out:
        for number in range(100):
            out.write(b"step %d \x1b[2J\n" % number)
        out.write(b"x" * 10_000 + b"\nError: at the end\n")
        out.close()
        tail = lines.tail()
    assert tail.splitlines()[-1] == "Error: at the end"
    assert len(tail.splitlines()) <= builder_output.TAIL + 3
    assert "step 0 " not in tail
    assert "\x1b" not in tail + "".join(seen)
    assert max(map(len, seen)) <= 100


@pytest.mark.parametrize("size", [0, 5, 100_000, 200_000])
def test_an_archive_has_a_limit_while_it_comes(tmp_path: Path, size: int) -> None:
    """A build that prints without end fills no disk: from the limit on nobody reads."""
    most = 100_000
    with (tmp_path / "out").open("w+b") as out, builder_output.Archive(out, most) as archive:
        done = subprocess.run(["/bin/sh", "-c", f"head -c {size} /dev/zero"], stdout=archive.descriptor, check=False)
        if size <= most:
            archive.require_whole()
            assert (done.returncode, (tmp_path / "out").stat().st_size) == (0, size)
            return
        with pytest.raises(ImageError, match="has more than"):
            archive.require_whole()
    assert done.returncode != 0
    assert (tmp_path / "out").stat().st_size <= most


def test_an_archive_that_does_not_fit_is_an_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as out, builder_output.Archive(out, 1 << 20) as archive:
        os.write(archive.descriptor, b"x")
        with pytest.raises(ImageError, match="cannot be stored") as caught:
            archive.require_whole()
    assert "space" in caught.value.cause


def test_what_a_containerfile_makes_is_written_as_an_archive(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For other engines, though the image is there; nothing is overwritten, and a build that fails leaves none."""
    layout = oci.Layout(tmp_path / "layout")
    layout.image([oci.layer(oci.file("made"))])
    packed_ = tmp_path / "made.tar"
    with tarfile.open(packed_, "w") as out:
        out.add(layout.root, arcname=".")

    def run(_self: object, _context: IO[bytes], out: IO[bytes]) -> None:
        out.write(packed_.read_bytes())

    monkeypatch.setattr(image_builder._Builder, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(repo.path)
    repo.write("Containerfile", "FROM scratch\n")
    words = ["image", "build", "--image", "./Containerfile"]
    assert main(words) == 0
    target = tmp_path / "worker.tar"
    assert main([*words, "--archive", str(target)]) == 0
    assert target.read_bytes() == packed_.read_bytes()
    assert main([*words, "--archive", str(target)]) == 2
    packed_.write_bytes(b"nothing")
    assert main([*words, "--archive", str(tmp_path / "other")]) == 12
    assert not (tmp_path / "other").exists()
    assert main(["image", "build", "--archive", str(tmp_path / "other")]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("tail", "hint"),
    [
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: …", "COPY"),
        ("curl: (60) SSL certificate problem: unable to get local issuer certificate", "COPY"),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN\nnpm error self-signed certificate in certificate chain", "COPY"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "COPY"),
        ("dial tcp: lookup registry.example on 127.0.0.1:53: no such host", "--allow"),
        ("make: *** [all] Error 1", ""),
    ],
)
def test_a_failed_build_says_what_helps(tail: str, hint: str) -> None:
    said = image_builder.hint(tail)
    assert hint in said
    assert bool(hint) is bool(said)
