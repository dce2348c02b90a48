"""docs/contribute/style.md, as far as a program can read it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import git_sandbox
from git_sandbox import errors

SOURCE = Path(git_sandbox.__file__).parent
ROOT = Path(__file__).parents[2]
# Words of the project's own old dialect, and of no other tool: in anything a program of ours may print, and in pages.
DIALECT = re.compile(
    r"\b(?:somebody|anybody|told|anew|all the same|ended badly|go(?:es|ne|ing)? on with|can(?:not)? be had|"
    r"do not go together|without a word|mend(?:ed|s)?)\b",
    re.IGNORECASE,
)
# In what is printed also these, which say it in another way than other tools do.
PRINTED = re.compile(
    rf"{DIALECT.pattern}|"
    r"\b(?:once more|of yours|of ours|goes on|nobody|meanwhile|thrown away|does without|a good one)\b",
    re.IGNORECASE,
)
BANNED = re.compile(r"\b(?:please|unable to|failed to|successfully|oops|sorry|can not)\b|!$", re.IGNORECASE)
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


def texts(node: ast.expr) -> str:
    """The fixed text of a string or an f-string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(texts(each) if isinstance(each, ast.Constant) else "X" for each in node.values)
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """(place, message) of every error of ours that is made with a literal."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and isinstance(called, ast.Name) and called.id in ERRORS and node.args:
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", texts(node.args[0])


def test_errors_are_in_one_voice() -> None:
    seen = list(messages())
    assert len(seen) > 200, "the test no longer finds them"
    assert [(place, text) for place, text in seen if BANNED.search(text) or text.endswith(".")] == []


# Names that say why a thing is there and not what it is: the field has a noun for each (ref, path, entry, settings …).
NAMELESS = {"each", "found", "told", "wanted", "said", "made"}
# How often a package still uses one as a variable, a parameter or a function. These numbers only go down.
LEFT = {"cache": 1}  # `made` is a field of a file on disk


def bound(node: ast.AST) -> str:
    """The name that a node gives to something; empty for one that gives none."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.arg):
        return node.arg
    return node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else ""


def test_names_are_nouns_of_the_field() -> None:
    """New code adds none to a package: more than LEFT has of it is a name to choose better. Fewer: lower the number."""
    places: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).parts
        for node in ast.walk(ast.parse(path.read_text())):
            if (name := bound(node)) in NAMELESS:
                places.setdefault(parts[0] if len(parts) > 1 else ".", []).append(f"{path.name}: {name}")
    assert {package: rows for package, rows in places.items() if len(rows) > LEFT.get(package, 0)} == {}


# Pictures where the field has a noun: of modules, classes and functions. `home` is also a user's directory; "come home"
# is for what users read.
PICTURES = re.compile(r"door|journey|ledger|mouth|rehears|stor(?:y|ies)(?<!history)|[A-Z][a-z]*Home|^Home$")
PICTURED = {"HomeFile", "HomePath", "REHEARSE"}


def test_names_are_no_pictures() -> None:
    names = {path.stem for path in SOURCE.rglob("*.py")}
    for path in SOURCE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert len(names) > 2000, "the test no longer finds them"
    assert {name for name in names - PICTURED if PICTURES.search(name)} == set()


def own_docstring(node: ast.AST) -> ast.expr | None:
    """The docstring of a module, class or function, unless it is a command's help text."""
    if (
        not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        or ast.get_docstring(node) is None
    ):
        return None
    if isinstance(node, ast.FunctionDef) and any("command(" in ast.unparse(each) for each in node.decorator_list):
        return None
    first = node.body[0]
    return first.value if isinstance(first, ast.Expr) else None


def test_nothing_that_is_printed_speaks_the_dialect() -> None:
    """Messages, warnings, progress, help texts: every string that is no docstring."""
    found, seen = [], 0
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        silent = {own_docstring(node) for node in ast.walk(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
                seen += 1
                found += [(f"{path.name}:{node.lineno}", word) for word in PRINTED.findall(node.value)]
    assert seen > 3000, "the test no longer finds them"
    assert found == []


PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if page.name != "style.md"]  # which names the words


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_pages_use_plain_words(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", page.read_text(), flags=re.DOTALL)
    assert re.findall(r"\b(?:oops|sorry|successfully)\b", text, re.IGNORECASE) == []
    if page.parent.name != "adr":
        assert DIALECT.findall(text) == []


def test_the_changelog_is_one_line_for_each_change_in_three_lists() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("### ")] == ["### Added", "### Changed", "### Fixed"]
    entries = lines[lines.index("### Added") :]
    assert [line for line in entries if line and not line.startswith(("* ", "### "))] == []
    assert [line[:60] for line in entries if len(line) > 300] == []


def test_what_the_recipes_name_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "docs/contribute/read-the-code.md").read_text()
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", text)
    assert len(named) > 35
    assert [name for name in named if not (SOURCE / name).is_file() and not (ROOT / name).is_file()] == []


PACKAGES = "|".join(sorted(each.name for each in SOURCE.iterdir() if (each / "__init__.py").is_file()))
REFERENCE = re.compile(rf"`((?:{PACKAGES})/[a-z_]+)(?:\.[A-Za-z_]+)?[`,\s]")


def test_modules_that_are_named_exist() -> None:
    """In docstrings, comments and pages: a module that moved is named by its new place."""
    texts_by_place = {page: page.read_text() for page in [*SOURCE.rglob("*.py"), *ROOT.glob("docs/**/*.md")]}
    named = {(place.name, name) for place, text in texts_by_place.items() for name in REFERENCE.findall(text)}
    assert len(named) > 60, "the test no longer finds them"
    known = {each.relative_to(SOURCE).with_suffix("").as_posix() for each in SOURCE.glob("*/*") if each.is_file()}
    assert sorted((place, name) for place, name in named if name not in known) == []
