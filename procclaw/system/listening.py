"""Who answers at an address: nobody, a ProcClaw, or some other program."""

import json
import socket
from contextlib import suppress
from typing import NamedTuple

from procclaw.model.errors import ProcclawError, in_words

_MOST_BYTES = 65536
_QUESTION = b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"


class Listener(NamedTuple):
    version: str | None
    """Of ProcClaw; None: it is something else."""
    problems: tuple[str, ...] = ()
    """What that ProcClaw has to complain of."""


def listener_at(host: str, port: int, seconds: float) -> Listener | None:
    """None: nobody listens there. Raises ProcclawError for an address that cannot be asked."""
    try:
        connection = socket.create_connection((host, port), timeout=seconds)
    except ConnectionRefusedError:
        return None
    except OSError as error:
        raise ProcclawError(f"{host} port {port}: {in_words(error)}") from error
    with connection:
        answer = b""
        # Whatever it is, it listens; what does not speak HTTP may hang up, or say nothing at all.
        with suppress(OSError):
            connection.sendall(_QUESTION)
            while len(answer) < _MOST_BYTES and (chunk := connection.recv(_MOST_BYTES)):
                answer += chunk
    return _read(answer)


def _read(answer: bytes) -> Listener:
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        if "jobs_total" in told:
            return Listener(str(told["version"]), tuple(map(str, told["problems"])))
    return Listener(None)
