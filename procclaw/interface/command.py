"""What a command is, to the table of them."""

from typing import NamedTuple

from procclaw.interface.arguments import Argument


class Command(NamedTuple):
    name: str
    """One word, or two for a command of a family: `daemon start`."""
    summary: str
    module: str
    function: str
    arguments: tuple[Argument, ...] = ()
    example: str = ""


Group = tuple[str, tuple[Command, ...]]
"""Commands that the overview lists together, under a title."""
