"""The command line as people and programs meet it: what is asked how, exit codes, messages, JSON.

Commands run in this process where that shows the same; how tables and terminals look is in test_cli_output.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procclaw import __version__
from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.interface import commands, setup
from procclaw.interface.command import Command
from procclaw.model.records import Run, RunState
from tests.commandline import CommandLine
from tests.driver import PROGRAM, ROOT, Answer, Driver

# --- finding the command ---


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_has_an_example_that_is_understood(cli: CommandLine, command: Command) -> None:
    answer = cli(*command.name.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert command.example in answer.out
    *_, example = command.example.partition("procclaw ")
    words = shlex.split(example, comments=True)
    assert commands.find(words) == (command, len(command.name.split()))
    commands.parser_of(command).parse_args(words[len(command.name.split()) :])


def test_the_help_lists_every_command_and_the_exit_codes(cli: CommandLine) -> None:
    answer = cli("--help")
    assert answer.code == 0
    for command in commands.COMMANDS:
        assert re.search(rf"^  {command.name}  +{re.escape(command.summary)}$", answer.out, re.MULTILINE)
    for code in ("0 done", "1 refused", "2 wrong usage", "3 a bug", "4 a daemon", "130 interrupted"):
        assert code in answer.out


def test_help_is_a_command_as_well(cli: CommandLine) -> None:
    assert "procclaw --help lists the commands" in cli("help").out
    assert cli("help", "runs", "show") == cli("runs", "show", "--help")


def test_no_command_at_all_is_wrong_usage(cli: CommandLine) -> None:
    assert cli() == Answer(2, "", cli("--help").out)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("lst", 'no command "lst"; did you mean "list"?'),
        ("daemon strat", 'no command "daemon strat"; did you mean "daemon start"?'),
        ("daemon", "daemon: one of start, stop, status, logs must follow"),
        ("daemon -f", "daemon: one of start, stop, status, logs must follow"),
        ("xyzzy", 'no command "xyzzy" (procclaw --help lists them)'),
        ("--frobnicate list", 'no option "--frobnicate"'),
        ("--home", "--home needs a directory"),
        ("--home= list", "--home is empty"),
        ("frob", 'no command "frob" (procclaw --help lists them)'),
        ("version please", "unrecognized arguments: please"),
        ("start", "the following arguments are required: JOB"),
        ("list --type continuos", "invalid choice: 'continuos'"),
        ("logs job -n x", '"x" is not a whole number from 0 on'),
        ("next @hourly -n 0", '"0" is not a whole number from 1 on'),
        ("stop job --timeout soon", '"soon" is not a number of seconds'),
        ("stop job --timeout=-1", '"-1" is not a number of seconds'),
        ("list --stat running", "unrecognized arguments: --stat running"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_exits_2(cli: CommandLine, words: str, complaint: str) -> None:
    answer = cli(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert complaint in answer.err
    told = cli("--json", *words.split())
    if "--home" not in words:  # there the word after it is the directory
        assert (told.code, told.err) == (2, "")
        assert told.json["error"]["code"] == "usage"
        assert complaint in told.json["error"]["message"]


@pytest.mark.parametrize(
    "words", ["--home {} list --json", "--json --home {} list", "list --json --home {}", "list --home={} --json"]
)
def test_home_and_json_may_stand_before_the_command_or_after_it(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    cli.declare(one={"cmd": "true"})
    monkeypatch.delenv("PROCCLAW_HOME")
    assert cli(*words.format(home).split()).json["total"] == 1


@pytest.mark.parametrize("words", ["version", "--version", "-V"])
def test_the_version_is_printed(cli: CommandLine, words: str) -> None:
    assert cli(words) == Answer(0, f"ProcClaw v{__version__}\n", "")
    assert cli(words, "--json").json == {"version": __version__}


# --- a home, and none ---


def test_without_a_home_every_command_says_how_to_make_one(cli: CommandLine, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for words in (
        "list",
        "start job",
        "reconcile",
        "plan",
        "config",
        "daemon start",
        "daemon status",
        "runs",
        "events",
    ):
        answer = cli("--home", str(nowhere), *words.split())
        assert answer == Answer(1, "", f'procclaw: no home at "{nowhere}": create one with procclaw init\n')
    assert not nowhere.exists()


def test_init_makes_a_home_that_is_valid_and_makes_nothing_twice(cli: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "new" / "home"
    first = cli("--home", str(place), "init")
    assert first.code == 0
    assert [line for line in first.out.splitlines() if line.startswith("created ")] == [
        f"created {place}/jobs.d",
        f"created {place}/procclaw.yaml",
        f"created {place}/jobs.yaml",
    ]
    assert cli("--home", str(place), "config", "--validate") == Answer(0, "valid: 0 jobs\n", "")
    written = (place / "jobs.yaml").read_text()
    assert cli("--home", str(place), "init").out.startswith(f"{place}: everything is there already\n")
    assert (place / "jobs.yaml").read_text() == written
    assert cli("--home", str(place), "list") == Answer(0, "", "")
    assert place.stat().st_mode & 0o777 == 0o700


def test_the_jobs_that_init_proposes_are_good_once_they_are_uncommented(cli: CommandLine, home: Path) -> None:
    cli("init")
    text = (home / "jobs.yaml").read_text()
    proposed = re.sub(r"^#(?=$|  )", "", text.replace("jobs: {}", "jobs:"), flags=re.MULTILINE)
    (home / "jobs.yaml").write_text(proposed)
    assert cli("config", "--validate") == Answer(0, "valid: 2 jobs\n", "")


@pytest.mark.parametrize(
    ("place", "complaint"), [("a-file", "is not a directory"), ("a-file/below", "cannot be made: not a directory")]
)
def test_a_home_that_cannot_be_is_refused_in_words(
    cli: CommandLine, tmp_path: Path, place: str, complaint: str
) -> None:
    (tmp_path / "a-file").touch()
    answer = cli("--home", str(tmp_path / place), "init")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f'procclaw: home "{tmp_path / place}" {complaint}\n'


def test_config_tells_where_everything_is_and_what_is_not_there(cli: CommandLine, home: Path) -> None:
    cli.declare()
    assert cli("config", "--json").json == {
        "home": str(home),
        "procclaw.yaml": str(home / "procclaw.yaml"),
        "jobs.yaml": str(home / "jobs.yaml"),
        "database": str(home / "procclaw.db"),
        "logs": str(home / "logs"),
    }
    lines = cli("config").out.splitlines()
    assert f"procclaw.yaml\t{home}/procclaw.yaml (not there yet)" in lines
    assert f"jobs.yaml\t{home}/jobs.yaml" in lines


# --- configuration that cannot be used ---


def test_everything_that_is_wrong_is_told_at_once_with_its_lines(cli: CommandLine, home: Path) -> None:
    (home / "jobs.yaml").write_text("jobs:\n  a:\n    cmd: x\n    type: continous\n  b:\n    comand: y\n")
    answer = cli("config", "--validate")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[0] == (
        'jobs.yaml:4 jobs.a.type: "continous" is not one of manual, continuous, scheduled, oneshot'
    )
    assert 'jobs.yaml:6 jobs.b.comand: is not a known key; did you mean "cmd"?' in answer.err
    told = cli("config", "--validate", "--json")
    assert (told.code, told.err) == (2, "")
    assert told.json["valid"] is False
    assert told.json["problems"] == answer.err.splitlines()


def test_what_may_not_be_meant_so_is_told_beside_the_daemon(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "depends_on": ["nowhere"]})
    told = cli("reload").err
    assert re.fullmatch(r"warning: jobs\.yaml:\d+ jobs\.job\.depends_on.*nowhere.*\n", told)
    assert cli("daemon", "status").err == told
    assert cli("daemon", "status", "--json").json["warnings"] == [told.removeprefix("warning: ").rstrip()]


def test_a_broken_file_changes_nothing_and_is_told_by_whoever_is_asked(cli: CommandLine, home: Path) -> None:
    cli.declare(kept={"cmd": "true"})
    assert cli("reload") == Answer(0, "1 job in force\n", "")
    (home / "jobs.yaml").write_text("jobs: {kept: {cmd: []}}")
    broken = cli("reconcile")
    assert (broken.code, broken.out) == (2, "")
    assert broken.err.startswith("jobs.yaml:1 jobs.kept.cmd: ")
    assert broken.err.endswith("the files cannot be used; the last good configuration stays in force\n")
    listed = cli("list")
    assert (listed.code, listed.err) == (0, broken.err)
    assert listed.out.startswith("kept\tmanual\tstopped\t")
    assert cli("reload").err == cli("start", "other").err.removeprefix('procclaw: no job "other"\n') == broken.err
    assert cli("daemon", "status").err == broken.err
    assert cli("reconcile", "--json").json == {"success": False, "problems": broken.err.splitlines()[:1]}
    cli.declare(kept={"cmd": "true"})
    assert cli("reconcile") == Answer(0, "", "")
    assert cli("list").err == ""


def test_a_home_that_never_had_a_good_file_says_that_nothing_is_in_force(cli: CommandLine, home: Path) -> None:
    answer = cli("reconcile")
    assert answer.code == 2
    assert answer.err == (
        f'jobs.yaml: there is no such file in {home}; "procclaw init" makes one, "jobs: {{}}" in it declares none\n'
        "the files cannot be used; nothing is in force\n"
    )
    assert cli("list").code == 2


# --- naming jobs ---


@pytest.mark.parametrize(
    "words",
    ["status {}", "why {}", "start {}", "stop {}", "run {}", "logs {}", "runs {}", "ledger {}", "env {}"],
)
def test_a_job_that_is_not_declared_is_said_not_to_be(cli: CommandLine, words: str) -> None:
    cli.declare(report={"cmd": "true"})
    assert cli(*words.format("repotr").split()) == Answer(1, "", 'procclaw: no job "repotr"; did you mean "report"?\n')
    assert cli(*words.format("zzz").split(), "--json").json == {
        "error": {"code": "not_found", "message": 'no job "zzz"'}
    }


def test_a_run_is_named_by_its_id_or_the_beginning_of_it(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true"})
    run_id = cli("run", "job", "--json").json["run_id"]
    assert cli("runs", "show", run_id[:6], "--json").json["id"] == run_id
    assert cli("runs", "show", "zzz") == Answer(1, "", 'procclaw: no run "zzz"\n')
    assert cli("logs", "job", "--run", "zzz").err == 'procclaw: no run "zzz"\n'


@pytest.mark.real
def test_a_job_that_was_just_added_to_the_file_can_be_started(cli: CommandLine) -> None:
    cli.declare(first={"cmd": "true"})
    cli("reconcile")
    cli.declare(first={"cmd": "true"}, second={"cmd": "true"})
    assert cli("run", "second", "--wait").code == 0


# --- filters ---


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "api worker nightly report old"),
        ("--type continuous", "api worker"),
        ("--type continuous --tag web", "api"),
        ("--tag web", "api report"),
        ("--tag web --tag daily", "report"),
        ("--enabled", "api worker nightly report"),
        ("--status disabled", "old"),
        ("-q REPORT", "nightly report"),
        ("-q daily", "report"),
        ("-q report --status stopped", "report"),
        ("-q report --status pending", "nightly"),
        ("--status pending --type continuous --tag web --enabled -q gate", "api"),
        ("--status running", ""),
    ],
)
def test_filters_are_combined(cli: CommandLine, words: str, found: str) -> None:
    declare_some_jobs(cli)
    listed = cli("list", *words.split(), "--json").json
    assert (" ".join(job["id"] for job in listed["jobs"]), listed["total"]) == (found, len(found.split()))
    assert [line.split("\t")[0] for line in cli("list", *words.split()).out.splitlines()] == found.split()


def declare_some_jobs(cli: CommandLine) -> None:
    cli.declare(
        api={"cmd": "true", "type": "continuous", "tags": ["web"], "description": "The gate to all"},
        worker={"cmd": "true", "type": "continuous"},
        nightly={"cmd": "true", "type": "scheduled", "schedule": "0 0 1 1 *", "name": "The Report of the night"},
        report={"cmd": "true", "tags": ["web", "daily"]},
        old={"cmd": "true", "type": "scheduled", "schedule": "@daily", "enabled": False},
    )


def test_search_looks_in_ids_names_descriptions_and_tags(cli: CommandLine) -> None:
    declare_some_jobs(cli)
    for text, found in (("repor", "nightly report"), ("GATE", "api"), ("daily", "report"), ("zzz", "")):
        answer = cli("search", text, "--json").json
        assert " ".join(job["id"] for job in answer["jobs"]) == found
    assert cli("search", "report", "--type", "manual").out.split("\t")[0] == "report"


def test_an_unknown_status_is_wrong_usage_and_lists_the_known(cli: CommandLine) -> None:
    cli.declare()
    answer = cli("list", "--status", "runing")
    assert answer.code == 2
    assert answer.err.startswith('procclaw: "runing" is not a status; they are running, stopping, failed, ')
    assert cli("runs", "--state", "runing").err.startswith('procclaw: "runing" is not a state of a run; they are ')


# --- asking ---


@pytest.mark.real
def test_a_waited_for_run_answers_with_how_its_job_ended(cli: CommandLine) -> None:
    cli.declare(good={"cmd": "true"}, bad={"cmd": "exit 7", "retry": {"enabled": False}}, late={"cmd": "exit 7"})
    good = cli("run", "good", "--wait")
    assert (good.code, good.err) == (0, "")
    assert re.fullmatch(r"good: succeeded after \d\.\ds \(run \w{12}\)\n", good.out)
    bad = cli("run", "bad", "--wait")
    assert (bad.code, bad.err) == (1, "")
    assert re.fullmatch(r"bad: failed after \d\.\ds: exit code 7 \(run \w{12}\)\n", bad.out)


@pytest.mark.real
def test_a_waited_for_attempt_that_failed_says_when_the_next_comes(cli: CommandLine) -> None:
    cli.declare(late={"cmd": "exit 7", "retry": {"delays": [600]}})
    answer = cli("run", "late", "--wait")
    assert answer.code == 1
    assert re.fullmatch(
        r"late: attempt 1 failed \(exit code 7\); attempt 2 follows at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(run \w{12}\); "
        r"--until-final waits for it; no daemon runs: procclaw reconcile, or procclaw daemon start\n",
        answer.out,
    )
    assert cli("stop", "late").out == "late: stopped\n"


@pytest.mark.real
def test_a_run_that_ends_while_it_is_looked_at_is_told_as_it_ended(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.declare(job={"cmd": "true"})
    run_id = cli("run", "job", "--wait", "--json").json["id"]
    with Home(str(home)) as looking:
        [ended], run = looking.store.attempts(run_id), looking.store.run(run_id)
        assert run is not None
        looks = 0

        def look(_run_id: str) -> Run | None:
            """Somebody records its end right after the second look."""
            nonlocal looks
            looks += 1
            return run if looks > 2 else run._replace(state=RunState.RUNNING, finished_at=None)

        monkeypatch.setattr(looking.store, "run", look)
        monkeypatch.setattr(looking.store, "attempts", lambda _: (ended,) if looks >= 2 else ())
        assert Operations(looking, "test").wait_for_attempt(run_id, 1).state is RunState.SUCCEEDED


@pytest.mark.real
def test_a_run_can_be_waited_for_through_all_its_attempts(cli: CommandLine) -> None:
    cli.declare(late={"cmd": '[ "$PROCCLAW_ATTEMPT" = 2 ]', "retry": {"delays": [0.05]}})
    answer = cli("run", "late", "--until-final", "--json")
    assert answer.code == 0
    assert [attempt["exit_code"] for attempt in answer.json["attempts"]] == [1, 0]


@pytest.mark.real
def test_a_run_that_is_not_waited_for_any_longer_goes_on(cli: CommandLine) -> None:
    cli.declare(long={"cmd": "exec sleep 1000"})
    cli("run", "long", "--key", "k")
    answer = cli("run", "long", "--key", "k", "--wait", "--timeout", "0.3")
    assert (answer.code, answer.out) == (1, "")
    assert re.fullmatch(r'procclaw: run "\w{12}" is not over after 0\.3 s\n', answer.err)
    told = cli("run", "long", "--key", "k", "--wait", "--timeout", "0.3", "--json").json["error"]
    assert told["code"] == "not_over"
    assert cli("runs", "show", told["run_id"], "--json").json["state"] == "running"
    assert cli("list", "--status", "running", "--json").json["total"] == 1
    assert cli("stop", "long", "--force").out == "long: stopped\n"


@pytest.mark.real
def test_holds_are_told_and_refuse_with_what_to_do(cli: CommandLine) -> None:
    cli.declare(web={"cmd": "exec sleep 1000", "type": "continuous"}, other={"cmd": "true"})
    assert re.fullmatch(r"web: started \(pid \d+\)\n", cli("start", "web").out)
    assert re.fullmatch(r"web: already running \(pid \d+\)\n", cli("start", "web").out)
    assert cli("pause", "web", "other").out.splitlines() == [
        "web: paused: what runs goes on, nothing new starts",
        "other: paused: what runs goes on, nothing new starts",
    ]
    assert cli("stop", "web") == Answer(0, "web: stopped\n", "")
    for verb in ("start", "restart", "run"):
        refused = cli(verb, "web")
        assert (refused.code, refused.out) == (1, "")
        assert re.fullmatch(
            rf'procclaw: cannot {verb} "web": paused since .*; resume first \(procclaw resume web\)\n', refused.err
        )
    assert cli("resume", "web").out == "web: resumed\n"
    assert re.fullmatch(r"web: was not running \(last run ended .*, exited 143\)\n", cli("stop", "web").out)
    assert cli("list", "--status", "stopped", "--type", "continuous").out.split("\t")[-1].startswith("stopped by ")


PAUSED = r"paused since \d{4}-\d\d-\d\d \d\d:\d\dZ; resume first \(procclaw resume held\)"


@pytest.mark.real
def test_asking_for_several_jobs_exits_1_if_one_is_refused(cli: CommandLine) -> None:
    cli.declare(good={"cmd": "true"}, held={"cmd": "true"})
    cli("pause", "held")
    answer = cli("start", "good", "held")
    assert answer.code == 1
    assert answer.out.startswith("good: ")
    assert re.fullmatch(rf'procclaw: cannot start "held": {PAUSED}\n', answer.err)
    told = cli("start", "good", "held", "--json")
    assert told.code == 1
    assert [(each["job_id"], each["success"]) for each in told.json["results"]] == [("good", True), ("held", False)]


def test_a_refused_run_is_json_too_when_it_was_to_be_waited_for(cli: CommandLine) -> None:
    cli.declare(first={"cmd": "true"}, held={"cmd": "true"})
    cli("pause", "held")
    answer = cli("run", "held", "--wait", "--json")
    assert (answer.code, answer.err) == (1, "")
    assert answer.json["success"] is False
    assert re.fullmatch(rf'cannot run "held": {PAUSED}', answer.json["message"])


def test_plan_exits_10_when_there_is_something_to_do(cli: CommandLine) -> None:
    cli.declare()
    assert cli("plan") == Answer(0, "nothing to do\n", "")
    cli.declare(web={"cmd": "true", "type": "continuous"})
    assert cli("plan") == cli("reconcile", "--dry-run") == Answer(10, "web\tstart\twanted running\n", "")
    assert cli("plan", "--json").json["actions"] == [{"job_id": "web", "action": "start", "because": "wanted running"}]


@pytest.mark.real
def test_plan_tells_in_words_what_would_be_done_and_what_is_waited_for(cli: CommandLine) -> None:
    cli.declare(
        held={"cmd": "true", "type": "continuous"},
        web={"cmd": "exec sleep 1000", "type": "continuous"},
        late={"cmd": "exit 7", "retry": {"delays": [600]}},
    )
    cli("pause", "held")
    cli("start", "web")
    cli("run", "late", "--wait")
    waiting = cli("plan")
    assert waiting.code == 0
    assert re.search(r"^held\twait\tpaused by \S+ \(cli\)$", waiting.out, re.MULTILINE)
    assert re.search(r"^late\twait\tattempt 1 ended \(exit code 7\), attempt 2 follows$", waiting.out, re.MULTILINE)
    cli.declare(
        held={"cmd": "true", "type": "continuous"},
        web={"cmd": "exec sleep 2000", "type": "continuous"},
        late={"cmd": "exit 7", "retry": {"delays": [600]}},
    )
    changed = cli("plan")
    assert (changed.code, "web\tstop\tchanged: cmd" in changed.out.splitlines()) == (10, True)
    cli("stop", "web", "late", "--force")


# --- the daemon, as far as none is needed for it ---


def test_a_daemon_that_does_not_run_is_exit_code_4(cli: CommandLine) -> None:
    cli.declare()
    assert cli("daemon", "stop") == Answer(4, "", "procclaw: no daemon runs\n")
    assert cli("daemon", "stop", "--json").json == {"error": {"code": "no_daemon", "message": "no daemon runs"}}
    stopped = "all jobs are stopped, until daemon start or reconcile --release"
    assert cli("daemon", "stop", "--jobs") == Answer(0, f"{stopped}\n", "")
    assert cli("daemon", "stop", "--jobs", "--json").json == {"success": True, "message": stopped, "jobs_running": 0}
    status = cli("daemon", "status")
    assert (status.code, status.out.splitlines()[0]) == (4, "daemon\tnot running")
    assert cli("daemon", "status", "--json").json["running"] is False


# --- times ---


def test_coming_times_are_those_of_the_zone(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "type": "scheduled", "schedule": "30 2 * * *", "timezone": "America/New_York"})
    wanted = {"times": ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]}
    after = ("--after", "2026-03-07T12:00:00Z", "-n", "2")
    assert cli("next", "30 2 * * *", "--tz", "America/New_York", *after, "--json").json == wanted
    assert cli("next", "job", *after, "--json").json == wanted
    assert cli("next", "job", *after).out == (
        "Sun 2026-03-08 03:00:00 EDT\t2026-03-08T07:00:00Z\nMon 2026-03-09 02:30:00 EDT\t2026-03-09T06:30:00Z\n"
    )


def test_a_time_without_an_offset_is_one_of_the_zone(cli: CommandLine) -> None:
    cli.declare()
    words = ("next", "0 12 * * *", "--tz", "Asia/Tokyo", "-n", "1", "--json", "--after")
    assert cli(*words, "2026-01-01T11:59:59").json == {"times": ["2026-01-01T03:00:00Z"]}
    assert cli(*words, "2026-01-01T12:00:00").json == {"times": ["2026-01-02T03:00:00Z"]}


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["next", "61 * * * *"], 2, '"61 * * * *": minute "61" is not within 0 to 59'),
        (["next", "0 0 31 2 *"], 2, '"0 0 31 2 *" is never due: '),
        (["next", "* * * * *", "--tz", "Mars/Olympus"], 2, '"Mars/Olympus" is not a time zone known here'),
        (["next", "@hourly", "--after", "yesterday"], 2, '"yesterday" is not an ISO 8601 time'),
        (["next", "@hourly", "--tz", "Mars/Olympus", "--after", "2026-01-01"], 2, '"Mars/Olympus" is not a time zone'),
        (["next", "job"], 1, '"job" has no schedule: it is manual'),
        (["logs", "job", "--since", "soon"], 2, '"soon" is neither a time (ISO 8601) nor a span (90s, 15m, 2h, 30d)'),
        (["ledger", "--since", "2d2h"], 2, '"2d2h" is neither a time'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_time_that_makes_no_sense_is_refused_in_words(
    cli: CommandLine, words: list[str], code: int, complaint: str
) -> None:
    cli.declare(job={"cmd": "true"})
    answer = cli(*words)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(f"procclaw: {complaint}")


# --- the README ---


README = (ROOT / "README.md").read_text()
SPELLED_OUT = ("daemon", "openclaw", "secret", "service")
"""Families whose members have an entry each; a row begins with the family's name."""


def test_the_readme_lists_the_commands_there_are_with_options_they_have() -> None:
    table = README.split("| command | what it does |")[1].split("\n\n")[0]
    listed: dict[str, str] = {}
    for row in table.splitlines()[2:]:
        entries = re.findall(r"`([^`]*)`", row.replace(r"\|", "|").split("| ")[1])
        family = entries[0].split()[0] if entries[0].split()[0] in SPELLED_OUT else ""
        for entry in entries:
            listed |= dict.fromkeys(named(f"{family} {entry}" if not entry.startswith(family) else entry), entry)
    assert sorted(listed) == sorted(commands.names())
    for name, entry in listed.items():
        found = commands.find(name.split())
        assert found is not None
        options = {option for argument in found[0].arguments for option in argument.names}
        assert [option for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", entry) if option not in options] == []


def test_a_plan_says_that_the_files_are_wrong_though_nobody_has_looked_at_them_yet(
    cli: CommandLine, home: Path
) -> None:
    (home / "jobs.yaml").write_text("jobs: {a: {cmd: x, restart: alway}}\n")
    answer = cli("plan")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[0].startswith("jobs.yaml:1 jobs.a.restart: ")
    assert answer.err.endswith("the files cannot be used; nothing is in force\n")
    assert cli("plan", "--json").json["problems"] == answer.err.splitlines()[:1]


def test_the_jobs_in_the_readme_are_valid(cli: CommandLine, home: Path) -> None:
    [jobs] = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (home / "jobs.yaml").write_text(jobs)
    assert cli("config", "--validate") == Answer(0, "valid: 2 jobs\n", "")


def test_the_times_that_the_readme_tells_are_those_that_come(cli: CommandLine) -> None:
    """Of the table about the nights in which clocks change."""
    cli.declare()
    rows = re.findall(r"^\| `([^`]+)` \| ([\d-]+) ([\d:]+) UTC \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 3
    for expression, day, hour, told in rows:
        wanted = re.findall(r"\d\d-\d\d \d\d:\d\d|\d\d:\d\d", told)
        words = ("next", expression, "--tz", "America/New_York", "--after", f"{day}T{hour}Z", "-n", str(len(wanted)))
        times = [time[5:16].replace("T", " ") for time in cli(*words, "--json").json["times"]]
        assert [time[-len(told_time) :] for time, told_time in zip(times, wanted, strict=True)] == wanted


def named(entry: str) -> list[str]:
    """`runs [list|show|logs]` names four commands, `stop [--force]` one."""
    words = entry.split()
    members = re.fullmatch(r"\[([a-z]+(?:\|[a-z]+)*)\]", words[1]) if len(words) > 1 else None
    if members is not None:
        return [words[0], *(f"{words[0]} {member}" for member in members[1].split("|"))]
    return [" ".join(words[:2]) if words[0] in SPELLED_OUT else words[0]]


def test_every_command_in_the_readme_is_understood() -> None:
    blocks = re.findall(r"(?:^    .*\n)+", README, re.MULTILINE)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in re.split(r"[;&]+ ", line)]
    said = [
        re.sub(r"^(\S*/)?(procclaw(\.pyz)?|demo) ", "", line)
        for line in lines
        if re.match(r"(\S*/)?(procclaw(\.pyz)?|demo) ", line)
    ]
    assert len(said) > 12
    for text in said:
        words = shlex.split(text.split(";")[0], comments=True)
        while words[0] in ("--home", "--json"):
            words = words[2 if words[0] == "--home" else 1 :]
        found = commands.find(words)
        assert found is not None, text
        commands.parser_of(found[0]).parse_args(words[found[1] :])


# --- being interrupted, and things that go wrong ---


def test_a_bug_of_ours_is_exit_code_3_and_leaves_a_report(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.declare()
    cli("reconcile")

    def broken(_context: object, _options: object) -> int:
        password = "hunter2"  # noqa: F841 (what a report must not show)
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr(setup, "version", broken)
    answer = cli("version")
    assert (answer.code, answer.out) == (3, "")
    first, second = answer.err.splitlines()
    assert first == "procclaw: a bug in ProcClaw: ZeroDivisionError: what nobody thought of"
    report = Path(second.removeprefix("report: "))
    assert report.parent == home / "logs"
    text = report.read_text()
    assert text.startswith(f"ProcClaw {__version__}, Python ")
    assert "Traceback" in text
    assert "broken" in text
    assert report.stat().st_mode & 0o777 == 0o600
    told = cli("version", "--json")
    assert (told.code, told.json["error"]["code"]) == (3, "bug")


def test_an_interrupted_command_is_exit_code_130(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_context: object, _options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "version", interrupted)
    assert cli("version") == Answer(130, "", "")


@pytest.mark.real
def test_ctrl_c_ends_the_looking_and_the_waiting_but_not_the_job(driver: Driver) -> None:
    driver.declare(
        {"talks": {"cmd": "echo here; exec sleep 1000", "type": "continuous"}, "long": {"cmd": "exec sleep 1000"}}
    )
    driver.ask("reconcile")
    driver.wait(lambda: driver.ask("logs", "talks").out == "here\n")
    following = driver.spawn("logs", "talks", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "here\n"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=20) == ("", "")
    assert following.returncode == 130
    waiting = driver.spawn("run", "long", "--wait")
    driver.wait(lambda: any(event.kind == "request answered" for event in driver.operations.events(job_id="long")))
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, out) == (130, "")
    # Ctrl-C may come a moment before the run itself is waited for.
    assert re.fullmatch(
        r"long: not waited for any longer; the run goes on \(procclaw runs show \w{12}\)\n"
        r"|run long: not waited for any longer; the daemon, or the next procclaw reconcile, goes on with it\n",
        err,
    )
    assert driver.status("talks") == driver.status("long") == "running"
    driver.ask("stop", "talks", "long", "--force")


@pytest.mark.parametrize("words", ["--help", "list", "list --json"])
def test_output_that_nobody_reads_any_more_is_no_error(cli: CommandLine, words: str) -> None:
    cli.declare(**{f"job-{number}": {"cmd": "true"} for number in range(5)})
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, str(PROGRAM), *words.split()]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_told(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true"})
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(PROGRAM), "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "procclaw: the output could not be written: No space left on device\n")


@pytest.mark.parametrize("closed", ["1", "2", "0"])
def test_a_stream_that_is_closed_from_the_start_is_no_error(cli: CommandLine, closed: str) -> None:
    cli.declare(job={"cmd": "true"})
    shell = f'exec "$0" "$@" {closed}>&-'
    command = ["/bin/sh", "-c", shell, sys.executable, str(PROGRAM), "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["list", "status job", "list --json"])
def test_a_look_at_jobs_loads_nothing_that_takes_its_time(home: Path, cli: CommandLine, words: str) -> None:
    cli.declare(job={"cmd": "true"})
    cli("reconcile")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from procclaw.interface.cli import main; main({words.split()!r})\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    slow = {
        "yaml",
        "jsonschema",
        "bottle",
        "keyring",
        "croniter",
        "subprocess",
        "logging",
        "pathlib",
        "inspect",
        "hashlib",
    }
    assert set(done.stderr.split()) & slow == set()
    assert "job" in done.stdout
