"""Whose the other end of a connection is, with real connections over the loopback."""

import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from procclaw.model.errors import Untold
from procclaw.system.processes import Processes, sockets
from procclaw.system.processes.sockets import Address, owner_of
from tests.support import Reaper, wait_until

NOBODY = pwd.getpwnam("nobody")
WITHIN = 10.0
US = os.geteuid()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: becoming another account takes root")
needs_table = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="NOT TESTED: this system does not tell")


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(WITHIN)
        yield listener


@contextmanager
def connected(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket]]:
    """The end that accepted, which is the one that asks, and the end that connected."""
    with listening(host) as listener, socket.create_connection(listener.getsockname()[:2], WITHIN) as far:
        near, _ = listener.accept()
        with near:
            yield near, far


def addresses(near: socket.socket) -> tuple[Address, Address]:
    return near.getsockname()[:2], near.getpeername()[:2]


@needs_table
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_the_owner_of_the_other_end_is_told(host: str, tmp_path: Path) -> None:
    with connected(host) as (near, far):
        assert owner_of(*addresses(near)) == US
        assert owner_of(*addresses(far)) == US
        assert Processes(str(tmp_path)).socket_owner(*addresses(near)) == US


@needs_table
def test_an_address_of_ipv4_may_be_put_as_one_of_ipv6() -> None:
    with connected() as (near, _):
        (host, port), (their_host, their_port) = addresses(near)
        assert owner_of((f"::ffff:{host}", port), (f"::ffff:{their_host}", their_port)) == US
        assert owner_of((f"::FFFF:{host}", port), (their_host, their_port)) == US


@needs_table
def test_each_of_many_connections_is_found() -> None:
    with ExitStack() as opened:
        pairs = [opened.enter_context(connected()) for _ in range(100)]
        assert [owner_of(*addresses(near)) for near, _ in pairs] == [US] * 100


CONNECTS = """
import encodings.idna, os, socket, sys
host, port, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if uid != os.geteuid():
    os.setgroups([])
    os.setuid(uid)
with socket.create_connection((host, port), 10) as connection:
    connection.recv(1)
"""


@contextmanager
def connected_to_child(reaper: Reaper, listener: socket.socket, host: str, uid: int) -> Iterator[socket.socket]:
    port = str(listener.getsockname()[1])
    child = reaper.spawn([sys.executable, "-c", CONNECTS, host, port, str(uid)])
    near, _ = listener.accept()
    with near:
        yield near
    assert child.wait(WITHIN) == 0


@needs_table
@pytest.mark.real
def test_the_other_end_may_be_a_socket_of_ipv6_used_for_ipv4(reaper: Reaper) -> None:
    with listening() as listener, connected_to_child(reaper, listener, "::ffff:127.0.0.1", US) as near:
        assert near.getpeername()[0] == "127.0.0.1"
        assert owner_of(*addresses(near)) == US


@needs_table
@needs_root
@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_another_account_is_told_from_ours_on_both_ends(reaper: Reaper, host: str) -> None:
    with listening(host) as listener, connected_to_child(reaper, listener, host, NOBODY.pw_uid) as near:
        assert owner_of(*addresses(near)) == NOBODY.pw_uid
        assert owner_of(*reversed(addresses(near))) == US


# Nobody, who has uid 0 in the table and is not root


def row_of(ours: Address, theirs: Address) -> list[str]:
    """State, uid and inode of the other end as the system shows them; empty when it does not."""
    wanted = [sockets._written(sockets._packed(host), port).decode() for host, port in (theirs, ours)]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return next(([row[3], row[7], row[9]] for row in rows if row[1:3] == wanted), [])


FIN_WAIT1, FIN_WAIT2, TIME_WAIT = "04", "05", "06"


@needs_table
def test_a_socket_that_was_closed_has_no_owner() -> None:
    with connected() as (near, far):
        known = addresses(near)
        far.close()
        assert row_of(*known) in ([FIN_WAIT1, "0", "0"], [FIN_WAIT2, "0", "0"])
        assert owner_of(*known) is None
        near.close()
        # What it sends arrives when the kernel comes to it.
        wait_until(lambda: row_of(*known) == [TIME_WAIT, "0", "0"], WITHIN, lambda: row_of(*known))
        assert owner_of(*known) is None


@needs_table
def test_a_socket_that_was_closed_with_more_to_send_has_no_owner() -> None:
    with connected() as (near, far):
        far.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                far.send(bytes(65536))
        far.close()
        assert row_of(*addresses(near)) == [FIN_WAIT1, "0", "0"]
        assert owner_of(*addresses(near)) is None


@needs_table
def test_a_connection_that_was_reset_has_no_owner() -> None:
    with connected() as (near, far):
        known = addresses(near)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        assert row_of(*known) == []
        assert owner_of(*known) is None


@needs_table
def test_a_socket_that_will_only_listen_is_still_somebodys() -> None:
    with connected() as (near, far):
        far.shutdown(socket.SHUT_WR)
        assert owner_of(*addresses(near)) == US


@needs_table
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1", "fe80::1%lo"])
def test_an_address_without_a_socket_has_no_owner(host: str) -> None:
    assert owner_of((host, 1), (host, 2)) is None


# The table


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000 {uid:5d}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"


def a_row(local: str, remote: str, uid: int, inode: int, state: str = "01") -> str:
    return f"   0: {local} {remote} {state} {REST.format(uid=uid, inode=inode)}"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    paths = tmp_path / "tcp", tmp_path / "tcp6"
    monkeypatch.setattr(sockets, "_TABLE", str(paths[0]))
    monkeypatch.setattr(sockets, "_TABLE6", str(paths[1]))
    return paths


OURS, THEIRS = ("127.0.0.1", 8080), ("127.0.0.1", 50000)
NEAR, FAR = "0100007F:1F90", "0100007F:C350"

needs_little_end = pytest.mark.skipif(sys.byteorder != "little", reason="NOT TESTED: addresses are written otherwise")


@needs_little_end
def test_only_the_other_ends_row_counts(tables: tuple[Path, Path]) -> None:
    others = [
        a_row(NEAR, FAR, 1, 11),
        a_row(NEAR, "00000000:0000", 2, 12, "0A"),
        a_row(FAR, "0100007F:1F91", 3, 13),
        a_row("0100007F:C351", NEAR, 4, 14),
        a_row("0200007F:C350", NEAR, 5, 15),
    ]
    tables[0].write_text(HEADER + "".join(others))
    tables[1].write_text(HEADER)
    assert owner_of(OURS, THEIRS) is None
    tables[0].write_text(HEADER + "".join([*others, a_row(FAR, NEAR, 4294967294, 16)]))
    assert owner_of(OURS, THEIRS) == 4294967294


@needs_little_end
def test_an_owner_is_found_behind_one_that_is_none(tables: tuple[Path, Path]) -> None:
    tables[0].write_text(HEADER + a_row(FAR, NEAR, 0, 0, TIME_WAIT) + a_row(FAR, NEAR, 1000, 16))
    assert owner_of(OURS, THEIRS) == 1000


@needs_little_end
def test_a_row_that_slipped_through_is_looked_for_again(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([HEADER, HEADER, HEADER + a_row(FAR, NEAR, 1000, 16)])
    monkeypatch.setattr(sockets, "_read", lambda _path: next(looks).encode())
    assert owner_of(OURS, THEIRS) == 1000


@needs_little_end
def test_root_is_somebody(tables: tuple[Path, Path]) -> None:
    tables[0].write_text(HEADER + a_row(FAR, NEAR, 0, 16))
    assert owner_of(OURS, THEIRS) == 0


@needs_little_end
def test_a_long_table_is_read_to_its_end(tables: tuple[Path, Path]) -> None:
    others = "".join(a_row(f"0100007F:{port:04X}", "0100007F:0050", 1, port) for port in range(1, 20_000))
    tables[0].write_text(HEADER + others + a_row(FAR, NEAR, 1000, 16))
    assert owner_of(OURS, THEIRS) == 1000


@needs_little_end
def test_addresses_of_ipv6_are_written_in_four_numbers(tables: tuple[Path, Path]) -> None:
    tables[0].write_text(HEADER)
    tables[1].write_text(HEADER + a_row("B80D0120020001000400030006000500:0002", f"{'0' * 24}01000000:0001", 1000, 16))
    assert owner_of(("::1", 1), ("2001:db8:1:2:3:4:5:6", 2)) == 1000
    assert owner_of(("::1", 1), ("2001:db8:1:2:3:4:6:5", 2)) is None


@needs_little_end
def test_ipv6_need_not_be_there(tables: tuple[Path, Path]) -> None:
    tables[0].write_text(HEADER + a_row(FAR, NEAR, 1000, 16))
    assert owner_of(OURS, THEIRS) == 1000
    assert owner_of(OURS, ("127.0.0.1", 1)) is None
    assert owner_of(("::1", 1), ("::1", 2)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_system_that_does_not_tell_is_not_taken_for_one_that_knows_nobody(
    tables: tuple[Path, Path], host: str
) -> None:
    with pytest.raises(Untold, match="this system does not tell whose a socket is"):
        owner_of((host, 1), (host, 2))


def test_a_table_that_cannot_be_read_is_no_answer(tables: tuple[Path, Path]) -> None:
    tables[0].mkdir()
    with pytest.raises(IsADirectoryError):
        owner_of(OURS, THEIRS)
