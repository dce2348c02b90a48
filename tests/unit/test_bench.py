"""No type checker reads the programs in bench and scripts: whatever of ours they name is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path
    for place in ("bench", "scripts")
    for path in (ROOT / place).iterdir()
    if path.is_file() and (path.suffix == ".py" or b"python" in path.read_bytes().split(b"\n", 1)[0])
)


def names(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Module, name, and what it is called here, for everything that is imported of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("git_sandbox", "support"):
            for name in node.names:
                yield node.module or "", name.name, name.asname or name.name


def thing(module: str, name: str) -> object:
    owner = importlib.import_module(module)
    return getattr(owner, name) if hasattr(owner, name) else importlib.import_module(f"{module}.{name}")


def test_there_are_programs() -> None:
    assert {"boots", "compare", "large"} <= {path.name for path in PROGRAMS}


def test_those_of_bench_run_with_the_checkouts_python_from_anywhere() -> None:
    programs = [path for path in PROGRAMS if path.parent.name == "bench" and not path.suffix]
    assert len({path.read_bytes().split(b"\n", 1)[0] for path in programs}) == 1
    done = subprocess.run([ROOT / "bench/compare", "--help"], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, "--kvm" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_what_it_names_is_there(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    known = {called: thing(module, name) for module, name, called in names(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = known.get(node.value.id)
            assert not isinstance(owner, ModuleType) or hasattr(owner, node.attr), ast.unparse(node)


def test_what_bench_warm_takes_the_time_of_is_there() -> None:
    """It names modules and functions by their text."""
    values = {
        ast.unparse(target): node.value
        for node in ast.walk(ast.parse((ROOT / "bench/warm").read_bytes()))
        if isinstance(node, ast.Assign)
        for target in node.targets
    }
    parts: dict[str, tuple[str, ...]] = ast.literal_eval(values["PARTS"])
    labels = {f"{module}.{name}" for module, names in parts.items() for name in names}
    assert {f"git_sandbox.{label}" for label in ast.literal_eval(values["(READY, OPEN)"])} <= labels
    assert [label for label in labels if not hasattr(*_owner(label))] == []


def _owner(label: str) -> tuple[ModuleType, str]:
    module, _, name = label.rpartition(".")
    return importlib.import_module(module), name


def report() -> Any:
    """`bench/report.py`, which is no module of ours."""
    place = importlib.util.spec_from_file_location("bench_report", ROOT / "bench/report.py")
    assert place is not None
    assert place.loader is not None
    made = importlib.util.module_from_spec(place)
    sys.modules[place.name] = made
    place.loader.exec_module(made)
    return made


def test_the_picture_says_in_words_what_it_shows() -> None:
    program = report()
    rows = [program.Row("a `b`", "c <d>", "1", (2.0, 2.0), (1.0, 1.0)), program.Row("e", "f", "1", (1.0,), (4.0,))]
    tree = ET.fromstring(program.svg(rows))  # noqa: S314 - made here
    assert tree.get("role") == "img"
    described = tree.findtext("{*}desc") or ""
    assert {"a b, against c <d>: 2.00", "e, against f: 0.25"} < {*described.splitlines()}
    assert ET.fromstring(program.svg([])).findtext("{*}title")  # noqa: S314 - made here


def test_every_picture_of_the_documentation_has_a_title_and_a_description() -> None:
    pictures = sorted((ROOT / "docs").rglob("*.svg"))
    assert len(pictures) >= 4
    for path in pictures:
        tree = ET.parse(path).getroot()  # noqa: S314 - made here
        assert tree.findtext("{*}title"), path
        assert tree.findtext("{*}desc"), path


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`bench/inside`, which has no suffix."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("bench_inside", str(ROOT / "bench/inside"))
    place = importlib.util.spec_from_loader(loader.name, loader)
    assert place is not None
    made = importlib.util.module_from_spec(place)
    monkeypatch.setitem(sys.modules, loader.name, made)
    loader.exec_module(made)
    return made


@pytest.mark.parametrize(("command", "before"), [("echo why; exit 7", ""), ("true", "echo why >&2; exit 7")])
def test_a_command_of_bench_inside_that_fails_ends_it_and_shows_the_reason(
    inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, before: str
) -> None:
    monkeypatch.setitem(inside.MEASURES, "npm ci", (command, before))
    with pytest.raises(SystemExit, match=r"(?s)npm ci .*ended with 7:.*why"):
        inside.taken(inside.Place(partial(inside.here, tmp_path), inside.used_here), "npm ci")


def test_bench_inside_times_the_command_alone(inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "python3 -c 'sum(range(10**7))'"
    monkeypatch.setitem(inside.MEASURES, "npm ci", (f"test -f made && sleep 0.2 && {busy}", "touch made; sleep 5"))
    spent = inside.taken(inside.Place(partial(inside.here, tmp_path), inside.used_here), "npm ci")
    assert 0.2 <= spent.clock < 5
    assert 0 < spent.processor <= spent.clock


def test_rows_of_bench_inside_compare_the_usual_sandbox_with_both(inside: Any) -> None:
    def one(host: float, usual: float, plain: float) -> Any:
        return inside.Round(*(inside.Taken(seconds, seconds * 2) for seconds in (host, usual, plain)))

    rows = inside.rows({"a": [one(1.0, 4.0, 4.0), one(1.0, 2.0, 4.0)]})
    ratios = [(row["compared_with"], row["ratio"], row["lowest"], row["highest"], row["clock"]) for row in rows]
    assert ratios == [("this host", 3.0, 2.0, 4.0, 3.0), ("a plain disk", 0.75, 0.5, 1.0, 0.75)]
