"""Who answers at an address."""

import json
import socket
from collections.abc import Iterator

import pytest

from procclaw.model.errors import ProcclawError
from procclaw.system.listening import Listener, listener_at
from tests.listeners import Behaviour, Listeners, answering, closed_port, hanging, listening, saying

HEALTH = {"status": "healthy", "version": "1.2", "jobs_running": 0, "jobs_total": 3, "problems": []}


@pytest.fixture
def open_at() -> Iterator[Listeners]:
    with listening() as listeners:
        yield listeners


@pytest.mark.parametrize(
    ("behaviour", "wanted"),
    [
        pytest.param(answering(200, json.dumps(HEALTH).encode()), Listener("1.2"), id="a ProcClaw that is well"),
        pytest.param(
            answering(503, json.dumps(HEALTH | {"problems": ["it is late"]}).encode()),
            Listener("1.2", ("it is late",)),
            id="one that is not",
        ),
        pytest.param(answering(200, b'{"status": "healthy", "version": "9"}'), Listener(None), id="another's health"),
        pytest.param(answering(404, b"not here"), Listener(None), id="a web server"),
        pytest.param(answering(200, b"[1]"), Listener(None), id="other JSON"),
        pytest.param(saying(b"SSH-2.0-x\r\n"), Listener(None), id="no web server"),
        pytest.param(saying(), Listener(None), id="it hangs up"),
    ],
)
def test_who_listens_is_told_by_its_answer(open_at: Listeners, behaviour: Behaviour, wanted: Listener) -> None:
    assert listener_at("127.0.0.1", open_at(behaviour).port, 10.0) == wanted


def test_one_whose_answer_never_ends_listens_all_the_same(open_at: Listeners) -> None:
    assert listener_at("127.0.0.1", open_at(hanging(b"HTTP/1.0 200 OK\r\n")).port, 0.3) == Listener(None)


def test_one_that_never_accepts_listens_all_the_same(open_at: Listeners) -> None:
    assert listener_at("127.0.0.1", open_at(None).port, 0.2) == Listener(None)


def test_over_ipv6_as_well(open_at: Listeners) -> None:
    if not socket.has_ipv6:
        pytest.skip("NOT TESTED: this machine has no IPv6")
    listener = open_at(answering(200, json.dumps(HEALTH).encode()), socket.AF_INET6)
    assert listener_at("::1", listener.port, 10.0) == Listener("1.2")


def test_nobody_listens_at_a_closed_port() -> None:
    assert listener_at("127.0.0.1", closed_port(), 1.0) is None


def test_an_address_that_is_none_says_so() -> None:
    with pytest.raises(ProcclawError, match=r"^::1%nowhere port 9876: "):
        listener_at("::1%nowhere", 9876, 1.0)
