"""A project file may be anybody's: what works without the user's consent, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from git_sandbox import consent, files, paths, projectfile, settings
from git_sandbox.errors import UsageError
from git_sandbox.image import spec
from git_sandbox.projectfile import Consent, ProjectFile
from git_sandbox.sandbox import session_options
from git_sandbox.settings import Value
from git_sandbox.text import whole
from support.examples import examples


def remembered(root: Path) -> Consent:
    return Consent(lambda: root, lambda: root, lambda: "0123")


def project(root: Path, text: str, name: str = "sandbox.toml") -> ProjectFile:
    (root / name).write_text(text)
    found = projectfile.read(root, remembered(root))
    assert found is not None
    return found


def value(found: ProjectFile | None, name: str, given_: dict[str, object] | None = None) -> Value:
    return next(each for each in settings.resolve(given_, found)[1] if each.name == name)


def test_what_the_user_said_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project(tmp_path, 'memory = "4G"\nboot-timeout = 7\nexclude = ["*.iso", "data"]\n')
    assert value(found, "memory") == Value("memory", "4G", str(tmp_path / "sandbox.toml"))
    assert settings.resolve(None, found)[0].exclude == ("*.iso", "data")
    paths.config_file().parent.mkdir(parents=True)
    paths.config_file().write_text('memory = "1G"\n')
    assert value(found, "memory").text == "1G"
    monkeypatch.setenv("SANDBOX_MEMORY", "512M")
    assert value(found, "memory").text == "512M"
    assert value(found, "memory", {"memory": "3G"}).text == "3G"


FREE = [
    'net = "none"', 'on_exit = "keep"', 'dirty = "keep"', 'ignored = "none"', 'env = ["A=1", "B="]', "cpus = 3",
    'setup = "tool/setup.sh"', 'auto-push = "yes"', 'memory = "1G"',
]  # fmt: skip
HELD = [
    'net = "nat"', 'on_exit = "merge"', 'dirty = "stash"', 'dirty = "discard"', 'ignored = "all"', 'env = ["TOKEN"]',
    'env = ["A=1", "TOKEN"]', 'env = ["A=1\\nTOKEN"]', 'env = "TOKEN"', 'env_file = [".env"]', 'ssh_agent = "yes"',
    'publish = ["8080:80"]', 'image = "image.toml"', 'packages = ["jq"]', 'backend = "qemu"', 'transport = "share"',
    'accelerator = "kvm"', 'setup = "/etc/passwd"', 'setup = "../outside"', 'setup = "~/.profile"',
    'setup = ".git/config"', 'setup = "tool/../.git/config"', 'setup = "link"', 'setup = "folder/hosts"',
    'setup = "missing"', 'setup = "tool"',
    'setup = ".GIT/config"', 'disk = "1000G"', 'net = "allow"', 'allow = ["a.example"]', 'ca = "ca.pem"', 'ca = "none"',
    'git_credentials = "fetch"', 'egress_limit = ["rate=5"]', 'key = ["api"]', 'nested = "yes"',
]  # fmt: skip


def worktree(root: Path) -> Path:
    for name in ("tool/setup.sh", ".git/config", ".GIT/config", "image.toml", ".env", "~/.profile"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("true\n")
    (root.parent / "outside").write_text("true\n")
    (root / "link").symlink_to("tool/setup.sh")
    (root / "folder").symlink_to("/etc")
    return root


@pytest.mark.parametrize("line", FREE)
def test_without_consent_it_may_say(tmp_path: Path, line: str) -> None:
    found = project(worktree(tmp_path), line)
    (name,) = found.values
    seen = value(found, name)
    assert (seen.source, seen.withheld) == (str(found.path), "")


@pytest.mark.parametrize("line", HELD)
def test_without_consent_it_may_not_say(tmp_path: Path, line: str) -> None:
    found = project(worktree(tmp_path), line)
    (name,) = found.values
    seen = value(found, name)
    if line == 'setup = "~/.profile"':  # a directory of the repository that is called `~`, never the user's home
        assert seen.text == str(tmp_path / "~/.profile")
        return
    assert (seen.text, seen.source) == (settings.BY_NAME[name].default, "default")
    assert seen.withheld


def test_every_setting_was_thought_of() -> None:
    """A new one works only with consent until somebody decides otherwise, here and in its row."""
    free = {row.name for row in settings.ROWS if row.free}
    assert free == {
        "transport", "vsock", "cpus", "memory", "net", "on_exit", "dirty", "ignored", "exclude", "auto_push", "env",
        "setup", "workdir", "stop_timeout", "boot_timeout", "devcontainer", "nested",
    }  # fmt: skip


def test_consent_is_for_one_content_and_one_repository(tmp_path: Path) -> None:
    found = project(tmp_path, 'net = "nat"\nenv_file = ["secrets"]\n')
    assert not found.trusted
    found.trust()
    assert (value(found, "net").text, value(found, "net").withheld) == ("nat", "")
    assert project(tmp_path, '# a comment\nenv-file = ["secrets"]\nnet = "nat"\n').trusted, "it says the same"
    assert not project(tmp_path, 'net = "nat"\nenv_file = ["more"]\n').trusted
    found = project(tmp_path, 'net = "nat"\nenv_file = ["secrets"]\n')
    assert found.trusted
    other = projectfile.read(tmp_path, remembered(tmp_path / "other"))
    assert other is not None
    assert not other.trusted
    found.distrust()
    assert value(found, "net").withheld == "nat"


def test_pyproject(tmp_path: Path) -> None:
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "sandbox"\n')
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "pyproject.toml").write_text("[project\nname = sandbox")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None, "another tool's mistake"
    found = project(tmp_path, '[project]\nname = "x"\n[tool.sandbox]\nmemory = "3G"\n', "pyproject.toml")
    assert value(found, "memory").text == "3G"
    with pytest.raises(UsageError):
        project(tmp_path, "[tool.sandbox]\nmemory = ", "pyproject.toml")
    assert value(project(tmp_path, 'memory = "5G"'), "memory").text == "5G", "sandbox.toml comes first"


def test_links_fifos_and_huge_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('memory = "4G"\n')
    (tmp_path / "sandbox.toml").symlink_to("elsewhere")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "sandbox.toml").unlink()
    os.mkfifo(tmp_path / "sandbox.toml")
    assert projectfile.read(tmp_path, remembered(tmp_path)) is None
    (tmp_path / "sandbox.toml").unlink()
    with pytest.raises(UsageError):
        project(tmp_path, "#" * (files.WRITTEN + 1))


@pytest.mark.parametrize("text", ["memory = ", 'colour = "red"', '"\\u001b[31m" = 1', "memory = [[]]"])
def test_a_bad_one_is_named_and_shown_safely(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.resolve(None, project(tmp_path, text))
    assert "sandbox.toml" in caught.value.message
    assert "\x1b" not in caught.value.message


@given(st.dictionaries(st.sampled_from(sorted(settings.BY_NAME)), st.text(max_size=9), min_size=1))
def test_nothing_it_says_reaches_beyond_the_guest(values: dict[str, str]) -> None:
    found = ProjectFile(Path("/nowhere/sandbox.toml"), values, remembered(Path("/nowhere")))
    for each in settings.ROWS:
        seen = settings._of_project(each, found) if each.name in values else None
        if seen and each.name in {"env_file", "ssh_agent", "publish", "image", "packages", "backend", "accelerator"}:
            assert seen.text == each.default
        if seen and each.name == "net":
            assert seen.text.strip() == "none"


NAMING = (
    'image = "tools/image.toml"\nenv_file = ["tools/sandbox.env"]\nsetup = "tools/setup.sh"\nmount = ["fixtures:ro"]\n'
)


def naming(root: Path) -> ProjectFile:
    for name in ("tools/image.toml", "tools/sandbox.env", "tools/setup.sh", "fixtures/a/b"):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
    return project(root, NAMING)


def write(path: Path, text: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_text(text)


def replaced(name: str, target: str) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        (root / name).rename(root / f"{name}.old")
        (root / name).symlink_to(target)

    return act


CHANGES: dict[str, Callable[[Path], object]] = {
    "image spec": write(Path("tools/image.toml"), 'mirror = "--setup-hook=touch /tmp/pwned"\n'),
    "environment file": write(Path("tools/sandbox.env"), "AWS_SECRET_ACCESS_KEY\n"),
    "setup": write(Path("tools/setup.sh"), "true\n"),
    "file of a mount": write(Path("fixtures/a/b"), "x"),
    "new file of a mount": write(Path("fixtures/a/c"), ""),
    "mode in a mount": lambda root: (root / "fixtures/a/b").chmod(0o700),
    "removed from a mount": lambda root: (root / "fixtures/a/b").unlink(),
    "a link in a mount": replaced("fixtures/a/b", "/etc/passwd"),
    "mount becomes a link": replaced("fixtures", "/etc/ssl"),
    "mount becomes a link to its like": replaced("fixtures", "fixtures.old"),
    "environment file becomes a link": replaced("tools/sandbox.env", "sandbox.env.old"),
    "directory above becomes a link": replaced("tools", "tools.old"),
    "environment file goes": lambda root: (root / "tools/sandbox.env").unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_consent_ends_when_what_is_named_changes(tmp_path: Path, what: str) -> None:
    naming(tmp_path).trust()
    assert naming(tmp_path).trusted
    CHANGES[what](tmp_path)
    found = projectfile.read(tmp_path, remembered(tmp_path))
    assert found is not None
    assert not found.trusted
    assert [line for line in found.changes if line.startswith(("-file", "+file"))], "and it is shown"
    resolved, values = settings.resolve(None, found)
    assert (resolved.image, resolved.env_file, resolved.mount) == ("", (), ())
    assert {each.name for each in values if each.withheld} >= {"image", "env_file", "mount"}
    found.trust()
    again = projectfile.read(tmp_path, remembered(tmp_path))
    assert again is not None
    assert again.trusted, "asked once for each change"


def test_a_link_out_of_the_repository_is_shown(tmp_path: Path) -> None:
    found = naming(tmp_path)
    replaced("fixtures", "/etc/ssl")(tmp_path)
    assert "file fixtures:ro -> /etc/ssl" in "\n".join(found.now.lines)


def test_what_was_judged_is_what_is_used(tmp_path: Path) -> None:
    """Whatever happens to the files after the digest was made."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/sandbox.env").write_text("A=1\n")
    (tmp_path / "tools/image.toml").write_text('extra_packages = ["jq"]\n')
    naming(tmp_path).trust()
    found = naming(tmp_path)
    resolved = settings.resolve(None, found)[0]
    (tmp_path / "tools/sandbox.env").write_text("TOKEN\n")
    (tmp_path / "tools/image.toml").write_text("mirror = 1\n")
    (tmp_path / "tools/setup.sh").unlink()
    assert session_options.environment(resolved.env, resolved.env_file, {"TOKEN": "hunter2"}, resolved.read) == {
        "A": "1"
    }
    assert "jq" in spec.asked(resolved).packages
    assert resolved.read(resolved.setup, 100) == b""
    (mount,) = session_options.mounts(resolved.mount, resolved.trees)
    assert (mount.path, mount.digest) == (tmp_path / "fixtures", consent.tree(tmp_path / "fixtures"))
    (tmp_path / "fixtures/a/b").write_text("late")
    assert consent.look("mount", "", mount.path).state != mount.digest


def test_what_was_not_there_does_not_appear_later(tmp_path: Path) -> None:
    found = project(tmp_path, 'env_file = ["later"]\n')
    found.trust()
    resolved = settings.resolve(None, project(tmp_path, 'env_file = ["later"]\n'))[0]
    (tmp_path / "later").write_text("TOKEN\n")
    with pytest.raises(UsageError, match="cannot read the environment file"):
        session_options.environment(resolved.env, resolved.env_file, {"TOKEN": "hunter2"}, resolved.read)


def test_a_script_that_needs_no_consent_is_read_when_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("true\n")
    resolved = settings.resolve(None, project(tmp_path, 'setup = "setup.sh"\n'))[0]
    (tmp_path / "setup.sh").unlink()
    (tmp_path / "setup.sh").symlink_to("/etc/passwd")
    assert resolved.read(resolved.setup, 100) == b"true\n"


def test_what_is_too_large_to_agree_to_is_asked_for_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "MOST_TREE", 100)
    naming(tmp_path)
    (tmp_path / "fixtures/a/b").write_text("x" * 101)
    naming(tmp_path).trust()
    found = naming(tmp_path)
    assert found.trusted
    resolved, values = settings.resolve(None, found)
    assert resolved.mount == ()
    assert "too large" in next(each for each in values if each.name == "mount").withheld
    assert resolved.image == str(tmp_path / "tools/image.toml"), "all else works"
    assert settings.resolve({"mount": (str(tmp_path / "fixtures"),)}, found)[0].mount == (str(tmp_path / "fixtures"),)


def test_consent_is_for_one_repository_wherever_it_stands(tmp_path: Path) -> None:
    """Another clone with the same words in the same place has another identity."""
    naming(tmp_path).trust()
    other = projectfile.read(tmp_path, Consent(lambda: tmp_path, lambda: tmp_path, lambda: "4567"))
    nobody = projectfile.read(tmp_path, Consent(lambda: tmp_path, lambda: tmp_path, lambda: ""))
    assert other is not None
    assert nobody is not None
    assert not other.trusted
    assert not nobody.trusted


def test_values_of_variables_are_not_written_down(tmp_path: Path) -> None:
    project(tmp_path, 'env = ["TOKEN=hunter2", "HOME"]\n').trust()
    assert "hunter2" not in (tmp_path / paths.CONSENT).read_text()
    found = project(tmp_path, 'env = ["TOKEN=hunter3", "HOME"]\n')
    assert not found.trusted
    assert len(found.changes) == 4
    assert "hunter" not in "".join(found.changes)


LONG = st.text(st.sampled_from("abc =/,.'\n\x1b\u202eé"), min_size=1, max_size=5).map(lambda each: f"x{each}" * 150)


@settings_of(max_examples=examples(20), deadline=None)
@given(st.dictionaries(
    st.sampled_from(sorted({*settings.BY_NAME} - {"env"})), LONG | st.lists(LONG, max_size=20), min_size=1, max_size=5
))  # fmt: skip
def test_every_value_that_is_agreed_to_is_shown_whole(values: dict[str, str | list[str]]) -> None:
    shown = consent.agreement("here", Path("/x/sandbox.toml"), values, ()).lines
    for name, said in values.items():
        for each in said if isinstance(said, list) else [said]:
            assert f"{name.replace('_', '-')} = {whole(each)}" in shown


def test_a_file_that_is_named_is_shown_whole_with_its_digest() -> None:
    place, digest = Path("/x", *(["deep" * 10] * 20), "end"), "0123456789abcdef" * 4
    named = consent.NamedFile("env_file", str(place), place, Path("/elsewhere/" + "y" * 400), digest)
    (line,) = consent.agreement("here", Path("/x/sandbox.toml"), {}, (named,)).lines
    assert line == f"file {place} -> {named.real} (0123456789ab)"


def test_a_variable_of_the_host_does_not_hide_behind_another(tmp_path: Path) -> None:
    lines = project(tmp_path, 'env = ["A=1\\nAWS_SECRET_ACCESS_KEY"]\n').now.lines
    assert [line.partition("(")[0] for line in lines] == ["env = A=", "env = AWS_SECRET_ACCESS_KEY"]


def test_what_cannot_be_seen_of_a_change_is_said(tmp_path: Path) -> None:
    project(tmp_path, 'notify = "a b"\n').trust()
    (said,) = project(tmp_path, 'notify = "a  b"\n').changes
    assert "invisible characters" in said
    assert project(tmp_path, 'notify = "a b"\n').changes == []


def test_every_setting_that_names_a_file_is_known_by_its_kind() -> None:
    """A new one has to be in `consent.NAMES`, or here with a reason why nothing is read from it."""
    kinds = ("path", "image")
    naming = {row.name for row in settings.ROWS if row.kind in kinds or "file" in row.name or "file" in row.help}
    # `git_extra`: names below .git, which no merge writes, and which go into the guest only. `confinement`: a choice.
    assert naming - {
        "confinement",
        "git_extra",
        "exclude",
        "ignored",
        "disk",
        "workdir",
        "transport",
    } == consent.NAMES.keys() - {"mount"}


entries = st.dictionaries(
    st.sampled_from("abc"), st.binary(max_size=3) | st.sampled_from(["->a", "->/etc"]), max_size=3
)


@given(st.lists(entries, min_size=2, max_size=2), st.lists(st.sampled_from([0o600, 0o644]), min_size=2, max_size=2))
def test_two_trees_have_one_digest_only_when_they_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, two: list[dict[str, bytes | str]], modes: list[int]
) -> None:
    seen = []
    for content, mode in zip(two, modes, strict=True):
        root = tmp_path_factory.mktemp("tree")
        for name, what in content.items():
            if isinstance(what, str):
                (root / name).symlink_to(what[2:])
            else:
                (root / name).write_bytes(what)
                (root / name).chmod(mode)
        files_in = any(isinstance(what, bytes) for what in content.values())
        seen.append((consent.tree(root), (content, mode if files_in else 0)))
    assert (seen[0][0] == seen[1][0]) == (seen[0][1] == seen[1][1])
