"""Figures: what was measured, the floor it stands upon, and whether it keeps its target.

Machines differ, so most targets are a ratio or a difference to a floor that was measured in the same run; the others
are demands of people, who do not care what the machine is.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Target(NamedTuple):
    """`bound` alone, or so many times the floor, or so much above it."""

    bound: float
    times_floor: bool = False
    above_floor: bool = False
    is_least: bool = False
    """What is measured must be at least that, not at most."""

    def limit(self, floor: float | None) -> float:
        if not (self.times_floor or self.above_floor):
            return self.bound
        assert floor is not None
        return floor * self.bound if self.times_floor else floor + self.bound

    def words(self, unit: str) -> str:
        most = "≥" if self.is_least else "≤"
        if self.times_floor:
            return f"{most} {self.bound:g} × floor"
        return f"{most} {'floor + ' if self.above_floor else ''}{_number(self.bound)} {unit}"


class Figure(NamedTuple):
    what: str
    value: float
    unit: str
    floor: float | None = None
    target: Target | None = None

    @property
    def is_met(self) -> bool:
        if self.target is None:
            return True
        limit = self.target.limit(self.floor)
        return self.value >= limit if self.target.is_least else self.value <= limit

    @property
    def verdict(self) -> str:
        return "" if self.target is None else "ok" if self.is_met else "**over**"


def table(figures: Iterable[Figure]) -> str:
    """Markdown, in columns that line up."""
    rows = [("what", "measured", "floor", "target", "")]
    for figure in figures:
        floor = "" if figure.floor is None else f"{_number(figure.floor)} {figure.unit}"
        target = "" if figure.target is None else figure.target.words(figure.unit)
        rows.append((figure.what, f"{_number(figure.value)} {figure.unit}", floor, target, figure.verdict))
    return aligned(rows)


def compared(before: Iterable[Figure], after: Iterable[Figure]) -> str:
    """Both beside each other; a figure that only one of them has is left out."""
    old = {figure.what: figure for figure in before}
    rows: list[tuple[str, ...]] = [("what", "before", "after", "after / before", "floor before", "floor after")]
    for figure in after:
        if figure.what in old:
            was = old[figure.what]
            ratio = f"{figure.value / was.value:.2f}" if was.value else ""
            values = (was.value, figure.value)
            floors = ("" if each is None else _number(each) for each in (was.floor, figure.floor))
            rows.append((figure.what, *(f"{_number(each)} {figure.unit}" for each in values), ratio, *floors))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def to_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    return [figure._asdict() | {"target": figure.target and figure.target._asdict()} for figure in figures]


def from_json(found: Iterable[dict[str, Any]]) -> list[Figure]:
    return [Figure(**each | {"target": each["target"] and Target(**each["target"])}) for each in found]


def _number(value: float) -> str:
    """Three digits that count, and none after the point of what is larger."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
