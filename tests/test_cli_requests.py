"""Requests that say more than which job: params, keys, payloads, times; and the holds that end by themselves."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from procclaw.engine.asking import LONGEST_PAYLOAD
from tests.commandline import CommandLine
from tests.driver import PROGRAM, WITHIN, Answer, Driver
from tests.support import wait_until

PARAMS = {
    "target": {"required": True},
    "level": {"default": 3, "pattern": "[0-9]"},
}
SAYS_PARAMS = 'echo "$PROCCLAW_PARAM_target $PROCCLAW_PARAM_level"'


# --- params ---


@pytest.mark.real
def test_a_run_gets_the_params_it_is_given_and_the_defaults_of_the_rest(cli: CommandLine) -> None:
    cli.declare(job={"cmd": SAYS_PARAMS, "params": PARAMS})
    run = cli("run", "job", "-p", "target=a b=c", "--wait", "--json").json
    assert (run["state"], run["params"]) == ("succeeded", {"target": "a b=c", "level": "3"})
    assert cli("start", "job", "-p", "target=x", "-p", "level=4").code == 0
    # The answer comes with the start, the output a moment later.
    wait_until(lambda: cli("logs", "job").out == "a b=c 3\nx 4\n", WITHIN, lambda: cli("runs", "job", "--json").out)
    assert "params\tlevel=3 target=a b=c\n" in cli("runs", "show", run["id"]).out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("run job", "job needs the param target: -p target=VALUE"),
        ("run job -p target=x -p level=10", "job: the value of param level does not match its pattern [0-9]"),
        ("run job -p target=x -p tarlevel=1", 'job has no param "tarlevel"; it declares target, level'),
        ("start job", "job needs the param target: -p target=VALUE"),
        ("start plain job -p target=x", 'plain has no param "target"; it declares none'),
        ("schedule job --in 1h", "job needs the param target: -p target=VALUE"),
        ("trigger job", "job needs the param target: -p target=VALUE"),
    ],
)
def test_params_that_do_not_fit_are_wrong_usage_and_nothing_is_asked(
    cli: CommandLine, words: str, complaint: str
) -> None:
    cli.declare(job={"cmd": "true", "params": PARAMS}, plain={"cmd": "true"})
    assert cli(*words.split()) == Answer(2, "", f"procclaw: {complaint}\n")
    assert cli("runs", "--json").json["total"] == 0


@pytest.mark.parametrize("text", ["target", "=x", ""])
def test_a_param_without_a_name_or_a_value_is_wrong_usage(cli: CommandLine, text: str) -> None:
    answer = cli("run", "job", "-p", text)
    assert answer.code == 2
    assert f'"{text}" is not of the form NAME=VALUE' in answer.err


@pytest.mark.real
def test_a_param_that_was_just_declared_can_be_given(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true"})
    cli("reconcile")
    cli.declare(job={"cmd": "true", "params": {"new": {}}})
    assert cli("run", "job", "-p", "new=1", "--wait").code == 0


# --- keys ---


@pytest.mark.real
def test_asking_again_with_the_same_key_asks_for_nothing_new(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "params": {"n": {}}})
    first = cli("run", "job", "-p", "n=1", "--key", "k", "--json").json
    assert cli("run", "job", "-p", "n=1", "--key", "k", "--json").json["run_id"] == first["run_id"]
    assert cli("run", "job", "-p", "n=1", "--key", "other", "--json").json["run_id"] != first["run_id"]
    refused = cli("run", "job", "-p", "n=2", "--key", "k")
    assert (refused.code, refused.out) == (1, "")
    assert re.fullmatch(r'procclaw: the key "k" was used for another request, at [\d:]+Z\n', refused.err)
    assert cli("runs", "--json").json["total"] == 2


# --- payloads ---


@pytest.mark.real
def test_a_trigger_hands_its_json_to_the_job(cli: CommandLine, tmp_path: Path) -> None:
    cli.declare(job={"cmd": 'cat "${PROCCLAW_PAYLOAD_FILE:-/dev/null}"; echo " $PROCCLAW_TRIGGER"'})
    (tmp_path / "body").write_text('{"from": "file"}')
    assert cli("trigger", "job", "--payload", '{"from": "argument"}').code == 0
    assert cli("trigger", "job", "--payload", str(tmp_path / "body")).code == 0
    assert cli("trigger", "job", "--payload", "7").code == 0
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "trigger", "job", "--payload", "-"], input=b'["stdin"]', capture_output=True
    )
    assert done.returncode == 0
    cli("run", "job", "--wait")
    assert cli("logs", "job").out.splitlines() == [
        '{"from": "argument"} webhook',
        '{"from": "file"} webhook',
        "7 webhook",
        '["stdin"] webhook',
        " manual",
    ]


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ("nothing", '"nothing" is no file, and the payload is not JSON: Expecting value: line 1 column 1 (char 0)'),
        ("{", '"{" is no file, and the payload is not JSON: '),
        ("[NaN]", '"[NaN]" is no file, and the payload is not JSON: NaN is no JSON value'),
        ("[" * 100_000, "is no file, and the payload is not JSON: "),
    ],
    ids=["neither", "half an object", "what only Python takes", "nested too deep"],
)
def test_a_payload_that_is_no_json_is_wrong_usage(cli: CommandLine, payload: str, complaint: str) -> None:
    cli.declare(job={"cmd": "true"})
    answer = cli("trigger", "job", "--payload", payload)
    assert (answer.code, answer.out) == (2, "")
    assert complaint in answer.err


def test_a_payload_has_a_largest_size(cli: CommandLine, tmp_path: Path) -> None:
    cli.declare(job={"cmd": "true"})
    (tmp_path / "body").write_text(f'"{"x" * LONGEST_PAYLOAD}"')
    answer = cli("trigger", "job", "--payload", str(tmp_path / "body"))
    assert (answer.code, answer.out) == (2, "")
    assert "at most 1048576 are taken" in answer.err


# --- answers that wait ---


@pytest.mark.real
def test_a_start_that_waits_for_what_is_under_way_counts_as_success_beside_a_daemon(driver: Driver) -> None:
    driver.declare(
        {
            "slow": {"cmd": "sleep 1000"},
            "needs": {"cmd": "true", "depends_on": [{"job": "slow", "condition": "after_complete"}]},
        }
    )
    driver.start_daemon()
    answer = driver.ask("start", "needs")
    assert answer.out.startswith("needs: waits: slow (after_complete): ")
    told = driver.ask("start", "needs", "--json").json
    assert told["success"] is True
    assert told["message"].startswith("waits: slow (after_complete): ")
    assert told["run_id"] is not None
    driver.ask("stop", "needs", "slow", "--force")


# --- later ---


@pytest.mark.real
def test_what_is_planned_is_listed_until_it_is_cancelled(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "timezone": "Asia/Tokyo", "params": {"n": {}}}, other={"cmd": "true"})
    answer = cli("schedule", "job", "--at", "2035-01-02T03:04:05", "-p", "n=1", "--json").json
    assert (answer["success"], answer["job_id"]) == (True, "job")
    assert answer["message"] == f"planned for 2035-01-01T18:04:05Z (run {answer['run_id']})"
    assert re.fullmatch(
        r"other: planned for \d{4}-\S+ \S+ \(run \w{12}\)\n", cli("schedule", "other", "--in", "1h").out
    )
    told = cli("schedule", "--json").json
    assert [each["job_id"] for each in told["planned"]] == ["other", "job"]
    assert told["total"] == 2
    asked_at = told["planned"][1].pop("asked_at")
    assert asked_at.endswith("Z")
    wanted = {"job_id": "job", "run_id": answer["run_id"], "at": "2035-01-01T18:04:05Z", "params": {"n": "1"}}
    assert told["planned"][1] == wanted
    assert cli("schedule", "job").out.count("\n") == 1
    assert cli("status", "job", "--json").json["status"] == "planned"
    assert cli("schedule", "job", "--cancel").out == "job: cancelled 1 planned\n"
    assert cli("schedule", "job", "--cancel").out == "job: nothing was planned\n"
    assert [each["job_id"] for each in cli("schedule", "--json").json["planned"]] == ["other"]
    assert cli("runs", "show", answer["run_id"], "--json").json["state"] == "stopped"


@pytest.mark.real
def test_what_is_planned_starts_when_its_time_has_come(cli: CommandLine, driver: Driver) -> None:
    cli.declare(job={"cmd": 'echo "$PROCCLAW_TRIGGER"'})
    cli("schedule", "job", "--in", "0.2s")

    def has_run() -> bool:
        cli("reconcile")
        return cli("logs", "job").out == "eta\n"

    driver.wait(has_run)
    assert cli.on_terminal("schedule").out == "nothing is planned\n"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("schedule job --at 2020-01-01", 2, "2020-01-01T00:00:00Z has passed; procclaw run job starts it now"),
        ("schedule job --at soon", 2, '"soon" is not an ISO 8601 time'),
        ("schedule job --in 1h --at 2035-01-01", 2, "--at, --in and --cancel exclude each other"),
        ("schedule --in 1h", 2, "which job? procclaw schedule JOB --in 10m"),
        ("schedule job -p n=1", 2, "-p needs --at or --in"),
        ("schedule jop --in 1h", 1, 'no job "jop"; did you mean "job"?'),
        ("schedule jop", 1, 'no job "jop"; did you mean "job"?'),
        ("revoke job --expires 1h --until 2035-01-01", 2, "--expires and --until exclude each other"),
        ("revoke job --until 2020-01-01", 1, 'cannot revoke "job": 2020-01-01T00:00:00Z has passed'),
        ("revoke jop --until 2035-01-01", 1, 'no job "jop"; did you mean "job"?'),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(cli: CommandLine, words: str, code: int, complaint: str) -> None:
    cli.declare(job={"cmd": "true", "timezone": "UTC"})
    assert cli(*words.split()) == Answer(code, "", f"procclaw: {complaint}\n")


# --- revoking ---


@pytest.mark.real
def test_a_revoked_job_loses_what_waits_and_starts_nothing_until_it_is_let_go(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "timezone": "Asia/Tokyo"})
    cli("schedule", "job", "--in", "1h")
    told = cli("revoke", "job", "--until", "2035-01-01T09:00", "--json").json
    assert told["message"] == "revoked until 2035-01-01T00:00:00Z, 1 waiting cancelled"
    refused = cli("run", "job")
    assert refused.code == 1
    assert re.fullmatch(
        r'procclaw: cannot run "job": revoked since .*; unrevoke first \(procclaw unrevoke job\)\n', refused.err
    )
    assert cli("unrevoke", "job") == Answer(0, "job: no longer revoked\n", "")
    assert cli("unrevoke", "job") == Answer(0, "job: was not revoked\n", "")
    assert cli("run", "job", "--wait").code == 0


@pytest.mark.real
def test_a_revoke_leaves_what_runs_unless_it_is_to_end_it(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "exec sleep 1000"})
    cli("run", "job")
    assert cli("revoke", "job").out == "job: revoked; what runs goes on\n"
    assert cli("status", "job", "--json").json["status"] == "running"
    assert cli("revoke", "job", "--terminate").out == "job: revoked and stopped\n"
    assert cli("status", "job", "--json").json["status"] == "paused"


@pytest.mark.real
def test_a_revoke_ends_by_itself(cli: CommandLine, driver: Driver) -> None:
    cli.declare(job={"cmd": "true"})
    # Refused where the time is over before anybody looks.
    driver.wait(lambda: cli("revoke", "job", "--expires", "0.3s").code == 0)
    driver.wait(lambda: cli("run", "job").code == 0)
