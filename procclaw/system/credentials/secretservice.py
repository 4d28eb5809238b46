"""The Secret Service (GNOME Keyring, KWallet, KeePassXC) as a keyring backend that speaks D-Bus through jeepney alone.

keyring's own needs `cryptography`, which is compiled and cannot be in the .pyz. The session with the service is a plain
one: values go over the local bus unencrypted, where whoever could read along may ask for them anyhow. Items have the
attributes that keyring gives them, and `account` with the same name beside them, so that keyring, `secret-tool lookup
service procclaw account NAME` and we read each other's. Nobody is asked to unlock anything: what is locked is locked.
"""

import os
from typing import Any

from jeepney import DBusAddress, Properties, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.low_level import MessageType
from keyring.backend import KeyringBackend
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError

_BUS_NAME = "org.freedesktop.secrets"
_SERVICE = "org.freedesktop.Secret.Service"
_COLLECTION = "org.freedesktop.Secret.Collection"
_ITEM = "org.freedesktop.Secret.Item"
_SERVICE_PATH = "/org/freedesktop/secrets"
_DEFAULT = "/org/freedesktop/secrets/aliases/default"
_APPLICATION = "Python keyring library"
_IS_LOCKED = "org.freedesktop.Secret.Error.IsLocked"


class _Refusal(Exception):
    """An error that the bus or the service answered with."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class SecretService(KeyringBackend):
    priority = 5

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seconds = seconds

    def get_password(self, service: str, username: str) -> str | None:
        with _Session(self._seconds) as session:
            item = session.newest(service, username)
            return None if item is None else session.value_of(item)

    def set_password(self, service: str, username: str, password: str) -> None:
        with _Session(self._seconds) as session:
            session.check_unlocked()
            found = session.items(service, username)
            for item in found:
                session.change(item, password)
            if not found:
                session.create(service, username, password)

    def delete_password(self, service: str, username: str) -> None:
        with _Session(self._seconds) as session:
            session.check_unlocked()
            found = session.items(service, username)
            if not found:
                raise PasswordDeleteError("no such item")
            for item in found:
                session.delete(item)


class _Session:
    """One connection to the bus, and a session with the service over it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> "_Session":
        try:
            self._connection: DBusConnection = open_dbus_connection(_address(), auth_timeout=self._seconds)
        except TimeoutError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            raise InitError("is not there: no session bus") from error
        try:
            self._session = self._call(_SERVICE_PATH, _SERVICE, "OpenSession", "sv", ("plain", ("s", "")))[1]
        except _Refusal as error:
            self._connection.close()
            raise InitError("is not there: nobody serves org.freedesktop.secrets on the session bus") from error
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def check_unlocked(self) -> None:
        try:
            is_locked = self._property(_DEFAULT, _COLLECTION, "Locked")
        except _Refusal as error:
            raise InitError("has no default collection") from error
        if is_locked:
            raise KeyringLocked("locked")

    def items(self, service: str, username: str) -> list[str]:
        """Paths of the default collection's items: those that keyring finds, else those of somebody's `account`."""
        for name in ("username", "account"):
            query = {"service": service, name: username}
            found: list[str] = self._call(_DEFAULT, _COLLECTION, "SearchItems", "a{ss}", (query,))[0]
            if found:
                return found
        return []

    def newest(self, service: str, username: str) -> str | None:
        try:
            found = self.items(service, username)
        except _Refusal as error:
            raise InitError("has no default collection") from error
        if not found:
            # Of a collection that is locked some services tell nothing, so it may be there.
            self.check_unlocked()
            return None
        if len(found) == 1:
            return found[0]
        return max(found, key=lambda item: int(self._property(item, _ITEM, "Modified")))

    def value_of(self, item: str) -> str:
        if self._property(item, _ITEM, "Locked"):
            raise KeyringLocked("locked")
        value: bytes = self._call(item, _ITEM, "GetSecret", "o", (self._session,))[0][2]
        return value.decode()

    def change(self, item: str, password: str) -> None:
        self._call(item, _ITEM, "SetSecret", "(oayays)", (self._secret(password),))

    def create(self, service: str, username: str, password: str) -> None:
        attributes = {"application": _APPLICATION, "service": service, "username": username, "account": username}
        properties = {
            f"{_ITEM}.Label": ("s", f"Password for '{username}' on '{service}'"),
            f"{_ITEM}.Attributes": ("a{ss}", attributes),
        }
        body = (properties, self._secret(password), True)
        item, _prompt = self._call(_DEFAULT, _COLLECTION, "CreateItem", "a{sv}(oayays)b", body)
        if item == "/":
            raise KeyringLocked("it asks a person first")

    def delete(self, item: str) -> None:
        if self._call(item, _ITEM, "Delete")[0] != "/":
            raise KeyringLocked("it asks a person first")

    def _secret(self, password: str) -> tuple[str, bytes, bytes, str]:
        return self._session, b"", password.encode(), "text/plain; charset=utf8"

    def _property(self, path: str, interface: str, name: str) -> Any:
        about = DBusAddress(path, _BUS_NAME, interface)
        return self._answer(Properties(about).get(name))[0][1]

    def _call(self, path: str, interface: str, method: str, signature: str = "", body: tuple[Any, ...] = ()) -> Any:
        return self._answer(new_method_call(DBusAddress(path, _BUS_NAME, interface), method, signature or None, body))

    def _answer(self, message: Any) -> Any:
        reply = self._connection.send_and_get_reply(message, timeout=self._seconds)
        if reply.header.message_type is not MessageType.error:
            return reply.body
        from jeepney import HeaderFields

        name = str(reply.header.fields.get(HeaderFields.error_name))
        if name == _IS_LOCKED:
            raise KeyringLocked("locked")
        raise _Refusal(name)


def _address() -> str:
    """The session bus; from cron and the like nobody names it, and it is where logind puts it."""
    named = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    return named or f"unix:path={os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/bus"
