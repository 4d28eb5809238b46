"""Where secrets live: the user's keychain, for which a real GNOME Keyring stands, and the home's file."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.model.clock import SystemClock
from procclaw.model.errors import Conflict, NotFound, ProcclawError
from procclaw.model.secret import Secret, revealed_all
from procclaw.system.credentials import Credentials, Place, Stored
from procclaw.system.credentials.keychain import REST_SECONDS
from tests.keyrings import Keyring, a_folder, a_keyring, needs_keyring, run_keyring, silent_bus
from tests.support import Reaper, wait_until

SECRET = Secret("pä55 \n wörd\n")
ABSENT = "the keychain is not there: no session bus"

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="NOT TESTED: the Keychain of macOS is the user's own")


class Wound(SystemClock):
    """A clock whose monotonic time the test adds to."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
def credentials(home: Path) -> Credentials:
    return Credentials(str(home), Wound(), 5.0)


@pytest.fixture
def keyring(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    with a_keyring(reaper, monkeypatch) as keyring:
        yield keyring


# --- a value on its way ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("xoxb-your-token-here", "xoxb-****-here"),
        ("x" * 19, "****"),
        ("short", "****"),
        ("12345" + "x" * 40 + "67890", "12345****67890"),
    ],
)
def test_only_the_ends_of_a_long_secret_are_shown(value: str, shown: str) -> None:
    assert Secret(value).hint() == shown


def test_whoever_prints_a_secret_prints_stars() -> None:
    secret = Secret("canary")
    assert "canary" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}"
    assert revealed_all([("A", secret), ("B", "b")]) == {"A": "canary", "B": "b"}
    with pytest.raises(TypeError):
        json.dumps({"a": secret})


# --- the file ---


def test_without_a_keychain_a_secret_goes_into_the_file_and_that_is_told(home: Path, credentials: Credentials) -> None:
    assert credentials.set("A", SECRET) == Stored(Place.FILE, ABSENT)
    assert (home / ".secrets").stat().st_mode & 0o777 == 0o600
    assert credentials.find("A") == (SECRET, Place.FILE)
    assert credentials.places() == (("A", Place.FILE),)


def test_a_secret_that_is_set_again_is_replaced_and_one_that_is_deleted_is_gone(credentials: Credentials) -> None:
    credentials.set("A", Secret("old"))
    credentials.set("B", Secret("b"))
    credentials.set("A", Secret("new"))
    assert credentials.read("A") == Secret("new")
    assert credentials.delete("A") is Place.FILE
    with pytest.raises(NotFound, match=r'^secret "A" is not set: procclaw secret set A$'):
        credentials.read("A")
    with pytest.raises(NotFound, match=r'^no secret "A"$'):
        credentials.delete("A")
    assert credentials.read("B") == Secret("b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_file_that_is_open_to_others_is_refused(home: Path, credentials: Credentials, mode: int) -> None:
    credentials.set("A", SECRET)
    (home / ".secrets").chmod(mode)
    with pytest.raises(ProcclawError, match=rf"\(mode {mode:o}\): refused; chmod 600 "):
        credentials.read("A")
    with pytest.raises(ProcclawError, match="refused"):
        credentials.set("B", SECRET)


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: only root can give a file away")
def test_a_file_of_another_user_is_refused(home: Path, credentials: Credentials) -> None:
    credentials.set("A", SECRET)
    os.chown(home / ".secrets", 65534, -1)
    with pytest.raises(ProcclawError, match="belongs to user 65534, and this is user 0: refused"):
        credentials.read("A")


def test_a_link_and_a_folder_in_its_place_are_refused(home: Path, credentials: Credentials) -> None:
    (home / "elsewhere").write_text('{"values": {"A": "x"}, "keychain": []}')
    (home / "elsewhere").chmod(0o600)
    (home / ".secrets").symlink_to(home / "elsewhere")
    with pytest.raises(ProcclawError, match="cannot be read"):
        credentials.read("A")
    (home / ".secrets").unlink()
    (home / ".secrets").mkdir(mode=0o700)
    with pytest.raises(ProcclawError, match="is no file: refused"):
        credentials.read("A")


@pytest.mark.parametrize(
    "content", ["", "canary", '{"values": "canary"}', '{"values": {"A": 1}, "keychain": []}', "[]"]
)
def test_a_damaged_file_is_refused_and_not_quoted(home: Path, credentials: Credentials, content: str) -> None:
    (home / ".secrets").write_text(content)
    (home / ".secrets").chmod(0o600)
    with pytest.raises(ProcclawError, match="is damaged; put back a copy") as caught:
        credentials.set("B", SECRET)
    assert "canary" not in str(caught.value)
    assert (home / ".secrets").read_text() == content


def test_a_change_that_was_interrupted_leaves_the_old_file_and_is_cleared_away(
    home: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.set("A", SECRET)
    (home / ".secrets.new").write_text("half a fi")
    assert credentials.read("A") == SECRET
    with monkeypatch.context() as changed:
        changed.setattr(os, "replace", _full)
        with pytest.raises(ProcclawError, match="no space left"):
            credentials.set("B", SECRET)
    assert not (home / ".secrets.new").exists()
    assert credentials.places() == (("A", Place.FILE),)


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_every_change_is_seen_from_outside(credentials: Credentials) -> None:
    seen = [credentials.signature()]
    for value in ("a", "a", "b"):
        credentials.set("A", Secret(value))
        seen.append(credentials.signature())
    assert len(set(seen)) == 4


# --- the keychain ---


def test_asking_for_the_keychain_starts_no_other_program(home: Path) -> None:
    script = """if True:
        import sys
        from procclaw.model.clock import SystemClock
        from procclaw.system.credentials import Credentials
        started = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system")
        sys.addaudithook(lambda event, _: event in started and print(event))
        try:
            Credentials(sys.argv[1], SystemClock(), 5.0).read("A")
        except Exception as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", script, str(home)], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'secret "A" is not set: procclaw secret set A\n', done


@needs_keyring
@pytest.mark.real
def test_a_secret_in_the_keychain_is_read_by_other_programs_and_theirs_by_us(
    home: Path, credentials: Credentials, keyring: Keyring
) -> None:
    assert credentials.set("A", SECRET) == Stored(Place.KEYCHAIN, "")
    assert credentials.find("A") == (SECRET, Place.KEYCHAIN)
    assert "pä55" not in (home / ".secrets").read_text()
    for name in ("account", "username"):
        assert keyring.tool("lookup", "service", "procclaw", name, "A") == SECRET.reveal()
    keyring.tool("store", "--label=x", "service", "procclaw", "account", "B", given="theirs")
    assert credentials.find("B") == (Secret("theirs"), Place.KEYCHAIN)
    assert credentials.delete("A") is Place.KEYCHAIN
    assert keyring.tool("lookup", "service", "procclaw", "account", "A") == ""
    with pytest.raises(NotFound):
        credentials.read("A")


@needs_keyring
@pytest.mark.real
def test_keyring_itself_finds_replaces_and_deletes_what_we_stored(credentials: Credentials, keyring: Keyring) -> None:
    pytest.importorskip("secretstorage", reason="NOT TESTED: keyring's own backend needs SecretStorage")
    credentials.set("A", SECRET)
    assert run_keyring("print(k.get_password('procclaw', 'A'), end='')", keyring.address) == SECRET.reveal()
    run_keyring("k.set_password('procclaw', 'A', 'theirs')", keyring.address)
    assert credentials.read("A") == Secret("theirs")
    credentials.set("A", Secret("ours again"))
    assert run_keyring("print(k.get_password('procclaw', 'A'), end='')", keyring.address) == "ours again"
    run_keyring("k.delete_password('procclaw', 'A')", keyring.address)
    with pytest.raises(NotFound, match=r'^secret "A" is no longer in the keychain: procclaw secret set A$'):
        credentials.read("A")


@needs_keyring
@pytest.mark.real
def test_what_lives_in_a_locked_keychain_is_an_error_and_is_not_moved_unasked(
    home: Path, credentials: Credentials, keyring: Keyring
) -> None:
    credentials.set("A", SECRET)
    keyring.lock()
    locked = '^secret "A" lives in the keychain, which is locked'
    with pytest.raises(ProcclawError, match=f"{locked}$"):
        credentials.read("A")
    with pytest.raises(ProcclawError, match=f"{locked}$"):
        credentials.delete("A")
    with pytest.raises(Conflict, match=f"{locked}; --file stores it in {home}/.secrets instead"):
        credentials.set("A", Secret("new"))
    assert credentials.set("NEW", SECRET) == Stored(Place.FILE, "the keychain is locked")
    moved = credentials.set("A", Secret("new"), in_file=True)
    assert moved == Stored(Place.FILE, "its old value stays in the keychain, which is locked")
    assert credentials.find("A") == (Secret("new"), Place.FILE)


@needs_keyring
@pytest.mark.real
def test_a_secret_that_is_moved_to_the_file_leaves_the_keychain(credentials: Credentials, keyring: Keyring) -> None:
    credentials.set("A", SECRET)
    assert credentials.set("A", Secret("new"), in_file=True) == Stored(Place.FILE, "")
    assert keyring.tool("lookup", "service", "procclaw", "account", "A") == ""
    assert credentials.set("A", Secret("newer")) == Stored(Place.KEYCHAIN, "")
    assert credentials.places() == (("A", Place.KEYCHAIN),)


@needs_keyring
@pytest.mark.real
def test_a_bus_without_a_keychain_is_told(
    reaper: Reaper, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_folder() as folder:
        keyring = Keyring(folder, reaper)
        keyring.start_bus()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", keyring.address)
        told = "the keychain is not there: nobody serves org.freedesktop.secrets on the session bus"
        assert credentials.set("A", SECRET) == Stored(Place.FILE, told)
        reaper.end()


def test_a_keychain_that_hangs_is_given_up_and_then_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Wound()
    hurried = Credentials(str(home), clock, 0.2)
    hurried.set("A", SECRET)
    as_kept = {"values": {}, "keychain": ["A"]}
    (home / ".secrets").write_text(json.dumps(as_kept))
    with silent_bus() as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        begun = clock.monotonic()
        with pytest.raises(
            ProcclawError, match=r'^secret "A" lives in the keychain, which did not answer within 0.2 s$'
        ):
            hurried.read("A")
        assert clock.monotonic() - begun < 5.0
        with pytest.raises(ProcclawError, match=r'^secret "A" lives in the keychain, which does not answer$'):
            hurried.read("A")
    # The thread that asked takes a moment to notice that the bus is gone.
    wait_until(
        lambda: all(thread.name != "procclaw-keychain" for thread in threading.enumerate()), 20, threading.enumerate
    )
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    clock.ahead = REST_SECONDS + 1.0
    with pytest.raises(ProcclawError, match=r"which is not there: no session bus$"):
        hurried.read("A")


@pytest.mark.parametrize("address", ["", "nonsense", "tcp:host=localhost,port=1", "unix:path=/nonexistent/bus"])
def test_no_address_of_a_bus_is_too_strange(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    assert credentials.set("A", SECRET) == Stored(Place.FILE, ABSENT)
