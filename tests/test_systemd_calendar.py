"""systemd's calendar expressions as cron lines: rows, what is refused, and systemd's own opinion where it is there."""

import re
import shutil
import subprocess
from datetime import datetime, timezone

import pytest

from procclaw.interface.convert.systemd_calendar import read_calendar
from procclaw.planning import schedule

ANALYZE = shutil.which("systemd-analyze")
AFTER = datetime(2027, 1, 15, 12, 7, tzinfo=timezone.utc)
ROWS = [
    # expression, cron line, zone
    ("daily", "0 0 * * *", None),
    ("Weekly UTC", "0 0 * * 1", "UTC"),
    ("quarterly", "0 0 1 1,4,7,10 *", None),
    ("semiannually", "0 0 1 1,7 *", None),
    ("minutely", "* * * * *", None),
    ("*-*-* 02:30:00", "30 2 * * *", None),
    ("2:5", "5 2 * * *", None),
    ("Mon..Fri 08:00 Europe/Berlin", "0 8 * * 1-5", "Europe/Berlin"),
    ("Mon-Fri 10:00", "0 10 * * 1-5", None),
    ("Wed, 17:48", "48 17 * * 3", None),
    ("sunday,TUE *:00", "0 * * * 0,2", None),
    ("Fri..Sun 1:00", "0 1 * * 0,5,6", None),
    ("Mon..Sun 1:00", "0 1 * * *", None),
    ("*:0/15", "*/15 * * * *", None),
    ("08..18:3/20", "3-59/20 8-18 * * *", None),
    ("0/7:0", "0 */7 * * *", None),
    ("1,2..4/2:00", "0 1,2-4/2 * * *", None),
    ("*-1/3-1", "0 0 1 */3 *", None),
    ("12-31 23:59", "59 23 31 12 *", None),
    ("*-*-1/2", "0 0 */2 * *", None),
    ("Sun *-*-1/2 3:00", "0 3 */2 * 0", None),
    ("*-*~1", "0 0 L * *", None),
    ("Sat *-*-8..14 10:00", "0 10 * * 6#2", None),
    ("Mon *-*~7/1 6:00", "0 6 * * L1", None),
    ("*:*:0/20", "@every 20s", None),
    ("*-*-* *:*:00/15 UTC", "@every 15s", "UTC"),
    ("*:*:*", "@every 1s", None),
]


@pytest.mark.parametrize(("text", "line", "zone"), ROWS, ids=[row[0] for row in ROWS])
def test_an_expression_is_the_cron_line_that_says_the_same(text: str, line: str, zone: str | None) -> None:
    assert read_calendar(text) == (line, None, zone)


@pytest.mark.parametrize(
    ("text", "moment", "zone"),
    [
        ("2030-12-24 18:00", "2030-12-24T18:00:00", None),
        ("Tue 30-12-24 18:00 Europe/Berlin", "2030-12-24T18:00:00", "Europe/Berlin"),
        ("2030-12-24T18:00", "2030-12-24T18:00:00", None),
        ("2030-12-24", "2030-12-24T00:00:00", None),
        ("@1900000000", "2030-03-17T17:46:40", "UTC"),
    ],
)
def test_a_date_with_its_year_is_a_single_moment(text: str, moment: str, zone: str | None) -> None:
    assert read_calendar(text) == (None, moment, zone)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("*:0/5:30", "counts no seconds"),
        ("*:*:0/7", "counts no seconds"),
        ("Mon *:*:0/10", "counts no seconds"),
        ("Fri *-*-13", "not both"),
        ("*-2~1..3", "the last day alone"),
        ("Mon *-*~1", "the last day alone"),
        ("2030-1/3-1", "knows no years"),
        ("2030-02~1", "write the day"),
        ("2030-02-30", "no such day"),
        ("Mon 2030-12-24", "does not fall on that weekday"),
        ("Sat..Mon", "runs backwards"),
        ("*:*/15", "no value, range or repetition"),
        ("*:0/0", "no value, range or repetition"),
        ("Foo 1:00", "no day of the week"),
        ("", "no calendar expression"),
        ("1..5", "no calendar expression"),
        ("@99999999999999", "no calendar expression"),
    ],
)
def test_what_cron_cannot_say_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        read_calendar(text)


@pytest.mark.artefact
@pytest.mark.skipif(ANALYZE is None, reason="NOT TESTED: takes systemd-analyze of systemd")
@pytest.mark.parametrize("text", [row[0] for row in ROWS])
def test_systemd_itself_finds_the_same_times(text: str) -> None:
    calendar = read_calendar(text)
    assert ANALYZE is not None
    assert calendar.schedule is not None
    base = AFTER.strftime("%Y-%m-%d %H:%M:%S UTC")
    words = [ANALYZE, "calendar", f"--base-time={base}", "--iterations=6", text]
    done = subprocess.run(words, env={"TZ": "UTC"}, capture_output=True, text=True, timeout=60, check=True)
    # The time in UTC stands in a line of its own where the expression has another zone.
    in_utc = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", re.MULTILINE)
    theirs = [datetime.fromisoformat(found).replace(tzinfo=timezone.utc) for found in in_utc.findall(done.stdout)]
    ours: list[datetime] = []
    parsed = schedule.parse((calendar.schedule,), calendar.zone or "UTC")
    while len(ours) < 6:
        due = schedule.next_due(parsed, ours[-1] if ours else AFTER)
        assert due is not None
        ours.append(due)
    assert theirs == ours
