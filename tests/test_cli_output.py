"""What the commands print: JSON of one shape per thing, plain columns in a pipe, tables on a terminal."""

import datetime
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from procclaw.interface.console import Console, brief, distance, duration, printable, quoted, shown
from tests.commandline import CommandLine, Terminal
from tests.driver import PROGRAM, STAYS, WITHIN, Driver
from tests.support import Reaper

UTC_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")

# The keys of each thing, in their order: programs of others read them.
JOB = (
    "id name description type status health enabled paused tags pid started_at uptime_seconds restart_count last_run "
    "last_exit_code next_run reason schedule depends_on cpu_percent memory_mb"
)
RUN = (
    "id job_id state trigger priority params scheduled_at queued_at started_at finished_at duration_seconds attempts "
    "exit_code signal reason detail result"
)
ATTEMPT = "number pid started_at finished_at exit_code signal reason detail cpu_seconds max_rss_mb result"
ANSWER = "success message job_id run_id pid"
WHY = "job_id can_start earliest_start gates"
GATE = "gate open reason since until unblock"
SLOTS = "job_id first_due_at last_due_at count outcome reason run_id"

FAILS = {"cmd": "exit 3", "retry": {"enabled": False}}


def keys(thing: dict[str, Any]) -> str:
    return " ".join(thing)


# --- JSON ---


@pytest.mark.real
def test_the_number_of_runs_is_that_of_all_even_if_fewer_are_shown(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true"}, other={"cmd": "true"})
    for job in ("job", "job", "job", "other"):
        cli("run", job, "--wait")
    told = cli("runs", "job", "-n", "1", "--json").json
    assert (len(told["runs"]), told["total"]) == (1, 3)
    assert cli("runs", "--json").json["total"] == 4
    assert cli("runs", "--state", "failed", "--json").json["total"] == 0
    assert cli.on_terminal("runs", "job", "-n", "1").out.endswith("2 older ones are not shown (-n 3 shows them)\n")
    assert "not shown" not in cli.on_terminal("runs", "job").out


def test_a_run_that_is_in_the_ledger_and_no_longer_kept_says_so(cli: CommandLine, home: Path) -> None:
    (home / "procclaw.yaml").write_text("history: {keep_runs: 1}\n")
    at = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)).isoformat()
    cli.declare(job={"cmd": "true", "type": "oneshot", "run_at": at})
    cli("reconcile")
    [slot] = cli("ledger", "job", "--json").json["slots"]
    assert cli("runs", "show", slot["run_id"]).code == 0
    for _ in range(2):
        cli("run", "job", "--wait")
    cli("reconcile")
    told = cli("runs", "show", slot["run_id"])
    assert (told.code, told.err) == (
        1,
        f'procclaw: run "{slot["run_id"]}" is no longer kept (history in procclaw.yaml)\n',
    )
    assert cli("runs", "show", "nothing").err == 'procclaw: no run "nothing"\n'


def test_json_has_one_shape_per_thing(cli: CommandLine) -> None:
    cli.declare(
        job={"cmd": "echo out; echo err >&2; exit 3", "retry": {"enabled": False}},
        often={"cmd": "true", "type": "scheduled", "schedule": "@every 1s"},
    )
    cli("reconcile")
    run = cli("run", "job", "--wait", "--json").json
    assert keys(run) == RUN
    assert [keys(attempt) for attempt in run["attempts"]] == [ATTEMPT]
    assert (run["job_id"], run["state"], run["trigger"], run["exit_code"]) == ("job", "failed", "manual", 3)
    assert cli("runs", "show", run["id"], "--json").json == run
    assert cli("runs", "job", "--json").json == cli("runs", "list", "job", "--json").json == {"runs": [run], "total": 1}

    job = cli("status", "job", "--json").json
    assert keys(job) == JOB
    assert (job["status"], job["last_exit_code"], job["pid"]) == ("failed", 3, None)
    assert job == cli("list", "-q", "job", "--json").json["jobs"][0]

    why = cli("why", "job", "--json").json
    assert keys(why) == WHY
    assert {keys(gate) for gate in why["gates"]} == {GATE}

    assert keys(cli("start", "job", "--json").json) == ANSWER
    assert keys(cli("stop", "job", "--json").json) == ANSWER

    logs = cli("runs", "logs", run["id"], "--json").json
    assert (logs["job_id"], logs["lines"], logs["total_lines"]) == ("job", ["out", "err"], 2)
    assert logs["entries"] == [{"stream": "stdout", "line": "out"}, {"stream": "stderr", "line": "err"}]

    for text in moments([run, job, why, cli("events", "--json").json]):
        assert UTC_MOMENT.fullmatch(text), text


def moments(value: Any, name: str = "") -> list[str]:
    """Every time in some JSON, found by the name it has."""
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in moments(each, key)]
    if isinstance(value, list):
        return [text for each in value for text in moments(each, name)]
    is_moment = name == "at" or name.endswith("_at") or name in ("last_run", "next_run", "since", "until")
    return [value] if is_moment and value is not None else []


@pytest.mark.real
def test_the_ledger_has_a_row_for_what_became_of_a_slot(cli: CommandLine, driver: Driver) -> None:
    cli.declare(often={"cmd": "true", "type": "scheduled", "schedule": "@every 1s"})
    cli("reconcile")

    def ran() -> list[dict[str, Any]]:
        """Not those that a later one has overtaken before anybody looked."""
        cli("reconcile")
        return [slot for slot in cli("ledger", "often", "--json").json["slots"] if slot["outcome"] == "ran"]

    [first, *_] = driver.wait(ran)[::-1]
    assert keys(first) == SLOTS
    assert (first["job_id"], first["count"]) == ("often", 1)
    assert UTC_MOMENT.fullmatch(first["first_due_at"])
    assert cli("runs", "show", first["run_id"], "--json").json["scheduled_at"] == first["first_due_at"]
    cli.declare()


@pytest.mark.parametrize(
    "words", ["list", "runs", "ledger", "events", "daemon logs", "plan", "config --validate", "reconcile"]
)
def test_an_empty_home_is_no_trouble_in_json(cli: CommandLine, words: str) -> None:
    cli.declare()
    answer = cli(*words.split(), "--json")
    assert (answer.code, answer.err) == (0, "")
    assert isinstance(answer.json, dict)


def test_env_shows_what_a_job_finds_and_where_it_comes_from(cli: CommandLine, home: Path) -> None:
    cli.declare(job={"cmd": "true", "env": {"COLOUR": "red", "HOST": "${env:HOME}"}})
    variables = {each["name"]: each for each in cli("env", "job", "--json").json["variables"]}
    assert variables["COLOUR"] == {"name": "COLOUR", "value": "red", "source": "jobs.yaml:3 env"}
    assert variables["HOST"]["value"] == variables["HOME"]["value"]
    assert variables["PROCCLAW_HOME"]["value"] == str(home)
    assert "COLOUR=red" in cli("env", "job").out.splitlines()
    assert "COLOUR\tred\tjobs.yaml:3 env" in cli("env", "job", "--explain").out.splitlines()


def test_json_is_spread_over_lines_for_people_and_in_one_for_programs(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "name": "J\u00f6b"})
    one_line = cli("list", "--json").out
    assert one_line.count("\n") == 1
    spread = cli.on_terminal("list", "--json").out
    assert spread.count("\n") > 20
    assert json.loads(spread) == json.loads(one_line)


# --- a pipe ---


def test_a_pipe_gets_tabs_without_header_or_colour(cli: CommandLine) -> None:
    cli.declare(
        web={"cmd": "true", "type": "continuous"},
        off={"cmd": "true", "type": "scheduled", "schedule": "@daily", "enabled": False},
    )
    assert cli("list").out == (
        "web\tcontinuous\tpending\t-\t-\t-\t-\t-\t-\noff\tscheduled\tdisabled\t-\t-\t-\t-\t-\t-\n"
    )


def test_complaints_go_to_stderr_and_never_between_the_columns(cli: CommandLine, home: Path) -> None:
    cli.declare(job={"cmd": "true"})
    cli("reconcile")
    (home / "jobs.yaml").write_text("")
    cli("reconcile")
    answer = cli("list")
    assert answer.out.startswith("job\t")
    assert answer.out.count("\n") == 1
    assert answer.err != ""


def test_nothing_found_is_nothing_in_a_pipe_and_a_sentence_on_a_terminal(cli: CommandLine) -> None:
    cli.declare()
    for words, sentence in (
        ("list", "no jobs are declared"),
        ("list --tag x", "no job matches"),
        ("search x", "no job matches"),
        ("runs", "nothing has run yet"),
        ("runs --state failed", "no run matches"),
        ("ledger", "no slot was due yet"),
        ("ledger --since 1d", "no slot was due since then"),
    ):
        assert cli(*words.split()).out == ""
        assert cli.on_terminal(*words.split()).out == f"{sentence}\n"


# --- a terminal ---


def test_a_terminal_gets_a_table_without_the_columns_that_say_nothing(cli: CommandLine) -> None:
    cli.declare(
        web={"cmd": "true", "type": "continuous"},
        longer_name=FAILS,
    )
    cli("run", "longer_name", "--wait")
    assert cli.on_terminal("list").out == (
        "JOB          TYPE        STATUS   EXIT  REASON\n"
        "web          continuous  pending  -     -\n"
        "longer_name  manual      failed   3     last run failed: exit code 3; retry disabled\n"
    )


def test_a_reason_that_does_not_fit_the_terminal_is_cut_short(cli: CommandLine) -> None:
    cli.declare(job=FAILS, job2={"cmd": "true"})
    cli("run", "job", "--wait")
    lines = cli.on_terminal("list", columns=32).out.splitlines()
    assert lines[1] == "job   failed   last run failed:…"
    assert max(map(len, lines)) == 32
    assert cli.on_terminal("list", columns=5).out.splitlines()[1] == "job   failed   last run fa…"


def test_columns_that_can_be_spared_make_room_for_the_reason(cli: CommandLine) -> None:
    cli.declare(job=FAILS, job2={"cmd": "true"})
    cli("run", "job", "--wait")
    wide, narrower, narrow = (cli.on_terminal("list", columns=each).out.splitlines()[1] for each in (59, 58, 50))
    assert wide == "job   manual  failed   3     last run failed: exit code 3;…"
    assert narrower == "job   failed   3     last run failed: exit code 3; retry …"
    assert narrow == "job   failed   last run failed: exit code 3; retr…"
    assert cli("list").out.startswith("job\tmanual\tfailed\t")


def test_colours_are_for_terminals_that_want_them(cli: CommandLine) -> None:
    cli.declare(web={"cmd": "true", "type": "continuous"})
    assert "\x1b[33mpending\x1b[0m" in cli.on_terminal("list", NO_COLOR="").out
    assert "\x1b" not in cli.on_terminal("list", NO_COLOR="1").out
    assert "\x1b" not in cli.on_terminal("list", NO_COLOR="", TERM="dumb").out
    assert "\x1b" not in cli("list").out


def test_without_a_daemon_a_list_says_who_would_have_to_act(cli: CommandLine) -> None:
    cli.declare(web={"cmd": "true", "type": "continuous", "enabled": False})
    assert cli.on_terminal("list").err == ""
    cli.declare(web={"cmd": "true", "type": "continuous"})
    unread = "no daemon runs, and the configuration was changed and nobody has read it yet"
    hint = ": procclaw reconcile, or procclaw daemon start\n"
    assert cli.on_terminal("list").err == unread + hint
    assert cli("list").err == ""


def test_a_list_names_what_waits_for_a_pass(cli: CommandLine) -> None:
    cli.declare(web={"cmd": "true", "type": "continuous"})
    wanted = "no daemon runs, and jobs wait to be started: procclaw reconcile, or procclaw daemon start\n"
    assert cli.on_terminal("list").err == wanted


@pytest.mark.real
def test_without_a_daemon_what_is_under_way_is_told_as_what_was_last_seen(driver: Driver) -> None:
    driver.declare({"web": {"cmd": STAYS, "type": "continuous"}, "idle": {"cmd": "true"}})
    driver.start_daemon()
    driver.wait_for_notes("web")
    told = "so this is as it was last seen"
    assert told not in driver.ask("status", "web").out + driver.ask("why", "web").out
    driver.kill_daemon()
    assert told in driver.ask("status", "web").out
    assert told in driver.ask("why", "web").out
    assert told not in driver.ask("status", "idle").out + driver.ask("why", "idle").out


@pytest.mark.real
def test_a_list_without_a_daemon_says_that_it_tells_of_what_was_last_seen(cli: CommandLine) -> None:
    cli.declare(web={"cmd": "exec sleep 600", "type": "continuous"})
    cli("reconcile")
    told = "no daemon runs, and what is under way is told as it was last seen"
    assert cli.on_terminal("list").err == f"{told}: procclaw reconcile, or procclaw daemon start\n"
    assert cli("list").err == ""
    cli("stop", "web")
    assert cli.on_terminal("list").err == ""


def test_why_says_what_holds_and_what_would_free_it(cli: CommandLine) -> None:
    cli.declare(
        asked={"cmd": "true"},
        wanted={"cmd": "true", "type": "continuous"},
        failed=FAILS,
        due={"cmd": "true", "type": "scheduled", "schedule": "0 0 1 1 *", "timezone": "UTC"},
        off={"cmd": "true", "type": "scheduled", "schedule": "0 0 1 1 *", "enabled": False},
    )
    assert cli("why", "asked").out.startswith(
        "asked is stopped: runs only when asked\nto let it start: procclaw start asked\n\nenabled\topen\t"
    )
    assert cli("why", "wanted").out.startswith(
        "wanted is pending; nothing keeps it from starting\n"
        "no daemon runs, so this is as it was last seen: procclaw reconcile, or procclaw daemon start\n\n"
    )
    cli("run", "failed", "--wait")
    assert cli("why", "failed").out.startswith(
        "failed is failed: last run failed: exit code 3; retry disabled\nto let it start: procclaw start failed\n\n"
    )
    assert cli("why", "off").out.startswith(
        "off is disabled: disabled in jobs.yaml\nto let it start: procclaw start off, or enabled: true at "
    )
    assert "\nschedule\topen\t" in cli("why", "off").out
    cli("pause", "due")
    lines = cli("why", "due").out.splitlines()
    assert re.fullmatch(r"due is paused by \S+ \(cli\), since \d{4}-.* ago\)", lines[0])
    assert lines[1] == "to let it start: procclaw resume due, then procclaw run due"


@pytest.mark.real
def test_status_shows_what_a_job_is_and_how_its_newest_runs_ended(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "exit 3", "name": "A job", "tags": ["a", "b"], "retry": {"enabled": False}})
    cli("run", "job", "--wait")
    lines = cli.on_terminal("status", "job").out.splitlines()
    assert lines[0] == "job  A job"
    told = dict(re.split("  +", line, maxsplit=1) for line in lines[1 : lines.index("")])
    assert told | {"last run": ""} == {
        "status": "failed",
        "reason": "last run failed: exit code 3; retry disabled",
        "type": "manual",
        "enabled": "yes",
        "tags": "a, b",
        "last run": "",
        "last exit code": "3",
        "dead letters": "1 (procclaw dlq job)",
        "declared at": "jobs.yaml:3",
    }
    header, run = lines[lines.index("") + 1 :]
    assert header.split() == ["RUN", "JOB", "STATE", "TRIGGER", "STARTED", "TOOK", "ATTEMPTS", "EXIT", "REASON"]
    assert re.fullmatch(r"\w{12}  job  failed  manual  +[\d: -]+  \d\.\ds  1 +3 +retry disabled", run)


def test_progress_is_one_line_that_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out, err = Terminal(), Terminal()
    console = Console(out=out, err=err)
    for text in ("stopping: 3 left", "stopping: 3 left", "done: \x1b", "far too long for this terminal"):
        console.progress(text)
    console.complain("a complaint")
    assert out.getvalue() == ""
    assert err.getvalue().split("\r")[1:] == [
        "stopping: 3 left",
        "done: \\x1b      ",
        "far too long for t…",
        " " * 19,
        "a complaint\n",
    ]


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.progress("working")
    console.end_progress()
    assert capsys.readouterr() == ("", "")


@pytest.mark.real
def test_on_a_real_terminal_the_table_has_its_width_and_its_colours(home: Path, cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "depends_on": ["other"]}, other={"cmd": "true"})
    cli("reconcile")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "list"], stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}
    ) as listing:
        os.close(theirs)
        text = read_until(ours, None)
        assert listing.wait(timeout=20) == 0
    os.close(ours)
    lines = text.decode().splitlines()
    assert lines[0].startswith("\x1b[1mJOB\x1b[0m")
    assert "\x1b[90mstopped\x1b[0m" in lines[1]


@pytest.mark.real
def test_a_daemon_in_the_foreground_shows_what_it_does_until_it_is_interrupted(driver: Driver, reaper: Reaper) -> None:
    driver.declare({"job": {"cmd": "true", "type": "continuous", "restart": "never"}})
    ours, theirs = pty.openpty()
    daemon = reaper.spawn(driver.argv("daemon", "start", "--foreground"), stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = read_until(ours, b"run finished")
    daemon.send_signal(signal.SIGINT)
    text += read_until(ours, None)
    os.close(ours)
    assert daemon.wait(timeout=20) == 0
    lines = text.decode().splitlines()
    assert lines == driver.ask("daemon", "logs").out.splitlines()
    assert " info daemon started pid=" in lines[0]
    assert lines[-1].endswith(" info daemon stopped left_running=0")


def read_until(terminal: int, words: bytes | None) -> bytes:
    """What comes from the other side up to these words; None: until it is gone."""
    text = b""
    while words is None or words not in text:
        ready, _, _ = select.select([terminal], [], [], WITHIN)
        assert ready, f"no more came after {text.decode(errors='replace')}"
        try:
            text += os.read(terminal, 65536)
        except OSError:
            # Linux says EIO once the other side is gone.
            break
    return text


# --- what jobs could do to a terminal ---

EVIL = "a\x1b[2J\x07\u202eb\x9b31m"
TAMED = "a\\x1b[2J\\x07\\u202eb\\x9b31m"


def test_names_cannot_drive_the_terminal(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "name": EVIL, "description": EVIL, "tags": ["ok"]})
    for answer in (cli.on_terminal("status", "job"), cli("status", "job")):
        assert answer.out.startswith(f"job  {TAMED}\n")
        assert re.search(rf"^description\s+{re.escape(TAMED)}$", answer.out, re.MULTILINE)


@pytest.mark.real
def test_what_a_job_prints_cannot_drive_the_terminal_and_keeps_its_tabs(cli: CommandLine) -> None:
    cli.declare(job={"cmd": r"printf 'a\tb\033[31mred\rover\n\377\n'; printf 'bad\007\n' >&2"})
    cli("run", "job", "--wait")
    shown_lines = ["a\tb\\x1b[31mred\\x0dover", "\ufffd", "err| bad\\x07"]
    assert cli("logs", "job").out.splitlines() == shown_lines
    assert cli.on_terminal("logs", "job").out.splitlines() == shown_lines
    assert cli("logs", "job", "--stderr", "--json").json["lines"] == ["bad\x07"]


def test_a_complaint_cannot_drive_the_terminal(cli: CommandLine) -> None:
    cli.declare()
    assert cli.on_terminal("status", EVIL).err == f'procclaw: no job "{TAMED}"\n'


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding_gets_escapes_and_json_that_is_whole(
    home: Path, cli: CommandLine, encoding: str
) -> None:
    cli.declare(job={"cmd": "true", "name": "\u0416 \u00e9"})
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for words in (["status", "job"], ["status", "job", "--json"]):
        command = [sys.executable, str(PROGRAM), *words]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode(encoding)
        assert json.loads(text)["name"] == "\u0416 \u00e9" if "--json" in words else "\\u0416" in text


# --- small words ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (9.99, "9.9s"),
        (10, "10s"),
        (59.9, "59s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (86399, "23h 59m"),
        (86400, "1d 00h"),
        (400 * 86400, "400d 00h"),
    ],
)
def test_a_span_is_told_in_two_units_at_most(seconds: float | None, text: str | None) -> None:
    assert duration(seconds) == text


def test_a_moment_is_told_by_its_distance_or_on_the_wall_clock() -> None:
    now = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC).astimezone()
    assert distance("2026-05-01T12:00:30Z", now) == "in 30s"
    assert distance("2026-05-01T11:00:00Z", now) == "1h 00m ago"
    today = now.replace(hour=1, minute=2, second=3, microsecond=0)
    assert brief(today.isoformat(), now) == "01:02:03"
    yesterday = today - datetime.timedelta(days=1)
    assert brief(yesterday.isoformat(), now) == f"{yesterday:%Y-%m-%d} 01:02:03"


def test_what_is_shown_in_a_cell_cannot_break_the_columns() -> None:
    assert shown("a\tb\nc") == "a\\x09b\\x0ac"
    assert shown(None) == shown("") == shown([]) == "-"
    assert shown(["a", "b\r"]) == "a, b\\x0d"
    assert shown(0) == "0"
    assert printable("a\tb\nc") == "a\tb\\x0ac"


def test_a_value_is_quoted_only_where_it_must_be() -> None:
    assert quoted("plain-1.5:x") == "plain-1.5:x"
    assert quoted("two words") == '"two words"'
    assert quoted("") == '""'
    assert quoted('a"b') == '"a\\"b"'
    assert quoted("a=b") == '"a=b"'
    assert quoted("\x9b") == '"\\x9b"'


def test_wide_and_combining_characters_take_the_columns_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    Console(out=out).table(("A", "B"), [("\u6f22", "1"), ("e\u0301", "2"), ("xyz", "3")])
    assert out.getvalue() == "A    B\n\u6f22   1\ne\u0301    2\nxyz  3\n"
