"""Migrations: what turns a database of an earlier schema into the present one, a step per version.

A step stays as it is for ever; databases that were written years ago go through all of them, one after the other. Run
within one transaction, so a step that fails leaves the file as it was. Columns are added, never renamed or removed: an
older program refuses the file anyway, and a column nobody reads costs nothing.
"""

import sqlite3
from collections.abc import Callable

from procclaw.system.store.tables import SCHEMA

LATEST = 5


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the tables from `version` to `LATEST`; within the caller's transaction."""
    for step in range(version, LATEST):
        _STEPS[step](db)


def _from_1(db: sqlite3.Connection) -> None:
    """Gates, triggers, health, alerts, dead letters and workflows."""
    for addition in (
        "runs ADD COLUMN closed TEXT NOT NULL DEFAULT '[]'",
        "runs ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal'",
        "runs ADD COLUMN params TEXT NOT NULL DEFAULT '[]'",
        "runs ADD COLUMN boot_id TEXT NOT NULL DEFAULT ''",
        "runs ADD COLUMN pulled TEXT NOT NULL DEFAULT '[]'",
        "runs ADD COLUMN request INTEGER",
        "runs ADD COLUMN trigger_file TEXT",
        "runs ADD COLUMN workflow_run TEXT",
        "runs ADD COLUMN step INTEGER",
        "attempts ADD COLUMN result TEXT",
        "holds ADD COLUMN until INTEGER",
        "intents ADD COLUMN key TEXT",
        "intents ADD COLUMN details TEXT NOT NULL DEFAULT '{}'",
    ):
        db.execute(f"ALTER TABLE {addition}")
    db.execute(
        "UPDATE runs SET closed = json_array(json_array('max_instances', waiting_since), "
        "json_array('place', waiting_since)) WHERE waiting_since IS NOT NULL"
    )
    _make_what_is_missing(db)


def _from_2(db: sqlite3.Connection) -> None:
    """When a job last succeeded is found without reading its history."""
    _make_what_is_missing(db)


def _from_3(db: sqlite3.Connection) -> None:
    """What is old enough to be forgotten is found without reading what is not."""
    _make_what_is_missing(db)


def _from_4(db: sqlite3.Connection) -> None:
    """What cycles decided and what it followed from, and the configurations of then."""
    _make_what_is_missing(db)


def _make_what_is_missing(db: sqlite3.Connection) -> None:
    """The tables and indexes that the present schema has besides."""
    present = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    for statement in SCHEMA.split(";\n"):
        name = statement.split()[2] if statement.split()[:1] == ["CREATE"] else ""
        if name and name not in present:
            db.execute(statement)


_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4}
