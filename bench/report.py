"""Rows of a comparison as Markdown, JSON and a picture."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from git_sandbox.drawing.svg import Picture

Missing = tuple[str, str, str, str]  # measure, compared with, to reach, reason
Pairs = list[tuple[float, float]]  # ours and theirs, in turn
REASON = 300  # characters
WIDTH, LINE, LETTER = 360, 44, 8.2  # pixels: of the longest bar, of a row, of a letter


@dataclass(frozen=True)
class Measure:
    """A row that is still to be measured."""

    name: str
    against: str
    target: str
    pairs: Callable[[], Pairs]

    def taken(self) -> Row | Missing:
        """What fails costs this row and no other."""
        print(f"{self.name}, against {self.against}:", file=sys.stderr, flush=True)
        os.sync()  # what earlier rows have written must not be waited for by this one
        try:
            pairs = self.pairs()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said in the table
            reason = " ".join(f"{type(error).__name__}: {error}".split())[-REASON:].replace("|", "/")
            print(f"  failed: {reason}", file=sys.stderr, flush=True)
            return self.name, self.against, self.target, f"failed: {reason}"
        for one, other in pairs:
            print(f"  {one:.3f} and {other:.3f}", file=sys.stderr, flush=True)
        return Row(self.name, self.against, self.target, tuple(one for one, _ in pairs), tuple(two for _, two in pairs))


@dataclass(frozen=True)
class Row:
    name: str
    against: str
    target: str
    ours: tuple[float, ...]  # seconds
    theirs: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.ours), statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        one, other = self.medians
        return one / other


def markdown(rows: Sequence[Row], missing: Sequence[Missing], facts: Mapping[str, str], name: str = "benchmark") -> str:
    kvm = name.endswith("-kvm")
    lines = [
        *(["---", "orphan: true", "---", ""] if kvm else []),  # in no table of contents until it has been written
        f"# Benchmark{' with KVM' if kvm else ''}", "",
        f"Written by `bench/compare {'--kvm ' if kvm else ''}--write`; not edited by hand. Only the ratios mean something: both sides ran in",
        "turn, on a machine that may have been busy.", "",
        *(f"* {name}: {value}" for name, value in facts.items()), "",
        "| Measure | Compared with | To reach | Seconds | Seconds | Ratio |", "| --- | --- | --- | --: | --: | --: |",
    ]  # fmt: skip
    for row in rows:
        one, other = row.medians
        lines.append(f"| {row.name} | {row.against} | {row.target} | {one:.3f} | {other:.3f} | **{row.ratio:.2f}** |")
    lines += ["", f"![ratios]({name}.svg)"]
    if missing:
        lines += ["", "## Not measured", ""]
        lines += ["| Measure | Compared with | To reach | Why not |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(each)} |" for each in missing]
    return "\n".join(lines) + "\n"


def data(rows: Sequence[Row], missing: Sequence[Missing], facts: Mapping[str, str]) -> dict[str, object]:
    measured = [
        {"measure": row.name, "against": row.against, "target": row.target, "seconds": row.ours,
         "seconds_against": row.theirs, "ratio": round(row.ratio, 3)}
        for row in rows
    ]  # fmt: skip
    return {"facts": dict(facts), "rows": measured, "not_measured": [list(each) for each in missing]}


def svg(rows: Sequence[Row]) -> str:
    """One bar for each ratio; the line is 1. What the bars say is in the description, too."""
    texts = [(row.name.replace("`", ""), f"against {row.against.replace('`', '')}", f"{row.ratio:.2f}") for row in rows]
    left = 20 + LETTER * max((len(text) for name, against, _ in texts for text in (name, against)), default=0)
    scale = WIDTH / max([*(row.ratio for row in rows), 1.0])
    picture = Picture()
    for number, (row, (name, against, ratio)) in enumerate(zip(rows, texts, strict=True)):
        top = 20 + number * LINE
        picture.text(10, top + 14, name)
        picture.text(10, top + 29, against, kind="soft")
        picture.box(left, top + 5, row.ratio * scale, 22, "shared")
        picture.text(left + row.ratio * scale + 6, top + 20, ratio)
    picture.path(f"M{left + scale:g} 15V{20 + len(rows) * LINE:g}", "clash")
    lines = [f"{name}, {against}: {ratio}" for name, against, ratio in texts]
    return picture.document(
        "Ratios of the benchmark", ["Shorter is better; the line is 1, as fast as the other.", *lines]
    )
