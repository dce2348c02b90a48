"""`sandbox`, as a user runs it, that writes down when each of its parts has ended.

    marked.py MARKS NUMBERS|- ARGUMENT …

A line of MARKS for each: its name, seconds since 1970, and how many instructions guests had run by then (NUMBERS is the
file of `instructions.c`).
"""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file

import counting

PARTS = (  # module, object, function: what has ended when it returns
    ("git_sandbox.sandbox.provision", "", "prepare", "the disk is made"),
    ("git_sandbox.session", "", "_wait_ready", "a session is open"),
    ("git_sandbox.session", "Session", "run", "the command has ended"),
    ("git_sandbox.sandbox.retrieve", "", "bring_home", "all is home"),
)


def main(place: Path, numbers: str, words: list[str]) -> None:
    def mark(name: str) -> None:
        run = counting.counted(Path(numbers)) if numbers != "-" else 0
        with place.open("a") as out:
            out.write(f"{name}\t{time.time():.6f}\t{run}\n")

    def marked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            finally:
                mark(name)

        return call

    for module, owner, function, name in PARTS:
        loaded: Any = importlib.import_module(module)
        found = getattr(loaded, owner) if owner else loaded
        setattr(found, function, marked(getattr(found, function), name))
    sys.argv = ["sandbox", *words]
    mark("imports")
    try:
        importlib.import_module("git_sandbox.cli.main").main()
    finally:
        mark("the end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
