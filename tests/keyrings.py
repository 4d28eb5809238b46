"""A real GNOME Keyring on a session bus of its own, for tests; and a bus on which nothing ever answers."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import Reaper, wait_until

NEEDED = ("dbus-daemon", "gnome-keyring-daemon", "secret-tool")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
needs_keyring = pytest.mark.skipif(bool(MISSING), reason=f"NOT TESTED: no {', '.join(MISSING)} on this machine")

_CONFIG = """<busconfig><type>session</type><listen>unix:path={socket}</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""


class Keyring:
    def __init__(self, folder: Path, reaper: Reaper) -> None:
        self._reaper = reaper
        self._folder = folder
        self.address = f"unix:path={folder}/bus"
        self._env = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": self.address, "HOME": str(folder)}
        self._env |= {"XDG_RUNTIME_DIR": str(folder), "XDG_DATA_HOME": str(folder / "data")}

    def start_bus(self) -> None:
        config = self._folder / "bus.conf"
        config.write_text(_CONFIG.format(socket=self._folder / "bus"))
        self._reaper.spawn(["dbus-daemon", f"--config-file={config}", "--nofork"], env=self._env)
        wait_until(self._is_listening, 20.0, lambda: "no bus")

    def _is_listening(self) -> bool:
        """The socket is there a moment before anybody listens on it."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self._folder / "bus")) == 0

    def start(self) -> None:
        """The service, with a keyring that is unlocked."""
        self.start_bus()
        command = ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"]
        daemon = self._reaper.spawn(command, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)  # fmt: skip
        assert daemon.stdin is not None
        daemon.stdin.write(b"a password\n")
        daemon.stdin.close()
        wait_until(lambda: self._call("ReadAlias", "s", "default") not in ("", "/"), 20.0, lambda: "no keyring")

    def lock(self) -> None:
        self._call("Lock", "ao", [self._call("ReadAlias", "s", "default")])

    def tool(self, *words: str, given: str = "") -> str:
        """What secret-tool prints."""
        done = subprocess.run(
            ["secret-tool", *words], env=self._env, input=given, capture_output=True, text=True, timeout=20
        )
        return done.stdout

    def _call(self, method: str, signature: str, argument: object) -> str:
        from jeepney import DBusAddress, MessageType, new_method_call
        from jeepney.io.blocking import open_dbus_connection

        service = DBusAddress("/org/freedesktop/secrets", "org.freedesktop.secrets", "org.freedesktop.Secret.Service")
        with open_dbus_connection(self.address) as connection:
            message = new_method_call(service, method, signature, (argument,))
            reply = connection.send_and_get_reply(message, timeout=10.0)
        return "" if reply.header.message_type is MessageType.error else str(reply.body[0])


@contextmanager
def a_folder() -> Iterator[Path]:
    """With a short name, for sockets."""
    path = Path(tempfile.mkdtemp(prefix="keyring-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def silent_bus() -> Iterator[str]:
    """The address of a bus that takes connections and says nothing."""
    with a_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "bus"))
        listener.listen()
        yield f"unix:path={folder}/bus"


def run_keyring(script: str, address: str) -> str:
    """Run Python with keyring's own backend for the Secret Service; what it prints."""
    before = "from keyring.backends.SecretService import Keyring; k = Keyring(); "
    done = subprocess.run([sys.executable, "-c", before + script], capture_output=True, text=True, timeout=30,
                          env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": address})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def a_keyring(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    """One that is unlocked, on a session bus that everything started meanwhile finds."""
    with a_folder() as folder:
        keyring = Keyring(folder, reaper)
        keyring.start()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", keyring.address)
        yield keyring
        reaper.end()
