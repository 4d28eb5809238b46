"""A client of the HTTP interface, as plain as can be: one request, one answer, nothing followed or retried."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from tests.driver import ROOT, Driver

TIMEOUT_SECONDS = 20.0

PATIENT = f"""
import sys

sys.path.insert(0, {str(ROOT)!r})
from procclaw.engine.asking import Patience
from procclaw.interface.api import desk

desk.PATIENCE = Patience({TIMEOUT_SECONDS - 5})
from procclaw.interface.cli import main

sys.exit(main())
"""


class Told(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.json["error"]["code"]


class Client:
    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def connect(self) -> HTTPConnection:
        return HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Told:
        """`body` is sent as JSON; bytes as they stand, without a kind. A header given as None is left out."""
        given = {"Content-Type": "application/json"} if body is not None and not isinstance(body, bytes) else {}
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        sent = {name: value for name, value in (given | named).items() if value is not None}
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, payload, sent)
            answer = connection.getresponse()
            return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Told:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str | None) -> Told:
        return self.ask("POST", path, body, **headers)


def patient(folder: Path) -> Path:
    """ProcClaw, made there, with an HTTP interface that waits for an answer for longer than two seconds: a loop that is
    held up for as long does not make it another one.
    """
    program = folder / "patient.py"
    program.write_text(PATIENT)
    return program


def client_of(driver: Driver) -> Client:
    """Of the daemon's HTTP interface, once it is there."""
    address = str(driver.wait(lambda: driver.operations.api().address))
    host, _, port = address.removeprefix("http://").rpartition(":")
    return Client(host.strip("[]"), int(port))
