"""Agent manifests: what is refused, what is published, and that nothing runs or goes in that nobody agreed to."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox import paths, text, tomltext
from git_sandbox.agents import agreed, catalogue, hostfiles, manifest
from git_sandbox.agents.manifest import HostFile, Manifest
from git_sandbox.cli import agent_words
from git_sandbox.cli.main import ELSEWHERE, VERBS
from git_sandbox.consent import Agreement
from git_sandbox.errors import UsageError
from git_sandbox.image import spec
from support.examples import examples

ROOT = Path(__file__).parents[2]
SHIPPED = {path.stem: path for path in spec.data("agents").glob("*.toml")}
LEAST = 'schema = 1\ndescription = "x"\n[command]\ninteractive = ["true"]\n'


def whole(more: str = "") -> Manifest:
    return manifest.decode(f"{LEAST}{more}".encode(), "x.toml")


def test_the_agents_people_ask_for_are_shipped() -> None:
    assert set(SHIPPED) == {"claude", "codex", "gemini", "opencode", "aider", "shell"}
    assert set(SHIPPED) & {*VERBS, *ELSEWHERE, *catalogue.RESERVED} == {"shell"}, "`sandbox NAME` starts it"


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_manifest_is_valid_and_complete(name: str) -> None:
    found = manifest.decode(SHIPPED[name].read_bytes(), name)
    assert found.command.headless
    assert found.asks is (name != "shell")
    made = found.install.added_to(spec.load())
    assert set(found.install.packages) <= set(made.packages)
    assert len(made.toml) < spec.MAX_FILE
    for each in found.credentials.values():
        assert {*each.hosts} <= {*found.allow}, "a key for a host that it cannot reach"
    for file in found.files:
        if file.path.endswith(".json"):
            json.loads(file.content)
        if file.path.endswith(".toml"):
            tomltext.decode(file.content.encode())


# --- the schema, read by something else -------------------------------------------------------------------------------


def fits(value: Any, rule: dict[str, Any], defs: dict[str, Any]) -> bool:  # noqa: PLR0911 - one for each kind
    """A small validator of the part of JSON schema that ours uses."""
    if "$ref" in rule:
        return fits(value, defs[rule["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in rule:
        return any(fits(value, each, defs) for each in rule["anyOf"])
    match rule.get("type"):
        case "object":
            known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
            names = rule.get("propertyNames", {})
            return isinstance(value, dict) and set(rule.get("required", [])) <= set(value) and all(
                fits(each, known[name], defs) if name in known
                else others is not False and fits(name, {"type": "string", **names}, defs)
                and (others is True or fits(each, others, defs))
                for name, each in value.items()
            )  # fmt: skip
        case "array":
            size = (
                rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", 10**9) if isinstance(value, list) else 0
            )
            return bool(size) and all(fits(each, rule.get("items", {}), defs) for each in value)
        case "string":
            return (
                isinstance(value, str) and bool(re.search(rule.get("pattern", ""), value))
                and rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", 10**9)
            )  # fmt: skip
        case "integer":
            return type(value) is int and rule.get("minimum", value) <= value <= rule.get("maximum", value)
        case "boolean":
            return isinstance(value, bool)
    return rule == {}


SCHEMA = json.loads((ROOT / "docs/reference/agent-manifest.schema.json").read_text())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_published_schema_takes_what_is_shipped(name: str) -> None:
    assert json.loads(json.dumps(manifest.schema())) == SCHEMA, "run scripts/gen-reference"
    assert fits(tomltext.decode(SHIPPED[name].read_bytes()), SCHEMA, SCHEMA["$defs"])


BAD = [
    "x = 1", "install.x = 1", 'install.npm = ["--global"]', 'install.npm = ["file:../x"]',
    'install.npm = ["git+ssh://x"]',
    'install.pip = ["-r x"]', 'install.pip = ["https://x/y.whl"]', 'install.packages = ["-o"]', 'env = {"A B" = "x"}',
    'env = {"" = "x"}',
    'env = {A = "x\\ny"}', 'allow = ["x y"]', 'allow = ["x\\n"]', 'host_files = [{path = "/etc/passwd"}]',
    'host_files = [{path = "~/../x"}]', 'host_files = [{path = "~/.ssh/id"}]', 'host_files = [{path = "~/a/.AWS/x"}]',
    'host_files = [{path = "~"}]', 'host_files = [{path = "~/x\\n"}]', 'files = [{path = "/bin/x", content = ""}]',
    'files = [{path = "/etc/../bin/x", content = ""}]', 'files = [{path = "~/x/", content = ""}]',
    'files = [{path = "~/x", content = ""}, {path = "~/x", content = "y"}]', 'resources = {memory = "lots"}',
    'credentials = {k = {hosts = [], bearer = true, env = "X"}}', 'credentials = {k = {hosts = ["h"], env = "X"}}',
    'credentials = {k = {hosts = ["h"], bearer = true}}',
    'credentials = {K = {hosts = ["h"], bearer = true, env = "X"}}',
    'credentials = {k = {hosts = ["h"], header = "host", env = "X"}}', 'allow = ["*"]', 'allow = ["@nothing"]',
    'credentials = {k = {hosts = ["h"], bearer = true, env = "X Y"}}',
    'credentials = {k = {hosts = ["h"], bearer = true, env = "X", value = "the value itself"}}',
    'credentials = {k = {hosts = ["h"], bearer = true, env = "X", variable = "A B"}}',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_what_no_manifest_may_say_is_an_error_in_words(line: str) -> None:
    text = f"{line}\n{LEAST}"
    with pytest.raises(UsageError, match=r"the agent manifest x\.toml is not valid") as caught:
        manifest.decode(text.encode(), "x.toml")
    assert caught.value.cause


@settings(max_examples=examples(60), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_an_error(content: bytes) -> None:
    with pytest.raises(UsageError):
        manifest.decode(content, "x.toml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from(sorted(SHIPPED)), st.data())
def test_the_schema_and_the_reader_agree(name: str, data: st.DataObject) -> None:
    """What a stranger's validator takes, we take, but for rules that a schema cannot say; and the other way round."""
    content = tomltext.decode(SHIPPED[name].read_bytes())
    key = data.draw(st.sampled_from(sorted({*content, "x"})))
    content[key] = data.draw(VALUES)
    try:
        msgspec.convert(content, Manifest)
        taken = True
    except (msgspec.ValidationError, ValueError):
        taken = False
    if taken or key not in ("host_files", "files", "credentials"):
        assert fits(json.loads(json.dumps(content)), SCHEMA, SCHEMA["$defs"]) is taken


# --- whose manifest ---------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def put(place: Path, name: str, content: str = LEAST) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.toml").write_text(content)
    return place / f"{name}.toml"


def test_the_users_manifest_comes_first_and_a_repositorys_last(home: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("claude", "theirs", "Bad", "ls", "-x"):
        put(tree / catalogue.BELOW, name)
    assert catalogue.find("claude", tree).origin == "shipped"
    assert catalogue.find("theirs", tree).origin == "repository"
    put(paths.config_file().parent / "agents", "claude")
    assert catalogue.find("claude", tree).origin == "user"
    assert {"Bad", "ls", "-x"} & set(catalogue.names(tree)) == set()
    with pytest.raises(UsageError, match="there is no agent `nobody`"):
        catalogue.find("nobody", tree)
    put(tree / catalogue.BELOW, "broken", "x")
    assert {row.name: row.problem for row in catalogue.every(tree)}["broken"].startswith("the agent manifest")
    assert home.is_dir()


def test_a_repositorys_manifest_leads_nowhere_else(tmp_path: Path, home: Path) -> None:
    tree, place = tmp_path / "tree", tmp_path / "tree" / catalogue.BELOW
    outside = put(home, "outside")
    place.mkdir(parents=True)
    (place / "link.toml").symlink_to(outside)
    with pytest.raises(UsageError, match="cannot read the agent manifest"):
        catalogue.find("link", tree)
    (place / "link.toml").unlink()
    place.rmdir()
    place.symlink_to(home)
    with pytest.raises(UsageError, match="cannot read the agent manifest") as caught:
        catalogue.find("outside", tree)
    assert "not in the repository" in caught.value.cause


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('command = ["touch", "x"]', "runs a command on this host"),
        ('file = "~/.config/gh/hosts.yml"', "takes a key from ~/.config/gh/hosts.yml of this host"),
        ('keyring = ["login", "you"]', "takes a key from the keyring of this host"),
        ('env = "API_KEY"', ""),
    ],
)
def test_a_repositorys_manifest_runs_and_takes_nothing_of_this_host(
    tmp_path: Path, home: Path, source: str, message: str
) -> None:
    key = f'credentials = {{k = {{hosts = ["h"], bearer = true, {source}}}}}\n'
    put(tmp_path / catalogue.BELOW, "theirs", key + LEAST)
    if message:
        with pytest.raises(UsageError, match=message):
            catalogue.find("theirs", tmp_path)
    else:
        assert catalogue.find("theirs", tmp_path).manifest.credentials
    put(paths.config_file().parent / "agents", "mine", key + LEAST)
    assert catalogue.find("mine", tmp_path).manifest.credentials
    assert home


@pytest.mark.parametrize(
    "path",
    ["~/.pgpass", "~/notes.md", "~/.config/rclone/rclone.conf", "~/.claude/", "~/.claude/CLAUDE.md.bak", "~/.c/"],
)
def test_a_repositorys_manifest_names_instructions_of_agents_only(tmp_path: Path, home: Path, path: str) -> None:
    text = f"""host_files = [{{path = "{path}"}}]\n{LEAST}"""
    put(tmp_path / catalogue.BELOW, "theirs", text)
    assert (home.name, catalogue.every(tmp_path)[-1].name) == ("home", "theirs")
    if path not in ("~/.pgpass", "~/.config/rclone/rclone.conf"):  # nobody's manifest names those
        with pytest.raises(UsageError, match="names a file of this host"):
            catalogue.find("theirs", tmp_path)
        put(paths.config_file().parent / "agents", "mine", text)
        assert catalogue.find("mine", tmp_path).manifest.host_files
    else:
        with pytest.raises(UsageError):
            catalogue.find("theirs", tmp_path)
    free = ["~/.claude/CLAUDE.md", "~/.claude/commands/", "~/.codex/prompts/deep/x.md", "~/.agents/"]
    put(tmp_path / catalogue.BELOW, "theirs", f"host_files = {[{'path': each} for each in free]}".replace(
        "': '", "' = '").replace("{'path'", "{path").replace("'", '"') + f"\n{LEAST}")  # fmt: skip
    assert len(catalogue.find("theirs", tmp_path).manifest.host_files) == len(free)


# --- consent ----------------------------------------------------------------------------------------------------------


def test_consent_is_for_content_and_shows_what_changed(tmp_path: Path, home: Path) -> None:
    path = put(tmp_path / catalogue.BELOW, "theirs", 'allow = ["one.example"]\n' + LEAST)
    agent = catalogue.find("theirs", tmp_path)
    assert not agreed.given(agent, "here")
    agreed.give(agent, "here")
    assert agreed.given(agent, "here")
    assert not agreed.given(agent, "elsewhere"), "one repository's manifest says nothing of another's"
    path.write_text('allow = ["two.example"]\n' + LEAST + "# a comment is nothing\n")
    changed = catalogue.find("theirs", tmp_path)
    assert not agreed.given(changed, "here")
    before = agreed.last(changed, "here")
    assert before is not None
    assert before.changes(agreed.now(changed, "here"))[2:] == ["-allow = one.example", "+allow = two.example"]
    assert home


@settings(max_examples=examples(60), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=500),
       st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=500))  # fmt: skip
def test_two_contents_never_look_agreed(one: str, two: str) -> None:
    made = [catalogue.Agent("x", "user", Path("x"), b"", msgspec.structs.replace(
        whole(), files=(manifest.File("~/x", each),))) for each in (one, two)]  # fmt: skip
    first, second = (agreed.now(each, "") for each in made)
    assert (first.digest == second.digest) is (one == two)


SAID = st.text(st.sampled_from("abcXYZ019 -_.:/$'\"\n\t\x1b\u202eé…"), min_size=1, max_size=6)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)


def many(one: st.SearchStrategy[str], most: int = 30, length: int = 70) -> st.SearchStrategy[tuple[str, ...]]:
    """None, one, or more than fit on a screen of old; each longer than a line."""
    return st.builds(
        lambda word, count: tuple(f"{number}{word}" * length for number in range(count)),
        one,
        st.sampled_from([0, 1, most]),
    )


KEY = st.builds(
    manifest.Credential, hosts=many(NAMES), header=NAMES, file=SAID, expiry=st.integers(1, 999), variable=NAMES,
    base_url=NAMES, base_path=NAMES.map(lambda each: f"/{each * 20}"), keyring=many(SAID, 2),
)  # fmt: skip
MANIFESTS = st.builds(
    Manifest, schema=st.just(1), description=SAID, homepage=SAID, allow=many(NAMES),
    env=many(SAID).map(lambda values: {f"V{number}": each for number, each in enumerate(values)}),
    command=st.builds(manifest.Command, many(SAID, 3), many(SAID, 3)),
    install=st.builds(manifest.Install, many(NAMES), many(NAMES), many(NAMES), many(SAID, 13)),
    credentials=st.builds(lambda key, names: dict.fromkeys(names, key), KEY, many(NAMES, 15, 1)),
    host_files=many(SAID).map(lambda paths: tuple(map(HostFile, paths))),
    files=many(SAID, 15).map(lambda rows: tuple(manifest.File(each, each, each == rows[-1]) for each in rows)),
    resources=st.builds(manifest.Resources, NAMES, NAMES),
)  # fmt: skip


def leaves(value: Any) -> Iterator[str]:
    """Every value of it, and the names that it chooses itself."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(hashlib.sha256(each.encode()).hexdigest()[:12] if name == "content" else each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    elif value not in ("", None) and not isinstance(value, bool):
        yield str(value)


@settings(max_examples=examples(20), deadline=None)
@given(MANIFESTS)
def test_every_value_that_is_agreed_to_is_on_the_screen(found: Manifest) -> None:
    agent = catalogue.Agent("x", "repository", Path("x"), b"", found)
    screen = text.outgoing("\n".join(agent_words.about(agent, hostfiles.Chosen())))
    plain = msgspec.to_builtins(found)
    missing = [each for each in leaves({**plain, "schema": None}) if text.whole(each) not in screen]
    assert not missing
    assert [each for each in (*plain["env"], *plain["credentials"]) if each not in screen] == []
    assert screen.count("executable") >= sum(each.executable for each in found.files)
    agreement = "\n".join(agreed.now(agent, "here").lines)
    assert all(text.whole(line) in agreement for each in leaves({**plain, "files": []}) for line in each.split("\n"))


@pytest.mark.parametrize(
    "line",
    [
        "resources = {memory = '999999G'}", "resources = {cpus = '999'}", "env = {A = 'x'}", "allow = ['a.example']",
        "install = {npm = ['x']}",
    ],
)  # fmt: skip
def test_each_wish_alone_needs_consent(line: str) -> None:
    asked = manifest.decode(f"{line}\n{LEAST}".encode(), "x")
    assert asked.asks
    screen = "\n".join(agent_words.about(catalogue.Agent("x", "repository", Path("x"), b"", asked), hostfiles.Chosen()))
    assert line.split("'")[1] in screen


@pytest.mark.parametrize(
    "rows", ["env = {%s}", "install = {npm = [%s]}", "install = {commands = [%s]}", "allow = [%s]"]
)
def test_a_manifest_that_nobody_could_read_is_refused(rows: str) -> None:
    row = 'a%d = "x"' if rows.startswith("env") else '"a%d"'
    text = rows % ", ".join(row % number for number in range(201)) + f"\n{LEAST}"
    with pytest.raises(UsageError, match="is not valid"):
        manifest.decode(text.encode(), "x")


def test_what_changed_in_a_long_agreement_is_found_without_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflib.unified_diff", None)
    before = [f"line {number}" for number in range(2000)]
    one, other = (Agreement("here", str(len(each)), tuple(each)) for each in (before, [*before[1:], "x", "line 7"]))
    assert one.changes(other) == ["-line 0", "+line 7", "+x"]


def test_an_agent_that_asks_for_nothing_needs_no_consent(home: Path) -> None:
    assert agreed.given(catalogue.find("shell", None), "")
    assert not agreed.given(catalogue.find("claude", None), "")
    assert not paths.agents_consent().exists()
    assert home


# --- what goes in of the host -----------------------------------------------------------------------------------------

TOKENS = [
    "sk-ant-api03-abcdefghijklmnop", "ghp_" + "a1" * 12, "github_pat_" + "a" * 30, "AIza" + "b" * 35, "AKIA" + "A" * 16,
    "xoxb-1234567890-abc", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.x", "-----BEGIN OPENSSH PRIVATE KEY-----",
    '{"apiKey": "0123456789"}', '"token" : "abcdefgh"', "password: 'correct horse'".replace(" horse", "-horse"),
    "ANTHROPIC_API_KEY=0123456789abcdefABCDEF", '  "Authorization": "Bearer abcdefghij"', "https://me:word@example.org/",
    'auth_token = "abcdefgh1"', "client-secret: 'abcdefgh1'", "AGE-SECRET-KEY-1" + "Q" * 20, 'secret = "' + "x" * 999,
    "-----BEGIN PGP PRIVATE KEY BLOCK-----",
]  # fmt: skip
HARMLESS = [
    "Never print a token.\n", "max_tokens = 64000\n",
    'api_key = "$ANTHROPIC_API_KEY"\n', '"apiKey": "{env:OPENAI_API_KEY}"\n',
    "Use https://example.org/a:b@c\n", "the password is asked for at the prompt\n", "token: short\n", "",
]  # fmt: skip


@pytest.mark.parametrize("text", TOKENS)
@settings(max_examples=examples(10), deadline=None)
@given(before=st.text(max_size=40), after=st.sampled_from(["", "\n", "\n# more\n"]))
def test_what_looks_like_a_token_is_seen_wherever_it_is(text: str, before: str, after: str) -> None:
    assert hostfiles.secret_in(f"{before}\n{text}{after}".encode("utf-8", "replace"))


@pytest.mark.parametrize("text", HARMLESS)
def test_instructions_about_tokens_are_not_tokens(text: str) -> None:
    assert hostfiles.secret_in(text.encode()) == ""


def test_settings_go_in_and_tokens_stay(home: Path) -> None:
    agent = home / ".agent"
    (agent / "commands/deep").mkdir(parents=True)
    (home / ".ssh").mkdir()
    for name, content in {
        ".agent/RULES.md": "be kind\n", ".agent/commands/a.md": "a", ".agent/commands/deep/run": "#!/bin/sh\n",
        ".agent/commands/auth.json": "{}", ".agent/commands/b.md": "key: sk-" + "a" * 30, ".agent/commands/.env": "A=1",
        ".ssh/config": "Host x\n", "outside.md": "fine", ".agent/token.txt": "x", ".agent/large.md": "x" * (2 << 20),
    }.items():  # fmt: skip
        (home / name).write_text(content)
    (agent / "commands/deep/run").chmod(0o700)
    (agent / "commands/key.md").symlink_to(home / ".ssh/config")
    (agent / "commands/linked.md").symlink_to(home / "outside.md")
    (agent / "commands/loop.md").symlink_to("loop.md")
    (agent / "commands/dir").symlink_to(home / ".ssh")
    asked = tuple(
        HostFile(f"~/.agent/{each}") for each in ("RULES.md", "commands/", "none.md", "token.txt", "large.md")
    )
    found = hostfiles.choose(asked, home)
    assert {each.path: (each.content, each.mode) for each in found.files} == {
        ".agent/RULES.md": (b"be kind\n", 0o644), ".agent/commands/a.md": (b"a", 0o644),
        ".agent/commands/deep/run": (b"#!/bin/sh\n", 0o755), ".agent/commands/linked.md": (b"fine", 0o644),
    }  # fmt: skip
    kept = "\n".join(found.kept)
    for name in ("auth.json", "b.md: line 1", ".env", "key.md: it is a link", "loop.md", "token.txt", "large.md"):
        assert name in kept, kept
    assert "sk-" not in kept


def test_there_is_an_end_to_what_goes_in(home: Path) -> None:
    for place, size, count in (("small", 1, hostfiles.MOST_FILES + 1), ("large", 1 << 20, 5)):
        (home / place).mkdir()
        for number in range(count):
            (home / place / str(number)).write_bytes(b"x" * size)
        found = hostfiles.choose((HostFile(f"~/{place}/"),), home)
        assert (len(found.files), len(found.kept)) == (count - 1, 1)
        assert sum(len(each.content) for each in found.files) <= hostfiles.MOST_ALL


def test_a_path_that_no_file_can_have_names_nothing(home: Path) -> None:
    for path in (f"~/{'x' * 300}", f"~/{'x' * 300}/", f"~/{'x' * 300}/y"):
        assert hostfiles.choose((HostFile(path),), home) == hostfiles.Chosen()


def test_what_one_image_cannot_have_is_said_before_anybody_agrees() -> None:
    commands = ", ".join(f"'{letter * 4000}'" for letter in "abcde")
    with pytest.raises(UsageError) as caught:
        manifest.decode(f"install = {{commands = [{commands}]}}\n{LEAST}".encode(), "x")
    assert "16 KiB" in caught.value.cause


CREDENTIALS = [
    ".pgpass", "rclone.conf", ".my.cnf", ".mylogin.cnf", ".bash_history", ".zsh_history", ".node_repl_history",
    "history", "history.jsonl", ".fetchmailrc", ".netrc", "_netrc", ".wgetrc", ".curlrc", ".vault-pass",
    ".vault_pass.txt", "x.age", ".msmtprc", ".s3cfg", "default_wallet", "wallet.dat", "x.keyring", "x.jks", "vpn.ovpn",
    "hub", ".lftprc", "Passwords.txt",
]  # fmt: skip


def test_files_that_are_called_like_credentials_stay_whatever_is_in_them(home: Path) -> None:
    (home / "c").mkdir()
    for name in (*CREDENTIALS, "RULES.md", "git.md"):
        (home / "c" / name).write_text("x")
    found = hostfiles.choose((HostFile("~/c/"),), home)
    assert [each.path for each in found.files] == ["c/RULES.md", "c/git.md"]
    assert len(found.kept) == len(CREDENTIALS)


def test_what_is_looked_for_in_a_file_takes_time_in_proportion_to_it() -> None:
    """By what the patterns are: where each repetition has a bound, no place of a text costs more steps than that."""
    parser: Any = importlib.import_module("re._parser")
    for pattern, _ in hostfiles._LOOKS:
        bounds = [*repeats(parser.parse(pattern.pattern, pattern.flags))]
        assert bounds
        assert max(bounds) <= 400, pattern.pattern
    for word in (b"token=", b"-eyJ", b"://a:", b'key="', b"-----BEGIN "):
        assert hostfiles.secret_in(word * 10_000) == ""


def repeats(tree: Any) -> Iterator[Any]:
    """The bounds of all repetitions in a parsed pattern."""
    for each in tree:
        if str(each) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield tree[1][1]
        if isinstance(each, list | tuple) or hasattr(each, "data"):
            yield from repeats(each)


def test_a_large_tree_is_not_walked_to_its_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfiles, "MOST_ENTRIES", 10)
    deep = home / "deep"
    for number in range(30):
        deep = deep / str(number)
    deep.mkdir(parents=True)
    (home / "wide").mkdir()
    for number in range(30):
        (home / "wide" / str(number)).touch()
    places = list[str]()
    listing = os.scandir

    def scandir(place: Any) -> Any:
        places.append(str(place))
        return listing(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert hostfiles.choose((HostFile("~/deep/"),), home) == hostfiles.Chosen()
    assert len(places) == 10
    assert len(hostfiles.choose((HostFile("~/wide/"),), home).files) == 10


def test_what_is_read_has_a_bound_also_when_all_of_it_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfiles, "MOST_READ", 3000)
    (home / "many").mkdir()
    for number in range(9):
        (home / "many" / str(number)).write_text("AGE-SECRET-KEY-" + "x" * 985)
    found = hostfiles.choose((HostFile("~/many/"),), home)
    assert [line.endswith("too many files") for line in found.kept] == [False] * 3 + [True] * 6
