"""What is remembered of a day in OpenClaw's memory, and when it is written."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from procclaw.engine.diary import PAUSE_SECONDS, Diary
from procclaw.model.outside import MemoryPage
from procclaw.model.records import Event
from procclaw.model.spec import OpenclawPolicy, Spec
from procclaw.planning import diary
from procclaw.system.openclaw import Memory
from tests import keeping
from tests.builders import NOW, a_config, a_spec, later
from tests.driver import Driver
from tests.openclawstub import Stub
from tests.test_courier import FakeLog

TODAY = NOW.date()


def event(kind: str, job: str | None = "etl", *, at: datetime = NOW, number: int = 1, **fields: str) -> Event:
    return Event(at, kind, job, tuple(fields.items()), number)


def failed(job: str = "etl", *, at: datetime = NOW, run: str = "r42", detail: str = "", number: int = 1) -> Event:
    more = {"detail": detail} if detail else {}
    return event("run finished", job, at=at, number=number, run=run, state="failed", code="137", **more)


def lines(*events: Event) -> list[str]:
    text = diary.page(events, TODAY, UTC)
    assert text is not None
    return [line for line in text.splitlines() if line.startswith("- ")]


# --- the page ---


def test_a_page_says_what_fails_and_what_happened_newest_first() -> None:
    held = event("hold set", "api", at=later(3600), hold="stop", by="alice (cli)")
    assert diary.page([failed(), held], TODAY, UTC) == (
        "# ProcClaw on 2026-06-01\n\n"
        "Written by ProcClaw, the process manager; times are of UTC. Ask `procclaw status JOB` for now.\n\n"
        "Failed and not well again: `etl`.\n\n"
        "- 13:00 job `api` STOPPED by `alice (cli)` - see `procclaw why api`\n"
        "- 12:00 job `etl` FAILED exit 137 - see `procclaw logs etl --run r42`\n"
    )


def test_a_day_on_which_nothing_is_worth_it_has_no_page() -> None:
    assert diary.page([event("attempt started"), failed(at=NOW - timedelta(days=1))], TODAY, UTC) is None


def test_what_succeeded_since_is_well_again() -> None:
    text = diary.page([failed(), event("run finished", at=later(9), state="succeeded")], TODAY, UTC)
    assert text is not None
    assert "Whatever failed is well again." in text


def test_what_happens_over_and_over_is_one_line_with_the_newest_run() -> None:
    again = [failed(at=later(60 * count), run=f"r{count}") for count in range(14)]
    assert lines(*again) == ["- 12:13 job `etl` FAILED exit 137 (x14, since 12:00) - see `procclaw logs etl --run r13`"]


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (failed(detail="exit code 137"), "job `etl` FAILED exit 137 - see `procclaw logs etl --run r42`"),
        (
            failed(detail="memory: 412 MB"),
            "job `etl` FAILED exit 137 `memory: 412 MB` - see `procclaw logs etl --run r42`",
        ),
        (
            event("run finished", state="failed", detail="exit code 3 is meant"),
            "job `etl` FAILED `exit code 3 is meant` - see `procclaw logs etl --run `",
        ),
        (event("run finished", run="r1", state="failed"), "job `etl` FAILED - see `procclaw logs etl --run r1`"),
        (event("alert raised", alert="recovered"), "job `etl` RECOVERED - see `procclaw runs etl`"),
        (event("alert raised", alert="overdue"), "job `etl` OVERDUE - see `procclaw why etl`"),
        (event("alert raised", alert="limit"), "job `etl` LIMIT - see `procclaw why etl`"),
        (
            event("health changed", health="unhealthy", detail="status 500"),
            "job `etl` is unhealthy `status 500` - see `procclaw status etl`",
        ),
        (event("health changed", health="healthy"), "job `etl` is healthy - see `procclaw status etl`"),
        (event("slot missed", slots="3"), "job `etl` MISSED 3 due time(s) - see `procclaw ledger etl`"),
        (event("hold set", hold="stop", by="bob"), "job `etl` STOPPED by `bob` - see `procclaw why etl`"),
        (event("hold set", hold="pause", by="bob"), "job `etl` PAUSED by `bob` - see `procclaw why etl`"),
        (event("hold set", hold="revoke", by="bob"), "job `etl` REVOKED by `bob` - see `procclaw why etl`"),
        (event("hold set", None, hold="stop", by="bob"), "STOPPED by `bob`"),
        (event("hold set", None, hold="stop"), "STOPPED by somebody"),
        (event("hold lifted", hold="pause"), "job `etl` let go again (pause)"),
        (event("job removed"), "job `etl` removed from the configuration"),
        (event("configuration loaded", None, jobs="7"), "configuration loaded: 7 jobs - see `procclaw list`"),
    ],
)
def test_each_kind_has_its_words_and_a_command_that_tells_more(happened: Event, line: str) -> None:
    assert lines(happened) == [f"- 12:00 {line}"]


@pytest.mark.parametrize(
    "happened",
    [
        event("run finished", state="succeeded"),
        event("alert raised", alert="failed"),
        event("request answered", detail="exit code 3"),
    ],
)
def test_what_went_well_or_is_told_elsewhere_is_not_remembered(happened: Event) -> None:
    assert diary.page([happened], TODAY, UTC) is None


def standing(*events: Event) -> str:
    """What a page says of the jobs that are not well."""
    text = diary.page([*events, event("configuration loaded", None, jobs="7")], TODAY, UTC)
    assert text is not None
    return text.splitlines()[4]


ALL_WELL = "Whatever failed is well again."


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        ([failed(), event("run finished", state="stopped")], "Failed and not well again: `etl`."),
        ([failed("b"), failed("a")], "Failed and not well again: `b`, `a`."),
        ([failed(at=NOW - timedelta(days=1))], "Failed and not well again: `etl`."),
        ([failed(at=NOW + timedelta(days=1))], ALL_WELL),
        ([failed(), event("hold set", hold="stop", by="bob")], "Failed and not well again: `etl`."),
        ([failed(), event("job removed")], ALL_WELL),
        ([failed(), event("job removed", "api")], "Failed and not well again: `etl`."),
        ([event("job removed", "api"), failed()], "Failed and not well again: `etl`."),
        ([event("run finished", None, state="failed")], ALL_WELL),
    ],
    ids=[
        "a stop makes nothing well",
        "several",
        "since the day before",
        "the day after is of another page",
        "a hold makes nothing well",
        "it is gone",
        "another is gone",
        "another was gone before",
        "of no job",
    ],
)
def test_a_page_names_what_is_not_well_at_the_end_of_its_day(happened: list[Event], told: str) -> None:
    assert standing(*happened) == told


@pytest.mark.parametrize(("count", "rest"), [(20, ""), (21, " and 1 more"), (23, " and 3 more")])
def test_of_many_that_are_not_well_twenty_are_named(count: int, rest: str) -> None:
    named = ", ".join(f"`job-{number}`" for number in range(20))
    told = standing(*(failed(f"job-{number}") for number in range(count)))
    assert told == f"Failed and not well again: {named}{rest}."


def test_a_page_has_the_times_and_the_days_of_its_zone() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    early, late = (failed(at=datetime(2026, 6, 1, hour, 30, tzinfo=UTC), run=f"r{hour}") for hour in (14, 15))
    assert diary.days([late, early], tokyo) == (date(2026, 6, 1), date(2026, 6, 2))
    loaded = event("configuration loaded", None, at=early.at, jobs="7")
    before = diary.page([loaded, late], date(2026, 6, 1), tokyo)
    assert before is not None
    assert ALL_WELL in before
    again = [failed(at=datetime(2026, 6, 1, 15, minute, tzinfo=UTC), run="r") for minute in (5, 45)]
    text = diary.page([early, *again], date(2026, 6, 2), tokyo)
    assert text is not None
    assert text.splitlines()[0] == "# ProcClaw on 2026-06-02"
    assert "times are of Asia/Tokyo." in text
    assert text.splitlines()[6:] == [
        "- 00:45 job `etl` FAILED exit 137 (x2, since 00:05) - see `procclaw logs etl --run r`"
    ]


@pytest.mark.parametrize(("length", "shown"), [(160, "x" * 160), (161, "x" * 159 + "…")])
def test_foreign_words_are_cut_where_they_are_too_long(length: int, shown: str) -> None:
    [line] = lines(failed(detail="x" * length))
    assert line == f"- 12:00 job `etl` FAILED exit 137 `{shown}` - see `procclaw logs etl --run r42`"


def test_foreign_words_cannot_be_markup_and_are_cut() -> None:
    [line] = lines(failed(detail="a `b` <!-- trigger: now -->\n# c" + "x" * 500))
    quoted = line.split(" - see ")[0].partition("exit 137 ")[2]
    assert quoted.startswith("`a b ‹!-- trigger: now --› # cxxx")
    assert quoted.endswith("…`")
    assert len(quoted) == 162


def test_a_page_is_never_too_large_to_be_taken_in() -> None:
    many = [failed(f"job-{number:04}", at=later(number)) for number in range(2000)]
    text = diary.page(many, TODAY, UTC)
    assert text is not None
    assert diary.MOST_BYTES - 200 < len(text.encode()) <= diary.MOST_BYTES
    listed = text.splitlines()[6:]
    assert listed[0].startswith("- 12:33 job `job-1999` FAILED")
    assert listed[-1] == "- earlier ones are left out: `procclaw events`"
    assert all("FAILED" in line for line in listed[:-1])


def test_a_day_is_one_of_its_zone() -> None:
    late = failed(at=datetime(2026, 6, 1, 23, 30, tzinfo=UTC))
    assert [f"{day}" for day in diary.days([late], ZoneInfo("Asia/Tokyo"))] == ["2026-06-02"]


# --- when it is written ---


class FakeMemory:
    def __init__(self) -> None:
        self.pages: list[MemoryPage] = []
        self.wrong = ""

    def write(self, pages: tuple[MemoryPage, ...], workspace: str | None, env: Mapping[str, str]) -> None:
        self.pages += pages

    def trouble(self) -> str:
        return self.wrong

    def is_busy(self) -> bool:
        return False

    def wait(self, seconds: float) -> None:
        pass


class Trail:
    def __init__(self, *events: Event) -> None:
        self.all = list(events)

    def events(self, after_id: int = 0, job_id: str | None = None, newest: int | None = None) -> tuple[Event, ...]:
        return tuple(self.all if newest is None else self.all[-newest:])


def declared(*, is_on: bool = True) -> Spec:
    return a_spec()._replace(config=a_config(openclaw=OpenclawPolicy(is_memory_logged=is_on)))


def test_nothing_is_read_or_written_where_nobody_asked_for_it() -> None:
    class Untouched(Trail):
        def events(self, *_: object, **__: object) -> tuple[Event, ...]:
            raise AssertionError("it is switched off")

    kept = Diary(Untouched(), FakeMemory(), keeping.NONE, FakeLog())
    assert kept.keep(declared(is_on=False), NOW) is None
    kept.close(NOW)


def test_what_happens_within_the_pause_is_written_together_after_it() -> None:
    trail, memory = Trail(failed()), FakeMemory()
    kept = Diary(trail, memory, keeping.NONE, FakeLog())
    assert kept.keep(declared(), NOW) is None
    assert [page.name for page in memory.pages] == ["2026-06-01-procclaw.md"]
    trail.all.append(failed("api", at=later(1), number=2))
    assert kept.keep(declared(), later(1)) == later(PAUSE_SECONDS)
    assert len(memory.pages) == 1
    kept.keep(declared(), later(PAUSE_SECONDS))
    assert "`api`" in memory.pages[1].text
    kept.keep(declared(), later(60))
    assert len(memory.pages) == 2


def test_what_is_not_written_at_the_end_is_written_then() -> None:
    trail, memory = Trail(failed()), FakeMemory()
    kept = Diary(trail, memory, keeping.NONE, FakeLog())
    kept.keep(declared(), NOW)
    trail.all.append(failed("api", at=later(1), number=2))
    kept.keep(declared(), later(1))
    kept.close(later(1))
    assert "`api`" in memory.pages[-1].text


def test_that_it_cannot_be_written_is_said_once() -> None:
    trail, memory, log = Trail(failed()), FakeMemory(), FakeLog()
    kept = Diary(trail, memory, keeping.NONE, log)
    memory.wrong = "OpenClaw's workspace /x: no such directory"
    for second in range(3):
        kept.keep(declared(), later(second * 60))
    assert log.lines == [("warning", "memory not written")]


# --- the files ---


def written(memory: Memory) -> str:
    memory.wait(30)
    return memory.trouble()


PAGES = (MemoryPage("2026-06-01-procclaw.md", "# one\n"),)


def test_a_page_lies_where_openclaw_says_its_workspace_is(tmp_path: Path) -> None:
    stub, memory = Stub(tmp_path / "bin"), Memory()
    workspace = stub.home / ".openclaw" / "workspace"
    memory.write(PAGES, None, stub.env)
    assert written(memory) == f"OpenClaw's workspace {workspace}: no such directory"
    assert not workspace.exists()
    workspace.mkdir(parents=True)
    for _ in range(2):
        memory.write(PAGES, None, stub.env)
        assert written(memory) == ""
    assert [path.name for path in (workspace / "memory").iterdir()] == ["2026-06-01-procclaw.md"]
    assert len(stub.calls) == 2


def test_a_workspace_that_is_named_is_asked_for_nowhere(tmp_path: Path) -> None:
    stub, memory = Stub(tmp_path / "bin"), Memory()
    memory.write(PAGES, "~", stub.env)
    assert written(memory) == ""
    assert (stub.home / "memory" / "2026-06-01-procclaw.md").read_text() == "# one\n"
    assert stub.calls == []


@pytest.mark.real
def test_a_failure_is_remembered_and_what_the_job_printed_is_not(driver: Driver, tmp_path: Path) -> None:
    openclaw = {"enabled": True, "memory_logging": True, "workspace": str(tmp_path)}
    driver.declare({"report": {"cmd": "echo hush; exit 3", "retry": {"enabled": False}}}, openclaw=openclaw)
    driver.ask("run", "report", "--wait", code=1)
    [path] = (tmp_path / "memory").iterdir()
    text = path.read_text()
    assert "Failed and not well again: `report`." in text
    assert "job `report` FAILED exit 3" in text
    assert "hush" not in text


@pytest.mark.real
@pytest.mark.parametrize("switch", ["enabled", "memory_logging"])
def test_where_it_is_switched_off_nothing_is_remembered(driver: Driver, tmp_path: Path, switch: str) -> None:
    openclaw = {"enabled": True, "memory_logging": True, "workspace": str(tmp_path)} | {switch: False}
    driver.declare({"report": {"cmd": "exit 3", "retry": {"enabled": False}}}, openclaw=openclaw)
    driver.ask("run", "report", "--wait", code=1)
    assert list(tmp_path.iterdir()) == []
