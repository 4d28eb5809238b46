"""The text format in which Prometheus reads numbers, version 0.0.4: metric families, and the samples in each."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_HELP_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n"})


class Family:
    """A metric and what is known of it. Without a sample it is left out."""

    __slots__ = ("_head", "_lines", "name")

    def __init__(self, name: str, kind: str, said: str) -> None:
        self.name = name
        self._head = f"# HELP {name} {said.translate(_HELP_ESCAPES)}\n# TYPE {name} {kind}\n"
        self._lines: list[str] = []

    def add(self, value: float | None, labels: str = "") -> None:
        """A sample, with labels as `labelled` gives them; None: there is nothing to say."""
        if value is not None:
            own = f"{{{labels}}}" if labels else ""
            self._lines.append(f"{self.name}{own} {number(value)}\n")

    def add_histogram(self, edges: Sequence[str], counts: Sequence[int], total: float, labels: str = "") -> None:
        """`counts`: how many were observed up to each of `edges` and beyond the one before."""
        own, before = (f"{{{labels}}}", f"{labels},") if labels else ("", "")
        bucket = f'{self.name}_bucket{{{before}le="'
        self._lines += [f'{bucket}{edge}"}} {so_far}\n' for edge, so_far in zip(edges, accumulate(counts), strict=True)]
        self._lines.append(f"{self.name}_sum{own} {number(total)}\n{self.name}_count{own} {sum(counts)}\n")

    def text(self) -> str:
        return "".join((self._head, *self._lines)) if self._lines else ""


def exposition(families: Iterable[Family]) -> bytes:
    """All of them, by name."""
    return "".join(family.text() for family in sorted(families, key=lambda family: family.name)).encode()


def labelled(**labels: str) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def edges_of(bounds: Sequence[float]) -> tuple[str, ...]:
    """Of the buckets of a histogram with these bounds, the last of which has none."""
    return (*map(number, bounds), "+Inf")


def number(value: float) -> str:
    """As short as tells it from any other."""
    is_whole = isinstance(value, int) or (value.is_integer() and abs(value) < 2**53)
    return f"{int(value)}" if is_whole else repr(value)
