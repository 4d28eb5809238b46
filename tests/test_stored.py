"""A configuration that an earlier version stored is still one: the fields it lacks have what they have unsaid."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.files import ConfigurationFiles
from procclaw.engine.stored import spec_of
from procclaw.model.document import document_hash
from procclaw.system import specfile
from procclaw.system.store import Store
from tests.commandline import CommandLine

SPECS = Path(__file__).parent / "data" / "specs"
Keys = tuple[str | int, ...]

NAMED = ("jobs", "queues", "workflows", "env", "params")
"""Mappings whose keys are names, not fields."""
ALWAYS = {("jobs",), ("config",), ("config", "timezone")}
"""What the first version had already."""
MADE = ("source", "process_hash", "type", "name", "timezone")
"""Fields of a job that are made from others, or that its document cannot be without."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """One that says something of every field there is."""
    return dict(json.loads(json.dumps(ConfigurationFiles(str(SPECS / "every_field")).load().document)))


def places(part: Any, at: Keys = ()) -> Iterator[Keys]:
    """Where a field stands that a later version may have added."""
    if isinstance(part, list):
        for number, each in enumerate(part):
            yield from places(each, (*at, number))
    elif isinstance(part, dict):
        for key, each in part.items():
            is_field = not at or at[-1] not in NAMED
            if is_field and (*at, key) not in ALWAYS and key not in MADE:
                yield (*at, key)
            yield from places(each, (*at, key))


def without(document: dict[str, Any], keys: Keys) -> dict[str, Any]:
    copied = copy.deepcopy(document)
    part: Any = copied
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return copied


def test_whichever_field_is_missing_there_is_a_configuration(document: dict[str, Any]) -> None:
    found = list(places(document))
    assert len(found) > 200
    assert ("config", "openclaw", "hooks") in found
    whole = spec_of(document, "hash")
    for keys in found:
        # What somebody has to write there, no version can have added later.
        if "depends_on" in keys or "channels" in keys or (keys[0] == "workflows" and keys[-1] == "jobs"):
            continue
        spec = spec_of(without(document, keys), "hash")
        assert spec.jobs.keys() == whole.jobs.keys(), keys
        name = keys[1] if keys[0] == "jobs" else None
        assert {job for job in spec.jobs if spec.jobs[job] != whole.jobs[job]} <= ({name} if name else set(whole.jobs))


def test_a_field_that_is_missing_has_what_it_has_unsaid(document: dict[str, Any]) -> None:
    old = without(document, ("config", "openclaw", "hooks"))
    assert (
        spec_of(old, "hash").config.openclaw.hooks_url
        == specfile.brought_up_to_date(old)["config"]["openclaw"]["hooks"]["url"]
    )
    job = next(iter(document["jobs"]))
    assert spec_of(without(document, ("jobs", job, "log", "max_size")), "hash").jobs[job].log.max_bytes == 10 << 20
    assert spec_of(without(document, ("jobs", job, "shutdown", "signal")), "hash").jobs[job].shutdown.signal == 15


def test_what_is_there_is_left_as_it_is(document: dict[str, Any]) -> None:
    assert specfile.brought_up_to_date(document) == document


def test_a_home_of_an_earlier_version_can_be_listed_and_goes_on(cli: CommandLine, home: Path) -> None:
    cli.declare(a={"cmd": "true"})
    (home / "procclaw.yaml").write_text("openclaw: {enabled: true}\n")
    assert cli("reconcile").code == 0
    store = Store(str(home / "procclaw.db"))
    [(text,)] = store._db.read("SELECT document FROM specs")
    old = without(json.loads(text), ("config", "openclaw", "hooks"))
    store.save_spec(document_hash(old), old, store.last_commit_at() or datetime.now(UTC))
    store.close()
    answer = cli("list", "--json")
    assert answer.json.get("total") == 1, answer
    (home / "jobs.yaml").write_text("jobs: [")
    assert cli("reconcile").code == 2
    answer = cli("list", "--json")
    assert answer.json.get("total") == 1, answer
    told = [each["found"] for each in cli("doctor", "--json").json["findings"] if each["thing"] == "configuration"]
    assert ["the last good configuration stays in force" in each for each in told] == [True]


def test_another_program_reads_files_again_that_have_not_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "jobs.yaml").write_text("jobs: {}\n")
    before = specfile.fingerprint(str(home))
    assert specfile.fingerprint(str(home)) == before
    monkeypatch.setattr(specfile, "_program", lambda: "another")
    after = specfile.fingerprint(str(home))
    assert (after.text != before.text, after.newest_at) == (True, before.newest_at)
