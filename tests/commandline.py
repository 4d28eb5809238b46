"""ProcClaw's command line run inside the test's own process: what it prints and returns, in a pipe or on a terminal."""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from procclaw.interface.cli import main
from tests.driver import Answer


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class CommandLine:
    """Commands on one home, which PROCCLAW_HOME names."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._home = home
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *words: str) -> Answer:
        self._capsys.readouterr()
        code = main(list(words))
        printed = self._capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    def on_terminal(self, *words: str, columns: int = 200, **environment: str) -> Answer:
        """The same with stdout and stderr on a terminal, without colour unless NO_COLOR is given as empty."""
        out, err = Terminal(), Terminal()
        with self._monkeypatch.context() as changed:
            changed.setattr(sys, "stdout", out)
            changed.setattr(sys, "stderr", err)
            for name, value in {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns), **environment}.items():
                changed.setenv(name, value)
            code = main(list(words))
        return Answer(code, out.getvalue(), err.getvalue())

    def declare(self, **jobs: Mapping[str, Any]) -> None:
        """Write jobs.yaml."""
        self.declare_all(jobs)

    def declare_all(self, jobs: Mapping[str, Mapping[str, Any]], **others: Mapping[str, Any]) -> None:
        """The same with what else may stand at the top of it: queues, workflows."""
        (self._home / "jobs.yaml").write_text(json.dumps({"jobs": jobs, **others}, indent=1))
