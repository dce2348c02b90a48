"""Files that are risky because of their content: only a change of the parts that run by themselves counts."""

from __future__ import annotations

import json
import posixpath
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

MAX_SIZE = 64 << 10  # bytes; what is larger is not parsed, and taken for risky
_INSTALL = (
    "preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare", "prepublish", "dependencies",
)  # fmt: skip
# Code that checkers load, which editors run (mypy: Extending mypy using plugins; pylint: init-hook, load-plugins).
_LOADED = (("mypy", "plugins"), ("pylint", "main"), ("pylint", "MAIN"), ("pylint", "master"), ("pylint", "MASTER"))
_UNREADABLE = object()


def _package(data: bytes) -> object:
    """What npm and the like run without being told to: scripts around an installation (docs.npmjs.com: scripts)."""
    document = json.loads(data or b"{}")
    scripts = document.get("scripts") or {}
    manager = [document.get(key) for key in ("packageManager", "husky", "simple-git-hooks", "pnpm")]
    return [scripts.get(name) for name in _INSTALL], manager


def _python(data: bytes) -> object:
    """What an installation runs (PEP 517), what is obeyed by `sandbox` and by uv, and what checkers load."""
    document = tomllib.loads(data.decode())
    tools = document.get("tool", {})
    checkers = [tools.get(name, {}).get(key) for name, key in _LOADED]
    return document.get("build-system"), tools.get("sandbox"), tools.get("uv"), checkers


def _cargo(data: bytes) -> object:
    """What a build runs on the way, which editors begin by themselves: a script, macros, other sources of packages."""
    document = tomllib.loads(data.decode())
    package, library = document.get("package", {}), document.get("lib", {})
    macros = [library.get(name) for name in ("proc-macro", "proc_macro", "path")] if _macro(library) else None
    return package.get("build"), macros, document.get("patch"), document.get("replace")


def _macro(library: Mapping[str, Any]) -> bool:
    return bool(library.get("proc-macro") or library.get("proc_macro"))


_READERS: Mapping[bytes, tuple[Callable[[bytes], Any], str]] = {
    b"package.json": (_package, "changes install scripts or the package manager"),
    b"pyproject.toml": (_python, "changes the build system or the settings of tools that run code"),
    b"cargo.toml": (_cargo, "changes code that runs during a build, which editors start by themselves"),
}


def judged(path: bytes) -> bool:
    return posixpath.basename(path).lower() in _READERS


def risk(path: bytes, before: bytes | None, after: bytes | None) -> str | None:
    """Why the change of a file at `path` is risky. Nothing (b"") stands for no file, None for one that is too long."""
    read, why = _READERS[posixpath.basename(path).lower()]
    one, other = _read(read, before), _read(read, after)
    return why if one != other or other is _UNREADABLE else None


def _read(read: Callable[[bytes], Any], data: bytes | None) -> object:
    if data is None or len(data) > MAX_SIZE:
        return _UNREADABLE
    try:
        return read(data)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return _UNREADABLE
