"""What people are told of runs that wait: queue, why, status, and what is to come."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from procclaw.interface.history import words_of_slots
from tests.commandline import CommandLine
from tests.driver import WITHIN, Answer, Driver
from tests.support import wait_until

STAYS = "exec sleep 1000"
NOBODY_LOOKS = "no daemon runs, so this is as it was last seen: procclaw reconcile, or procclaw daemon start"
QUEUED = "position job_id run_id priority state trigger queue waiting_since gate waits_for until expires_at"
QUEUE = "name limit running waiting"


def line_of(cli: CommandLine) -> None:
    """One run of a queue, and two that wait for it."""
    cli.declare_all(
        {
            "first": {"cmd": STAYS, "queue": "disk", "priority": "low"},
            "second": {"cmd": STAYS, "queue": "disk"},
            "third": {"cmd": STAYS, "queue": "disk", "priority": "critical"},
        },
        queues={"disk": {"limit": 1}, "idle": {"limit": 3}},
    )
    assert re.fullmatch(r"first: started \(pid \d+\)\n", cli("run", "first").out)
    waits = "waits: queue disk: 1 of at most 1 running: first (low)"
    assert cli("run", "second") == Answer(0, f"second: {waits}\n", "")
    assert cli("run", "third") == Answer(0, f"third: {waits}\n", "")


def end(cli: CommandLine, *jobs: str) -> None:
    cli("stop", *jobs, "--force")


# --- queue ---


@pytest.mark.real
@pytest.mark.parametrize("daemon", [{}, {"max_parallel": 1}], ids=str)
def test_who_asks_about_one_job_is_told_the_same_as_who_asks_about_all(
    cli: CommandLine, home: Path, daemon: dict[str, int]
) -> None:
    (home / "procclaw.yaml").write_text(json.dumps({"daemon": daemon}))
    lock = {"enabled": True, "name": "disk"}
    jobs: dict[str, dict[str, Any]] = {
        "runs": {"cmd": STAYS, "concurrency": {"max_instances": 2}},
        "rests": {"cmd": "true"},
        "queued": {"cmd": STAYS, "queue": "line"},
        "has-lock": {"cmd": STAYS, "lock": lock},
        "wants-lock": {"cmd": "true", "lock": lock},
        "leaf": {"cmd": "true", "depends_on": [{"job": "runs", "condition": "after_complete"}]},
        "retries": {"cmd": "false", "retry": {"delays": [3600]}},
        "later": {"cmd": "true"},
        "would-queue": {"cmd": "true", "queue": "line"},
        "would-lock": {"cmd": "true", "lock": lock},
    }
    cli.declare_all(jobs, queues={"line": {"limit": 1}})
    cli("run", "retries")
    cli("run", "later", "--at", "2099-01-01")
    for job_id in ("runs", "has-lock", "queued", "runs", "runs", "wants-lock"):
        cli("run", job_id)
    all_of_them = {view["id"]: view for view in cli("list", "--json").json["jobs"]}
    waiting = cli("queue", "--json").json["runs"]
    assert waiting
    for job_id in jobs:
        told = cli("status", job_id, "--json").json
        listed = {name: value for name, value in all_of_them[job_id].items() if name != "uptime_seconds"}
        assert {name: told[name] for name in listed} == listed
        places = [str(run["position"]) for run in waiting if run["job_id"] == job_id]
        assert re.findall(r"no\. (\d+) of all that wait", cli("status", job_id).out) == places
    # Who only would wait is told so as well.
    closed = {"leaf": "dependency", "would-queue": "queue", "would-lock": "lock"}
    for job_id, gate in (dict.fromkeys(("rests", "would-queue"), "max_parallel") if daemon else closed).items():
        gates = {each["gate"]: each["open"] for each in cli("why", job_id, "--json").json["gates"]}
        assert not gates[gate]
    assert "runs (after_complete): has not completed: it is" in cli("why", "leaf").out
    end(cli, *jobs)


@pytest.mark.real
def test_who_leaves_a_queue_keeps_its_place_until_its_run_is_over(cli: CommandLine) -> None:
    first, second = {"cmd": STAYS, "queue": "disk"}, {"cmd": STAYS, "queue": "disk"}
    queues = {"disk": {"limit": 1}}
    cli.declare_all({"first": first, "second": second}, queues=queues)
    cli("run", "first")
    cli.declare_all({"first": {"cmd": STAYS}, "second": second}, queues=queues)
    cli("reconcile")
    waits = "second: waits: queue disk: 1 of at most 1 running: first (normal)\n"
    assert cli("run", "second") == Answer(0, waits, "")
    cli("stop", "first")
    cli("reconcile")
    assert cli("list", "--json").json["jobs"][1]["status"] == "running"
    end(cli, "second")


@pytest.mark.real
def test_the_queue_lists_who_waits_in_order_and_for_what(cli: CommandLine) -> None:
    line_of(cli)
    told = cli("queue", "--json").json
    assert {" ".join(run) for run in told["runs"]} == {QUEUED}
    assert {" ".join(queue) for queue in told["queues"]} == {QUEUE}
    assert [(run["position"], run["job_id"], run["priority"], run["state"]) for run in told["runs"]] == [
        (1, "third", "critical", "queued"),
        (2, "second", "normal", "queued"),
    ]
    running = "queue disk: 1 of at most 1 running: first (low)"
    assert [(run["gate"], run["waits_for"]) for run in told["runs"]] == [
        ("queue", running),
        ("queue", f"{running}; 1 ahead of it: third (critical)"),
    ]
    [disk, idle] = told["queues"]
    assert (disk["name"], disk["limit"]) == ("disk", 1)
    assert [[run["job_id"] for run in disk[part]] for part in ("running", "waiting")] == [
        ["first"],
        ["third", "second"],
    ]
    assert idle == {"name": "idle", "limit": 3, "running": [], "waiting": []}
    end(cli, "first", "second", "third")
    assert cli("queue", "--json").json["runs"] == []


@pytest.mark.real
def test_the_queue_is_a_table_on_a_terminal_and_columns_in_a_pipe(cli: CommandLine) -> None:
    line_of(cli)
    runs, queues = cli("queue").out.split("\n\n")
    assert [line.split("\t")[:2] for line in runs.splitlines()] == [["1", "third"], ["2", "second"]]
    assert queues == "disk\t1\tfirst\tthird, second\nidle\t3\t-\t-\n"
    lines = cli.on_terminal("queue").out.splitlines()
    assert lines[0].split() == ["NO", "JOB", "RUN", "PRIORITY", "STATE", "SINCE", "UNTIL", "WAITS", "FOR"]
    assert re.fullmatch(r"disk +1 +first +third, second", lines[-2])
    of_one = cli("queue", "second", "--json").json
    assert [run["job_id"] for run in of_one["runs"]] == ["second"]
    assert [queue["name"] for queue in of_one["queues"]] == ["disk"]
    end(cli, "first", "second", "third")


def test_nothing_that_waits_is_told_too(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true"})
    assert cli("queue") == Answer(0, "", "")
    assert cli("queue", "--json").json == {"runs": [], "queues": []}
    assert cli.on_terminal("queue").out == "nothing waits\n"
    assert cli("queue", "jop") == Answer(1, "", 'procclaw: no job "jop"; did you mean "job"?\n')


@pytest.mark.real
def test_a_run_whose_turn_has_come_waits_for_the_next_pass(cli: CommandLine) -> None:
    cli.declare(late={"cmd": "exit 1", "retry": {"delays": [3600]}}, soon={"cmd": "exit 1", "retry": {"delays": [0.2]}})
    cli("run", "late", "--wait")
    cli("run", "soon", "--wait")

    def waiting(job_id: str) -> dict[str, Any]:
        [found] = cli("queue", job_id, "--json").json["runs"]
        return dict(found)

    late = waiting("late")
    assert (late["state"], late["gate"]) == ("retrying", "time")
    assert late["waits_for"] == "attempt 1 ended (exit code 1), attempt 2 follows"
    assert late["until"] is not None
    wait_until(lambda: waiting("soon")["gate"] is None, WITHIN, lambda: waiting("soon"))
    assert waiting("soon")["state"] == "retrying"
    end(cli, "late", "soon")


@pytest.mark.real
def test_who_waits_for_its_turn_is_followed_to_the_end_although_nobody_else_looks(cli: CommandLine) -> None:
    """The run it waits for ends meanwhile, and one that goes first gets its turn first."""
    cli.declare(
        now={"cmd": "sleep 0.3", "queue": "disk"},
        low={"cmd": "true", "queue": "disk", "priority": "low"},
        high={"cmd": "sleep 0.3", "queue": "disk", "priority": "high"},
    )
    cli("run", "now")
    cli("run", "high")
    assert cli("run", "low", "--wait", "--timeout", "20").out.startswith("low: succeeded after ")
    assert [run["job_id"] for run in cli("runs", "--json").json["runs"] if run["state"] == "succeeded"] == [
        "low",
        "high",
        "now",
    ]


# --- why ---


@pytest.mark.real
def test_why_says_first_what_keeps_a_waiting_run_back(cli: CommandLine) -> None:
    line_of(cli)
    lines = cli("why", "second").out.splitlines()
    assert re.fullmatch(
        r"second is queued: queue disk: 1 of at most 1 running: first \(low\); 1 ahead of it: third \(critical\), "
        r"since \d{4}-[\d :-]+ \(\d\.\ds ago\)",
        lines[0],
    )
    assert lines[1] == "to let it start: procclaw stop first"
    assert re.fullmatch(r"run \w{12} \(manual, priority normal\) waits since .*", lines[2])
    [row] = [line.split("\t") for line in lines if line.startswith("queue\t")]
    assert (row[1], row[5]) == ("closed", "procclaw stop first")
    assert row[3] != "-"
    end(cli, "first", "second", "third")


@pytest.mark.real
def test_why_says_since_when_a_service_runs_and_offers_nothing_to_start_it(cli: CommandLine) -> None:
    cli.declare(web={"cmd": STAYS, "type": "continuous"})
    cli("start", "web")
    lines = cli("why", "web").out.splitlines()
    assert re.fullmatch(r"web is running since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(\d\.\ds\), pid \d+", lines[0])
    assert lines[1:3] == [NOBODY_LOOKS, ""]
    end(cli, "web")


@pytest.mark.real
def test_why_follows_what_is_waited_for_to_its_root(cli: CommandLine) -> None:
    after = "after_complete"
    cli.declare(
        root={"cmd": "true"},
        middle={"cmd": "true", "depends_on": [{"job": "root", "condition": after}]},
        leaf={"cmd": "true", "depends_on": [{"job": "middle", "condition": after}]},
    )
    cli("pause", "root")
    told = cli("run", "leaf", "--timeout", "20")
    assert told.code == 0
    assert told.out.startswith("leaf: waits: middle (after_complete): ")
    lines = cli("why", "leaf").out.splitlines()
    assert lines[0].startswith("leaf is queued: middle (after_complete): has not completed: it is queued, since ")
    assert lines[1] == "to let it start: procclaw resume root"
    chain = [line for line in lines if line.startswith(("middle is ", "root is "))]
    assert chain == [
        "middle is queued: root (after_complete): has never run: it is paused",
        f"root is {cli('status', 'root', '--json').json['reason']}",
    ]
    cli("resume", "root")
    assert cli("run", "leaf", "--wait", "--timeout", "20").code == 0
    [gate] = [gate for gate in cli("why", "leaf", "--json").json["gates"] if gate["gate"] == "dependency"]
    assert (gate["open"], gate["reason"]) == (True, "middle (after_complete)")


def test_why_tells_that_nothing_but_time_is_needed(cli: CommandLine) -> None:
    cli.declare(
        long={"cmd": STAYS}, next={"cmd": "true", "depends_on": [{"job": "long", "condition": "after_complete"}]}
    )
    cli("run", "next", "--timeout", "1")
    cli("reconcile")  # that second may have passed before anybody looked
    lines = cli("why", "next").out.splitlines()
    assert lines[0].startswith("next is queued: long (after_complete): has not completed: it is running, since ")
    assert not [line for line in lines if line.startswith("to let it start")]
    assert NOBODY_LOOKS in lines
    end(cli, "long", "next")


@pytest.mark.real
def test_why_tells_that_no_command_is_needed_where_a_daemon_runs(driver: Driver) -> None:
    driver.declare(
        {
            "long": {"cmd": STAYS},
            "next": {"cmd": "true", "depends_on": [{"job": "long", "condition": "after_complete"}]},
        }
    )
    driver.start_daemon()
    driver.ask("run", "next")
    driver.wait_for_status("long", "running")
    lines = driver.ask("why", "next").out.splitlines()
    assert lines[1] == "no command is needed: it starts by itself once that is over"
    assert NOBODY_LOOKS not in lines


def test_a_start_that_failed_is_told_by_why_where_no_daemon_runs(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "env_file": "/nonexistent/env"})
    assert "attempt 1 did not start: env_file /nonexistent/env" in cli("start", "job").err
    assert cli("list").out.split("\t")[2] == "retrying"
    told = cli("why", "job").out.splitlines()
    assert told[0].startswith("job is retrying: attempt 2 ended (env_file /nonexistent/env")
    assert told[2] == "to let it start sooner: procclaw restart job"
    end(cli, "job")


def test_why_tells_until_when_a_revoked_job_is_held_and_what_comes_then(cli: CommandLine) -> None:
    cli.declare(yearly={"cmd": "true", "type": "scheduled", "schedule": "0 0 1 1 *", "timezone": "UTC"})
    cli("reconcile")
    cli("revoke", "yearly", "--expires", "2h")
    first, second, third, *_ = cli("why", "yearly").out.splitlines()
    assert re.fullmatch(r"yearly is revoked by \S+ \(cli\), since .* ago\), until .* \(in 1h 59m\)", first)
    assert re.fullmatch(r"it can start at \d{4}-\d\d-\d\d .* at the earliest", second)
    assert third == "to let it start sooner: procclaw unrevoke yearly, then procclaw run yearly"
    told = cli("why", "yearly", "--json").json
    [until] = [gate["until"] for gate in told["gates"] if gate["gate"] == "schedule"]
    assert (told["can_start"], told["earliest_start"]) == (False, until)


@pytest.mark.real
def test_why_takes_only_a_run_that_stands_for_the_request_as_a_duplicate(cli: CommandLine) -> None:
    cli.declare(once={"cmd": 'exit "$CODE"', "env": {"CODE": "0"}, "dedup": {"enabled": True, "window_seconds": 600}})
    run = cli("run", "once", "--wait", "--json").json
    [gate] = [gate for gate in cli("why", "once", "--json").json["gates"] if gate["gate"] == "dedup"]
    assert gate["open"] is False
    assert gate["reason"].startswith(f"run {run['id']}, asked for ")
    again = cli("run", "once")
    assert re.fullmatch(rf"once: stands already: run {run['id']}, asked for \d+ s ago \(dedup\)\n", again.out)


@pytest.mark.real
def test_why_does_not_take_a_failed_run_as_a_duplicate(cli: CommandLine) -> None:
    cli.declare(once={"cmd": "exit 1", "retry": {"enabled": False}, "dedup": {"enabled": True}})
    cli("run", "once", "--wait")
    [gate] = [gate for gate in cli("why", "once", "--json").json["gates"] if gate["gate"] == "dedup"]
    assert gate["open"] is True


# --- status ---


def fields_of(answer: Answer) -> list[list[str]]:
    return [line.split("\t") for line in answer.out.split("\n\n")[0].splitlines()[1:]]


@pytest.mark.real
def test_status_tells_what_a_job_depends_on_competes_for_and_is_given(cli: CommandLine, tmp_path: Path) -> None:
    cli.declare_all(
        {
            "base": {"cmd": "true"},
            "job": {
                "cmd": "true",
                "depends_on": [{"job": "base", "condition": "after_complete", "timeout": 60}],
                "queue": "disk",
                "priority": "high",
                "lock": {"enabled": True, "name": "tape"},
                "params": {
                    "target": {"required": True, "description": "where to"},
                    "level": {"default": 3},
                },
                "trigger": [{"type": "webhook"}, {"type": "file", "watch_path": str(tmp_path), "pattern": "*.csv"}],
            },
            "later": {"cmd": "true", "depends_on": ["job"]},
        },
        workflows={"nightly": {"type": "chain", "jobs": ["base", "job"]}},
    )
    cli("schedule", "job", "--at", "2035-01-01T00:00Z", "-p", "target=/srv")
    told = fields_of(cli("status", "job"))
    assert [row for row in told if row[0] not in ("next run", "planned", "status", "reason")] == [
        ["type", "manual"],
        ["enabled", "yes"],
        ["priority", "high"],
        ["depends on", "base (after_complete, at most 60 s): stopped: has never run"],
        ["needed by", "later"],
        ["queue", "disk: none running of at most 1, 0 waiting"],
        ["lock", "tape (file)"],
        ["param", "target (required): where to"],
        ["param", "level=3"],
        ["trigger", "webhook"],
        ["trigger", f"file {tmp_path}/*.csv"],
        ["workflows", "nightly"],
        ["declared at", "jobs.yaml:6"],
    ]
    [planned] = [row[1] for row in told if row[0] == "planned"]
    assert re.fullmatch(r".* \(in \d+d \d\dh\), run \w{12}, level=3 target=/srv", planned)


@pytest.mark.real
def test_status_tells_of_runs_that_wait_and_of_dead_letters(cli: CommandLine) -> None:
    line_of(cli)
    told = dict(fields_of(cli("status", "second")))
    assert re.fullmatch(r"run \w{12}, no. 2 of all that wait, since .* for queue disk: 1 of .*", told["waits"])
    assert told["queue"] == "disk: first running of at most 1, 2 waiting"
    end(cli, "first", "second", "third")
    cli.declare(bad={"cmd": "exit 7", "retry": {"enabled": False}})
    cli("run", "bad", "--wait")
    assert dict(fields_of(cli("status", "bad")))["dead letters"] == "1 (procclaw dlq bad)"


@pytest.mark.real
def test_status_tells_what_a_check_found(cli: CommandLine, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    check = {"type": "file", "path": str(beat), "interval": 3600, "failures": 1, "on_unhealthy": "alert"}
    cli.declare(web={"cmd": STAYS, "type": "continuous", "health_check": check})
    cli("start", "web")
    assert dict(fields_of(cli("status", "web")))["health"].startswith("unknown")
    end(cli, "web")


# --- what is to come ---


def test_a_plan_for_a_span_adds_the_fires_to_come(cli: CommandLine) -> None:
    cli.declare(
        daily={"cmd": "true", "type": "scheduled", "schedule": "30 6 * * *", "timezone": "Asia/Tokyo"},
        often={"cmd": "true", "type": "scheduled", "schedule": "@every 1s"},
        held={"cmd": "true", "type": "scheduled", "schedule": "0 0 * * *", "timezone": "UTC"},
    )
    cli("pause", "held")
    plain = cli("plan", "--json").json
    assert "fires" not in plain
    answer = cli("plan", "--for", "24h", "--json")
    fires = answer.json["fires"]
    assert {" ".join(fire) for fire in fires} == {"job_id at local note"}
    [daily] = [fire for fire in fires if fire["job_id"] == "daily"]
    assert re.fullmatch(r"\w{3} \d{4}-\d\d-\d\d 06:30:00 JST", daily["local"])
    assert daily["at"].endswith("T21:30:00Z")
    [held] = [fire for fire in fires if fire["job_id"] == "held"]
    assert held["note"] == "skipped: paused"
    [more] = answer.json["more"]
    assert (more["job_id"], more["count"]) == ("often", 86_400 - 24)
    out = cli("plan", "--for", "1d").out
    assert re.search(r"^from \d{4}.*\toften\t.*Z\tand 86376 more until .*$", out, re.MULTILINE)


def test_a_plan_says_when_nothing_fires(cli: CommandLine) -> None:
    cli.declare()
    assert cli.on_terminal("plan", "--for", "7d").out == "nothing to do\n\nnothing fires within that time\n"
    assert cli("plan", "--for", "7d", "--json").json["fires"] == []


@pytest.mark.parametrize("span", ["7", "soon", "-1d", "9999w"])
def test_a_span_that_is_none_is_wrong_usage(cli: CommandLine, span: str) -> None:
    cli.declare()
    answer = cli("plan", f"--for={span}")
    assert (answer.code, answer.out) == (2, "")
    assert f'"{span}" is ' in answer.err


# --- the ledger ---


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (None, None),
        ("dedup", "dedup: a run of a moment before stood for it"),
        ("home_stopped", "home stopped: all jobs were stopped"),
        ("paused", "paused"),
    ],
)
def test_the_ledger_says_in_words_why_a_slot_did_not_run(reason: str | None, words: str | None) -> None:
    assert words_of_slots({"reason": reason}) == words
