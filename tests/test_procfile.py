"""What lies beside a Procfile, and what it has no file for; whole files are in tests/data/imports/procfile."""

import pytest

from procclaw.interface.convert import procfile
from procclaw.interface.convert.conversion import STANDARD_INPUT, Conversion, Fate, Ids, Source

WEB_AND_WORKER = "web: serve -p $PORT\nworker: work\n"


def read(text: str, path: str = "/srv/app/Procfile", **beside: str) -> Conversion:
    """`env` and `foreman` are the files .env and .foreman."""
    return procfile.read(Source(path, text, lambda name: beside.get(name.lstrip("."))), "procfile", Ids())


def ports(conversion: Conversion) -> list[str]:
    return [job.fields["env"]["PORT"] for job in conversion.jobs]


def test_ports_count_as_foreman_counts_them() -> None:
    assert ports(read(WEB_AND_WORKER)) == ["5000", "5100"]
    assert ports(read(WEB_AND_WORKER, env="PORT=3000\n")) == ["3000", "3100"]
    assert ports(read(WEB_AND_WORKER, env="PORT=3000\n", foreman="port: 4000\n")) == ["4000", "4100"]
    assert ports(read(WEB_AND_WORKER, env="PORT=http\n")) == ["5000", "5100"]


def test_a_formation_says_how_many_there_are_of_each() -> None:
    conversion = read(WEB_AND_WORKER + "clock: tick\n", foreman="formation: web=1,worker=3\ntimeout: 10\n")
    assert [job.id for job in conversion.jobs] == ["web", "worker-1", "worker-2", "worker-3", "clock"]
    assert ports(conversion) == ["5000", "5100", "5101", "5102", "5200"]
    assert [job.fields.get("enabled", True) for job in conversion.jobs] == [True, True, True, True, False]
    assert {job.fields["shutdown"]["grace_period"] for job in conversion.jobs} == {10}


@pytest.mark.parametrize(
    ("foreman", "line", "says"),
    [
        ("port: [", 1, "is not closed"),
        ("formation: web=many", 1, '"web=many" is not NAME=COUNT'),
        ("port: 80.5", 1, "port: is no whole number"),
        ("- web", 1, "is no mapping"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_with_their_line(foreman: str, line: int, says: str) -> None:
    conversion = read(WEB_AND_WORKER, foreman=foreman)
    [refused] = [note for note in conversion.notes if note.fate is Fate.REFUSED]
    assert (refused.file, refused.line) == (".foreman", line)
    assert says in refused.says
    assert len(conversion.jobs) == 2


def test_a_file_of_variables_stays_where_it_is() -> None:
    [web, _] = read(WEB_AND_WORKER, env="KEY='secret'\n").jobs
    assert web.fields["env_file"] == ".env"
    assert "KEY" not in web.fields["env"]
    [web, _] = read(WEB_AND_WORKER).jobs
    assert "env_file" not in web.fields


def test_one_that_no_job_would_start_with_is_copied_as_foreman_reads_it() -> None:
    conversion = read(WEB_AND_WORKER, env="A=1 # one\nthis is no variable\nB='x'\nC=\"two\\nlines $${X}\"\nD=${A}\n")
    [web, _] = conversion.jobs
    assert "env_file" not in web.fields
    assert web.fields["env"] == {"A": "1 # one", "B": "x", "C": "two\nlines $$${X}", "D": "$${A}", "PORT": "5000"}
    [told] = [note for note in conversion.notes if note.what == ".env"]
    assert told.fate is Fate.CHANGED
    assert ".env:2: not NAME=VALUE" in told.says


def test_what_comes_from_standard_input_lies_nowhere() -> None:
    conversion = read(WEB_AND_WORKER, STANDARD_INPUT)
    assert all("cwd" not in job.fields for job in conversion.jobs)
    assert "the directory" in [note.what for note in conversion.notes]
