"""Rows of a comparison as Markdown, JSON and a picture."""

from __future__ import annotations

import html
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Missing = tuple[str, str, str, str]  # measure, compared with, to reach, reason
Pairs = list[tuple[float, float]]  # ours and theirs, in turn
REASON = 300  # characters
WIDTH, LINE, LEFT = 900, 44, 470  # pixels


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
    """One bar for each ratio; the line is 1."""
    most = max([*(row.ratio for row in rows), 1.0])
    scale = (WIDTH - LEFT - 70) / most
    height = LINE * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        top = 20 + number * LINE
        name, against = (html.escape(text.replace("`", "")) for text in (row.name, row.against))
        parts += [
            f'<text x="10" y="{top + 14}" font-family="sans-serif">{name}</text>',
            f'<text x="10" y="{top + 29}" fill="#666" font-family="sans-serif">against {against}</text>',
            f'<rect x="{LEFT}" y="{top + 5}" width="{row.ratio * scale:.1f}" height="22" fill="#4477aa"/>',
            f'<text x="{LEFT + row.ratio * scale + 6:.1f}" y="{top + 20}">{row.ratio:.2f}</text>',
        ]
    one = LEFT + scale
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="15" y2="{height - 15}" stroke="#aa3333"/></svg>')
    return "\n".join(parts) + "\n"
