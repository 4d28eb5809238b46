"""The built .pyz as it is used, on every Python of this machine: elsewhere, in an environment that holds nothing."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support import Reaper, look_at, wait_until
from tests.test_artefact import PYTHONS, ROOT, run

EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/jobs.yaml"))

pytestmark = [pytest.mark.artefact, pytest.mark.real]


@pytest.fixture(params=list(PYTHONS.values()), ids=list(PYTHONS))
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_valid_and_comes_up_in_one_pass(
    built_pyz: Path, python: str, example: str, home: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "examples" / example / "jobs.yaml", home)

    def procclaw(*words: str) -> str:
        return run(python, built_pyz, "--home", home, *words, cwd=tmp_path)

    assert procclaw("config", "--validate").startswith("valid: ")
    procclaw("reconcile")
    jobs = json.loads(procclaw("list", "--json"))["jobs"]
    assert {job["status"] for job in jobs if job["type"] == "continuous"} <= {"running", "retrying"}
    assert {job["status"] for job in jobs if job["type"] == "scheduled"} <= {"planned", "running"}
    procclaw("daemon", "stop", "--jobs")


def test_a_daemon_of_the_pyz_is_killed_and_its_jobs_keep_their_pids(
    built_pyz: Path, python: str, home: Path, reaper: Reaper, tmp_path: Path
) -> None:
    (home / "jobs.yaml").write_text("jobs: {one: {cmd: sleep 600, type: continuous}, two: {cmd: exec sleep 600}}")

    def procclaw(*words: str) -> str:
        return run(python, built_pyz, "--home", home, *words, cwd=tmp_path)

    def pids() -> list[int]:
        return [job["pid"] for job in json.loads(procclaw("list", "--json"))["jobs"]]

    procclaw("daemon", "start")
    procclaw("start", "two")
    wait_until(lambda: all(pids()), within=10, show=lambda: procclaw("list"))
    before = pids()
    daemon = int((home / "procclaw.pid").read_text())
    seen = look_at(daemon)
    assert seen is not None
    run("/bin/sh", "-c", f"kill -9 {daemon}")
    wait_until(lambda: (now := look_at(daemon)) is None or now.is_dead, within=10, show=lambda: look_at(daemon))
    procclaw("daemon", "start")
    assert pids() == before
    procclaw("daemon", "stop", "--jobs")
    assert all((now := look_at(pid)) is None or now.is_dead for pid in before)


def test_the_pyz_proves_what_it_promises(built_pyz: Path, python: str, home: Path, tmp_path: Path) -> None:
    told = json.loads(run(python, built_pyz, "--home", home, "selftest", "--json", cwd=tmp_path))
    assert [each for each in told["promises"] if each["verdict"] == "broken"] == []
    assert sum(each["verdict"] == "holds" for each in told["promises"]) >= 12
    assert list(home.iterdir()) == []
