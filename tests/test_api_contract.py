"""The OpenAPI document and the running .pyz say the same: schemathesis asks for everything described, and for more."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from procclaw.interface.api.openapi import document
from procclaw.interface.api.routes import PREFIX, ROUTES
from procclaw.interface.api.shapes import SCHEMAS
from tests.driver import STAYS, Job, driving, noting
from tests.httpclient import client_of
from tests.support import Reaper

TOOL = Path(sys.executable).parent / "st"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
"""All but those that take what is refused for good reason (a param that is not declared) for a mistake."""
SETTINGS = """\
[[operations]]
include-path = "/api/v1/events"
parameters = { wait = 0 }
"""
JOBS: dict[str, Job] = {
    "quick": {"cmd": "echo hi", "params": {"A": {"default": "1"}}},
    "service": {"cmd": STAYS, "type": "continuous"},
    "bad": {"cmd": "exit 3", "retry": {"enabled": False}},
    "hook": {"cmd": "true", "trigger": {"type": "webhook"}},
    "hourly": {"cmd": "true", "type": "scheduled", "schedule": "@hourly"},
}


def test_the_document_describes_every_route_and_every_shape_it_names() -> None:
    described = document()
    for route in ROUTES:
        assert route.method.lower() in described["paths"][PREFIX + route.path]
        assert route.answer in SCHEMAS or route.answer == "text/plain"
    names = [
        each["operationId"] for path in described["paths"].values() for each in path.values() if "operationId" in each
    ]
    assert len(set(names)) == len(names)
    text = json.dumps(described)
    for name in SCHEMAS:
        assert f'"#/components/schemas/{name}"' in text, name


@pytest.mark.real
@pytest.mark.artefact
@pytest.mark.parametrize("token", [None, "t0ken"])
def test_the_running_program_answers_as_its_document_says(reaper: Reaper, built_pyz: Path, token: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="procclaw-", dir="/tmp") as folder:
        home = Path(folder)
        with driving(home, reaper, built_pyz) as driver:
            driver.declare(JOBS, api={"auth": {"enabled": True, "token": token}} if token else {})
            (home / "jobs.yaml").write_text(
                json.dumps({"jobs": JOBS, "workflows": {"flow": {"type": "chain", "jobs": ["quick"]}}})
            )
            (home / "schemathesis.toml").write_text(SETTINGS)
            driver.start_daemon()
            client = client_of(driver)
            described = home / "openapi.json"
            described.write_bytes(client.get("/openapi.json", authorization=token and f"Bearer {token}").body)
            done = subprocess.run(
                [
                    TOOL,
                    *("--config-file", home / "schemathesis.toml"),
                    *("run", described, "--url", f"http://{client.host}:{client.port}"),
                    *("--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--continue-on-failure"),
                    *("--max-examples", "10", "--seed", "1", "--request-timeout", "20", "--no-color"),
                    *(("-H", f"Authorization: Bearer {token}") if token else ()),
                ],
                cwd=home,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
            assert client.get("/health").json["status"] == "healthy"
            driver.ask("daemon", "stop", "--jobs")
        reaper.end()


@pytest.mark.real
@pytest.mark.artefact
def test_a_daemon_whose_file_was_replaced_by_rubbish_goes_on(reaper: Reaper, home: Path, built_pyz: Path) -> None:
    """A zip is read when something is imported from it for the first time, which must not be too late."""
    program = home / "own.pyz"
    shutil.copy(built_pyz, program)
    checked = {"type": "http", "url": "http://127.0.0.1:9/", "interval": 0.2, "failures": 1000}
    with driving(home, reaper, built_pyz) as driver:
        driver.declare({**JOBS, "service": {**JOBS["service"], "health_check": checked}})
        driver.ask("reconcile")  # so that the daemon finds the configuration ready made
        starts = subprocess.run([sys.executable, program, "--home", home, "daemon", "start"], timeout=60)
        assert starts.returncode == 0
        client = client_of(driver)
        program.with_suffix(".new").write_bytes(b"rubbish" * 1_000_000)
        program.with_suffix(".new").replace(program)
        for route in ROUTES:
            if route.method == "GET" and "{id}" not in route.path:
                assert client.get(PREFIX + route.path).status == 200, route.path
        for path in ("jobs/hourly", "jobs/service/why", "jobs/quick/logs", "plan?for_seconds=86400"):
            assert client.get(PREFIX + path).status == 200, path
        for path in ("jobs/nobody", "workflow-runs/nobody", "runs/nobody"):
            assert client.get(PREFIX + path).status == 404, path
        for path in ("/", "/health", "/metrics", "/openapi.json"):
            assert client.get(path).status == 200, path
        assert client.post(f"{PREFIX}jobs/quick/run", {"params": {"A": "2"}}).status in (200, 202)
        assert client.post(f"{PREFIX}chain", {"jobs": ["quick"]}).status in (200, 202)
        later = {
            "cmd": noting("exit 0"),
            "type": "scheduled",
            "schedule": "*/7 3 * jan-feb mon",
            "timezone": "Asia/Tokyo",
        }
        driver.declare({**JOBS, "later": {**later, "alerts": {"webhook": "http://127.0.0.1:9/"}}})
        driver.ask("run", "later", "--wait")
        (home / "jobs.yaml").write_text("jobs: {a: {cmdd: x}}\n")
        assert client.post(f"{PREFIX}reload").json["success"] is False
        assert "a bug in ProcClaw" not in (home / "logs" / "daemon.log").read_text()
        driver.ask("daemon", "stop", "--jobs")
