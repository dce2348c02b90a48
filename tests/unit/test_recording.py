"""The picture in the README: what a terminal showed, for everybody."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/recording.svg"
SVG = "{http://www.w3.org/2000/svg}"


def script(path: Path) -> ModuleType:
    loader = SourceFileLoader(path.name, str(path))
    spec = spec_from_loader(path.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


record = script(ROOT / "scripts/record")


def drawn(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - of our own making


def rows(picture: ET.Element) -> list[str]:
    return ["".join(row.itertext()) for row in picture.iter(f"{SVG}text")]


def test_the_readme_shows_it_with_a_text_for_who_does_not_see_it() -> None:
    assert re.search(r"!\[[^\]]{20,}\]\(docs/recording\.svg\)", (ROOT / "README.md").read_text("utf-8"))
    picture = drawn(PICTURE.read_text("utf-8"))
    assert picture.get("role") == "img"
    named = {each.get("id"): each.text for each in picture if each.tag in (f"{SVG}title", f"{SVG}desc")}
    assert all(named[name] for name in str(picture.get("aria-labelledby")).split())
    assert named["desc"] == "\n".join(row.rstrip() for row in rows(picture))


def test_it_is_a_picture_of_the_session_and_nothing_else() -> None:
    text = PICTURE.read_text("utf-8")
    assert re.findall(r"<script|href|url\(|@import|<image|<foreignObject", text) == []
    assert len(text) < 64 << 10
    shown = "\n".join(rows(drawn(text)))
    typed = [line for _, line in record.SESSION]
    assert [line for line in typed if line not in shown] == []
    assert "came home from sandbox vm-1" in shown


def test_what_a_terminal_showed_is_what_is_drawn() -> None:
    prompt = "\x1b]0;title\x07\x1b[?2004h\x1b[1m~ $\x1b[0m ls <&>\r\n"
    picture = record.svg(record.screen(f"{prompt}\x1b[?2004lold 10 %\rnew\r\n \x1b[32mgreen\x1b[m\r\n\r\n"))
    assert rows(drawn(picture)) == ["~ $ ls <&>", "new", " green"]
    assert '<tspan font-weight="bold">~ $</tspan>' in picture
    assert f'<tspan fill="{record.COLOURS[2]}">green</tspan>' in picture
