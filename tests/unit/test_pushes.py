"""A guest pushes as often as it likes, but not more than so much in all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from git_sandbox.errors import CollectError
from git_sandbox.sandbox import pushes
from git_sandbox.sandbox.lfs import LfsRetrieval
from git_sandbox.sandbox.pushes import MOST, Total, counted, so_far
from git_sandbox.sandbox_dir import SandboxDir


def brought(objects: int, size: int) -> Any:
    collected, content = SimpleNamespace(objects=objects, size=size), LfsRetrieval(stored=1, size=7000)
    inside = SimpleNamespace(homes=[SimpleNamespace(collected=collected, lfs=content)])
    return SimpleNamespace(collected=collected, nested=inside, lfs=content)


def test_all_that_a_push_costs_is_counted_also_of_repositories_inside(tmp_path: Path) -> None:
    directory = SandboxDir(tmp_path)
    with counted(directory) as push:
        push.brought = brought(3, 500)
    with pytest.raises(CollectError, match="refused"), counted(directory):
        raise CollectError("refused")
    found = so_far(directory)
    assert (found.pushes, found.objects, found.size) == (2, 8, 15000)
    assert 0 < found.seconds < 60


@pytest.mark.parametrize("field", Total.__struct_fields__)
def test_enough_of_anything_is_the_end(tmp_path: Path, field: str) -> None:
    directory = SandboxDir(tmp_path)
    before = msgspec.structs.replace(Total(), **{field: getattr(MOST, field)})
    directory.pushes.write_bytes(msgspec.json.encode(before))
    with pytest.raises(CollectError) as caught, counted(directory):
        raise AssertionError
    assert caught.value.message == "this sandbox has pushed enough"
    assert pushes._WORDS[field] in caught.value.cause
    assert so_far(directory) == before


def test_a_damaged_count_is_begun_again(tmp_path: Path) -> None:
    directory = SandboxDir(tmp_path)
    for content in (b"", b"[", b'{"pushes": "x"}', b"{" * 10_000):
        directory.pushes.write_bytes(content)
        with counted(directory) as push:
            push.brought = cast("Any", None)
        assert so_far(directory).pushes == 1
