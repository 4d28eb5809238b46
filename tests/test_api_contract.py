"""The OpenAPI document and the running .pyz say the same: schemathesis asks for everything described, and for more."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from procclaw.interface.api.openapi import document
from procclaw.interface.api.routes import PREFIX, ROUTES
from procclaw.interface.api.shapes import SCHEMAS
from tests.driver import STAYS, Job, driving
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
