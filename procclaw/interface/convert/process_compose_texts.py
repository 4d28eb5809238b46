"""What process-compose fills into the texts of a process before it uses them: templates of `vars`, and variables.

A variable is replaced when the file is read, by what the terminal has. Here it is read later, by the shell that runs a
command or by a reference, so only what is the same at any time is written out.
"""

import re
from collections.abc import Mapping, Sequence

from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.section import Misfit, Section
from procclaw.model.references import literal

_TEMPLATE = re.compile(r"\{\{-?\s*\.([A-Za-z_]\w*)\s*-?\}\}")
_VARIABLE = re.compile(r"\$\$|\$\{(?P<braced>[A-Za-z_]\w*)(?P<default>:?-[^{}]*)?\}|\$(?P<plain>[A-Za-z_]\w*)")
_EVERY_JOB_HAS = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "PATH"})


class Texts:
    """The texts of one process, or of what all share; what is said about them gathers in `notes`."""

    def __init__(
        self, process: Section, variables: Mapping[str, str], shell: Sequence[str], folder: str | None, *, expands: bool
    ) -> None:
        self._process = process
        self._variables = variables
        self._shell = shell
        self._folder = folder
        self._expands = expands
        self.notes: list[Note] = []

    def in_shell(self, command: str, key: str = "command") -> list[str]:
        """A command for its shell, as words that nothing looks into."""
        text = self._filled(command, key)
        return [*self._shell, _VARIABLE.sub(self._for_the_shell, text) if self._expands else text]

    def value(self, text: str, key: str) -> str:
        """A text that no shell sees, where a reference may stand for a variable."""
        return self._replaced(self._filled(text, key), key, may_refer=True)

    def known(self, text: str, key: str) -> str:
        """A text where none may. Raises Misfit for a variable that is known only when the job starts."""
        return self._replaced(self._filled(text, key), key, may_refer=False)

    def _for_the_shell(self, found: re.Match[str]) -> str:
        """What is left of a variable for the shell, which has the same but for where the terminal was."""
        if found[0] == "$$":
            return "$"
        is_folder = (found["braced"] or found["plain"]) == "PWD" and self._folder is not None
        return self._folder or "" if is_folder else found[0]

    def _filled(self, text: str, key: str) -> str:
        """With the variables of its templates. Raises Misfit for more than names."""

        def meant(found: re.Match[str]) -> str:
            if found[1] not in self._variables:
                raise Misfit(self._process.line_of(key), f"{key}: {found[0]} is no variable of vars")
            return self._variables[found[1]]

        text = _TEMPLATE.sub(meant, text)
        if "{{" in text and "}}" in text.partition("{{")[2]:
            says = f"{key}: a template that does more than name a variable: write it out"
            raise Misfit(self._process.line_of(key), says)
        return text

    def _replaced(self, text: str, key: str, *, may_refer: bool) -> str:
        quoted = literal if may_refer else str
        if not self._expands:
            return quoted(text)
        pieces: list[str] = []
        end = 0
        for found in _VARIABLE.finditer(text):
            meaning = self._variable(found, key)
            if meaning is None and not may_refer:
                raise Misfit(self._process.line_of(key), f"{key}: {found[0]} is a variable: write what it stands for")
            name = found["braced"] or found["plain"]
            pieces += [quoted(text[end : found.start()]), f"${{env:{name}}}" if meaning is None else quoted(meaning)]
            end = found.end()
        return "".join([*pieces, quoted(text[end:])])

    def _variable(self, found: re.Match[str], key: str) -> str | None:
        """What it stands for; None: that is known when the job starts."""
        name: str | None = found["braced"] or found["plain"]
        if name is None:
            return "$"
        if name == "PWD" and self._folder is not None:
            return self._folder
        if found["default"] is not None:
            default: str = found["default"].lstrip(":").removeprefix("-")
            self._note(key, f"{name} is always the default that stands beside it")
            return default
        if name not in _EVERY_JOB_HAS:
            self._note(key, f"{found[0]} has to be in env_file, in daemon.pass_env or in env of procclaw.yaml")
        return None

    def _note(self, key: str, says: str) -> None:
        self.notes.append(Note(self._process.line_of(key), key, Fate.CHANGED, says))
