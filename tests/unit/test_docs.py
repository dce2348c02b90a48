"""The documentation says what the code does: generated pages are up to date, and nothing is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from git_sandbox import errors, paths, settings
from git_sandbox.cli.main import VERBS, cli
from git_sandbox.image import spec
from git_sandbox.sandbox_dir import SandboxDir

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *DOCS.rglob("*.md")])


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))


def verbs() -> list[tuple[tuple[str, ...], click.Command]]:
    with click.Context(cli) as context:
        found = {name: cli.get_command(context, name) for name in VERBS}
    return [each for name, command in found.items() if command for each in leaves(command, ("sandbox", name))]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/gen-reference", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run scripts/gen-reference"


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    copy = tmp_path / "scripts/gen-reference"
    copy.parent.mkdir()
    copy.write_bytes((ROOT / "scripts/gen-reference").read_bytes())
    done = subprocess.run([sys.executable, copy, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "commands.md" in done.stdout


@pytest.mark.parametrize(("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in verbs()])
def test_every_verb_and_option_is_documented(words: tuple[str, ...], command: click.Command) -> None:
    heading = re.escape(" ".join(words))
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", read("reference/commands.md"), re.MULTILINE | re.DOTALL)
    assert found, f"no section for {' '.join(words)}"
    for option in command.params:
        if isinstance(option, click.Option):
            for name in option.opts:
                assert f"`{name}`" in found[1]


def test_every_verb_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in VERBS if f"`sandbox {name}" not in readme] == []


def test_every_name_on_disk_is_documented() -> None:
    names = [name for name, value in vars(SandboxDir).items() if isinstance(value, property)]
    rows = {row.split("|")[1].strip(): row for row in read("reference/state.md").splitlines() if row.startswith("| `")}
    assert len(names) > 5
    for name in names:
        path = getattr(SandboxDir(Path("/sandbox")), name)
        assert f"`{name}`" in rows
        assert name in ("sockets", "egress_socket") or f"`{path.name}" in rows[f"`{name}`"]


OUTSIDE = ("agents_consent", "config_file", "trash_summary")  # functions of `paths` that name one file


def test_every_file_beside_the_sandboxes_is_documented() -> None:
    """What `paths` names, and what is joined to one of its directories somewhere else."""
    page = read("reference/state.md")
    joined = r"(?:_root\(\)\)? / |config_file\(\)\.(?:with_name\(|parent / ))f?\"([\w.-]+)"
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src/git_sandbox").rglob("*.py"))
    names = {getattr(paths, name)().name for name in OUTSIDE} | {*re.findall(joined, sources)}
    assert {"agents.json", "keys.toml", "thin.lock", "templates", ".registry.lock"} <= names
    assert sorted(name for name in names - {".none"} if f"/{name}" not in page) == []  # `.none` is never there


def test_every_program_and_variable_for_developers_is_in_a_page() -> None:
    pages = [page.read_text("utf-8") for page in (*PAGES, ROOT / "CONTRIBUTING.md")]
    programs = [
        path.relative_to(ROOT).as_posix()
        for folder in ("scripts", "bench")
        for path in (ROOT / folder).iterdir()
        if path.is_file() and os.access(path, os.X_OK)
    ]
    tests = "".join(
        path.read_text("utf-8") for path in (ROOT / "tests/support", ROOT / "tests/vm") for path in path.rglob("*.py")
    )
    variables = re.findall(r"environ\.get\(\"(SANDBOX_\w+)\"", tests)
    assert len(programs) > 12
    assert {"SANDBOX_TEST_EXAMPLES", "SANDBOX_RANDOM_ENDS"} <= {*variables}
    text = "\n".join(pages)
    assert [
        name for name in (*programs, *variables) if not re.search(rf"(?:`|^|/python ){name}\b", text, re.MULTILINE)
    ] == []


def test_every_error_and_setting_is_documented() -> None:
    codes, rows = read("reference/exit-codes.md"), read("reference/settings.md")
    for each in errors.SandboxError.__subclasses__():
        assert f"| `{each.exit_code}` | `{each.kind}` |" in codes
    for row in settings.ROWS:
        assert f"| `{row.name.replace('_', '-')}` |" in rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for block in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            assert not line or line.startswith(":") or (page.parent / f"{line}.md").exists(), line


IN_GUEST = ("push", "pull", "status")  # verbs of the guest's own `sandbox`
OWN_AGENT = "mine"  # which docs/how-to/agent.md tells how to make


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_pages_exist(page: Path) -> None:
    """`sandbox VERB --option` in code: the verb and the option must be there."""
    known = {" ".join(words[1:]): command for words, command in verbs()}
    said = re.findall(r"(?:^|`|\$ |\n)sandbox((?: [a-z-]+)?(?: [a-z]+)?)((?: [^`\n#]*)?)", page.read_text("utf-8"))
    for words, rest in said:
        first = words.strip().split(" ")[0]
        assert first in (*VERBS, *AGENTS, *IN_GUEST, OWN_AGENT, "") or first.startswith("-"), words
        agent = "agent NAME" if first in ("agent", *AGENTS) else ""
        verb = next((each for each in (words.strip(), agent, first) if each in known), "spawn")
        options = {name for each in known[verb].params for name in each.opts} | {"--help", "-h", "--version"}
        own = re.split(r" -- | \| |;|&&", rest)[0]
        assert [word for word in re.findall(r"(?<= )--[a-z-]+", own) if word not in options] == [], (verb, rest)


def test_the_architecture_page_has_every_package() -> None:
    package = ROOT / "src/git_sandbox"
    block = read("explanation/architecture.md").split("```text\n")[1].split("```")[0]
    words = set(re.findall(r"[a-z_]+", block))
    assert [each.parent.name for each in package.glob("*/__init__.py") if each.parent.name not in words] == []


def test_every_module_and_package_has_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    layered = {name.strip().removeprefix("git_sandbox.") for row in rows for name in row.split("|")}
    package = ROOT / "src/git_sandbox"
    names = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    # The guest's has a contract of its own; the others are the package itself and its way in.
    assert names - layered == {"guest", "__init__", "__main__"}


def test_the_picture_of_the_imports_is_what_the_code_imports() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/draw-imports", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "![" in read("explanation/architecture.md").partition("(imports.svg)")[0]


DECISIONS = sorted((DOCS / "adr").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_decisions_have_their_parts_and_a_row(page: Path) -> None:
    text, index = page.read_text("utf-8"), (DOCS / "adr/index.md").read_text("utf-8")
    number, title = page.stem[:4], text.partition("\n")[0][len("# 0000: ") :]
    status = re.search(r"^Status: (\w+)", text, re.MULTILINE)
    assert text.startswith(f"# {number}: {title}\n")
    assert status
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"| [{number}]({page.stem}.md) | {title} | {status[1]}" in index
    assert index.count(f"| [{number}](") == 1, "a row for each"
    assert f"\n{page.stem}\n" in index
    assert len(text) < 5000, "one screen"


def test_decisions_are_numbered_without_gaps() -> None:
    assert [page.stem[:4] for page in DECISIONS] == [f"{number:04d}" for number in range(1, len(DECISIONS) + 1)]


def test_decisions_that_are_named_exist() -> None:
    """In comments and pages: `docs/adr/0012`, `ADR 12`."""
    known = {int(page.stem[:4]) for page in DECISIONS}
    files = [
        path
        for folder in ("src", "tests", "docs", "bench")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".sh")
    ]
    named = {
        (path.name, int(number))
        for path in files
        for number in re.findall(r"\b(?:docs/adr/|ADR )(\d+)", path.read_text("utf-8"))
    }
    assert len(named) > 30, "the test no longer finds them"
    assert sorted((place, number) for place, number in named if number not in known) == []


def named_tests(cell: str) -> Iterator[tuple[str, str]]:
    """`file::test`, and `file`: `test`, `test`: the file (may be empty: the one before) and the test's name."""
    place = ""
    for word in re.findall(r"`([^`]+)`", cell):
        if "::" in word:
            place, _, test = word.partition("::")
            yield place, test
        elif "/" in word or f"{word}.py" in TEST_FILES:
            place = word
        elif word.startswith("test_"):
            yield place, word


AGENTS = [path.stem for path in spec.data("agents").glob("*.toml") if path.stem not in VERBS]
TEST_FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


def test_the_tests_the_threat_model_names_exist() -> None:
    rows = re.findall(r"^\| (?!Attack|What is protected|---).*$", read("explanation/threat-model.md"), re.MULTILINE)
    lost, without, number = [], [], 0
    for row in rows:
        cell = row.split("|")[-2]
        named = list(named_tests(cell))
        if not named and cell.strip() != "the same":
            without.append(row)
        for place, test in named:
            files = (
                [ROOT / "tests/git", *(ROOT / "tests").iterdir()] if "/" not in place else [ROOT / Path(place).parent]
            )
            found = [each for folder in files for each in folder.glob(f"{Path(place).name or 'test_*'}.py")]
            number += 1
            if not any(f"def {test}(" in each.read_text("utf-8") for each in found):
                lost.append((place, test))
    assert (lost, without) == ([], [])
    assert number > 100


def test_the_readme_names_both_ways_to_test_and_ci_runs_everything() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(r"^scripts/test +#", readme, re.MULTILINE)
    assert re.search(r"^scripts/test --all +#", readme, re.MULTILINE)
    assert (ROOT / ".ci/run").read_text("utf-8").splitlines()[-1].endswith('/../scripts/test" --all "$@"')


def test_a_plain_test_run_boots_a_few_real_machines() -> None:
    marked = [path.name for path in (ROOT / "tests/vm").glob("test_*.py") if "@pytest.mark.smoke" in path.read_text()]
    assert {"test_crash.py", "test_hostile_guest.py", "test_run.py"} <= set(marked)
    assert len(marked) < 8, "a plain run takes minutes"


MAN = ROOT / "man/sandbox.1"


def test_the_manual_page_is_installed_with_the_package() -> None:
    """Also as git-sandbox(1), which is what `git sandbox --help` opens."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    pages = {f"man/{name}.1": f"share/man/man1/{name}.1" for name in project["project"]["scripts"]}
    assert shared == pages
    assert [page for page in pages if not (ROOT / page).is_file()] == []
    assert (ROOT / "man/git-sandbox.1").read_text("utf-8") == ".so man1/sandbox.1\n"


def test_the_manual_page_has_every_verb_and_exit_code() -> None:
    text = MAN.read_text("utf-8").replace("\\-", "-")
    assert text.isascii()
    for words, _ in verbs():
        assert f'.SS "{" ".join(words)} ' in text or f'.SS "{" ".join(words)}"' in text
    for each in errors.SandboxError.__subclasses__():
        assert re.search(rf"^\.TP\n{each.exit_code}\n", text, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_renders_the_manual_page_without_a_warning() -> None:
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", MAN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sandbox - a virtual machine around a git repository" in done.stdout
