"""`procclaw replay`: why the loop decided as it did, by run, by time and of the last cycle."""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from procclaw.system.store import Store
from procclaw.system.store.tables import CYCLES
from tests.commandline import CommandLine
from tests.driver import Driver, driving, until
from tests.support import Reaper

FAILS = {"cmd": "exit 3", "retry": {"enabled": False}}


def shape(text: str) -> str:
    """Without what differs from time to time."""
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME", text)
    text = re.sub(r"\S+ \(cli\) asked", "somebody asked", text)
    # Of a process that is quick nobody has seen the pid.
    return re.sub(r" \(pid \d+\)", "", text)


@pytest.fixture
def failed(cli: CommandLine) -> str:
    """A run that has failed, by its id."""
    cli.declare(bad=FAILS)
    return str(cli("run", "bad", "--wait", "--json").json["id"])


# --- what there is to tell ---


@pytest.mark.real
def test_a_run_is_told_from_the_request_to_its_end(cli: CommandLine, failed: str) -> None:
    answer = cli("replay", failed)
    assert (answer.code, answer.err) == (0, "")
    first, *_, last = shape(answer.out).split("\n\ncycle ")
    assert first.splitlines()[1:] == [
        "it looked because\ta command made a pass",
        "it acted on\tbad",
        "it took into account\t1 job",
        "next look\tTIME",
        "",
        "saw\tbad\tstopped\t-\t-",
        "saw\tbad\tsomebody asked for run at TIME\t-\t-",
        f"decided\tbad\tmake run {failed}\tmanual\t-",
        "decided\tbad\tstart\tasked for\t-",
        "",
        "this version decides the same",
    ]
    assert f"saw\tbad\trun {failed} running; attempt 1 has exited with code 3\t-\t-\n" in last
    assert "decided\tbad\trecord an end\texited, exit code 3\t-\n" in last
    assert last.endswith("this version decides the same\n")


@pytest.mark.real
def test_without_an_argument_the_last_cycle_that_acted_is_told(cli: CommandLine, failed: str) -> None:
    [told] = cli("replay", "--json").json["cycles"]
    of_run = cli("replay", failed, "--json").json
    assert told == of_run["cycles"][-1]
    assert of_run["total"] == len(of_run["cycles"]) >= 2
    assert [each["cycle"] for each in of_run["cycles"]] == sorted(each["cycle"] for each in of_run["cycles"])
    [newest] = cli("replay", failed, "-n", "1", "--json").json["cycles"]
    assert newest == told
    assert cli("replay", failed[:6], "--json").json == of_run
    shown = cli.on_terminal("replay", failed, "-n", "1").out
    assert f"{of_run['total'] - 1} older ones are not shown (-n {of_run['total']} shows them)" in shown


@pytest.mark.real
def test_for_a_time_the_last_cycle_by_then_is_told(cli: CommandLine, home: Path, failed: str) -> None:
    cycles = cli("replay", failed, "--json").json["cycles"]
    store = Store(str(home / "procclaw.db"))
    # Times are told in milliseconds and kept in microseconds.
    recorded = store.cycles.about(failed, 9)
    store.close()
    for cycle, record in zip(cycles, recorded, strict=True):
        assert cli("replay", record.at.isoformat(), "--json").json["cycles"] == [cycle]
    assert cli("replay", "0s", "--json").json["cycles"] == cycles[-1:]


@pytest.mark.real
def test_a_cycle_that_cannot_be_recorded_acts_all_the_same_and_leaves_word_once(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_recorded: object) -> None:
        raise TypeError("no such thing")

    monkeypatch.setattr("procclaw.engine.controller.record_of", broken)
    cli.declare(bad=FAILS, good={"cmd": "exit 0"})
    assert cli("run", "good", "--wait").code == 0
    assert cli("run", "bad", "--wait").code == 1
    log = (home / "logs" / "daemon.log").read_text()
    assert "error cycle not recorded error=TypeError" in log


def test_what_is_not_recorded_is_said_with_what_is(cli: CommandLine, home: Path) -> None:
    cli.declare(bad=FAILS, idle={"cmd": "true"})
    nothing = "no cycle has been recorded yet: one is with the next that acts, such as that of a start"
    for words in (["replay"], ["replay", "1h"]):
        answer = cli(*words)
        assert (answer.code, answer.out, answer.err) == (1, "", f"procclaw: {nothing}\n")
    answer = cli("replay", "--json")
    assert (answer.code, answer.json["error"]["message"]) == (1, nothing)
    answer = cli("replay", "k3v9")
    assert (answer.code, answer.err) == (1, 'procclaw: no run "k3v9"\n')


@pytest.mark.real
def test_a_time_before_all_that_is_recorded_says_since_when_something_is(cli: CommandLine, failed: str) -> None:
    answer = cli("replay", "2001-01-01T00:00Z")
    assert (answer.code, answer.out) == (1, "")
    assert re.fullmatch(
        r"procclaw: no cycle is recorded at 2001-01-01T00:00:00Z or before: the oldest is of \S+Z; "
        r"ask for a time since then\n",
        answer.err,
    )


@pytest.mark.real
def test_a_run_whose_cycles_are_no_longer_kept_says_so(cli: CommandLine, home: Path, failed: str) -> None:
    store = Store(str(home / "procclaw.db"))
    store._db.execute("UPDATE cycles SET runs = '[]'")
    store.close()
    answer = cli("replay", failed)
    assert answer.code == 1
    assert re.fullmatch(
        rf'procclaw: no recorded cycle is about run "{failed}" of bad: cycles are kept since \S+Z\n', answer.err
    )


# --- another version ---


def rewrite_the_last(home: Path, change: Any) -> None:
    """Have the last cycle recorded as `change` leaves its JSON."""
    store = Store(str(home / "procclaw.db"))
    try:
        cycle = store.cycles.at(None)
        assert cycle is not None
        plain = json.loads(zlib.decompress(cycle.body))
        change(plain)
        body = zlib.compress(json.dumps(plain).encode())
        store._db.execute("UPDATE cycles SET body = ? WHERE id = ?", (body, cycle.id))
    finally:
        store.close()


def was_stopped(plain: dict[str, Any]) -> None:
    """As if the version of then had taken the failed run for a stopped one."""
    for kind, write in plain["decided"]["writes"]:
        if kind == "Run":
            write["state"] = "stopped"


@pytest.mark.real
def test_a_decision_that_would_be_another_now_is_told(cli: CommandLine, home: Path, failed: str) -> None:
    rewrite_the_last(home, was_stopped)
    answer = cli("replay")
    assert answer.code == 0
    assert answer.out.endswith(
        f"\nthis version would decide otherwise:\n  Run {failed}: state was stopped, is failed\n"
    )
    assert cli("replay", "--json").json["cycles"][0]["differences"] == [f"Run {failed}: state was stopped, is failed"]


@pytest.mark.real
def test_a_cycle_that_this_version_cannot_read_says_which_can(cli: CommandLine, home: Path, failed: str) -> None:
    rewrite_the_last(home, lambda plain: plain.update(format=99))
    answer = cli("replay")
    assert answer.code == 1
    assert re.fullmatch(
        r"procclaw: cycle \d+ of \S+Z was recorded by a version that this one cannot read "
        r"\(it is written in format 99, and this version reads 1\); use that version, or ask for a later one\n",
        answer.err,
    )


@pytest.mark.real
def test_a_cycle_is_replayed_by_the_configuration_of_then(cli: CommandLine, failed: str) -> None:
    before = cli("replay", failed, "--json").json
    cli.declare(bad={"cmd": "true", "retry": {"max_attempts": 7}}, other={"cmd": "true"})
    cli("reconcile")
    assert cli("status", "other").code == 0
    assert cli("replay", failed, "--json").json == before


# --- secrets ---

CANARY = "canary-0123456789-of-the-flight-recorder"


@pytest.mark.real
def test_what_is_kept_of_a_configuration_has_no_secret_in_it(cli: CommandLine, home: Path) -> None:
    trigger = {"type": "webhook", "auth_token": CANARY, "hmac_secret": CANARY}
    job: Mapping[str, Any] = {
        "cmd": "exit 3",
        "env": {"PASSWORD": CANARY, "DATABASE": f"postgres://me:{CANARY}@host/db"},
        "trigger": trigger,
        "alerts": {"webhook": f"http://127.0.0.1:1/{CANARY}"},
        "retry": {"enabled": False},
        "params": {"day": {"default": "monday"}},
    }
    cli.declare(bad=job)
    run = cli("run", "bad", "--wait", "--json").json["id"]
    cli.declare(bad={"cmd": "true"})
    cli("reconcile")
    store = Store(str(home / "procclaw.db"))
    try:
        kept = [zlib.decompress(document) for (document,) in store._db.read("SELECT document FROM past_specs")]
        bodies = [
            zlib.decompress(CYCLES.read(row).body) for row in store._db.read(f"SELECT {CYCLES.columns} FROM cycles")
        ]
    finally:
        store.close()
    assert len(kept) == 1
    assert b"monday" in kept[0]
    assert len(bodies) >= 2
    for text in (*kept, *bodies):
        assert CANARY.encode() not in text
    answer = cli("replay", run, "--json")
    assert CANARY not in answer.out
    assert [each["differences"] for each in answer.json["cycles"]] == [[]] * answer.json["total"]


# --- beside a daemon, and as it is shipped ---


@pytest.mark.real
def test_a_daemon_leaves_word_of_what_made_it_look(driver: Driver) -> None:
    driver.declare({"waits": {"cmd": until("go", "exit 0")}})
    driver.start_daemon()
    driver.ask("run", "waits")
    [note] = driver.wait_for_notes("waits")
    driver.touch("go")
    driver.wait_for_status("waits", "stopped")
    cycles = driver.ask("replay", note.run_id, "--json").json["cycles"]
    assert [each["cause"] for each in cycles[0]["because"]] == ["request"]
    assert cycles[0]["because"][0]["jobs"] == ["waits"]
    assert "exit" in [each["cause"] for each in cycles[-1]["because"]]
    assert {tuple(each["differences"]) for each in cycles} == {()}
    driver.ask("daemon", "stop")


@pytest.mark.artefact
def test_the_pyz_replays_what_it_did_and_shows_what_would_be_otherwise(
    home: Path, reaper: Reaper, built_pyz: Path
) -> None:
    with driving(home, reaper, built_pyz) as driver:
        driver.declare({"bad": FAILS})
        run = driver.ask("run", "bad", "--wait", "--json", code=1).json["id"]
        assert driver.ask("replay", run).out.endswith("this version decides the same\n")
        rewrite_the_last(home, was_stopped)
        assert f"  Run {run}: state was stopped, is failed\n" in driver.ask("replay").out
