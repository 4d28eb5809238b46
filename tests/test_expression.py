"""Reading expressions: what is refused, and in which words; what is warned of; what is fixed."""

import re
import subprocess
import sys

import pytest

from procclaw.planning.expression import is_fixed, lint, plain_fields, read_cron, read_period
from procclaw.planning.schedule import parse

MONTH_NAMES = "jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec"
DAY_NAMES = "sun, mon, tue, wed, thu, fri, sat"
NAMES = "minute, hour, day of month, month, day of week"
PERIOD = 'is not a period: "@every" takes whole numbers with units, largest first, such as 90s, 7m, 1h30m or 2d'

REFUSED = [
    ("", f'"" has 0 fields where five are wanted ({NAMES})'),
    ("0 0 * *", f'"0 0 * *" has 4 fields where five are wanted ({NAMES})'),
    (
        "0 0 0 * * *",
        f'"0 0 0 * * *" has 6 fields where five are wanted ({NAMES}); a field for seconds or years is not supported',
    ),
    (
        "0 0 0 * * * 2026",
        f'"0 0 0 * * * 2026" has 7 fields where five are wanted ({NAMES}); '
        "a field for seconds or years is not supported",
    ),
    ("60 * * * *", '"60 * * * *": minute "60" is not within 0 to 59'),
    ("0 24 * * *", '"0 24 * * *": hour "24" is not within 0 to 23'),
    ("0 0 0 * *", '"0 0 0 * *": day of month "0" is not within 1 to 31'),
    ("0 0 1 13 *", '"0 0 1 13 *": month "13" is not within 1 to 12'),
    ("0 0 1 0 *", '"0 0 1 0 *": month "0" is not within 1 to 12'),
    ("0 0 * * 8", '"0 0 * * 8": day of week "8" is not within 0 to 7'),
    ("0 0 * * 1-9", '"0 0 * * 1-9": day of week "9" is not within 0 to 7'),
    ("0000000000061 * * * *", '"0000000000061 * * * *": minute "0000000000061" is not within 0 to 59'),
    ("0 22-2 * * *", '"0 22-2 * * *": hour "22-2" runs backwards: write "22-23,0-2"'),
    ("0 23-4 * * *", '"0 23-4 * * *": hour "23-4" runs backwards: write "23-23,0-4"'),
    ("005 * * * *", '"005 * * * *": minute "005" is not within 0 to 59'),
    ("0 0 * * fri-mon", '"0 0 * * fri-mon": day of week "fri-mon" runs backwards: write "fri-6,0-mon"'),
    ("0 0 * * 7-2", '"0 0 * * 7-2": day of week "7-2" runs backwards: write "0-2"'),
    ("0 0 1 Nov-Feb *", '"0 0 1 Nov-Feb *": month "nov-feb" runs backwards: write "nov-12,1-feb"'),
    ("50-10/5 * * * *", '"50-10/5 * * * *": minute "50-10/5" runs backwards'),
    ("*/0 * * * *", '"*/0 * * * *": minute "*/0": the step must be at least 1'),
    ("0 0 * * funday", f'"0 0 * * funday": day of week "funday" is not a number from 0 to 7 or one of {DAY_NAMES}'),
    ("0 0 * * 5L", f'"0 0 * * 5L": day of week "5l" is not a number from 0 to 7 or one of {DAY_NAMES}'),
    ("0 0 1 mon *", f'"0 0 1 mon *": month "mon" is not a number from 1 to 12 or one of {MONTH_NAMES}'),
    ("0 noon * * *", '"0 noon * * *": hour "noon" is not a number from 0 to 23'),
    ("٣ * * * *", '"٣ * * * *": minute "٣" is not a value, a range (1-5), a step (*/5) or a list of these'),
    ("1,,2 * * * *", '"1,,2 * * * *": minute "" is not a value, a range (1-5), a step (*/5) or a list of these'),
    ("-5 * * * *", '"-5 * * * *": minute "-5" is not a value, a range (1-5), a step (*/5) or a list of these'),
    ("*-5 * * * *", '"*-5 * * * *": minute "*-5" is not a value, a range (1-5), a step (*/5) or a list of these'),
    ("? * * * *", '"? * * * *": minute "?" is not a value, a range (1-5), a step (*/5) or a list of these'),
    ("0 0 31 2 *", '"0 0 31 2 *" is never due: no date is day 31 of month 2'),
    ("0 0 31 4,6 *", '"0 0 31 4,6 *" is never due: no date is day 31 of month 4,6'),
    ("0 0 30 feb *", '"0 0 30 feb *" is never due: no date is day 30 of month 2'),
    ("0 0 31 4 */2", '"0 0 31 4 */2" is never due: no date is day 31 of month 4 and day of week */2'),
    ("0 0 15W * *", '"0 0 15W * *": day of month "15w": the nearest weekday (W) is not supported'),
    ("0 0 LW * *", '"0 0 LW * *": day of month "lw": the nearest weekday (W) is not supported'),
    (
        "0 0 * * 5#6",
        '"0 0 * * 5#6": day of week "5#6": a month has no weekday number "6"; 1 to 5 may follow the #',
    ),
    (
        "0 0 * * 1,5#2",
        '"0 0 * * 1,5#2": day of week "1,5#2" mixes counted weekdays with plain ones: use two expressions',
    ),
    (
        "H * * * *",
        '"H * * * *": minute "h": hashed and random times are not supported: write a value, or set jitter',
    ),
    (
        "0 R(0-5) * * *",
        '"0 R(0-5) * * *": hour "r(0-5)": hashed and random times are not supported: write a value, or set jitter',
    ),
    ("@reboot", '"@reboot" is not a schedule: use a job of type continuous or oneshot'),
    (
        "@fortnightly",
        '"@fortnightly" is not one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually '
        "or @every with a period",
    ),
    ("@every", f'"@every" {PERIOD}'),
    ("@every 90", f'"@every 90" {PERIOD}'),
    ("@every -5m", f'"@every -5m" {PERIOD}'),
    ("@every 1.5h", f'"@every 1.5h" {PERIOD}'),
    ("@every 30m1h", f'"@every 30m1h" {PERIOD}'),
    ("@every 1 5m", f'"@every 1 5m" {PERIOD}'),
    ("@every 0s", '"@every 0s": the period must be at least 1s'),
    ("@every 99999999d", '"@every 99999999d": the period must not be longer than 14640d'),
]


@pytest.mark.parametrize(("expression", "message"), REFUSED, ids=[repr(expression) for expression, _ in REFUSED])
def test_an_expression_that_cannot_be_meant_is_refused(expression: str, message: str) -> None:
    whole_message = f"^{re.escape(message)}$"
    with pytest.raises(ValueError, match=whole_message):
        parse((expression,), "UTC")
    with pytest.raises(ValueError, match=whole_message):
        lint(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 31 2 1",  # Mondays in February
        "0 0 31 1,2 *",
        "0 0 29 2 *",
        "0 0 ? * 1",
        "0 0 L,15 * *",
        "0 0 * * 0-7",
        "0 0 * * Lfri",
        "0 0 * * 1#1,5#3",
        "0 0 * * 1#4",
        "0 0 * * fri-sun",
        "\t0  0 * * *  ",
        "@Daily",
    ],
)
def test_an_unusual_expression_that_has_one_meaning_is_read(expression: str) -> None:
    assert read_cron(expression).times == (0,)


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("@Weekly", "0 0 * * 0"),
        ("5 0 ? jan-mar/2 fri-sun", "5 0 * 1-3/2 5-7"),
        ("0 0 L * 5-5", "0 0 l * 5"),
        ("0 0 * * Sun#2,7#3,fri#1", "0 0 * * 0#2,0#3,5#1"),
        ("0 0 * * L7", "0 0 * * l0"),
    ],
)
def test_a_line_is_handed_on_in_numbers_with_one_way_to_write_a_counted_weekday(expression: str, fields: str) -> None:
    assert " ".join(plain_fields(expression)) == fields


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("@every 90s", 90),
        ("@every 7m", 420),
        ("@every 1h30m", 5400),
        ("@Every  2D", 172_800),
        ("@every 90m", 5400),
        ("@every 14640d", 14_640 * 86_400),
    ],
)
def test_a_period_is_read_as_seconds(expression: str, seconds: int) -> None:
    assert read_period(expression) == seconds


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("0 3 * * *", True),
        ("0-59/15 0-23 * * *", True),
        ("5,*/30 3 * * *", True),
        ("@daily", True),
        ("* 3 * * *", False),
        ("*/15 3 * * *", False),
        ("*/30,5 3 * * *", False),
        ("0 * * * *", False),
        ("0 */2 * * *", False),
        ("@hourly", False),
        ("@every 1d", False),
    ],
)
def test_an_expression_is_fixed_unless_minute_or_hour_starts_with_a_star(expression: str, wanted: bool) -> None:
    assert is_fixed(expression) is wanted


def step_warning(expression: str, step: str, whole: str, period: str) -> str:
    return f'"{expression}": "{step}" starts over with each {whole}; what is due every {period} is "@every {period}"'


@pytest.mark.parametrize(
    ("expression", "warnings"),
    [
        ("*/7 * * * *", [step_warning("*/7 * * * *", "*/7", "hour", "7m")]),
        ("*/90 * * * *", [step_warning("*/90 * * * *", "*/90", "hour", "90m")]),
        ("0 */23 * * *", [step_warning("0 */23 * * *", "*/23", "day", "23h")]),
        ("0 0 */2 * *", [step_warning("0 0 */2 * *", "*/2", "month", "2d")]),
        ("* 3 * * *", ['"* 3 * * *": it is due 60 times from 3:00 to 3:59; once, on the hour, is "0 3"']),
        (
            "0 0 13 * 5",
            ['"0 0 13 * 5": day of month 13 and day of week 5 are alternatives: days that match either will do'],
        ),
        (
            "0 0 1-7 * */5",
            [
                '"0 0 1-7 * */5": day of month 1-7 and day of week */5 must both match, '
                "because one of them starts with *"
            ],
        ),
        (
            "0 0 */2 * 1",
            [
                step_warning("0 0 */2 * 1", "*/2", "month", "2d"),
                '"0 0 */2 * 1": day of month */2 and day of week 1 must both match, because one of them starts with *',
            ],
        ),
        (
            "0 0 31 * *",
            ['"0 0 31 * *": a month without day 31 is passed over; the last day of every month is "L"'],
        ),
        ("*/15 */6 * * *", []),
        ("0 0 31 1 *", []),
        ("0 0 30 3,4 *", []),
        ("0 0 31,L * *", []),
        ("0 0 15,31 * *", []),
        ("* 9-17 * * 1-5", []),
        ("@daily", []),
        ("@every 7m", []),
    ],
)
def test_a_trap_is_warned_of(expression: str, warnings: list[str]) -> None:
    assert list(lint(expression)) == warnings


def test_reading_a_cron_line_starts_no_process_and_importing_reads_no_library() -> None:
    program = """
import subprocess, sys

def refuse(*args, **kwargs):
    raise AssertionError("a process was started")

subprocess.Popen.__init__ = refuse
from procclaw.planning import schedule
assert not {"croniter", "dateutil", "zoneinfo", "pathlib", "platform"} & set(sys.modules), sorted(sys.modules)
import platform
asked = platform.architecture
schedule.parse(("*/5 * * * *",), "UTC")
assert "croniter" in sys.modules
assert platform.architecture is asked
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
