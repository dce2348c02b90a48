"""Resolves the value of each setting from its sources. `setting_rows` has the settings themselves.

Precedence: command line, environment (`SANDBOX_<NAME>`), configuration file, project file, default: what a repository
brings along never overrules what the user has said himself. Only this module reads configuration from the environment.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from git_sandbox import consent, files, notices, paths, projectfile, setting_values, tomltext, transports
from git_sandbox.consent import NamedFile
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass
from git_sandbox.projectfile import ProjectFile, bare
from git_sandbox.setting_rows import ANY, BACKENDS, BY_NAME, COW, INSIDE, ROWS, VALUES, Row, Settings
from git_sandbox.setting_values import one_word

# Beside what is defined here: what others look for in this module.
__all__ = ["ANY", "BACKENDS", "BY_NAME", "COW", "INSIDE", "ROWS", "VALUES", "Row", "Settings", "Value", "resolve"]

_VARIABLE = re.compile("SANDBOX_[A-Z_]{1,60}")
PROGRESS = "SANDBOX_PROGRESS_FD"  # of a program that shows progress: an open descriptor
_OURS = ("SANDBOX_INDEX", "SANDBOX_COUNT", "SANDBOX_TEST_", PROGRESS)  # no settings, and near to some
_DIGITS = 9  # of a descriptor's number, and more
_REPLACED = {"jailer": "confinement"}  # settings of earlier versions
_SHORTENED = 3  # letters with which a setting's name may begin that is meant


@dataclass(frozen=True)
class Value:
    """One setting as given, and where it came from."""

    name: str
    text: str
    source: str  # default | environment | the configuration or project file's path | command line
    withheld: str = ""  # what the project file asks for, and the user has not agreed to


def environment() -> Mapping[str, str]:
    """The user's environment, for the few who need more of it than a setting (git identity, time zone)."""
    return os.environ


def progress_descriptor() -> int | None:
    """Where a program that started us wants lines of progress. No program that we start sees the variable."""
    text = os.environ.pop(PROGRESS, "")
    return int(text) if text.isdecimal() and len(text) < _DIGITS else None


def resolve(
    given: Mapping[str, object] | None = None, project: ProjectFile | None = None
) -> tuple[Settings, list[Value]]:
    """The effective settings and the origin of each. `given`: from the command line, None meaning not given.

    Raises UsageError naming the source of a value that cannot work.
    """
    configured = _config_file()
    _mention_unknown()
    if project is not None:
        _refuse_unknown(project.path, project.values)
    values = [_find(row, given or {}, configured, project) for row in ROWS]
    parsed: dict[str, Any] = {value.name: _parse(BY_NAME[value.name], value) for value in values}
    named = [file for value in values for file in _named_by(value, project)]
    contents = {str(file.place): file.content for file in named if consent.NAMES[file.setting] == consent.FILE}
    trees = {str(file.place): file.state for file in named if consent.NAMES[file.setting] == consent.TREE}
    return Settings(**parsed, contents=contents, trees=trees), values


def named_below(worktree: Path) -> dict[str, str]:
    """Paths below the worktree that a sandbox of this user would read on the host: by path, the setting that names it.

    Of the project file, trusted or not, of the user's configuration and of his environment.
    """
    below = dict(projectfile.names(worktree))
    with contextlib.suppress(UsageError):
        below |= projectfile.below(worktree, _config_file())
    given = {name: os.environ.get(f"SANDBOX_{name.upper()}", "") for name in consent.NAMES}
    return below | projectfile.below(worktree, given)


def _find(
    row: Row, given: Mapping[str, object], configured: Mapping[str, object], project: ProjectFile | None
) -> Value:
    values = list(_given(row, given, configured, project))
    if row.kind == "rules" and len(values) > 1:
        withheld = next((value.withheld for value in values if value.withheld), "")
        texts = [value for value in values if value.text]
        return Value(
            row.name, " ".join(value.text for value in texts), " and ".join(value.source for value in texts), withheld
        )
    return values[0] if values else Value(row.name, row.default, "default")


def _given(
    row: Row, given: Mapping[str, object], configured: Mapping[str, object], project: ProjectFile | None
) -> Iterator[Value]:
    """The strongest first."""
    if given.get(row.name) not in (None, ()):
        yield Value(row.name, _text(row, given[row.name]), "command line")
    variable = f"SANDBOX_{row.name.upper()}"
    if os.environ.get(variable):
        yield Value(row.name, os.environ[variable], f"environment ({variable})")
    if row.name in configured:
        yield Value(row.name, _text(row, configured[row.name]), str(paths.config_file()))
    if project is not None and row.name in project.values:
        yield _of_project(row, project)


def _of_project(row: Row, project: ProjectFile) -> Value:
    asked = _text(row, project.values[row.name])
    if row.own:
        return Value(row.name, row.default, "default", withheld=f"{asked} (only your own settings can set that)")
    named = _named_of_project(row, asked, project)
    if not (project.trusted or _free(row, asked, named)):
        return Value(row.name, row.default, "default", withheld=asked or '""')
    if any(file.too_large for file in named):  # its content cannot be agreed to once and for all
        return Value(row.name, row.default, "default", withheld=f"{asked} ({consent.TOO_LARGE}: give it yourself)")
    if named:  # whole paths, each with how it is mounted
        asked = "\n".join(f"{file.place}{file.text.strip()[len(bare(row.name, file.text)) :]}" for file in named)
    elif row.kind == "image":
        asked = transports.absolute(asked.strip(), project.root)
    return Value(row.name, asked, str(project.path))


def _named_by(value: Value, project: ProjectFile | None) -> tuple[NamedFile, ...]:
    if project is None or value.source != str(project.path):
        return ()
    row = BY_NAME[value.name]
    return _named_of_project(row, _text(row, project.values[row.name]), project)


def _named_of_project(row: Row, asked: str, project: ProjectFile) -> tuple[NamedFile, ...]:
    """What it names: for who trusts it whatever that is, else only files of the repository's own."""
    if row.name not in consent.NAMES or not asked.strip():
        return ()
    if project.trusted:
        return tuple(file for file in project.named if file.setting == row.name)
    return (project.setup,) if project.setup and INSIDE in row.free else ()


def _free(row: Row, asked: str, named: tuple[NamedFile, ...]) -> bool:
    """Whether a project file may say so without the user's consent."""
    if VALUES in row.free:
        return all("=" in line for line in asked.split("\n") if line)
    if INSIDE in row.free:
        return bool(named)
    return ANY in row.free or asked.strip() in row.free


def _text(row: Row, value: object) -> str:
    joint = "\n" if row.kind == "lines" else " "
    return joint.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _config_file() -> dict[str, object]:
    path = paths.config_file()
    try:
        content = tomltext.decode(files.read(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}", cause=files.why(error)) from error
    content = {name.replace("-", "_"): value for name, value in content.items()}
    _refuse_unknown(path, content)
    return content


def _refuse_unknown(path: Path, content: Mapping[str, object]) -> None:
    unknown = sorted(set(content) - set(BY_NAME))
    if unknown:
        near = _nearest(unknown[0])
        hint = f"did you mean `{near}`?" if near else f"known: {', '.join(BY_NAME)}"
        raise UsageError(f"{path}: unknown setting `{one_word(unknown[0])}`", hint=hint)


def _nearest(word: str) -> str:
    """The setting somebody who wrote `word` most likely means; empty when there is none like it."""
    import difflib  # late: nobody needs it who writes what there is

    if word in _REPLACED:
        return _REPLACED[word]
    begun = [name for name in BY_NAME if len(word) >= _SHORTENED and name.startswith(word)]
    return next(iter([*begun, *difflib.get_close_matches(word, BY_NAME, n=1, cutoff=0.75)]), "")


def _mention_unknown() -> None:
    """A variable that is nearly one of ours does nothing. What is nothing like them is somebody else's."""
    for name in filter(_VARIABLE.fullmatch, os.environ):
        word = name.removeprefix("SANDBOX_").lower()
        near = "" if word in BY_NAME or name.startswith(_OURS) else _nearest(word)
        if near:
            notices.say(f"{name} is not a setting: did you mean SANDBOX_{near.upper()}?")


def _parse(row: Row, value: Value) -> object:
    try:
        return setting_values.read(row.kind, value.text, choices=row.choices, least=row.least, most=row.most)
    except ValueError as error:
        raise _bad(value, str(error)) from None


def parsed(name: str, text: str, source: str) -> Any:
    """The value of a setting that somebody else than the user gives. Raises UsageError."""
    return _parse(BY_NAME[name], Value(name, text, source))


def size(name: str, text: str) -> int:
    """Bytes, of an option that is no setting but is written like one. Raises UsageError."""
    try:
        return setting_values.mebibytes(text) << 20
    except ValueError as error:
        raise _bad(Value(name, text, "command line"), str(error)) from None


def _bad(value: Value, hint: str) -> UsageError:
    option = value.name.replace("_", "-")
    return UsageError(f"`{one_word(value.text)}` is not a valid value of {option} ({value.source})", hint=hint)
