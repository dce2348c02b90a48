"""Values that become command-line arguments: what a program would misread is quoted here, or refused.

The builders of command lines put constants and values side by side. A value that may be a path of anybody's, a name or
a variable goes through the one of these that knows how its program reads it; `tests/unit/test_arguments.py` walks all
builders with hostile ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from git_sandbox.errors import HostResourceError, UsageError
from git_sandbox.text import one_line


def path(place: Path | str) -> str:
    """A path that stands alone: no program takes it for an option. Raises UsageError for one that no path can be."""
    text = os.fspath(place)
    if not text or "\0" in text:
        raise UsageError(f"`{one_line(text, limit=60)}` cannot be a path")
    return text if text.startswith("/") else f"./{text}"


def qemu(text: str) -> str:
    """A value within one of QEMU's options (`a=b,c=d`): a comma is written twice. Raises UsageError for a zero byte."""
    if "\0" in text:
        raise UsageError(f"`{one_line(text, limit=60)}` cannot be an option of QEMU")
    return text.replace(",", ",,")


def cloud_hypervisor(text: str) -> str:
    """A value within one of Cloud Hypervisor's options. Raises HostResourceError for what its parser would split."""
    if set(text) & set(',"[]=\n\0'):
        raise HostResourceError(
            f"Cloud Hypervisor cannot use {one_line(text, limit=120)}: a comma, quote, bracket or `=` is in it",
            hint="set XDG_RUNTIME_DIR to another directory",
        )
    return text


def ssh(text: str) -> str:
    """A path as a value of ssh_config(5), in quotation marks. ssh looks for `%h` and the like in it, also where its
    manual does not say so (ForwardAgent).

    Raises HostResourceError for what cannot be written there: a line break begins another setting, ssh knows no escape
    of a quotation mark in a path that is portable, and `${` is a variable.
    """
    if set(text) & set('"\n\r\0\\') or "${" in text or text.startswith("~"):
        raise HostResourceError(
            f"ssh cannot use the path {one_line(text, limit=120)}",
            cause="a quotation mark, backslash, line break or variable is in it",
            hint="set XDG_STATE_HOME or XDG_RUNTIME_DIR to another directory, or SSH_AUTH_SOCK to another path",
        )
    return f'"{text.replace("%", "%%")}"'


def ssh_word(text: str) -> str:
    """A word of ssh_config(5): a user's name. Raises HostResourceError."""
    if not text or text.startswith("-") or set(text) & set(" \t\n\r\0\"'%#"):
        raise HostResourceError(f"ssh cannot use the user `{one_line(text, limit=60)}`")
    return text
