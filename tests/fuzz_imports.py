"""Mutated inputs of every kind that can be imported: each is converted, or refused with its line; nothing else may be.

`python -m tests.fuzz_imports [COUNT] [--seed N]` tries COUNT of them (10,000 if not told) and prints the seed of one
that fails; `--seed N 1` tries that one again. Programs among the inputs are not run: they are mutated too.
"""

import argparse
import random
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from procclaw.interface.convert import kinds
from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Source, Unconvertible
from procclaw.interface.convert.importing import acceptable
from tests import imports

_PIECES = (
    *(
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "\r\n",
        ":",
        "=",
        "-",
        ",",
        ";",
        "#",
        "%",
        "%(",
        ")s",
        "'",
        '"',
        "`",
        "\\",
        "${",
        "}",
    ),
    *(
        "{",
        "[",
        "]",
        "*",
        "&",
        "!",
        "|",
        ">",
        "?",
        "~",
        "@",
        "<",
        "0",
        "-1",
        "9" * 30,
        "1e9",
        "ü",
        "\u2028",
        "\x1b",
        "\x7f",
    ),
    *(
        "null",
        "true",
        "[]",
        "{}",
        "*x",
        "&x",
        "<<: ",
        "!!int ",
        "%(ENV_X)s",
        "%(x)d",
        "${secret:X}",
        "[section]",
        "a: b",
    ),
)


class Case(NamedTuple):
    seed: int
    kind: str
    path: Path
    text: str


@cache
def _texts() -> tuple[tuple[Path, str], ...]:
    return tuple((path, path.read_text()) for path in imports.inputs())


def case(seed: int) -> Case:
    """An input of some kind, cut, doubled, shuffled and sprinkled."""
    source = random.Random(seed)
    kind = source.choice(kinds.NAMES)
    of_kind = [each for each in _texts() if each[0].parent.name == kind]
    path, text = source.choice(of_kind or _texts())
    for _ in range(source.randrange(1, 6)):
        text = _mutated(text, source)
    return Case(seed, kind, path, text)


def _mutated(text: str, source: random.Random) -> str:
    lines = text.split("\n")
    at, line = source.randrange(len(text) + 1), source.randrange(len(lines))
    match source.randrange(8):
        case 0:
            return text[:at] + source.choice(_PIECES) + text[at:]
        case 1:
            return text[:at] + text[at + source.randrange(1, 12) :]
        case 2:
            return text[:at]
        case 3:
            return "\n".join([*lines[:line], *lines[line + 1 :]])
        case 4:
            return "\n".join([*lines[:line], lines[line], *lines[line:]])
        case 5:
            other = source.choice(_texts())[1].split("\n")
            return "\n".join([*lines[:line], source.choice(other), *lines[line:]])
        case 6:
            words = lines[line].split(" ")
            words[source.randrange(len(words))] = source.choice(_PIECES)
            return "\n".join([*lines[:line], " ".join(words), *lines[line + 1 :]])
        case _:
            return "\n".join([*lines[:line], source.choice((" ", "  ", "\t", "- ")) + lines[line], *lines[line + 1 :]])


def problems(tried: Case) -> Iterator[str]:
    """What is wrong with how it was taken."""

    def read(name: str) -> str | None:
        beside = tried.path.parent / name
        return beside.read_text() if beside.is_file() else None

    source = Source(tried.path.name, tried.text, read)
    # YAML ends lines where `splitlines` does, the other readers at a newline alone.
    last = max(tried.text.count("\n"), len(tried.text.splitlines())) + 1
    with suppress(Unconvertible):
        kinds.kind_of(source)
    try:
        converted = acceptable([kinds.convert(source, kinds.named(tried.kind), Ids())], None)
    except Unconvertible as error:
        if not str(error) or error.line > last:
            yield f"refused on line {error.line}: {error}"
        return
    except Exception:  # noqa: BLE001 (that is what is looked for)
        yield traceback.format_exc()
        return
    for each in converted:
        yield from _odd_lines(each.conversion, last)


def _odd_lines(conversion: Conversion, last: int) -> Iterator[str]:
    for note in conversion.all_notes():
        if not note.file and not 0 <= note.line <= last:
            yield f"line {note.line} of {last}: {note.told}"
        if note.fate is Fate.REFUSED and not note.says:
            yield f"refused without a reason: {note.what}"
    for job in conversion.jobs:
        if not job.file and not 1 <= job.line <= last:
            yield f"{job.id}: line {job.line} of {last}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_imports", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next number")
    chosen = parser.parse_args()
    failed = 0
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        tried = case(seed)
        found = list(problems(tried))
        failed += bool(found)
        for problem in found:
            print(f"--- seed {seed}: {tried.kind}, from {tried.path.name}\n{problem}")
    print(f"{chosen.count} inputs from seed {chosen.seed}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
