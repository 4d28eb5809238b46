"""The page in a real Chromium against a real daemon: what people find out from it and do with it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import PHONE, WIDE, Visit, free_port, launched, violations
from tests.driver import Driver, driving
from tests.httpclient import patient
from tests.support import Reaper

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.real

MARKUP = '<img src=x onerror="alert(1)">'
BEATS = "seq -f 'beat %.0f' 100; n=100; while sleep 0.2; do n=$((n + 1)); echo \"beat $n\"; done"
STAYS = "exec sleep 1000"
HELD = {"type": "scheduled", "schedule": "0 3 1 1 *", "cmd": "true"}

JOBS: dict[str, Any] = {
    # These are looked at and left as they are.
    "database": {
        "name": "Database",
        "type": "continuous",
        "cmd": STAYS,
        "tags": ["infra"],
        "resources": {"max_memory_mb": 500, "action": "warn", "check_interval": 1},
    },
    "shop": {"type": "continuous", "cmd": STAYS, "depends_on": ["database"], "tags": ["web"]},
    "site": {"type": "continuous", "cmd": STAYS, "depends_on": ["shop"], "tags": ["web"]},
    "heart": {"type": "continuous", "cmd": BEATS},
    "broken": {
        "type": "continuous",
        "cmd": "echo refused >&2; exit 3",
        "retry": {"delays": [0.1], "max_attempts": 1},
        "description": "Talks to what is not there",
    },
    "sick": {
        "type": "continuous",
        "cmd": STAYS,
        "health_check": {"type": "exec", "cmd": "exit 1", "interval": 1, "failures": 1, "on_unhealthy": "alert"},
    },
    "often": {"type": "scheduled", "schedule": "@every 2s", "cmd": "echo done"},
    "nightly": {"type": "scheduled", "schedule": "30 2 * * *", "cmd": "true", "tags": ["night"]},
    "off": HELD | {"enabled": False},
    "evil": {
        "name": MARKUP,
        "description": "<script>alert('description')</script>",
        "cmd": f"echo '{MARKUP}'; printf '\\033[31mred\\033[0m \\001end\\n'",
        "tags": ["<b>bold</b>"],
    },
    "secretive": {"cmd": "true", "env": {"API_TOKEN": "hunter2hunter2", "COLOUR": "blue"}},
    # These are acted upon, each by one test.
    "rowed": {"type": "continuous", "cmd": STAYS},
    "revoked": {"type": "continuous", "cmd": STAYS},
    "phoned": {"type": "continuous", "cmd": STAYS},
    "later": HELD,
    "mailer": {"type": "continuous", "cmd": STAYS, "name": "Mailer"},
    "letters": {"type": "continuous", "cmd": STAYS, "depends_on": ["mailer"]},
    "asks": {
        "cmd": "echo day $PROCCLAW_PARAM_day to $PROCCLAW_PARAM_target; echo '{\"rows\": 812}' >$PROCCLAW_RESULT_FILE",
        "params": {
            "day": {"default": "today", "pattern": "[a-z]+", "description": "Which day to count"},
            "target": {"required": True},
        },
    },
    "dead": {"cmd": "echo no such host >&2; exit 7", "retry": {"enabled": False}},
    "spare": {"cmd": "true"},
}
WORKFLOWS = {"evening": {"type": "chain", "jobs": ["spare"]}}


def declare(driver: Driver, jobs: dict[str, Any], **config: Any) -> None:
    """Everything at once: the daemon must not see the jobs without the workflows."""
    driver.declare({}, **config)
    workflows = {name: each for name, each in WORKFLOWS.items() if set(each["jobs"]) <= set(jobs)}
    (driver.home / "jobs.yaml").write_text(json.dumps({"jobs": jobs, "workflows": workflows}))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def reaped() -> Iterator[Reaper]:
    reaper = Reaper()
    yield reaper
    reaper.end()


@pytest.fixture(scope="module")
def shared(browser: "Browser", reaped: Reaper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One daemon for all tests that leave it and each other's jobs alone."""
    program = patient(tmp_path_factory.mktemp("program"))
    with driving(tmp_path_factory.mktemp("home"), reaped, program) as driver:
        declare(driver, JOBS)
        driver.start_daemon()
        for words in (
            ("stop", "letters"),
            ("stop", "mailer"),
            ("start", "letters"),
            ("run", "dead"),
            ("run", "dead"),
            ("run", "evil"),
            ("pause", "later"),
        ):
            driver.ask(*words, code=None)
        driver.wait_for_status("broken", "failed")
        driver.wait(lambda: driver.opened.store.dead_letter_count("dead") == 2)
        yield driver


@pytest.fixture(scope="module")
def crowded(browser: "Browser", reaped: Reaper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A daemon with many jobs, on a port that stays the same when it is started again."""
    with driving(tmp_path_factory.mktemp("crowd"), reaped) as driver:
        many = {f"batch-{number:04}": {"cmd": "true", "name": f"Batch {number}"} for number in range(1000)}
        declare(driver, many | {"zz-heart": {"type": "continuous", "cmd": STAYS}}, daemon={"port": free_port()})
        driver.start_daemon()
        # From then on nothing changes of itself.
        driver.pid("zz-heart")
        yield driver


def address_of(driver: Driver) -> str:
    return str(driver.wait(lambda: driver.operations.api().address))


@pytest.fixture
def visiting(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Opens pages, each of another person, and checks at the end what they did unasked."""
    visits: list[Visit] = []

    def visit(driver: Driver, size: tuple[int, int] = WIDE, theme: str | None = None) -> Visit:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        if theme is not None:
            context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
        visits.append(Visit(context, address_of(driver)))
        return visits[-1]

    yield visit
    for each in visits:
        each.page.context.close()
    for each in visits:
        each.check()


@pytest.fixture
def visit(visiting: Callable[..., Visit], shared: Driver) -> Visit:
    return visiting(shared)


def expect(seen: "Locator") -> Any:
    from playwright.sync_api import expect

    return expect(seen)


def row(page: "Page", job_id: str) -> "Locator":
    return page.locator(f'.row[data-id="{job_id}"]')


def press(place: "Locator", name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def says(page: "Page", text: str | re.Pattern[str]) -> None:
    """A message that the page shows for a while."""
    expect(page.locator(".toast").filter(has_text=text).first).to_be_visible()


# --- Dashboard ---


def test_the_dashboard_counts_what_there_is(visit: Visit, shared: Driver) -> None:
    page = visit.go()
    tile = page.locator("#tiles a", has_text="failed")
    expect(tile.locator("b")).to_have_text(str(sum(shared.status(each) == "failed" for each in ("broken", "dead"))))
    tile.click()
    expect(page.locator("#tab-jobs")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".row")).to_have_count(2)
    expect(page.locator("#found")).to_have_text(f"2 of {len(JOBS)} jobs")


def test_what_failed_or_is_unhealthy_needs_attention_with_the_reason(visit: Visit) -> None:
    attention = visit.go().locator("#attention")
    broken = attention.locator("li", has_text="broken")
    expect(broken).to_contain_text("Last run failed: exit code 3; retries used up")
    expect(broken.get_by_role("button", name="Start")).to_be_enabled()
    expect(attention.locator("li", has_text="sick")).to_contain_text("Unhealthy: exit code 1")


def test_what_is_coming_is_counted_down(visit: Visit) -> None:
    coming = visit.go().locator("#upcoming li", has_text="nightly").locator("time[data-form=in]")
    expect(coming).to_have_text(re.compile(r"in \d+ (h|min)"))
    expect(coming).to_have_attribute("title", re.compile(r"T02:30:00.*Z"))
    seconds = visit.page.locator("#upcoming li", has_text="often").locator("time[data-form=in]")
    expect(seconds).to_have_text(re.compile(r"in \d s|due now"))


def test_recent_runs_are_bars_that_lead_to_their_job(visit: Visit) -> None:
    page = visit.go()
    timeline = page.locator("#timeline svg").first
    expect(timeline).to_have_attribute("aria-label", re.compile(r"Runs of \d+ jobs, [1-9]\d* failed"))
    bar = timeline.locator(".bar-of", has=page.locator("title", has_text="dead: failed, exit 7")).first
    bar.dispatch_event("click")  # another may lie on it, as close as they are here
    expect(page.locator("#details-title")).to_have_text("dead")


def test_a_workflow_is_run_from_the_dashboard(visit: Visit) -> None:
    page = visit.go()
    page.get_by_role("button", name="Run").and_(page.locator('[title="Run the workflow evening"]')).click()
    says(page, "evening")
    expect(page.locator("#workflows li", has_text="evening")).to_contain_text(re.compile("last (running|succeeded)"))


# --- Jobs ---


def test_jobs_are_found_by_text_type_status_and_tag(visit: Visit) -> None:
    page = visit.go("#/jobs")
    expect(page.locator(".row")).to_have_count(len(JOBS))
    page.fill("#q", "what is not THERE")
    expect(page.locator(".row")).to_have_count(1)
    expect(row(page, "broken")).to_be_visible()
    page.fill("#q", "")
    page.select_option("#f-tag", "web")
    expect(page.locator(".row .id")).to_have_text(["shop", "site"])
    page.select_option("#f-tag", "")
    page.select_option("#f-type", "scheduled")
    page.select_option("#f-status", "disabled")
    expect(page.locator(".row .id")).to_have_text(["off"])
    expect(row(page, "off")).to_contain_text("Disabled in jobs.yaml")
    page.fill("#q", "nothing like it")
    press(page.locator("#no-jobs"), "Show all jobs")
    expect(page.locator(".row")).to_have_count(len(JOBS))


def test_a_search_is_part_of_the_address(visit: Visit) -> None:
    page = visit.go("#/jobs?q=shop")
    expect(page.locator(".row .id")).to_have_text(["shop"])
    expect(page.locator("#q")).to_have_value("shop")


def test_jobs_are_sorted_by_what_one_chooses(visit: Visit) -> None:
    page = visit.go("#/jobs")
    ids = page.locator(".row .id")
    expect(ids.first).to_have_text("asks")
    page.get_by_role("button", name="Job ↑").click()
    expect(ids.first).to_have_text("spare")
    expect(page.get_by_role("columnheader", name="Job")).to_have_attribute("aria-sort", "descending")
    press(page.locator("#sorts"), "Status")
    expect(page.locator(".row .c-status").first).to_contain_text("failed")


def test_a_job_is_stopped_started_restarted_and_held_from_its_row(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/jobs?q=rowed")
    rowed = row(page, "rowed")
    expect(rowed).to_contain_text("Up ")
    press(rowed, "Stop rowed")
    says(page, "rowed")
    expect(rowed).to_contain_text("Stopped by")
    press(rowed, "Start rowed")
    expect(rowed.locator(".c-status")).to_have_text("running")
    first = shared.pid("rowed")
    press(rowed, "Restart rowed")
    expect(rowed).not_to_contain_text(f"pid {first}")
    expect(rowed.locator(".c-status")).to_have_text("running")
    press(rowed, "Pause rowed")
    says(page, "paused")
    expect(rowed.get_by_role("button", name="Resume rowed")).to_be_visible()
    assert shared.job("rowed")["paused"], shared.job("rowed")
    press(rowed, "Resume rowed")
    expect(rowed.get_by_role("button", name="Pause rowed")).to_be_visible()


def test_a_run_asks_for_the_params_and_passes_them_on(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/jobs?job=asks")
    press(page.locator("#d-acts"), "Run")
    box = page.get_by_role("dialog", name="Run asks")
    expect(box).to_contain_text("Which day to count")
    expect(box).to_contain_text("default: today")
    press(box, "Run")
    expect(box).to_be_visible()  # one that is required is missing
    box.get_by_label("target").fill("paper")
    box.get_by_label("day").fill("NO")
    press(box, "Run")
    expect(box).to_be_visible()  # and one does not match its pattern
    box.get_by_label("day").fill("friday")
    press(box, "Run")
    expect(box).to_be_hidden()
    runs = page.locator("#d-runs")
    expect(runs).to_contain_text("succeeded")
    expect(runs).to_contain_text('result: {"rows":812}')
    expect(page.locator("#d-log")).to_contain_text("day friday to paper")
    assert dict(shared.runs("asks")[-1].params) == {"day": "friday", "target": "paper"}


def test_a_newcomer_finds_out_why_a_job_does_not_run_and_starts_it(visit: Visit, shared: Driver) -> None:
    """Knowing no command: from the count to the job, from the job to what it waits for, and that is started."""
    page = visit.go()
    page.locator("#tiles a", has_text="queued").click()
    letters = row(page, "letters")
    expect(letters).to_contain_text("Mailer (after_start): has not started: it is stopped")
    letters.click()
    why = page.locator("#d-why")
    expect(why).to_contain_text("Why it does not run")
    gate = why.locator(".gate", has_text="Dependency not met")
    expect(gate).to_contain_text("mailer (after_start): has not started: it is stopped")
    press(gate, "Copy: procclaw start mailer")
    says(page, "copied: procclaw start mailer")
    assert page.evaluate("navigator.clipboard.readText()") == "procclaw start mailer"
    page.locator("#d-graph a", has_text="mailer").click()
    expect(page.locator("#details-title")).to_have_text("mailer")
    expect(page.locator("#d-reason")).to_contain_text("Stopped by")
    expect(page.locator("#d-lead")).to_contain_text("stays down until somebody starts it")
    press(page.locator("#d-why"), "Start mailer")
    expect(page.locator("#d-lead")).to_contain_text("running")
    shared.wait_for_status("letters", "running")
    page.keyboard.press("Escape")
    expect(page.locator("#no-jobs")).to_contain_text("No job matches")


def test_a_job_is_revoked_only_when_that_was_confirmed_and_freed_again(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/jobs?job=revoked")
    press(page.locator("#d-acts"), "Revoke…")
    box = page.get_by_role("dialog", name="Revoke revoked")
    press(box, "Cancel")
    assert shared.status("revoked") == "running"
    press(page.locator("#d-acts"), "Revoke…")
    box.get_by_label("How long").select_option("for an hour")
    box.get_by_label("Also stop what runs now").check()
    press(box, "Revoke")
    gate = page.locator("#d-why .gate", has_text="Revoked")
    expect(gate).to_contain_text("until ")
    expect(page.locator("#d-lead")).to_contain_text("paused")
    press(gate, "Lift the revoke revoked")
    expect(page.locator("#d-lead")).to_contain_text("running")


def test_a_forced_stop_asks_first(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/jobs?job=spare")
    expect(page.locator("#d-acts")).to_contain_text("Run")
    expect(page.get_by_role("button", name="Stop by force…")).to_have_count(0)
    page = visit.go("#/jobs?job=site")
    press(page.locator("#d-acts"), "Stop by force…")
    box = page.get_by_role("dialog", name="Stop site by force?")
    press(box, "Cancel")
    expect(box).to_be_hidden()
    assert shared.status("site") == "running"


def test_a_run_is_planned_for_later_and_cancelled(visit: Visit, shared: Driver) -> None:
    shared.ask("resume", "later", code=None)
    page = visit.go("#/jobs?job=later")
    press(page.locator("#d-acts"), "Plan a run…")
    box = page.get_by_role("dialog", name="Plan a run of later")
    box.get_by_label("Not before").fill("2031-05-06T07:08")
    press(box, "Plan it")
    facts = page.locator("#d-facts")
    expect(facts.locator("time[datetime^='2031-05-0']").first).to_contain_text("2031")
    press(facts, "Cancel what is planned")
    expect(facts).not_to_contain_text("Planned runs")


# --- the panel of a job ---


def test_the_panel_tells_the_history_the_graph_and_the_particulars(visit: Visit) -> None:
    page = visit.go("#/dashboard?job=shop")
    expect(page.locator("#d-lead")).to_contain_text(re.compile(r"running\s*since .*, pid \d+"))
    expect(page.locator("#d-runs tbody tr")).to_have_count(1)
    graph = page.locator("#d-graph svg")
    expect(graph.get_by_role("link", name="database, running")).to_be_visible()
    expect(graph.get_by_role("link", name="site, running")).to_be_visible()
    graph.get_by_role("link", name="database, running").click()
    expect(page.locator("#details-title")).to_have_text("database")
    use = page.locator("#d-use")
    expect(use.get_by_role("img", name="CPU while this page is open")).to_be_visible()
    expect(use.get_by_role("img", name="Memory while this page is open")).to_be_visible()
    expect(page.locator("#d-facts")).to_contain_text("infra")
    assert page.url.endswith("#/dashboard?job=database"), page.url
    page.go_back()
    expect(page.locator("#details-title")).to_have_text("shop")


def test_the_panel_tells_exit_codes_reasons_and_what_was_written(visit: Visit) -> None:
    page = visit.go("#/jobs?job=broken")
    last = page.locator("#d-runs tbody tr").first
    expect(last).to_contain_text("2 attempts")
    expect(last.locator("td").nth(4)).to_have_text("3")
    expect(last).to_contain_text("retries used up")
    expect(page.locator("#d-log .err").first).to_have_text("refused")
    last.get_by_role("link", name="Log").click()
    expect(page.locator("#tab-logs")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#log-run")).to_have_value(re.compile(".+"))
    expect(page.locator("#log li.err").first).to_have_text("refused")


def test_an_unhealthy_job_says_what_its_check_found(visit: Visit) -> None:
    use = visit.go("#/jobs?job=sick").locator("#d-use")
    expect(use).to_contain_text("unhealthy since")
    expect(use).to_contain_text("failed in a row")


def test_a_link_to_a_job_that_is_not_there_says_so(visit: Visit) -> None:
    visit.expects("404")
    page = visit.go("#/jobs?job=shopp")
    expect(page.locator("#d-lead")).to_contain_text('No job "shopp"; did you mean "shop"?', ignore_case=True)


# --- Logs ---


def test_the_log_follows_pauses_and_goes_on(visit: Visit) -> None:
    page = visit.go("#/logs?job=heart")
    lines = page.locator("#log li")
    expect(lines.nth(lines.count() + 3)).to_be_visible()
    beats = [int(line.split()[1]) for line in lines.all_inner_texts()]
    assert beats == list(range(beats[0], beats[0] + len(beats))), beats
    expect(lines.last).to_be_in_viewport()
    press(page.locator("#panel-logs"), "Pause")
    missed = page.locator("#log-follow", has_text=re.compile(r"Follow \(([5-9]|\d\d+) new\)"))
    expect(missed).to_be_visible()
    expect(lines.last).not_to_be_in_viewport()
    missed.click()
    expect(page.locator("#log-follow")).to_have_text("Pause")
    expect(lines.last).to_be_in_viewport()


def test_the_log_is_filtered_by_text_and_stream(visit: Visit) -> None:
    page = visit.go("#/logs")
    expect(page.locator("#log")).to_contain_text("Choose a job")
    page.fill("#log-job", "evil")
    page.keyboard.press("Enter")
    expect(page.locator("#log li")).to_have_text([MARKUP, "red \\x01end"])
    page.fill("#log-filter", "RED")
    expect(page.locator("#log li mark")).to_have_text("red")
    expect(page.locator("#log li")).to_have_count(1)
    page.fill("#log-filter", "")
    page.select_option("#log-stream", "stderr")
    expect(page.locator("#log")).to_contain_text("has written nothing here yet")


def test_a_log_is_downloaded(visit: Visit) -> None:
    page = visit.go("#/logs?job=dead")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download stderr").click()
    assert Path(download.value.path()).read_text() == "no such host\n" * 2


# --- DLQ ---


def test_dead_letters_are_viewed_reinjected_and_purged(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/dlq?of=dead")
    entries = page.locator("#letters tbody tr")
    expect(entries).to_have_count(2)
    expect(entries.first).to_contain_text("Retry disabled")
    entries.first.get_by_role("button", name="View").click()
    box = page.locator("#ask")
    expect(box).to_contain_text("exit code 7")
    press(box, "Cancel")
    press(entries.first, "Reinject")
    expect(entries).to_have_count(3)  # and failed again
    expect(page.locator("#letters")).to_contain_text("reinjected")
    press(entries.first, "Purge…")
    press(box, "Cancel")
    expect(entries).to_have_count(3)
    press(entries.first, "Purge…")
    press(box, "Purge")
    expect(entries).to_have_count(2)
    press(page.locator("#panel-dlq"), "Purge those of dead…")
    press(box, "Purge")
    expect(page.locator("#letters")).to_contain_text("No dead letters")
    assert shared.opened.store.dead_letter_count("dead") == 0


# --- Config ---


def test_the_configuration_is_shown_without_its_secrets(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/config")
    settings = page.locator("#settings")
    expect(settings).to_contain_text(str(shared.home / "jobs.yaml"))
    expect(settings).to_contain_text("No errors")
    page.fill("#config-filter", "secretive")
    expect(settings.locator("#config-jobs > :visible")).to_have_count(1)
    settings.locator("summary", has_text="secretive").click()
    expect(settings).to_contain_text("API_TOKEN: ")
    expect(settings).not_to_contain_text("hunter2")
    press(settings, "Reload")
    says(page, "in force")


def test_a_configuration_with_errors_is_told_on_every_view_until_it_is_mended(visit: Visit, shared: Driver) -> None:
    visit.expects("503")
    page = visit.go("#/jobs")
    file = shared.home / "jobs.yaml"
    good = file.read_text()
    file.write_text(good.replace('"web"', '["web"'))
    try:
        banner = page.locator("#unwell")
        expect(banner).to_contain_text("The last good configuration stays in force")
        expect(banner).to_contain_text("jobs.yaml")
        banner.get_by_role("link", name="Config").click()
        expect(page.locator("#settings")).to_contain_text("Errors")
    finally:
        file.write_text(good)
    expect(banner).to_be_hidden()


# --- by keyboard ---


def test_digits_choose_the_view_and_letters_act(visit: Visit) -> None:
    page = visit.go()
    for digit, tab in enumerate(("dashboard", "jobs", "logs", "dlq", "config"), 1):
        page.keyboard.press(str(digit))
        expect(page.locator(f"#tab-{tab}")).to_be_focused()
        expect(page.locator(f"#panel-{tab}")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tab-dlq")).to_be_focused()
    page.keyboard.press("r")
    says(page, "up to date")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("shop2")
    expect(page.locator("#panel-jobs")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("")


FOCUS_IS_IN_PANEL = """
    document.activeElement === document.body || document.querySelector('#details').contains(document.activeElement)
"""
"""Between its last and its first element the browser's own buttons have their turn."""


def test_a_job_is_reached_opened_and_left_by_keyboard(visit: Visit) -> None:
    page = visit.go("#/jobs")
    page.keyboard.press("j")
    expect(row(page, "asks")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    expect(row(page, "database")).to_be_focused()
    page.keyboard.press("k")
    expect(row(page, "broken")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#details-title")).to_have_text("broken")
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS_IS_IN_PANEL), page.evaluate("document.activeElement.outerHTML")
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    expect(row(page, "broken")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start broken", exact=True)).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, "spare")).to_be_focused()


def test_the_first_key_skips_to_the_content(visit: Visit) -> None:
    page = visit.go()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


# --- what jobs may say ---


def test_markup_of_jobs_is_shown_as_text(visit: Visit) -> None:
    page = visit.go("#/jobs?q=evil")
    expect(row(page, "evil")).to_contain_text(MARKUP)
    expect(row(page, "evil")).to_contain_text("<b>bold</b>")
    row(page, "evil").click()
    expect(page.locator("#details-name")).to_have_text(f"{MARKUP} · <script>alert('description')</script>")
    expect(page.locator("#d-log")).to_contain_text(MARKUP)
    for place in ("#/dashboard", "#/logs?job=evil", "#/config"):
        visit.go(place)
        expect(page.locator("main img, main script, main b:has-text('bold')")).to_have_count(0)


def test_only_one_script_is_in_the_page_and_it_is_allowed_by_its_nonce(visit: Visit) -> None:
    page = visit.go()
    assert page.evaluate("[...document.scripts].map(each => Boolean(each.nonce))") == [True]
    assert page.evaluate("document.querySelectorAll('[onclick], [onload], [onerror]').length") == 0


# --- how it keeps up ---


def test_nothing_is_fetched_again_that_has_not_changed(visiting: Callable[..., Visit], crowded: Driver) -> None:
    visit = visiting(crowded)
    page = visit.go("#/jobs")
    with page.expect_response(lambda answer: answer.url.endswith("/api/v1/jobs") and answer.status == 304) as unchanged:
        pass
    assert unchanged.value.request.headers["if-none-match"]
    sizes = [answer.status for answer in visit.responses if answer.url.endswith("/api/v1/jobs")]
    assert sizes.count(200) <= 3, sizes


def test_an_event_has_the_page_look_at_once(visit: Visit, shared: Driver) -> None:
    page = visit.go("#/jobs?q=spare")
    expect(page.locator("#link")).to_have_text("live")
    page.evaluate("setTimeout(() => {}, 0)")
    before = len(shared.runs("spare"))
    shared.ask("run", "spare")
    expect(row(page, "spare").locator(".c-last")).to_contain_text(re.compile("just now|[1-9] s ago"))
    assert len(shared.runs("spare")) == before + 1


def test_without_the_stream_of_events_it_polls(visit: Visit, shared: Driver) -> None:
    visit.expects("ERR_FAILED")
    visit.page.route("**/api/v1/events*", lambda route: route.abort())
    page = visit.go("#/jobs?q=spare")
    expect(page.locator("#link")).to_have_text("polling")
    shared.ask("pause", "spare")
    expect(row(page, "spare").locator(".c-status")).to_have_text("paused")
    shared.ask("resume", "spare")
    expect(row(page, "spare").locator(".c-status")).to_have_text("stopped")


def test_a_long_list_does_not_jump_while_it_is_refreshed(visiting: Callable[..., Visit], crowded: Driver) -> None:
    page = visiting(crowded).go("#/jobs")
    grid = page.locator("#grid")
    expect(page.locator("#found")).to_have_text("1,001 jobs")
    assert page.locator(".row").count() < 100, "every row is in the page"
    grid.evaluate("grid => grid.scrollTop = 20_000")
    target = row(page, "batch-0360")
    target.focus()
    before = (grid.evaluate("grid => grid.scrollTop"), target.bounding_box())
    page.evaluate("element => element.dataset.mine = 'kept'", target.element_handle())
    for job_id in ("batch-0002", "batch-0360", "batch-0361"):
        crowded.ask("run", job_id)
    expect(target.locator(".c-last")).to_contain_text("exit 0")
    expect(target).to_be_focused()
    expect(target).to_have_attribute("data-mine", "kept")
    assert (grid.evaluate("grid => grid.scrollTop"), target.bounding_box()) == before
    page.keyboard.press("Home")
    expect(row(page, "batch-0000")).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, "zz-heart")).to_be_focused()


def test_the_page_outlasts_the_daemon_and_finds_it_again(visiting: Callable[..., Visit], crowded: Driver) -> None:
    visit = visiting(crowded)
    visit.expects("ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE|ERR_CONNECTION_RESET")
    page = visit.go("#/jobs?q=zz-heart")
    heart = row(page, "zz-heart")
    crowded.ask("daemon", "stop")
    banner = page.locator("#away")
    expect(banner).to_contain_text(re.compile(r"The daemon does not answer since .*; trying again (in \d+ s|now)"))
    expect(banner).to_contain_text("Jobs go on running without it. Start it with procclaw daemon start")
    expect(banner).to_contain_text(re.compile(r"What is shown is \d+ (s|min)"))
    expect(heart).to_contain_text("running")
    stop = heart.get_by_role("button", name="Stop zz-heart")
    expect(stop).to_have_attribute("aria-disabled", "true")
    expect(stop).to_have_attribute("title", "not possible now: the daemon does not answer")
    stop.click(force=True)  # Playwright takes what is out of use for unclickable
    says(page, "does not answer")
    crowded.start_daemon()
    expect(banner).to_be_hidden(timeout=30_000)  # by then it tries again every 15 s
    expect(page.locator("#link")).to_have_text("live")
    expect(stop).to_have_attribute("aria-disabled", "false")
    assert crowded.status("zz-heart") == "running"


def test_a_token_is_asked_for_and_sent(
    visiting: Callable[..., Visit], reaped: Reaper, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with driving(tmp_path_factory.mktemp("token"), reaped) as driver:
        jobs = {"spare": {"cmd": "echo written"}}
        declare(driver, jobs, api={"auth": {"enabled": True, "token": "the-right-one"}})
        driver.start_daemon()
        driver.ask("run", "spare")
        visit = visiting(driver)
        visit.expects("401")
        page = visit.page
        page.goto(f"{visit.address}/#/jobs")
        box = page.get_by_role("dialog", name="Token wanted")
        box.get_by_label("Token", exact=True).fill("a-wrong-one")
        page.keyboard.press("Enter")
        expect(box).to_contain_text("not the right one")
        assert violations(page) == []
        box.get_by_label("Token", exact=True).fill("the-right-one")
        press(box, "Use this token")
        expect(row(page, "spare")).to_be_visible()
        expect(page.locator("#link")).to_have_text("live")
        press(row(page, "spare"), "Pause spare")
        says(page, "paused")
        assert page.evaluate("[sessionStorage.token, localStorage.token]") == ["the-right-one", None]
        page.goto(f"{visit.address}/#/logs?job=spare")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download stdout").click()
        assert Path(download.value.path()).read_text() == "written\n"
        assert all("the-right-one" not in request.url for request in visit.requests)


# --- how it looks ---


def test_it_is_dark_until_somebody_chooses_otherwise_and_remembers_the_choice(visit: Visit) -> None:
    page = visit.go()
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Theme: Dark").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Theme: Light").click()
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "light")


VIEWS = ("#/dashboard", "#/jobs", "#/logs?job=evil", "#/dlq", "#/config", "#/jobs?job=broken")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_view_is_accessible_and_fits(
    visiting: Callable[..., Visit], shared: Driver, size: tuple[int, int], theme: str
) -> None:
    visit = visiting(shared, size, theme)
    for view in VIEWS:
        page = visit.go(view)
        if "job=broken" in view:
            expect(page.locator("#d-facts")).to_contain_text("Type")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], f"{view} is wider than the window"
        assert violations(page) == [], view


def test_a_job_is_acted_upon_from_a_phone(visiting: Callable[..., Visit], shared: Driver) -> None:
    """The rows have no room for buttons; the panel has them all."""
    page = visiting(shared, PHONE).go("#/jobs?q=phoned")
    row(page, "phoned").click()
    press(page.locator("#d-acts"), "Stop")
    expect(page.locator("#d-reason")).to_contain_text("Stopped by")
    press(page.locator("#d-acts"), "Start")
    expect(page.locator("#d-lead")).to_contain_text("running")


def test_an_empty_home_says_what_to_do(
    visiting: Callable[..., Visit], reaped: Reaper, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with driving(tmp_path_factory.mktemp("empty"), reaped) as driver:
        driver.declare({})
        driver.start_daemon()
        page = visiting(driver).go()
        expect(page.locator("#attention")).to_contain_text(f"Write one into {driver.home}/jobs.yaml")
        expect(page.locator("#upcoming")).to_contain_text("Nothing is planned")
        page.keyboard.press("4")
        expect(page.locator("#letters")).to_contain_text("No dead letters")
        driver.declare({"first": {"cmd": "true"}})
        page.keyboard.press("2")
        expect(row(page, "first")).to_be_visible()
