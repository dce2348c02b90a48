"""`${…}` in devcontainer.json: the seven variables of the specification. Anything else stays as it is, because commands
run in a shell, which has its own variables.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from git_sandbox.later import dataclass, field

# The kind, and for those of an environment a name and what counts where there is none.
_VARIABLE = re.compile(r"\$\{([A-Za-z]{1,40})(?::([^:{}\0]{1,200})(?::([^{}\0]*))?)?\}")
Replaced = Callable[[str], str]  # a text with its variables replaced; raises ValueError
LOCAL = ("localEnv", "env")  # two names of one
MAX_VALUE = 64 << 10  # characters of a text with its variables replaced


@dataclass(frozen=True)
class Values:
    """`local`, `container`: environment of this host, and of the guest's sessions, None while that is not known: what
    asks for it stays as it is. Folders: paths of the worktree.
    """

    local_folder: str
    container_folder: str
    identity: str = ""
    local: Mapping[str, str] = field(default_factory=dict, repr=False)  # no secrets in a traceback
    container: Mapping[str, str] | None = field(default=None, repr=False)

    def replaced(self, text: str) -> str:
        """Raises ValueError where it becomes too long."""
        result = _VARIABLE.sub(self._value, text)
        if len(result) > MAX_VALUE:
            raise ValueError("a text is too long with its variables replaced")
        return result

    def _value(self, match: re.Match[str]) -> str:
        kind, name, otherwise = match[1], match[2], match[3] or ""
        if kind in (*LOCAL, "containerEnv"):
            known = self.container if kind == "containerEnv" else self.local
            return match[0] if name is None or known is None else known.get(name, otherwise)
        values = {
            "localWorkspaceFolder": self.local_folder,
            "localWorkspaceFolderBasename": PurePosixPath(self.local_folder).name,
            "containerWorkspaceFolder": self.container_folder,
            "containerWorkspaceFolderBasename": PurePosixPath(self.container_folder).name,
            "devcontainerId": self.identity,
        }
        return values.get(kind, match[0]) if name is None else match[0]


def identity(repository: str, path: str) -> str:
    """`${devcontainerId}`: letters and digits that stay the same for one file of one repository."""
    digest = hashlib.sha256(f"{repository}\0{path}".encode("utf-8", "surrogateescape")).digest()
    return base64.b32hexencode(digest).decode("ascii").lower().strip("=")


def local_names(value: object) -> set[str]:
    """Variables of this host that a file asks for: what its reader agrees to."""
    return {match[2] for text in _texts(value) for match in _VARIABLE.finditer(text) if match[1] in LOCAL and match[2]}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    rows = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for row in rows:
        yield from _texts(row)
