"""The branch and its sandboxes as tracks, in text or as a picture. Both share one layout: tracks start at a fork of the
branch, those nearest to HEAD first, so that no line crosses another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from git_sandbox.drawing.svg import Picture
from git_sandbox.integrate.graph import SHOWN, Graph, Track
from git_sandbox.integrate.siblings import Pair
from git_sandbox.text import one_line

_WIDE = 8  # forks up to which the number of commits between them is written
_SUBJECT = 60  # characters
_LEFT, _TOP, _SLOT, _ROW, _STEP = 24, 44, 96, 34, 22  # pixels
_MOST_CLASHES = 12  # lines between sandboxes; all are in the words below


def label(track: Track) -> str:
    """`vm-1: 2 commits, newest: …`. Safe to print."""
    if track.count == 0:
        return f"{track.id}: no commit beyond the branch"
    count = "many commits" if track.count is None else f"{track.count} commit{'s' if track.count != 1 else ''}"
    subject = one_line(track.newest[0].subject, limit=_SUBJECT) if track.newest else ""
    apart = "no commit in common, " if track.fork is None else ""
    return f"{track.id}: {apart}{count}" + (f", newest: {subject}" if subject else "")


def _dots(track: Track) -> int:
    return min(SHOWN if track.count is None else track.count, SHOWN)


def _more(track: Track) -> str:
    return "…" if track.count is None or track.count > SHOWN else ""


def _gaps(graph: Graph) -> list[int | None]:
    """Commits from each fork to the next one, and to HEAD."""
    behind = [fork.behind for fork in graph.forks]
    following = [*behind[1:], *([0] if behind else [])]
    return [None if one is None or next_ is None else one - next_ for one, next_ in zip(behind, following, strict=True)]


def _slots(graph: Graph) -> tuple[dict[str, int], int]:
    """The slot of each fork, and that of HEAD: the last fork's where that is HEAD."""
    slots = {str(fork.commit): number for number, fork in enumerate(graph.forks)}
    last = len(graph.forks) - 1
    return slots, last if graph.forks and graph.forks[-1].behind == 0 else last + 1


def text(graph: Graph) -> list[str]:
    """Lines as wide as they need to be."""
    slots, head = _slots(graph)
    line, columns = _branch(graph, head)
    name = one_line(graph.branch, limit=_SUBJECT)
    margin = " " * (len(name) + 2)
    at = f"  {graph.head[:10]} (HEAD)" if graph.head else "  no commit yet"
    rows = [f"{name}  {line}{at}"]
    for number, track in enumerate(graph.tracks):
        below = {slots[str(later.fork)] for later in graph.tracks[number + 1 :] if later.fork}
        rows.append(margin + _row(track, slots.get(str(track.fork)), below, columns) + f"  {label(track)}")
    return rows


def _branch(graph: Graph, head: int) -> tuple[str, list[int]]:
    """The line of the branch, and in which column of it each slot is."""
    line, columns = "", []
    for gap in _gaps(graph)[:head]:
        columns.append(len(line))
        words = f"({gap})" if gap is not None and len(graph.forks) <= _WIDE else ""
        line += f"●─{words}─"
    return line + ("●" if graph.head else ""), [*columns, len(line)]


def _row(track: Track, slot: int | None, below: set[int], columns: list[int]) -> str:
    cells = [" "] * (columns[-1] + 1)
    for other in below:
        cells[columns[other]] = "│"
    dots = "─●" * _dots(track) + _more(track)
    if slot is None:
        return "".join(cells).rstrip() + f" {dots[1:]}"
    cells[columns[slot]] = "├" if slot in below else "╰"
    return "".join(cells[: columns[slot] + 1]) + (dots or "─")


def picture(graph: Graph, description: Sequence[str], remarks: Sequence[str]) -> str:
    """An SVG. `description`: the same in words; `remarks`: conflicts and order, written below."""
    drawn = Picture()
    slots, head = _slots(graph)
    _draw_branch(drawn, graph, head)
    clashes = [pair for pair in graph.comparison.pairs if pair.conflicts][:_MOST_CLASHES]
    ends = [_end(track, slots) for track in graph.tracks]
    right = max(ends, default=0.0) + _STEP * 0.5 * (len(clashes) + 1)
    for number, track in enumerate(graph.tracks):
        _draw_track(drawn, track, number, slots, right)
    _draw_clashes(drawn, graph, clashes, max(ends, default=0.0))
    bottom = _TOP + _ROW * (len(graph.tracks) + 1)
    for number, remark in enumerate(remarks):
        drawn.text(_LEFT, bottom + number * 20, remark, kind="bad" if "conflict in" in remark else "soft")
    return drawn.document(f"{one_line(graph.branch, limit=_SUBJECT)} and {len(graph.tracks)} sandboxes", description)


def _x(slot: int) -> float:
    return _LEFT + slot * _SLOT


def _draw_branch(drawn: Picture, graph: Graph, head: int) -> None:
    drawn.path(f"M {_LEFT} {_TOP} H {_x(head)}", "line branch")
    for slot, gap in enumerate(_gaps(graph)[:head]):
        drawn.circle(_x(slot), _TOP, 6, "dot")
        if gap:
            drawn.text(_x(slot) + _SLOT / 2, _TOP - 10, str(gap), kind="soft", anchor="middle")
    drawn.circle(_x(head), _TOP, 8, "dot")
    at = f" {graph.head[:10]} (HEAD)" if graph.head else " (no commit yet)"
    drawn.text(_x(head) + 16, _TOP + 5, f"{graph.branch}{at}", kind="strong")


def _end(track: Track, slots: Mapping[str, int]) -> float:
    return _x(slots.get(str(track.fork), 0)) + _STEP * max(_dots(track), 1)


def _y(number: int) -> float:
    return _TOP + _ROW * (number + 1)


def _draw_track(drawn: Picture, track: Track, number: int, slots: Mapping[str, int], right: float) -> None:
    """`right`: where all labels begin; a thin line leads there."""
    x, y, end = _x(slots.get(str(track.fork), 0)), _y(number), _end(track, slots)
    drawn.path(f"M {end} {y} H {right}", "lead")
    if track.fork:
        drawn.path(f"M {x} {_TOP} V {y - 10} Q {x} {y} {x + 10} {y} H {end}", "line")
    for dot in range(1, _dots(track) + 1):
        drawn.circle(x + _STEP * dot, y, 5, "dot")
    drawn.text(right + 6, y + 5, _more(track) + label(track))


def _draw_clashes(drawn: Picture, graph: Graph, clashes: Sequence[Pair], left: float) -> None:
    """A dashed line between the two whose merge conflicts, beside those of the others."""
    rows = {track.id: _y(number) for number, track in enumerate(graph.tracks)}
    for number, pair in enumerate(clashes):
        x = left + _STEP * 0.5 * (number + 1)
        drawn.path(f"M {x} {rows[pair.one]} V {rows[pair.other]}", "clash")
        for name in (pair.one, pair.other):
            drawn.circle(x, rows[name], 3, "end")
