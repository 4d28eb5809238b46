"""A secret's value on its way from where it is kept to what needs it: whoever prints it by mistake prints stars.

No `str`, so that it cannot be joined, formatted, quoted or written down without `reveal`, which stands only where a
value leaves us: at the start of a process, in a comparison, in a request. A text that holds a secret is one as a whole.
"""

from collections.abc import Iterable
from typing import NoReturn

MASK = "****"
_SHOWN_FROM = 20
"""Characters from which on some may be shown: half of what is left of a shorter one could be guessed."""
_SHOWN = 5


class Secret:
    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hint(self) -> str:
        """Enough of it for its owner to know it by: both ends of a long one, else nothing."""
        if len(self._value) < _SHOWN_FROM:
            return MASK
        return self._value[:_SHOWN] + MASK + self._value[-_SHOWN:]

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


Text = str | Secret


def revealed(text: Text) -> str:
    """For the last moment."""
    return text.reveal() if isinstance(text, Secret) else text


def revealed_all(variables: Iterable[tuple[str, Text]]) -> dict[str, str]:
    """An environment, for the process that is being started with it."""
    return {name: revealed(value) for name, value in variables}
