"""Why a request is not served, and the answer that says so.

Its message names what is wrong and never repeats what was sent: a header may hold a token.
"""

import json
from http import HTTPStatus

HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Refused(Exception):
    """The server itself refuses; the connection ends with the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = f"{status} {HTTPStatus(status).phrase}"
        self.body = json.dumps({"error": {"code": code, "message": message}}).encode()

    def answer(self, method: str = "") -> bytes:
        """Whole; to HEAD without the body."""
        fields = [*HEADERS, ("Content-Length", str(len(self.body))), ("Connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 {self.status}\r\n{head}\r\n".encode() + (b"" if method == "HEAD" else self.body)


def bad_request(message: str) -> Refused:
    return Refused(400, "bad_request", message)


def no_place() -> Refused:
    return Refused(503, "no_place", "too many connections are open; try again")


def our_bug() -> Refused:
    return Refused(500, "internal", "ProcClaw failed at this request; its log says how (procclaw daemon logs)")
