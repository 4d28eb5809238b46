"""Jobs put together, as people ask for them; and the alerts that were raised."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import CommandLine
from tests.driver import Answer

RUN = "id name type state queued_at finished_at reason detail on_failure steps"
STEP = "step job_id run_id state exit_code result"
WORKFLOW = "id type jobs callback on_failure max_parallel timeout pass_results last_run"
ONCE = {"enabled": False}


def jobs(cli: CommandLine, **workflows: Mapping[str, Any]) -> None:
    cli.declare_all(
        {
            "fetch": {"cmd": 'echo \'{"rows": 3}\' > "$PROCCLAW_RESULT_FILE"'},
            "build": {"cmd": 'cat "${PROCCLAW_INPUT_FILE:-/dev/null}"'},
            "fails": {"cmd": '[ -e "$PROCCLAW_HOME/mended" ]', "retry": ONCE},
        },
        workflows=workflows,
    )


@pytest.mark.real
def test_a_chain_that_is_followed_tells_how_each_step_went(cli: CommandLine) -> None:
    jobs(cli)
    answer = cli("chain", "fetch", "build", "--wait", "--json")
    assert (answer.code, answer.err) == (0, "")
    view = answer.json
    assert (" ".join(view), {" ".join(step) for step in view["steps"]}) == (RUN, {STEP})
    assert (view["name"], view["type"], view["state"], view["on_failure"]) == ("", "chain", "succeeded", "stop")
    assert [(step["step"], step["job_id"], step["state"], step["result"]) for step in view["steps"]] == [
        (0, "fetch", "succeeded", {"rows": 3}),
        (1, "build", "succeeded", None),
    ]
    assert '"rows": 3' in cli("runs", "logs", view["steps"][1]["run_id"]).out
    assert cli("workflow", "show", view["id"][:6], "--json").json == view
    out = cli("workflow", "show", view["id"]).out
    assert f"workflow run\t{view['id']}\ntype\tchain\nstate\tsucceeded\n" in out
    assert "1\tfetch\tsucceeded\t0\t" in out
    assert '\t{"rows": 3}\n' in out


@pytest.mark.real
def test_a_chain_that_is_not_followed_names_its_run(cli: CommandLine) -> None:
    jobs(cli)
    told = cli("chain", "fetch", "build", "--json").json
    assert " ".join(told) == "success message workflow_run_id"
    assert told["success"] is True
    assert cli("workflow", "runs", "--json").json["runs"][0]["id"] == told["workflow_run_id"]
    said = cli("group", "fetch", "build")
    assert said.code == 0
    assert re.fullmatch(r"group fetch build: .*\b\w{12}\b.*\n", said.out)
    assert len(cli("workflow", "runs").out.splitlines()) == 2


@pytest.mark.real
def test_a_step_that_fails_ends_a_chain_and_the_command_says_so(cli: CommandLine) -> None:
    jobs(cli)
    answer = cli("chain", "fails", "build", "--wait")
    assert answer.code == 1
    assert "state\tfailed\n" in answer.out
    assert "2\tbuild\t-\t-\t-\t-\n" in answer.out
    assert (
        cli("chain", "fails", "build", "--wait", "--on-failure", "continue", "--json").json["steps"][1]["state"]
        == "succeeded"
    )


@pytest.mark.real
def test_a_chord_runs_its_callback_last_and_shows_it_as_such(cli: CommandLine) -> None:
    jobs(cli)
    answer = cli("chord", "fetch", "build", "--callback", "build", "--max-parallel", "1", "--wait")
    assert answer.code == 0
    assert [line.split("\t")[:3] for line in answer.out.splitlines()[-3:]] == [
        ["1", "fetch", "succeeded"],
        ["2", "build", "succeeded"],
        ["callback", "build", "succeeded"],
    ]


@pytest.mark.real
def test_a_run_that_failed_goes_on_from_there_once_it_is_mended(cli: CommandLine, home: Path) -> None:
    jobs(cli, nightly={"type": "chain", "jobs": ["fetch", "fails", "build"]})
    failed = cli("workflow", "run", "nightly", "--wait", "--json")
    assert (failed.code, failed.json["name"]) == (1, "nightly")
    (home / "mended").touch()
    mended = cli("workflow", "retry", failed.json["id"], "--wait", "--json")
    assert mended.code == 0
    assert [step["state"] for step in mended.json["steps"]] == ["succeeded"] * 3
    assert mended.json["steps"][0]["run_id"] == failed.json["steps"][0]["run_id"]
    refused = cli("workflow", "cancel", failed.json["id"])
    assert (refused.code, refused.out) == (1, "")


@pytest.mark.real
def test_a_workflow_that_is_cancelled_stops_what_runs_of_it(cli: CommandLine) -> None:
    cli.declare(long={"cmd": "exec sleep 1000"}, after={"cmd": "true"})
    told = cli("chain", "long", "after", "--json").json
    assert cli("workflow", "cancel", told["workflow_run_id"]).code == 0
    assert cli("list", "--status", "running", "--json").json["total"] == 0
    assert cli("workflow", "show", told["workflow_run_id"], "--json").json["state"] == "stopped"


@pytest.mark.real
def test_declared_workflows_are_listed_with_their_newest_run(cli: CommandLine) -> None:
    jobs(
        cli,
        nightly={"type": "chain", "jobs": ["fetch", "build"], "timeout": 60},
        all={"type": "chord", "jobs": ["fetch", "fails"], "callback": "build", "on_failure": "continue"},
    )
    told = cli("workflow", "list", "--json").json
    assert told == cli("workflow", "--json").json
    assert ({" ".join(each) for each in told["workflows"]}, told["total"]) == ({WORKFLOW}, 2)
    assert told["workflows"][0] == {
        "id": "nightly",
        "type": "chain",
        "jobs": ["fetch", "build"],
        "callback": None,
        "on_failure": "stop",
        "max_parallel": None,
        "timeout": 60,
        "pass_results": True,
        "last_run": None,
    }
    run = cli("workflow", "run", "nightly", "--wait", "--json").json
    assert cli("workflow", "list", "--json").json["workflows"][0]["last_run"] == {
        "id": run["id"],
        "state": "succeeded",
        "at": run["queued_at"],
    }
    assert [line.split("\t")[:4] for line in cli("workflow").out.splitlines()] == [
        ["nightly", "chain", "fetch > build", "stop"],
        ["all", "chord", "fetch + fails > build", "continue"],
    ]
    assert cli("workflow", "runs", "nightly", "--json").json == {"runs": [run], "total": 1}
    assert cli("workflow", "runs", "all", "--json").json == {"runs": [], "total": 0}


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("chain fetch biuld", 1, 'no job "biuld"; did you mean "build"?'),
        ("chord fetch --callback biuld", 1, 'no job "biuld"; did you mean "build"?'),
        ("workflow run nigtly", 1, 'no workflow "nigtly"; did you mean "nightly"?'),
        ("workflow runs nigtly", 1, 'no workflow "nigtly"; did you mean "nightly"?'),
        ("workflow show zzz", 1, 'no workflow run "zzz"'),
        ("workflow cancel zzz", 1, 'no workflow run "zzz"'),
        ("workflow retry zzz", 1, 'no workflow run "zzz"'),
    ],
)
def test_a_workflow_or_a_step_that_is_not_declared_is_said_not_to_be(
    cli: CommandLine, words: str, code: int, complaint: str
) -> None:
    jobs(cli, nightly={"type": "chain", "jobs": ["fetch"]})
    assert cli(*words.split()) == Answer(code, "", f"procclaw: {complaint}\n")


@pytest.mark.real
def test_a_workflow_that_was_just_declared_can_be_run(cli: CommandLine) -> None:
    jobs(cli)
    cli("reconcile")
    jobs(cli, nightly={"type": "chain", "jobs": ["fetch"]})
    assert cli("workflow", "run", "nightly", "--wait").code == 0


@pytest.mark.parametrize("words", ["chord fetch", "chain", "chain a --on-failure ignore", "group a --timeout soon"])
def test_a_workflow_that_is_put_together_wrongly_is_wrong_usage(cli: CommandLine, words: str) -> None:
    assert cli(*words.split()).code == 2


def test_nothing_that_ran_together_is_told_too(cli: CommandLine) -> None:
    cli.declare()
    assert cli.on_terminal("workflow").out == "no workflow is declared\n"
    assert cli.on_terminal("workflow", "runs").out == "no workflow has run yet\n"


# --- alerts ---


@pytest.mark.real
def test_alerts_are_listed_with_what_became_of_them(cli: CommandLine) -> None:
    cli.declare(
        loud={"cmd": "exit 7", "retry": ONCE, "alerts": {"command": "true"}},
        quiet={"cmd": "exit 7", "retry": ONCE, "alerts": {"on_max_retries": False}},
    )
    assert cli.on_terminal("alerts").out == "no alert was raised yet\n"
    cli("run", "loud", "--wait")
    cli("run", "quiet", "--wait")
    told = cli("alerts", "--json").json
    assert told["total"] == 1
    [alert] = told["alerts"]
    assert " ".join(alert) == "key job_id kind state raised_at message run_id tries next_try_at done_at detail"
    assert (alert["job_id"], alert["kind"]) == ("loud", "failed")
    assert alert["run_id"] == cli("runs", "loud", "--json").json["runs"][0]["id"]
    assert cli("alerts", "quiet", "--json").json == {"alerts": [], "total": 0}
    row = cli("alerts", "loud").out.rstrip("\n").split("\t")
    assert row[1:3] == ["loud", "failed"]
    assert "loud" in row[4]
    assert cli("alerts", "lout") == Answer(1, "", 'procclaw: no job "lout"; did you mean "loud"?\n')
