"""A stranger's file becomes running jobs in two commands, of the built .pyz: import --write, daemon start."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import Reaper, wait_until
from tests.test_artefact import run

SUPERVISORD = """
[supervisord]
environment=STAGE="test"

[program:ticker] ; two of them
command=/bin/sh -c "while :; do echo $NAME %(ENV_STAGE)s; sleep 0.1; done"
process_name=%(program_name)s_%(process_num)02d
numprocs=2
environment=NAME="ticker %(process_num)d"
autorestart=true
stopwaitsecs=2
"""
PROCFILE = 'web: while :; do echo "$GREETING, $PORT"; sleep 0.1; done\nrelease: echo migrated\n'
ECOSYSTEM = "module.exports = { apps: [{ name: 'api', script: './api.sh', env: { WHO: 'pm2' } }] };\n"
FILES = {
    "supervisord.conf": (
        {"supervisord.conf": SUPERVISORD},
        {"ticker_00": "ticker 0 test", "ticker_01": "ticker 1 test"},
    ),
    "Procfile": ({"Procfile": PROCFILE, ".env": "GREETING='good day'\nPORT=4321\n"}, {"web": "good day, 4321"}),
    "ecosystem.config.js": (
        {"ecosystem.config.js": ECOSYSTEM, "api.sh": "while :; do echo $WHO; sleep 0.1; done\n"},
        {"api": "pm2"},
    ),
}


@pytest.mark.artefact
@pytest.mark.real
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_tool_becomes_running_jobs(
    built_pyz: Path, name: str, home: Path, reaper: Reaper, tmp_path: Path
) -> None:
    if name.endswith(".js") and shutil.which("node") is None:
        pytest.skip("needs node")
    files, wanted = FILES[name]
    for each, text in files.items():
        (tmp_path / each).write_text(text)

    def procclaw(*words: str) -> str:
        return run(sys.executable, built_pyz, "--home", home, *words, cwd=tmp_path)

    def said() -> bool:
        return all(line in procclaw("logs", job) for job, line in wanted.items())

    procclaw("import", name, "--write", "--json")
    procclaw("daemon", "start")
    wait_until(said, within=30, show=lambda: procclaw("list") + "".join(procclaw("logs", job) for job in wanted))
    running = [job["id"] for job in json.loads(procclaw("list", "--json"))["jobs"] if job["status"] == "running"]
    assert running == list(wanted)
    procclaw("daemon", "stop", "--jobs")
