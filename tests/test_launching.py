"""What a job finds when it starts, whoever starts it."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.launching import MAX_ARGUMENT_BYTES, environment, launch_of
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Launch
from procclaw.model.records import Run
from procclaw.model.secret import Secret, Text
from procclaw.model.spec import Config, JobSpec
from tests.builders import NOW, a_config, a_job, a_run, an_attempt
from tests.keeping import Kept

LOGS = ("job.log", "job.error.log")
SECRETS = Kept({"KEY": "canary", "db.pass": "hunter2"})


def run_as_alice(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    entry = pwd.struct_passwd(("alice", "x", 1000, 1000, "", home, "/bin/dash"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)


@pytest.fixture(autouse=True)
def _alice(monkeypatch: pytest.MonkeyPatch) -> None:
    run_as_alice(monkeypatch, "/srv/alice")
    monkeypatch.setenv("LEAK", "of the starter")


def env_of(job: JobSpec, config: Config | None = None) -> dict[str, Text]:
    return {variable.name: variable.value for variable in environment(job, config or a_config(), SECRETS)}


def launch(job: JobSpec, run: Run | None = None, **config: Any) -> Launch:
    run = run or a_run("running")
    return launch_of(
        job,
        a_config(**config),
        run,
        an_attempt(run, number=2),
        "/srv/home",
        LOGS,
        {"GIVEN": "yes"},
        SECRETS,
    )


BASE = {
    "HOME": "/srv/alice",
    "USER": "alice",
    "LOGNAME": "alice",
    "SHELL": "/bin/dash",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}


def test_the_base_is_the_account_and_nothing_of_the_starter() -> None:
    assert env_of(a_job()) == BASE


def test_each_source_overrides_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED", "pass_env")
    monkeypatch.setenv("FILE", "pass_env")
    file = tmp_path / "job.env"
    file.write_text("FILE=env_file\nJOB=env_file\n")
    config = a_config(
        env=(("PATH", "/opt/bin"), ("PASSED", "procclaw.yaml"), ("OWN", "procclaw.yaml")),
        pass_env=("PASSED", "FILE", "NOT_SET"),
    )
    job = a_job(env=(("JOB", "env"),), env_file=str(file))
    assert env_of(job, config) == BASE | {
        "PATH": "/opt/bin",
        "OWN": "procclaw.yaml",
        "PASSED": "pass_env",
        "FILE": "env_file",
        "JOB": "env",
    }


def test_every_variable_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED", "x")
    file = tmp_path / "job.env"
    file.write_text("FILE=x")
    config = a_config(env=(("OWN", "x"),), pass_env=("PASSED",))
    job = a_job(env=(("JOB", "x"),), env_file=str(file), cmd="echo ${env:HOME}")
    sources = {variable.name: variable.source for variable in environment(job, config, SECRETS)}
    assert sources == {
        "HOME": "account alice",
        "USER": "account alice",
        "LOGNAME": "account alice",
        "SHELL": "account alice",
        "PATH": "built in",
        "OWN": "procclaw.yaml env",
        "PASSED": "procclaw.yaml daemon.pass_env",
        "FILE": str(file),
        "JOB": "jobs.yaml:2 env",
        "PROCCLAW_ENV_HOME": "jobs.yaml:2 cmd",
    }


# --- references ---


def test_env_may_add_to_what_there_is() -> None:
    config = a_config(env=(("LIB", "/lib:${env:HOME}/lib"),))
    job = a_job(env=(("PATH", "/opt/bin:${env:PATH}"), ("LIB", "${env:LIB}:more"), ("RAW", "$${env:PATH}")))
    assert env_of(job, config) == BASE | {
        "PATH": f"/opt/bin:{BASE['PATH']}",
        "LIB": "/lib:/srv/alice/lib:more",
        "RAW": "${env:PATH}",
    }


def test_env_may_refer_to_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / "job.env"
    file.write_text("PORT=80\n")
    assert env_of(a_job(env_file=str(file), env=(("URL", "http://localhost:${env:PORT}/"),)))["URL"] == (
        "http://localhost:80/"
    )


def test_a_list_cmd_finds_the_values_of_the_jobs_own_env() -> None:
    job = a_job(cmd=("serve", "--port=${env:PORT}", "$${env:PORT}", "$PORT"), env=(("PORT", "80"),))
    assert launch(job).argv == ("serve", "--port=80", "${env:PORT}", "$PORT")


def test_a_shell_cmd_finds_them_in_variables_and_never_as_text() -> None:
    job = a_job(cmd='serve "${env:PORT}"', env=(("PORT", "80; rm -rf /"),))
    found = launch(job)
    assert found.argv == ("/bin/sh", "-c", 'serve "${PROCCLAW_ENV_PORT}"')
    assert dict(found.env)["PROCCLAW_ENV_PORT"] == "80; rm -rf /"


@pytest.mark.parametrize(
    "job",
    [
        a_job(env=(("A", "${env:MISSING}"),)),
        a_job(cmd="echo ${env:MISSING}"),
        a_job(cmd=("echo", "${env:MISSING}")),
    ],
)
def test_what_is_not_set_is_an_error_and_not_nothing(job: JobSpec) -> None:
    with pytest.raises(ProcclawError, match=r"^\$\{env:MISSING\} is not set$"):
        launch(job)


def test_a_plain_shell_cmd_needs_no_shell() -> None:
    assert launch(a_job(cmd="sleep 600")).argv == ("sleep", "600")
    assert launch(a_job(cmd="sleep 600; echo done")).argv == ("/bin/sh", "-c", "sleep 600; echo done")


# --- secrets ---


def test_a_secret_is_put_into_env_when_the_job_starts() -> None:
    config = a_config(env=(("OWN", "${secret:db.pass}"),))
    job = a_job(env=(("KEY", "${secret:KEY}"), ("AUTH", "Bearer ${secret:KEY}"), ("RAW", "$${secret:KEY}")))
    found = env_of(job, config)
    assert found == BASE | {
        "OWN": Secret("hunter2"),
        "KEY": Secret("canary"),
        "AUTH": Secret("Bearer canary"),
        "RAW": "${secret:KEY}",
    }
    assert "canary" not in f"{found} {launch(job)}"


def test_a_shell_cmd_finds_a_secret_in_a_variable_and_never_as_text() -> None:
    found = launch(a_job(cmd='login "${secret:KEY}" "${secret:db.pass}"'))
    assert found.argv[2] == 'login "${PROCCLAW_SECRET_KEY}" "${PROCCLAW_SECRETX_64622e70617373}"'
    assert dict(found.env)["PROCCLAW_SECRET_KEY"] == Secret("canary")


def test_a_value_that_came_from_a_secret_stays_one_and_never_reaches_argv() -> None:
    job = a_job(cmd=("login", "--key=${env:COPY}"), env=(("COPY", "${env:KEY}"),))
    env = (("KEY", "${secret:KEY}"),)
    assert env_of(job, a_config(env=env))["COPY"] == Secret("canary")
    with pytest.raises(ProcclawError, match=r'^cmd: "--key=\$\{env:COPY\}" holds a secret, and everyone'):
        launch(job, env=env)


@pytest.mark.parametrize("job", [a_job(env=(("A", "${secret:MISSING}"),)), a_job(cmd="echo ${secret:MISSING}")])
def test_a_secret_that_is_not_set_is_an_error_with_its_name(job: JobSpec) -> None:
    with pytest.raises(ProcclawError, match=r'^secret "MISSING" is not set: procclaw secret set MISSING$'):
        launch(job)


# --- what procclaw says about the run ---


def test_a_job_finds_out_about_its_run() -> None:
    run = a_run("running", slot=NOW)
    assert dict(launch(a_job(), run).env) == BASE | {
        "PROCCLAW_JOB_ID": "job",
        "PROCCLAW_RUN_ID": run.id,
        "PROCCLAW_ATTEMPT": "2",
        "PROCCLAW_TRIGGER": "schedule",
        "PROCCLAW_SCHEDULED_AT": "2026-06-01T12:00:00Z",
        "PROCCLAW_HOME": "/srv/home",
        "GIVEN": "yes",
    }


def test_a_run_without_a_slot_has_no_due_time() -> None:
    assert "PROCCLAW_SCHEDULED_AT" not in dict(launch(a_job()).env)


def test_nobody_can_pretend_to_be_another_run() -> None:
    job = a_job(env=(("PROCCLAW_RUN_ID", "forged"),))
    assert dict(launch(job).env)["PROCCLAW_RUN_ID"] == a_run("running").id


def test_everything_else_of_a_launch_is_passed_on() -> None:
    found = launch(a_job(cwd="/srv", log=a_job().log._replace(timestamps=True)))
    attempt = an_attempt(a_run("running"), number=2)
    assert (found.record, found.cwd, found.stdout, found.stderr, found.timestamps) == (
        attempt.record,
        "/srv",
        "job.log",
        "job.error.log",
        True,
    )
    assert (found.user, found.group, found.umask, found.nice, found.lock_fd) == (None, None, 0o022, None, None)


# --- another account ---


def test_a_job_of_another_account_finds_that_accounts_home_name_and_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bob(monkeypatch)
    job = a_job(user="bob", env=(("CACHE", "${env:HOME}/cache"),))
    assert env_of(job) == BASE | {
        "HOME": "/srv/bob",
        "USER": "bob",
        "LOGNAME": "bob",
        "SHELL": "/bin/bash",
        "CACHE": "/srv/bob/cache",
    }
    assert {each.source for each in environment(job, a_config(), SECRETS) if each.name in ("HOME", "SHELL")} == {
        "account bob"
    }


@pytest.mark.parametrize(
    ("cwd", "directory"), [(None, "/srv/bob"), ("~/project", "/srv/bob/project"), ("project", "/srv/bob/project")]
)
def test_a_job_of_another_account_runs_in_that_accounts_home(
    monkeypatch: pytest.MonkeyPatch, cwd: str | None, directory: str
) -> None:
    with_bob(monkeypatch)
    assert launch(a_job(user="bob", cwd=cwd)).cwd == directory


def test_an_env_file_of_another_accounts_job_is_looked_for_in_that_accounts_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bob(monkeypatch, str(tmp_path))
    (tmp_path / "x.env").write_text("FOUND=yes")
    assert env_of(a_job(user="bob", env_file="~/x.env"))["FOUND"] == "yes"


def test_an_account_that_does_not_exist_is_an_error_that_names_it() -> None:
    with pytest.raises(ProcclawError, match=r'^user "no-such-one": no such account$'):
        launch(a_job(user="no-such-one"))


def test_account_group_umask_and_niceness_are_passed_on_as_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bob(monkeypatch)
    found = launch(a_job(user="bob", group="33", umask=0, nice=-5))
    assert (found.user, found.group, found.umask, found.nice) == ("bob", "33", 0, -5)


def with_bob(monkeypatch: pytest.MonkeyPatch, home: str = "/srv/bob") -> None:
    known = pwd.getpwnam
    entry = pwd.struct_passwd(("bob", "x", 1001, 1001, "", home, "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: entry if name == "bob" else known(name))


# --- places ---


@pytest.mark.parametrize(
    ("cwd", "directory"),
    [
        (None, "/srv/alice"),
        ("~", "/srv/alice"),
        ("~/project", "/srv/alice/project"),
        ("/opt/project", "/opt/project"),
        ("project", "/srv/alice/project"),
        ("~project", "/srv/alice/~project"),
    ],
)
def test_a_job_runs_in_its_directory_or_the_accounts_home(cwd: str | None, directory: str) -> None:
    assert launch(a_job(cwd=cwd)).cwd == directory


@pytest.mark.parametrize(
    ("env_file", "found_at"), [(".env", "project/.env"), ("~/x.env", "x.env"), ("sub/x.env", "project/sub/x.env")]
)
def test_an_env_file_is_looked_for_from_the_jobs_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_file: str, found_at: str
) -> None:
    run_as_alice(monkeypatch, str(tmp_path))
    path = tmp_path / found_at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("FOUND=yes")
    assert env_of(a_job(cwd="~/project", env_file=env_file))["FOUND"] == "yes"


def test_an_env_file_that_is_missing_is_an_error_that_names_it() -> None:
    with pytest.raises(ProcclawError, match=r"^env_file /srv/alice/\.env: no such file or directory$"):
        launch(a_job(env_file=".env"))


def test_the_env_file_is_read_afresh_at_each_start(tmp_path: Path) -> None:
    file = tmp_path / "job.env"
    for value in ("one", "two"):
        file.write_text(f"A={value}")
        assert env_of(a_job(env_file=str(file)))["A"] == value


# --- limits ---


@pytest.mark.parametrize("beyond", [0, 1])
def test_what_the_system_would_not_take_is_refused_with_its_name(beyond: int) -> None:
    fitting = MAX_ARGUMENT_BYTES - len("BIG=") - 1
    job = a_job(env=(("BIG", "x" * (fitting + beyond)),))
    if beyond:
        with pytest.raises(
            ProcclawError, match=r"^BIG is longer than the 128 KiB the system allows; put it into a file$"
        ):
            launch(job)
    else:
        launch(job)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_variable_of_that_size_is_really_the_limit(beyond: int) -> None:
    fitting = MAX_ARGUMENT_BYTES - len("BIG=") - 1
    child = ["/bin/true"]
    if beyond:
        with pytest.raises(OSError, match="Argument list too long"):
            os.posix_spawn(child[0], child, {"BIG": "x" * (fitting + beyond)})
    else:
        pid = os.posix_spawn(child[0], child, {"BIG": "x" * fitting})
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
