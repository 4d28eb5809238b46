"""Secrets by name: set, get, list, delete. A value is printed for `get --show` only."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.console import printable
from procclaw.model.errors import UsageError
from procclaw.model.references import is_secret_name
from procclaw.model.secret import Secret

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def store(context: "Context", options: Namespace) -> int:
    name = _name(options)
    secret = _checked(_asked_for(name) if options.value is None else options.value)
    credentials = context.home.patient_credentials()
    stored = credentials.set(name, secret, in_file=options.file)
    _audit(context, "secret set", name, stored.place)
    if context.console.is_json:
        context.console.json({"name": name, "place": stored.place, "note": stored.note or None})
        return 0
    where = "the keychain" if stored.place == "keychain" else credentials.path
    context.console.say(f"{name}: stored in {where}")
    if stored.note:
        context.console.complain(f"{name}: {stored.note}")
    return 0


def _asked_for(name: str) -> str:
    """From a person, unseen; or all of a pipe, less the newline that whatever writes into one adds."""
    if sys.stdin is None:
        raise UsageError("secret set: there is no value, and no input to read it from")
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass(f"value of {name}: ")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise UsageError("secret set: the value is not UTF-8 text") from None


def _checked(value: str) -> Secret:
    if not value:
        raise UsageError("secret set: the value is empty")
    if "\0" in value:
        raise UsageError("secret set: the value holds a NUL character, which no environment can")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError("secret set: the value is not UTF-8 text")
    return Secret(value)


def show(context: "Context", options: Namespace) -> int:
    name = _name(options)
    secret, place = context.home.patient_credentials().find(name)
    value = secret.reveal() if options.show else secret.hint()
    if context.console.is_json:
        context.console.json({"name": name, "value": value, "masked": not options.show, "place": place})
        return 0
    context.console.say(f"{name} = {printable(value) if context.console.is_terminal else value}")
    return 0


def show_list(context: "Context", options: Namespace) -> int:
    credentials = context.home.patient_credentials()
    places = credentials.places()
    if context.console.is_json:
        found = [{"name": name, "place": place} for name, place in places]
        context.console.json({"secrets": found, "total": len(found)})
        return 0
    where = {"keychain": "keychain", "file": credentials.path}
    context.console.table(("NAME", "PLACE"), [(name, where[place]) for name, place in places])
    if not places and context.console.is_terminal:
        context.console.say("no secrets")
    return 0


def delete(context: "Context", options: Namespace) -> int:
    name = _name(options)
    place = context.home.patient_credentials().delete(name)
    _audit(context, "secret deleted", name, place)
    if context.console.is_json:
        context.console.json({"name": name, "place": place})
    else:
        context.console.say(f"{name}: deleted")
    return 0


def _name(options: Namespace) -> str:
    name = str(options.name)
    if not is_secret_name(name):
        # Not what was given: the value may have come in its place.
        raise UsageError("that is no name for a secret: letters, digits and _ . - are, with no . or - in front")
    return name


def _audit(context: "Context", what: str, name: str, place: str) -> None:
    context.home.log.audit(what, context.home.clock.now(), secret=name, place=place, by=context.user)
