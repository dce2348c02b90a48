"""The envelope holds guest text as data: ASCII only, so that no terminal obeys it and no name breaks it."""

from __future__ import annotations

import json

import pytest

from git_sandbox.cli import result
from git_sandbox.cli.result import Result


def test_names_that_are_not_utf8_and_controls(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"changed": ("caf\udce9", "\x9b31m", "\u202etxt", "\x7f\x1b")}
    result.show(Result("merge", data), as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.removesuffix("\n").isprintable()
    assert json.loads(out)["data"]["changed"] == list(data["changed"])
