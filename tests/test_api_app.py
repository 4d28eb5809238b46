"""The application by itself, without a server: what it says of a loop that is in trouble, and how it keeps its desk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from procclaw.interface.api.app import LATE_SECONDS, Application
from procclaw.interface.metrics import Metrics
from tests.commandline import CommandLine


class Connection(SimpleNamespace):
    def __init__(self) -> None:
        super().__init__(kept={}, callbacks=[])

    def on_close(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


class Stage:
    def __init__(self, home: Path) -> None:
        self.late = 0.0
        self.connection = Connection()
        self.app = Application(str(home), "<p>page</p>", Metrics(), lambda: self.late, lambda _environ: True, str)

    def get(self, path: str) -> tuple[int, Any]:
        environ: dict[str, Any] = {
            "PATH_INFO": path,
            "HTTP_HOST": "localhost",
            "procclaw.local": ("127.0.0.1", 9876),
            "procclaw.peer": ("127.0.0.1", 40000),
            "procclaw.connection": self.connection,
        }
        setup_testing_defaults(environ)
        told: list[str] = []
        body = b"".join(self.app(environ, lambda status, _headers, _error=None: told.append(status)))
        return int(told[0].split()[0]), json.loads(body)

    def close(self) -> None:
        for callback in self.connection.callbacks:
            callback()
        self.app.close()


@pytest.fixture
def stage(cli: CommandLine, home: Path) -> Iterator[Stage]:
    cli.declare(job={"cmd": "true"})
    assert cli("reconcile").code == 0
    stage = Stage(home)
    yield stage
    stage.close()


def test_a_loop_that_is_late_makes_the_health_bad_and_is_named(stage: Stage) -> None:
    stage.late = LATE_SECONDS
    assert stage.get("/health")[0] == 200
    stage.late = LATE_SECONDS + 2.4
    status, told = stage.get("/health")
    assert (status, told["status"], told["problems"]) == (503, "unhealthy", ["the loop is late by 12 s"])
    assert told["jobs_total"] == 1


def test_one_connection_has_one_desk_which_is_closed_with_it(stage: Stage) -> None:
    stage.get("/api/v1/jobs/job")
    stage.get("/api/v1/runs")
    assert len(stage.connection.callbacks) == 1


def test_a_database_that_is_gone_is_told_and_not_a_bug(stage: Stage, home: Path) -> None:
    for path in home.glob("procclaw.db*"):
        path.unlink()
    (home / "procclaw.db").write_bytes(b"not a database, and long enough to be looked at as one" * 100)
    status, told = stage.get("/api/v1/jobs/job")
    assert (status, told["error"]["code"]) == (503, "store")
