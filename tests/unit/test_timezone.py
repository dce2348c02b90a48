"""What a guest is told of the host's time zone: the oracle is the C library, through time.tzset()."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.image import timezone

TIMES = (0, 946684800, 1752000000, 1767000000)  # both halves of years; from 1970 on
SAID = "import time,sys; time.tzset(); print([time.strftime('%z %Z', time.localtime(int(t))) for t in sys.argv[1:]])"
RULES = [
    "JST-9",
    "EST5",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "<+0530>-5:30",
    "NZST-12NZDT,M9.5.0,M4.1.0/3",
    "UTC0",
    "ABC+3:15",
]


def said(zone: str) -> str:
    """Offsets and abbreviations at TIMES under TZ=`zone`."""
    argv = [sys.executable, "-c", SAID, *map(str, TIMES)]
    return subprocess.run(argv, env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=True).stdout


def as_file(content: bytes, tmp_path: Path) -> str:
    place = tmp_path / "zone"
    place.write_bytes(content)
    return said(f":{place}")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_becomes_a_file_that_says_the_same(rule: str, tmp_path: Path) -> None:
    zone = timezone.of_host(rule)
    assert zone.name == ""
    assert as_file(zone.content, tmp_path) == said(rule)


def a_zone(tmp_path: Path, name: str = "Far/Away") -> Path:
    (tmp_path / "zoneinfo" / name).parent.mkdir(parents=True)
    (tmp_path / "zoneinfo" / name).write_bytes(timezone.from_rule("XYZ-4"))
    return tmp_path / "zoneinfo"


def test_every_way_to_say_it(tmp_path: Path) -> None:
    known = a_zone(tmp_path)
    content, local, named = timezone.from_rule("XYZ-4"), tmp_path / "localtime", tmp_path / "timezone"
    for given_ in ("Far/Away", ":Far/Away", f":{known}/Far/Away", f"{known}/Far/Away"):
        assert timezone.of_host(given_, known, local, named) == timezone.Zone("Far/Away", content), given_
    assert timezone.of_host(None, known, local, named) == timezone.Zone()
    named.write_text("Far/Away\n")
    assert timezone.of_host(None, known, local, named) == timezone.Zone("Far/Away", content)
    local.write_bytes(timezone.from_rule("LOC2"))
    assert timezone.of_host(None, known, local, named) == timezone.Zone("", timezone.from_rule("LOC2"))
    assert timezone.of_host(f":{local}", known, local, named).content == timezone.from_rule("LOC2")
    local.unlink()
    local.symlink_to(known / "Far" / "Away")
    assert timezone.of_host(None, known, local, named) == timezone.Zone("Far/Away", content)
    assert timezone.of_host("", known, local, named) == timezone.Zone(), "an empty TZ is UTC"


@pytest.mark.parametrize(
    "given_", ["/etc/passwd", "../../../etc/passwd", "/dev/zero", "x" * 5000, "Nowhere/City", "\0", "/"]
)
def test_what_is_no_zone_is_utc_and_nothing_of_it_goes_in(given_: str) -> None:
    assert timezone.of_host(given_) == timezone.Zone()


@given(st.text(alphabet=st.sampled_from("ABCxyz<>+-:,.0123456789/MJ "), max_size=40))
def test_a_file_is_made_of_rules_only(text: str) -> None:
    content = timezone.from_rule(text)
    assert not content or (content.startswith(b"TZif2") and content.endswith(f"\n{text}\n".encode()))


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert timezone.of_host(os.fspath(tmp_path / "fifo")) == timezone.Zone()
