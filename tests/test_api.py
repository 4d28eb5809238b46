"""The HTTP interface of a real daemon: every route, by its answers, and what it refuses."""

import hashlib
import hmac
import json
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from procclaw import __version__
from procclaw.engine.asking import Patience
from procclaw.interface.api import acts
from procclaw.interface.api.desk import Call, Desk, Reply
from tests.driver import STAYS, STUBBORN, Driver, driving, noting
from tests.httpclient import Client, client_of, patient
from tests.support import Reaper

pytestmark = pytest.mark.real

API = "/api/v1"
JOBS: dict[str, Any] = {
    "service": {"cmd": STAYS, "type": "continuous", "tags": ["web", "core"]},
    "report": {
        "cmd": "echo day $PROCCLAW_PARAM_DAY; echo oh >&2",
        "tags": ["web"],
        "params": {"DAY": {"default": "today", "pattern": "[a-z]+"}},
        "description": "Tells of a day",
    },
    "bad": {"cmd": "exit 3", "retry": {"enabled": False}},
    "hourly": {"cmd": "true", "type": "scheduled", "schedule": "0 * * * *", "enabled": False},
    "hook": {
        "cmd": noting('cat "$PROCCLAW_PAYLOAD_FILE"'),
        "trigger": {"type": "webhook", "auth_token": "hook-token", "hmac_secret": "hook-key"},
    },
    "open_hook": {"cmd": "true", "trigger": {"type": "webhook"}},
}
WORKFLOWS = {"nightly": {"type": "chain", "jobs": ["report", "bad"]}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One daemon for tests that leave nothing behind which another would see."""
    reaper = Reaper()
    try:
        program = patient(tmp_path_factory.mktemp("program"))
        with driving(tmp_path_factory.mktemp("home"), reaper, program) as driver:
            driver.declare(JOBS)
            (driver.home / "jobs.yaml").write_text(json.dumps({"jobs": JOBS, "workflows": WORKFLOWS}))
            driver.start_daemon()
            # Any of the tests may be the first one, and finds a service that has started.
            driver.pid("service")
            yield driver
    finally:
        reaper.end()


@pytest.fixture
def client(shared: Driver) -> Client:
    return client_of(shared)


# --- beside the routes ---


def test_the_health_has_the_shape_that_monitors_know(client: Client) -> None:
    told = client.get("/health")
    assert told.status == 200
    assert told.json == {
        "status": "healthy",
        "version": __version__,
        "jobs_running": told.json["jobs_running"],
        "jobs_total": len(JOBS),
        "problems": [],
    }
    assert told.json["jobs_running"] >= 1


def test_every_answer_forbids_what_a_browser_might_do_with_it(client: Client) -> None:
    for path in ("/", "/health", "/metrics", "/openapi.json", f"{API}/jobs", f"{API}/nothing", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers or "Python" not in headers["server"]


def test_the_page_allows_nothing_but_its_own_script_and_style(client: Client) -> None:
    first, second = client.get("/"), client.get("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    [nonce] = set(re.findall(r"'nonce-([^']+)'", first.headers["content-security-policy"]))
    assert f'nonce="{nonce}"'.encode() in first.body
    assert "default-src 'none'" in first.headers["content-security-policy"]
    assert first.headers["content-security-policy"] != second.headers["content-security-policy"]
    assert b"__NONCE__" not in first.body


def test_what_is_not_there_is_told_as_json(client: Client) -> None:
    assert client.get("/nothing").error == (404, "not_found")
    assert client.get(f"{API}/nothing").error == (404, "not_found")
    assert client.ask("PUT", f"{API}/jobs").error == (405, "wrong_method")
    assert client.get(f"{API}/jobs/report/start").error == (405, "wrong_method")


@pytest.mark.parametrize(
    "path",
    [
        "jobs/..%2f..%2fprocclaw",
        "jobs/%2e%2e",
        "jobs/..",
        "jobs/report%00",
        "jobs/repor%FF",
        "jobs/REPORT",
        "jobs/report%0d%0aSet-Cookie:x",
        "jobs/../../../../etc/passwd/logs",
        "jobs/..%2f..%2f..%2fetc%2fpasswd/logs",
        "jobs/daemon/logs",
        "jobs/daemon/logs/download",
        "jobs/..%2fprocclaw/logs/download",
        "runs/%25",
        "runs/_",
    ],
)
def test_no_path_leads_out_of_what_is_declared(client: Client, path: str) -> None:
    told = client.get(f"{API}/{path}")
    assert told.status in (400, 404), told
    assert "set-cookie" not in told.headers


# --- jobs ---


def test_jobs_are_listed_in_the_shape_of_the_command_line(client: Client, shared: Driver) -> None:
    told = client.get(f"{API}/jobs").json
    assert told["total"] == len(JOBS)
    [service] = [job for job in told["jobs"] if job["id"] == "service"]
    from_cli = shared.ask("status", "service", "--json").json
    changing = ("uptime_seconds", "cpu_percent", "memory_mb")
    assert {k: v for k, v in service.items() if k not in changing} == {
        k: v for k, v in from_cli.items() if k not in changing
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=tells", ["report"]),
        ("type=continuous&status=running", ["service"]),
        ("tag=web", ["report", "service"]),
        ("tag=web&tag=core", ["service"]),
        ("tags=core,nothing", ["service"]),
        ("enabled=false", ["hourly"]),
        ("q=report&type=manual&enabled=true", ["report"]),
        ("tag=web&limit=1", ["service"]),
        ("tag=web&limit=1&offset=1", ["report"]),
        ("q=", sorted(JOBS)),
    ],
)
def test_jobs_are_filtered(client: Client, query: str, found: list[str]) -> None:
    told = client.get(f"{API}/jobs?{query}").json
    assert sorted(job["id"] for job in told["jobs"]) == found or "limit" in query
    if "limit" in query:
        assert [job["id"] for job in told["jobs"]] == found
        assert told["total"] == 2


@pytest.mark.parametrize("query", ["status=up", "type=x", "enabled=yes", "limit=0", "limit=x", "tagg=web", "q=a&q=b"])
def test_a_filter_that_means_nothing_is_refused(client: Client, query: str) -> None:
    assert client.get(f"{API}/jobs?{query}").error == (400, "usage")


def test_a_list_that_has_not_changed_is_not_sent_again(client: Client, shared: Driver) -> None:
    def unchanged() -> str | None:
        """The mark of a list that is still the same when it is asked for again; what others began goes on meanwhile."""
        etag = client.get(f"{API}/jobs").headers["etag"]
        again = client.get(f"{API}/jobs", if_none_match=etag)
        return etag if (again.status, again.body) == (304, b"") else None

    etag = shared.wait(unchanged)
    client.post(f"{API}/jobs/report/pause")
    changed = client.get(f"{API}/jobs", if_none_match=etag)
    assert changed.status == 200
    assert changed.headers["etag"] != etag
    client.post(f"{API}/jobs/report/resume")


def test_a_job_in_full_tells_what_it_depends_on_and_is_given(client: Client) -> None:
    told = client.get(f"{API}/jobs/report").json
    assert told["id"] == "report"
    [param] = told["particulars"]["params"]
    assert (param["name"], param["default"], param["pattern"]) == ("DAY", "today", "[a-z]+")
    assert told["particulars"]["workflows"] == ["nightly"]
    told = client.get(f"{API}/jobs/reprot")
    assert told.error == (404, "not_found")
    assert told.json["error"]["message"] == 'no job "reprot"; did you mean "report"?'


def test_a_run_is_asked_for_with_params_and_told_with_all_of_it(client: Client, shared: Driver) -> None:
    told = client.post(f"{API}/jobs/report/run", {"params": {"DAY": "monday"}})
    assert told.status in (200, 202)
    assert told.json["success"] is True
    assert told.json["job_id"] == "report"
    run_id = told.json["run_id"]
    run = shared.wait(lambda: (found := client.get(f"{API}/runs/{run_id}").json)["state"] == "succeeded" and found)
    assert (run["params"], run["trigger"], run["exit_code"]) == ({"DAY": "monday"}, "manual", 0)
    log = client.get(f"{API}/runs/{run_id}/logs").json
    assert log["entries"] == [{"stream": "stdout", "line": "day monday"}, {"stream": "stderr", "line": "oh"}]
    assert log["lines"] == ["day monday", "oh"]
    assert (log["job_id"], log["total_lines"]) == ("report", 2)
    only = client.get(f"{API}/jobs/report/logs?lines=1&stream=stdout&run={run_id}").json
    assert only["lines"] == ["day monday"]
    listed = client.get(f"{API}/runs?job=report&state=succeeded&limit=1").json
    assert listed["total"] >= len(listed["runs"]) == 1
    text = client.get(f"{API}/jobs/report/logs/download")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.headers["content-disposition"] == 'attachment; filename="report.log"'
    assert b"day monday\n" in text.body
    assert client.get(f"{API}/jobs/report/logs/download?stream=stderr").body.startswith(b"oh\n")


def test_the_same_key_asks_for_the_same_run(client: Client) -> None:
    first = client.post(f"{API}/jobs/report/run", idempotency_key="k1").json["run_id"]
    assert client.post(f"{API}/jobs/report/run", idempotency_key="k1").json["run_id"] == first
    other = client.post(f"{API}/jobs/report/run", {"params": {"DAY": "friday"}}, idempotency_key="k1")
    assert other.error == (409, "conflict")
    assert client.post(f"{API}/jobs/report/run", idempotency_key="k2").json["run_id"] != first


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"parms": {}}, '"parms": there is no such field here; did you mean "params"?'),
        ({"params": {"DAY": "1"}}, "report: the value of param DAY does not match its pattern [a-z]+"),
        ({"params": {"NIGHT": "x"}}, 'report has no param "NIGHT"; it declares DAY'),
        ({"params": 5}, "params: is not an object of texts, by the names of params"),
        ([], "the body must be a JSON object"),
        ("x", "the body must be a JSON object"),
    ],
)
def test_a_request_that_makes_no_sense_says_why(client: Client, body: Any, message: str) -> None:
    told = client.post(f"{API}/jobs/report/run", body)
    assert (told.status, told.json) == (400, {"error": {"code": "usage", "message": message}})


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"NaN", b"[" * 100_000, b'{"a": Infinity}'])
def test_what_is_no_json_is_refused(client: Client, body: bytes) -> None:
    told = client.ask("POST", f"{API}/jobs/report/run", body, content_type="application/json")
    assert told.error == (400, "usage")


def test_a_paused_job_is_not_started_and_the_refusal_says_what_to_do(client: Client) -> None:
    assert client.post(f"{API}/jobs/report/pause").json["status"] == "paused"
    told = client.post(f"{API}/jobs/report/start")
    assert told.error == (409, "refused")
    assert "resume" in told.json["error"]["message"]
    gates = client.get(f"{API}/jobs/report/why").json["gates"]
    [paused] = [gate for gate in gates if gate["gate"] == "paused"]
    assert (paused["open"], paused["unblock"]) == (False, "procclaw resume report")
    assert client.post(f"{API}/jobs/report/resume").status == 200


def test_a_service_is_stopped_started_and_restarted(client: Client, shared: Driver) -> None:
    stopped = client.post(f"{API}/jobs/service/stop").json
    assert (stopped["success"], stopped["status"], stopped["pid"]) == (True, "stopped", None)
    started = client.post(f"{API}/jobs/service/start").json
    assert started["message"] == f"started (pid {started['pid']})"
    assert started["pid"] == shared.pid("service")
    again = client.post(f"{API}/jobs/service/start").json
    assert (again["success"], again["pid"]) == (True, started["pid"])
    restarted = client.post(f"{API}/jobs/service/restart").json
    assert restarted["pid"] not in (None, started["pid"])


def test_a_stop_that_takes_longer_says_so_within_two_seconds(driver: Driver) -> None:
    driver.declare({"stubborn": {"cmd": STUBBORN, "shutdown": {"grace_period": 600}}})
    driver.start_daemon()
    client = client_of(driver)
    client.post(f"{API}/jobs/stubborn/start")
    # With its note it has come to ignore SIGTERM.
    driver.wait_for_notes("stubborn")
    driver.wait_for_status("stubborn", "running")
    # A loop that was held up for those two seconds has not begun with it.
    told = driver.wait(lambda: (said := client.post(f"{API}/jobs/stubborn/stop")).json["status"] == "stopping" and said)
    assert (told.status, told.json["success"]) == (202, True)
    assert client.post(f"{API}/jobs/stubborn/stop", {"force": True}).status in (200, 202)
    driver.wait(lambda: driver.status("stubborn") in ("stopped", "failed"))


def test_what_is_not_done_in_time_is_said_to_be_under_way(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.declare({"bad": JOBS["bad"]})
    driver.ask("run", "bad", "--wait", code=1)
    monkeypatch.setattr(acts, "PATIENCE", Patience(0.1))
    monkeypatch.setattr(acts, "LONG_PATIENCE", Patience(0.1))
    desk, lock = Desk(str(driver.home), "test"), driver.opened.lock()
    # Whoever has it is to answer, and does not.
    assert driver.opened.acquire(lock, "daemon")
    try:
        replies = [
            acts.purge(desk, Call("", {"job": "bad", "older_than_seconds": None}, {}, b"", None)),
            acts.reload(desk, Call("", {}, {}, b"", None)),
        ]
    finally:
        lock.release()
        desk.close()
    assert replies == [
        Reply({"success": True, "message": "purge is under way", "purged": 0}, 202),
        Reply({"success": True, "message": "reload is under way", "problems": [], "warnings": []}, 202),
    ]


def test_a_run_is_planned_and_cancelled(client: Client) -> None:
    assert client.post(f"{API}/jobs/report/schedule", {}).error == (400, "usage")
    told = client.post(f"{API}/jobs/report/schedule", {"in_seconds": 3600, "params": {"DAY": "sunday"}})
    assert told.json["success"] is True
    [planned] = client.get(f"{API}/jobs/report").json["particulars"]["planned"]
    assert planned["params"] == {"DAY": "sunday"}
    assert client.post(f"{API}/jobs/report/schedule", {"at": "2001-01-01T00:00:00Z"}).error == (400, "usage")
    assert client.post(f"{API}/jobs/report/schedule", {"at": "2099-01-01T00:00:00Z"}).status == 200
    assert client.ask("DELETE", f"{API}/jobs/report/schedule").status == 200
    assert client.get(f"{API}/jobs/report").json["particulars"]["planned"] == []


def test_a_job_is_revoked_for_a_while_and_given_back(client: Client) -> None:
    assert client.post(f"{API}/jobs/report/revoke", {"expires_seconds": 3600, "until": "2099-01-01"}).status == 400
    assert client.post(f"{API}/jobs/report/revoke", {"expires_seconds": 3600}).json["status"] == "paused"
    [revoked] = [each for each in client.get(f"{API}/jobs/report/why").json["gates"] if each["gate"] == "revoked"]
    assert revoked["until"] is not None
    assert client.ask("DELETE", f"{API}/jobs/report/revoke").status == 200
    assert client.post(f"{API}/jobs/report/start").status in (200, 202)


# --- what failed, and what came of it ---


def test_a_dead_letter_is_looked_at_put_in_again_and_thrown_away(client: Client, shared: Driver) -> None:
    run_id = client.post(f"{API}/jobs/bad/run").json["run_id"]

    def entries() -> list[dict[str, Any]]:
        return [each for each in client.get(f"{API}/dlq?job=bad").json["entries"] if each["run_id"] == run_id]

    [entry] = shared.wait(entries)
    in_full = client.get(f"{API}/dlq/{entry['id']}").json
    assert in_full["run"]["id"] == run_id
    again = client.post(f"{API}/dlq/{entry['id']}/reinject").json
    assert again["run_id"] not in (None, run_id)
    assert client.ask("DELETE", f"{API}/dlq/{entry['id']}").json["purged"] == 1
    assert client.ask("DELETE", f"{API}/dlq/{entry['id']}").error == (404, "not_found")
    assert client.ask("DELETE", f"{API}/dlq/x").error == (400, "usage")
    shared.wait(lambda: client.get(f"{API}/runs/{again['run_id']}").json["state"] == "failed")
    assert client.ask("DELETE", f"{API}/dlq?job=bad&older_than_seconds=3600").json["purged"] == 0
    assert client.ask("DELETE", f"{API}/dlq?job=bad").json["purged"] >= 1


def test_a_workflow_is_run_followed_and_gone_on_with(client: Client, shared: Driver) -> None:
    [declared] = client.get(f"{API}/workflows").json["workflows"]
    assert (declared["id"], declared["jobs"]) == ("nightly", ["report", "bad"])
    run_id = client.post(f"{API}/workflows/nightly/run").json["workflow_run_id"]
    run = shared.wait(
        lambda: (found := client.get(f"{API}/workflow-runs/{run_id}").json)["state"] == "failed" and found
    )
    assert [step["state"] for step in run["steps"]] == ["succeeded", "failed"]
    assert client.post(f"{API}/workflow-runs/{run_id}/retry").json["success"] is True
    shared.wait(lambda: client.get(f"{API}/workflow-runs/{run_id}").json["state"] == "failed")
    assert client.post(f"{API}/workflow-runs/{run_id}/cancel").error == (409, "refused")
    assert client.get(f"{API}/workflow-runs?workflow=nightly&limit=1").json["total"] == 1
    assert client.post(f"{API}/workflows/daily/run").error == (404, "not_found")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chain", {"jobs": ["report", "open_hook"]}),
        ("group", {"jobs": ["report", "open_hook"], "max_parallel": 1}),
        ("chord", {"jobs": ["report"], "callback": "open_hook", "timeout": 60}),
    ],
)
def test_jobs_are_put_together_in_the_asking(client: Client, shared: Driver, kind: str, body: Any) -> None:
    run_id = client.post(f"{API}/{kind}", body).json["workflow_run_id"]
    shared.wait(lambda: client.get(f"{API}/workflow-runs/{run_id}").json["state"] == "succeeded")
    assert client.post(f"{API}/{kind}", {}).error == (400, "usage")
    assert client.post(f"{API}/{kind}", {**body, "jobs": ["nobody"]}).error == (404, "not_found")


# --- the home ---


def test_the_plan_the_ledger_the_queue_and_the_alerts_are_told(client: Client) -> None:
    assert set(client.get(f"{API}/plan").json) == {"actions", "waits", "wake_at", "problems"}
    assert set(client.get(f"{API}/plan?for_seconds=86400").json) > {"fires", "more"}
    assert "slots" in client.get(f"{API}/ledger?since=2026-01-01").json
    assert set(client.get(f"{API}/queue").json) == {"runs", "queues"}
    assert set(client.get(f"{API}/alerts").json) == {"alerts", "total"}


def test_the_configuration_is_told_without_its_secrets(client: Client, shared: Driver) -> None:
    told = client.get(f"{API}/config")
    assert told.json["home"] == str(shared.home)
    assert told.json["document"]["jobs"]["hook"]["trigger"][0]["auth_token"] == "****"
    assert b"hook-token" not in told.body
    assert b"hook-key" not in told.body
    assert told.json["daemon"]["pid"] > 0


def test_events_come_one_after_the_other_and_as_a_stream(client: Client) -> None:
    told = client.get(f"{API}/events?limit=5").json
    assert len(told["events"]) <= 5
    assert told["next"] == told["events"][-1]["id"]
    later = client.get(f"{API}/events?after={told['next']}&wait=0").json
    connection = client.connect()
    try:
        connection.request("GET", f"{API}/events", headers={"Accept": "text/event-stream"})
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.readline() == b": what comes from now on\n"
        client.post(f"{API}/jobs/report/pause")
        lines = iter(answer.readline, b"")
        # What others began may have its events before.
        told_of = (
            json.loads(line[6:]) for line, _ in zip(lines, range(60), strict=False) if line.startswith(b"data: ")
        )
        assert any(event["job_id"] == "report" for event in told_of), later
        client.post(f"{API}/jobs/report/resume")
    finally:
        connection.close()


def test_whoever_waits_for_an_event_is_told_when_it_comes(client: Client, shared: Driver) -> None:
    newest = client.get(f"{API}/events?limit=1").json["next"]
    connection = client.connect()
    try:
        connection.request("GET", f"{API}/events?after={newest}&wait=20")
        shared.ask("pause", "bad")
        told = json.loads(connection.getresponse().read())
        # What others began may have its events before.
        while not any(event["job_id"] == "bad" for event in told["events"]):
            assert told["events"]
            told = client.get(f"{API}/events?after={told['next']}&wait=15").json
    finally:
        connection.close()
        shared.ask("resume", "bad")


# --- webhooks ---


def signed(body: bytes, key: str = "hook-key") -> str:
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def test_a_webhook_with_a_token_or_a_key_of_its_own_is_judged_by_that_alone(client: Client, shared: Driver) -> None:
    body = json.dumps({"pushed": 1}).encode()
    before = len(shared.notes("hook"))
    foreign = {"host": "claw.example", "origin": "https://forge.example", "content_type": "application/json"}
    for headers in ({"authorization": "Bearer hook-token"}, {"x_hub_signature_256": signed(body)}):
        told = client.ask("POST", f"{API}/trigger/hook", body, **foreign, **headers)
        assert told.status in (200, 202), told
    shared.wait(lambda: len(shared.notes("hook")) == before + 2)
    assert '{"pushed": 1}' in client.get(f"{API}/jobs/hook/logs").body.decode().replace('\\"', '"')
    refused: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer nothing"},
        {"x_hub_signature_256": signed(body, "x")},
        {"x_hub_signature_256": signed(b"{}")},
        {"x_hub_signature_256": "sha256="},
    ]
    for headers in refused:
        assert client.ask("POST", f"{API}/trigger/hook", body, **headers).error == (401, "no_token")
    assert len(shared.notes("hook")) == before + 2


def test_a_webhook_without_one_is_as_guarded_as_everything_else(client: Client) -> None:
    assert client.post(f"{API}/trigger/open_hook", {"a": 1}).status in (200, 202)
    assert client.post(f"{API}/trigger/open_hook", {"a": 1}, origin="http://evil.example").error == (403, "other_site")
    assert client.ask("POST", f"{API}/trigger/open_hook", b"a=1").error == (415, "not_json")
    assert client.post(f"{API}/trigger/report").error == (404, "not_found")
    assert client.post(f"{API}/trigger/nobody").error == (404, "not_found")
    for body in (b"{", b'"' + b"x" * (1 << 20) + b'"'):
        told = client.ask("POST", f"{API}/trigger/open_hook", body, content_type="application/json")
        assert told.error == (400, "usage")
    assert client.ask("POST", f"{API}/trigger/open_hook", b" " * (3 << 20)).error == (413, "too_large")


# --- whoever should not ---

# By a program that any account may execute.
ATTACK = 'exec 3<>/dev/tcp/127.0.0.1/$1; printf "$2" >&3; [ "$3" = stays ] && head -n 1 <&3'


def as_another_user(reaper: Reaper, port: int, request: str, *, stays: bool = True) -> str:
    """The first line of the answer; `stays` False: does not wait for it, and is gone at once."""
    done = reaper.spawn(
        ["/bin/bash", "-c", ATTACK, "attack", str(port), request, "stays" if stays else "goes"],
        user=pwd.getpwnam("nobody").pw_uid,
        group=pwd.getpwnam("nobody").pw_gid,
        extra_groups=[],
        cwd="/",
        env={},
        stdout=subprocess.PIPE,
        text=True,
    )
    return str(done.communicate(timeout=30)[0]).strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: becoming another account takes root")
@pytest.mark.parametrize("path", ["GET /", "GET /health", "GET /metrics", f"GET {API}/jobs", f"POST {API}/reload"])
def test_another_user_of_the_machine_is_not_served(client: Client, reaper: Reaper, path: str) -> None:
    request = f"{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    assert as_another_user(reaper, client.port, request) == "HTTP/1.1 403 Forbidden"


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: becoming another account takes root")
def test_another_user_who_is_gone_before_anybody_looks_is_not_taken_for_root(driver: Driver, reaper: Reaper) -> None:
    driver.declare({"job": {"cmd": noting("exit 0")}})
    driver.start_daemon()
    client = client_of(driver)
    request = f"POST {API}/jobs/job/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    for _ in range(20):
        as_another_user(reaper, client.port, request, stays=False)
    assert client.post(f"{API}/jobs/job/run").status in (200, 202)
    driver.wait_for_notes("job")
    driver.look_again()
    assert len(driver.runs("job")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: becoming another account takes root")
def test_another_user_with_the_token_is_served(driver: Driver, reaper: Reaper) -> None:
    driver.declare({"job": {"cmd": "true"}}, api={"auth": {"enabled": True, "token": "t0ken"}})
    driver.start_daemon()
    request = f"GET {API}/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
    port = client_of(driver).port
    assert as_another_user(reaper, port, request % "t0ken") == "HTTP/1.1 200 OK"
    assert as_another_user(reaper, port, request % "token") == "HTTP/1.1 401 Unauthorized"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"host": "evil.example:9876"}, (403, "wrong_host")),
        ({"origin": "http://evil.example"}, (403, "other_site")),
        ({"origin": "null"}, (403, "other_site")),
        ({"sec_fetch_site": "cross-site"}, (403, "other_site")),
        ({"content_type": "text/plain"}, (415, "not_json")),
        ({"content_type": "application/x-www-form-urlencoded"}, (415, "not_json")),
    ],
)
def test_a_hostile_page_changes_nothing(
    client: Client, shared: Driver, headers: dict[str, str], error: tuple[int, str]
) -> None:
    before = len(shared.runs("report"))
    for body in (None, b"{}"):
        assert client.ask("POST", f"{API}/jobs/report/run", body, **headers).error == error
    assert len(shared.runs("report")) == before
    if "content_type" not in headers:
        assert client.get(f"{API}/config", **headers).error == error


def test_a_browser_that_asks_beforehand_is_not_encouraged(client: Client) -> None:
    asked = {"origin": "http://evil.example", "access_control_request_method": "POST"}
    told = client.ask("OPTIONS", f"{API}/jobs/report/run", **asked)
    assert told.error == (403, "other_site")
    assert not any(name.startswith("access-control") for name in told.headers)


# --- the configuration, and the daemon's status ---


def test_an_invalid_configuration_makes_the_health_bad_and_a_reload_says_why(driver: Driver) -> None:
    driver.declare({"service": JOBS["service"]})
    driver.start_daemon()
    client = client_of(driver)
    (driver.home / "jobs.yaml").write_text("jobs: {service: {cmdd: x}}\n")
    told = client.post(f"{API}/reload").json
    assert told["success"] is False
    assert any("cmdd" in problem for problem in told["problems"])
    health = client.get("/health")
    assert (health.status, health.json["status"], health.json["problems"]) == (503, "unhealthy", told["problems"])
    driver.declare({"service": JOBS["service"], "more": {"cmd": "true"}})
    assert client.post(f"{API}/reload").json["message"] == "2 jobs in force"
    assert client.get("/health").status == 200


def test_a_token_applies_as_soon_as_it_is_written_down(driver: Driver) -> None:
    driver.declare({"job": {"cmd": "true"}})
    driver.start_daemon()
    client = client_of(driver)
    assert client.get(f"{API}/jobs").status == 200
    driver.declare({"job": {"cmd": "true"}}, api={"auth": {"enabled": True, "token": "t0ken"}})
    # With a token it is another place; until it has moved it refuses at the old one, and may close that in between.
    daemon_log = driver.home / "logs" / "daemon.log"
    driver.wait(lambda: daemon_log.read_text().count(" api served ") == 2)
    client = client_of(driver)
    assert client.get(f"{API}/jobs").status == 401
    assert client.get(f"{API}/jobs").headers["www-authenticate"] == 'Bearer realm="procclaw"'
    assert client.get(f"{API}/jobs", authorization="Bearer t0ken").json["total"] == 1
    assert client.get("/metrics").status == 401
    assert client.get("/health").status == 200
    assert client.get("/").status == 200
    assert "t0ken" not in daemon_log.read_text()


def test_a_port_that_is_taken_stops_nothing_and_is_tried_again(driver: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        driver.declare({"service": JOBS["service"]}, daemon={"port": port})
        driver.start_daemon()
        driver.wait_for_status("service", "running")
        problem = str(driver.wait(lambda: driver.operations.api().problem))
        assert str(port) in problem
        assert f"not served: {problem}" in driver.ask("daemon", "status").out
        assert driver.ask("daemon", "status", "--json").json["api"] == {"address": None, "problem": problem}
    client = client_of(driver)
    assert client.port == port
    assert f"http://127.0.0.1:{client.port}" in driver.ask("daemon", "status").out


def test_an_address_that_others_can_reach_needs_a_token(driver: Driver) -> None:
    driver.declare({"job": {"cmd": "true"}}, daemon={"host": "0.0.0.0"})
    driver.start_daemon()
    problem = str(driver.wait(lambda: driver.operations.api().problem))
    assert "which needs api.auth" in problem
    access = {"auth": {"enabled": True, "token": "t"}}
    driver.declare({"job": {"cmd": "true"}}, daemon={"host": "0.0.0.0"}, api=access)
    address = str(driver.wait(lambda: driver.operations.api().address))
    port = int(address.rpartition(":")[2])
    assert Client("127.0.0.1", port).get("/health", host=f"localhost:{port}").status == 200
    driver.ask("daemon", "stop")


def test_a_token_that_is_a_secret_lets_nobody_in_while_it_cannot_be_had(driver: Driver) -> None:
    hook = {"type": "webhook", "hmac_secret": "${secret:HOOK}"}
    jobs: dict[str, Any] = {"job": {"cmd": "true"}, "hooked": {"cmd": "true", "trigger": hook}}
    driver.declare(jobs, api={"auth": {"enabled": True, "token": "${secret:API}"}})
    driver.start_daemon()
    problem = str(driver.wait(lambda: driver.operations.api().problem))
    assert problem == 'api.auth.token: secret "API" is not set: procclaw secret set API; tried again every 5 s'
    driver.ask("secret", "set", "API", "first-token")
    client = client_of(driver)
    assert client.get("/api/v1/jobs", authorization="Bearer first-token").status == 200
    assert client.get("/api/v1/jobs", authorization="Bearer ${secret:API}").status == 401
    driver.ask("secret", "set", "API", "second-token")
    assert client.get("/api/v1/jobs", authorization="Bearer first-token").status == 401
    assert client.get("/api/v1/jobs", authorization="Bearer second-token").status == 200

    signature = signed(b"{}")
    refused = client.post("/api/v1/trigger/hooked", {}, x_hub_signature_256=signature)
    assert refused.error == (503, "unavailable")
    assert b"HOOK" not in refused.body
    driver.ask("secret", "set", "HOOK", "hook-key")
    assert client.post("/api/v1/trigger/hooked", {}, x_hub_signature_256=signature).status in (200, 202)
    assert client.post("/api/v1/trigger/hooked", {"other": 1}, x_hub_signature_256=signature).status == 401

    driver.ask("secret", "delete", "API")
    assert client.get("/api/v1/jobs", authorization="Bearer second-token").status == 503
    daemon_log = (driver.home / "logs" / "daemon.log").read_text()
    assert 'warning token not to be had detail="secret \\"HOOK\\" is not set: procclaw secret set HOOK"' in daemon_log
