"""The dead letter queue as people deal with it."""

import re
from typing import Any

import pytest

from tests.commandline import CommandLine
from tests.driver import WITHIN, Answer
from tests.support import wait_until

ENTRY = "id job_id run_id added_at reason detail exit_code attempts reinjected_run_id"
ONCE = {"enabled": False}
BAD = {"cmd": 'echo "$PROCCLAW_TRIGGER $PROCCLAW_PARAM_n"; exit 7', "retry": ONCE, "params": {"n": {"default": "0"}}}


def fail(cli: CommandLine, job_id: str = "bad", *words: str) -> str:
    """Have a run fail for good; its id."""
    return str(cli("run", job_id, "--wait", "--json", *words).json["id"])


def wait_for_output(cli: CommandLine, job_id: str, text: str) -> None:
    """The answer to a request comes with the start, the output a moment later."""
    wait_until(lambda: cli("logs", job_id).out == text, WITHIN, lambda: cli("runs", job_id, "--json").out)


def wait_for_entries(cli: CommandLine, count: int) -> list[dict[str, Any]]:
    """Make passes until so many runs have failed for good: one that was only started may go on for a while."""

    def entries() -> list[dict[str, Any]] | None:
        cli("reconcile")
        found: list[dict[str, Any]] = cli("dlq", "--json").json["entries"]
        return found if len(found) == count else None

    return wait_until(entries, WITHIN, lambda: cli("runs", "--json").out) or []


@pytest.mark.real
def test_a_run_that_failed_for_good_is_listed_and_shown(cli: CommandLine) -> None:
    cli.declare(bad=BAD)
    run_id = fail(cli, "bad", "-p", "n=5")
    told = cli("dlq", "--json").json
    assert told == cli("dlq", "list", "bad", "--json").json
    [entry] = told["entries"]
    assert (" ".join(entry), told["total"]) == (ENTRY, 1)
    assert entry | {"added_at": "", "id": 0} == {
        "id": 0,
        "job_id": "bad",
        "run_id": run_id,
        "added_at": "",
        "reason": "retry_disabled",
        "detail": "exit code 7",
        "exit_code": 7,
        "attempts": 1,
        "reinjected_run_id": None,
    }
    row = cli("dlq").out.rstrip("\n").split("\t")
    assert (row[0], row[1], row[2], row[-1]) == (str(entry["id"]), "bad", run_id, "exit code 7; retry disabled")
    shown = cli("dlq", "show", str(entry["id"]), "--json").json
    assert shown == {**entry, "run": cli("runs", "show", run_id, "--json").json}
    assert "params\tn=5\n" in cli("dlq", "show", str(entry["id"])).out


@pytest.mark.real
def test_an_entry_is_put_in_again_once_with_its_params(cli: CommandLine) -> None:
    cli.declare(bad=BAD)
    fail(cli, "bad", "-p", "n=5")
    answer = cli("dlq", "reinject", "1", "--json").json
    assert (answer["success"], answer["job_id"]) == (True, "bad")
    assert cli("dlq", "show", "1", "--json").json["reinjected_run_id"] == answer["run_id"]
    assert cli("runs", "show", answer["run_id"], "--json").json["params"] == {"n": "5"}
    wait_for_output(cli, "bad", "manual 5\ndead_letter 5\n")
    again = cli("dlq", "reinject", "1")
    assert again == Answer(
        1, "", f"procclaw: cannot reinject: dead letter 1 was put in again already, as run {answer['run_id']}\n"
    )


@pytest.mark.real
def test_an_entry_is_put_in_again_with_the_payload_it_had(cli: CommandLine) -> None:
    cli.declare(hook={"cmd": 'cat "$PROCCLAW_PAYLOAD_FILE"; echo; exit 1', "retry": ONCE})
    cli("trigger", "hook", "--payload", '{"a": 1}')
    [entry] = wait_for_entries(cli, 1)
    assert cli("dlq", "reinject", str(entry["id"])).code == 0
    wait_for_output(cli, "hook", '{"a": 1}\n{"a": 1}\n')


@pytest.mark.real
def test_for_a_service_putting_in_again_is_a_start(cli: CommandLine) -> None:
    cli.declare(web={"cmd": '[ -e "$PROCCLAW_HOME/well" ] && exec sleep 1000', "type": "continuous", "retry": ONCE})
    [entry] = wait_for_entries(cli, 1)
    cli.declare(web={"cmd": "exec sleep 1000", "type": "continuous", "retry": ONCE})
    answer = cli("dlq", "reinject", str(entry["id"]))
    assert re.fullmatch(r"web: (already running|started) \(pid \d+\)\n", answer.out)
    cli("stop", "web", "--force")


@pytest.mark.real
def test_entries_are_purged_by_number_by_job_by_age_and_all(cli: CommandLine) -> None:
    cli.declare(bad=BAD, worse=BAD)
    for job_id in ("bad", "bad", "worse", "worse"):
        fail(cli, job_id)
    assert cli("dlq", "purge", "--older-than", "1h") == Answer(0, "nothing to purge\n", "")
    assert cli("dlq", "purge", "1").out == "purged 1 entry\n"
    assert [entry["id"] for entry in cli("dlq", "--json").json["entries"]] == [4, 3, 2]
    assert cli("dlq", "purge", "--job", "worse", "--older-than", "0s", "--json").json == {
        "success": True,
        "message": "purged 2 entries",
        "purged": 2,
    }
    fail(cli, "worse")
    assert cli("dlq", "purge", "--all").out == "purged 2 entries\n"
    assert cli("dlq", "--json").json == {"entries": [], "total": 0}
    assert cli.on_terminal("dlq").out == "the dead letter queue is empty\n"


@pytest.mark.real
def test_what_a_removed_job_has_left_can_be_seen_and_purged_but_not_put_in_again(cli: CommandLine) -> None:
    cli.declare(bad=BAD)
    fail(cli)
    cli.declare()
    cli("reload")
    cli("reconcile")
    assert cli("dlq", "bad", "--json").json["total"] == 1
    assert cli("dlq", "purge", "--job", "bad").out == "purged 1 entry\n"
    assert cli("dlq", "--json").json["total"] == 0


@pytest.mark.real
def test_a_purge_of_one_job_leaves_what_another_request_is_about(cli: CommandLine) -> None:
    cli.declare(bad=BAD)
    for _ in range(3):
        fail(cli)
    cli("dlq", "reinject", "2")
    cli("dlq", "purge", "2", "3")
    left = wait_for_entries(cli, 2)
    assert [entry["id"] for entry in left] == [4, 1]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("dlq show 7", 1, "no entry 7 in the dead letter queue"),
        ("dlq reinject 7", 1, "no entry 7 in the dead letter queue"),
        ("dlq purge 7", 1, "no entry 7 in the dead letter queue"),
        ("dlq purge", 2, "which? IDs, or --job and --older-than, or --all"),
        ("dlq purge 7 --all", 2, "which? IDs, or --job and --older-than, or --all"),
        ("dlq purge --job jop", 1, 'no job "jop"; did you mean "job"?'),
        ("dlq jop", 1, 'no job "jop"; did you mean "job"?'),
    ],
)
def test_an_entry_that_is_not_there_is_said_not_to_be(cli: CommandLine, words: str, code: int, complaint: str) -> None:
    cli.declare(job={"cmd": "true"})
    assert cli(*words.split()) == Answer(code, "", f"procclaw: {complaint}\n")


@pytest.mark.real
def test_a_long_list_says_how_much_of_it_is_not_shown(cli: CommandLine) -> None:
    cli.declare(bad=BAD)
    for _ in range(3):
        fail(cli)
    lines = cli.on_terminal("dlq", "-n", "1").out.splitlines()
    assert len(lines) == 3
    assert lines[2] == "2 older ones are not shown (-n 3 shows them)"
    assert cli("dlq", "-n", "1", "--json").json["total"] == 3
