"""ruff and mypy, run by pytest so that a developer's machine and CI cannot judge differently."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.artefact


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ruff", "check", "--output-format=concise", "."], id="ruff finds nothing"),
        pytest.param(["ruff", "format", "--check", "--output-format=concise", "."], id="ruff would format nothing"),
        pytest.param(
            ["mypy", "procclaw", "tests", "build_zipapp.py"], id="mypy finds nothing in package, tests and build"
        ),
        # By its text: as a file it would be another module by the name of the package.
        pytest.param(["mypy", "-c", (ROOT / "procclaw.py").read_text()], id="mypy finds nothing in the launcher"),
    ],
)
def test_the_code_is_as_the_tools_want_it(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_readmes_second_command() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert script[-1].startswith("python3 -m venv ")
    assert script[-1] in [line.strip().removeprefix("$ ") for line in (ROOT / "README.md").read_text().splitlines()]
