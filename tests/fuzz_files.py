"""Configuration files that somebody, or a disk, has broken.

Whatever is in them: reading takes no time to speak of and either works, in which case a plan can be made of it, or
says what is wrong where, in words; then what was in force before stays so.
"""

import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any
from unittest import mock

from procclaw.engine.configuration import Configuration
from procclaw.engine.files import ConfigurationFiles
from procclaw.model.document import spec_from_document
from procclaw.model.errors import SpecError
from procclaw.model.masking import masked
from procclaw.model.spec import Spec
from procclaw.model.state import JobState, State
from procclaw.planning.board import Board
from procclaw.planning.forecast import forecast
from procclaw.planning.plan import plan
from procclaw.planning.why import gates
from procclaw.system import specfile
from procclaw.system.specfile import Fingerprint, Loaded
from procclaw.system.store import Store
from tests.breaking import PATIENCE_SECONDS, TRACEBACK, Case, Ground, flipped, rubbish, within
from tests.builders import NOW, carried_out

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "tests" / "data" / "specs"
JOBS, CONFIG = "jobs.yaml", "procclaw.yaml"
CANARY = "c4n4ry-9f2e"
"""Stands wherever a secret may be written out, and may never be told."""
LONGEST_MESSAGE = 2000
CUT_EVERY = 4
CUT_STRIDE = 7919
"""A prime: so few seeds as the tests play are spread over all files, and many meet every byte once."""

HOOKS = f"""\
jobs:
  hook:
    cmd: [sh, -c, 'echo "$1"', "${{param:NAME}}"]
    params: {{NAME: {{default: x, pattern: "[a-z]+"}}, API_TOKEN: {{default: {CANARY}}}}}
    trigger:
      - type: webhook
        auth_token: {CANARY}
        hmac_secret: "{CANARY}"
      - {{type: file, watch_path: /var/spool/in, pattern: "*.csv"}}
    env:
      DB_PASSWORD: {CANARY}
      KEY: ${{secret:KEY}}
      LANG: ${{env:LANG}}
  later: {{cmd: x, type: oneshot, run_at: 2031-05-01T09:30}}
  half: &half {{cmd: x, type: scheduled, schedule: ["*/5 * * * *", "30 2 * * *"], timezone: America/New_York}}
  other: {{<<: *half, expect: {{by: "6:30"}}, catch_up: {{policy: all}}, jitter: 10}}
  fast: {{<<: *half, schedule: "@every 90s", on_overlap: queue, queue: one}}
queues: {{one: {{limit: 2}}}}
workflows:
  flow: {{type: chord, jobs: [hook, later], callback: other, on_failure: retry}}
"""
GUARDED = f"""\
api:
  auth:
    enabled: true
    token: {CANARY}
alerts:
  webhook: https://alerts.example/{CANARY}
env:
  SECRET_SALT: {CANARY}
defaults:
  retry: {{enabled: false}}
  depends_on: [hook]
"""

Files = dict[str, bytes]


def bases() -> list[Files]:
    """What is broken: all that is shown to people, and what is hard to get right."""
    found = [{JOBS: path.read_bytes()} for path in sorted((ROOT / "examples").glob("*/jobs.yaml"))]
    full = SPECS / "every_field"
    found.append({str(path.relative_to(full)): path.read_bytes() for path in sorted(full.rglob("*.yaml"))})
    for path in sorted((SPECS / "shapes").glob("*.yaml")):
        is_config = path.stem == "procclaw"
        found.append({JOBS: b"jobs: {}\n", CONFIG: path.read_bytes()} if is_config else {JOBS: path.read_bytes()})
    found.append({JOBS: HOOKS.encode(), CONFIG: GUARDED.encode(), "jobs.d/more.yaml": b"jobs: {more: {cmd: x}}\n"})
    return found


# --- how files are broken ---

Change = Callable[[bytes, Random], bytes]

VALUES = (
    *("", "~", "null", "true", "off", "0", "-1", "1e99", "1e400", "-0", "0x1F", "010", "1:30", ".inf", ".nan", "+.inf"),
    *("9" * 400, "1" + "0" * 30, "99999999999999999", "9007199254740993", "1.7976931348623157e308", "0.1e-20"),
    *("2030-01-31", "2030-01-31T25:00:00", "0000-00-00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"),
    *("[]", "{}", "[[]]", "[{}]", "{a: b}", "[a, 1, ~]", "- x", "{? [a] : b}", "[" * 90, "{a: " * 90),
    *(
        '""',
        "''",
        '"\\0"',
        '"\\x9b31m"',
        '"\\ud800"',
        '"\\u2028"',
        '"\\r\\nx: y"',
        '"a\\tb"',
        "'",
        '"',
        "|",
        ">-",
        "&a",
    ),
    *(
        "*a",
        "!!python/object:os.system x",
        "!!binary aGk=",
        "!!set {a}",
        "!x y",
        "!!str 5",
        "!!int x",
        "? x",
        "@x",
        "`x",
    ),
    *(
        "${secret:}",
        "${secret:A",
        "${env:1x}",
        "${param:NOBODY}",
        "$${secret:X}",
        "${sekret:X}",
        "${{x}}",
        "${env:A}" * 50,
    ),
    *("Zürich", "名前", "🦀", "\u202eabc", "e\u0301", "a\u200bb", "İ", "ß", "x" * 5000, "../../etc/passwd", "-rf", "."),
    *("@every 0s", "@every 1e9s", "@reboot", "* * * *", "0 0 31 2 *", "*/0 * * * *", "60 * * * *", "1-0 * * * *"),
    *("0 0 1 1 *", "@every 99999999999d", "Mars/Olympus", "../UTC", "UTC\n", "/etc/passwd", "24:00", "6:5", "10 MB"),
    *("10XB", "1e3MB", "999999999999999999T", "1.2.3MB", "SIGSTOP", "0o999", "8", "(a+)+$", "(", "[a-z]{1000000}"),
    *("http://[::1", "http://x:99999", "http://a b/", "file:///etc/passwd", "http://\u2100/", "localhost", "1.2.3.4"),
)
"""What may stand where something else is wanted."""
KEYS = (
    "<<",
    "cmd",
    "type",
    "?",
    "~",
    "jobs",
    "daemon",
    "a b",
    '"\\n"',
    "é",
    "1",
    "true",
    "[a]",
    "{a: b}",
    "cmdd",
    "x-y",
)
INSERTS = (
    *(
        b"\t",
        b"  ",
        b"\0",
        b"\r",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xfe\xff",
        b"\x1b[31m",
    ),
    *(b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"---\n", b"...\n", b"%YAML 9.9\n", b"%TAG ! x\n", b"#", b": ", b"- "),
    *(
        b"&a ",
        b"*a ",
        b"<<: *a\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b"'",
        b'"',
        b"|\n",
        b"? ",
        b"!!python/name:os ",
        b"\\",
        b",",
    ),
)
_FIELD = re.compile(rb"^(\s*(?:- )?[\w$-]+:)[ \t]+\S.*$", re.MULTILINE)
_WORD = re.compile(rb"[\w./:@*-]+")


def _at_a_line(change: Callable[[list[bytes], int, Random], None]) -> Change:
    def changed(content: bytes, rng: Random) -> bytes:
        lines = content.splitlines(keepends=True) or [b""]
        change(lines, rng.randrange(len(lines)), rng)
        return b"".join(lines)

    return changed


def _delete(lines: list[bytes], at: int, rng: Random) -> None:
    del lines[at : at + rng.choice((1, 1, 1, 2, 5))]


def _duplicate(lines: list[bytes], at: int, rng: Random) -> None:
    lines[at:at] = lines[at : at + rng.choice((1, 1, 3, 10))] * rng.choice((1, 1, 1, 50))


def _move(lines: list[bytes], at: int, rng: Random) -> None:
    lines.insert(rng.randrange(len(lines)), lines.pop(at))


def _indent(lines: list[bytes], at: int, rng: Random) -> None:
    lines[at] = rng.choice((b" ", b"  ", b"    ", b"\t", b"          ")) + lines[at]


def _outdent(lines: list[bytes], at: int, rng: Random) -> None:
    lines[at] = lines[at].removeprefix(rng.choice((b" ", b"  ", b"    ")))


def _bend(content: bytes, rng: Random) -> bytes:
    """Another value in the place of a field's."""
    fields = list(_FIELD.finditer(content))
    if not fields:
        return content
    field = rng.choice(fields)
    value = rng.choice(VALUES).encode("utf-8", "surrogatepass")
    return content[: field.start()] + field[1] + b" " + value + content[field.end() :]


def _rename(content: bytes, rng: Random) -> bytes:
    """Another key in the place of one."""
    keys = list(re.finditer(rb"[\w$-]+(?=:)", content))
    if not keys:
        return content
    key = rng.choice(keys)
    return content[: key.start()] + rng.choice(KEYS).encode() + content[key.end() :]


def _swap_words(content: bytes, rng: Random) -> bytes:
    words = list(_WORD.finditer(content))
    if len(words) < 2:
        return content
    first, second = sorted(rng.sample(words, 2), key=lambda word: word.start())
    between = content[first.end() : second.start()]
    return content[: first.start()] + second[0] + between + first[0] + content[second.end() :]


def _insert(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(INSERTS) + content[at:]


def _nest(content: bytes, rng: Random) -> bytes:
    depth = rng.choice((10, 63, 64, 65, 200, 3000))
    opens, closes = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")))
    at = content.rfind(b"\n", 0, rng.randrange(len(content) + 1)) + 1
    return content[:at] + (opens * depth + "x" + closes * depth + "\n").encode() + content[at:]


def _bomb(content: bytes, rng: Random) -> bytes:
    width, levels = rng.choice((2, 9, 30)), rng.choice((3, 9, 30))
    lines = ["x-0: &b0 [x]"]
    for level in range(1, levels):
        inner = ", ".join([f"*b{level - 1}"] * width)
        merged = f"{{<<: [{inner}], k{level}: 1}}" if rng.random() < 0.2 else f"[{inner}]"
        lines.append(f"x-{level}: &b{level} {merged}")
    field = f"x-last: *b{levels - 1}" if rng.random() < 0.5 else f"    env: *b{levels - 1}"
    return "\n".join([*lines, field, ""]).encode() + content


def _make_a_crowd(content: bytes, rng: Random) -> bytes:
    """Many jobs, each with the same thing wrong or odd."""
    value = rng.choice(VALUES)
    name = rng.choice(("depends_on", "schedule", "env", "cmd", "tags", "timezone", "alerts", "nobody"))
    jobs = "".join(f"  job{n}: {{cmd: x, {name}: {value}}}\n" for n in range(rng.choice((2, 30, 300))))
    return content + b"jobs:\n" + jobs.encode("utf-8", "surrogatepass")


CHANGES: Mapping[str, tuple[int, Change]] = {
    "bits flipped": (3, lambda content, rng: flipped(content, rng, rng.choice((1, 2, 8)))),
    "truncated": (2, lambda content, rng: content[: rng.randrange(len(content) + 1)]),
    "a line deleted": (3, _at_a_line(_delete)),
    "a line given twice": (3, _at_a_line(_duplicate)),
    "a line moved": (3, _at_a_line(_move)),
    "a line indented": (3, _at_a_line(_indent)),
    "a line outdented": (3, _at_a_line(_outdent)),
    "another value": (12, _bend),
    "another key": (4, _rename),
    "words swapped": (4, _swap_words),
    "something inserted": (5, _insert),
    "deep nesting": (1, _nest),
    "aliases": (1, _bomb),
    "a crowd": (1, _make_a_crowd),
    "other line ends": (1, lambda content, rng: content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n")))),
    "other encoding": (1, lambda content, rng: _encoded(content, rng.choice(("utf-16", "utf-8-sig", "latin-1")))),
    "rubbish": (1, lambda content, rng: rubbish(rng)),
}


def _encoded(content: bytes, encoding: str) -> bytes:
    return content.decode("utf-8", "replace").encode(encoding, "replace")


def broken(files: Files, case: Case) -> Files:
    files = dict(files)
    names = [name for name, (weight, _) in CHANGES.items() for _ in range(weight)]
    for _ in range(case.rng.choice((1, 1, 1, 2, 2, 3, 5))):
        file, change = case.rng.choice(sorted(files)), case.rng.choice(names)
        files[file] = CHANGES[change][1](files[file], case.rng)
        case.say(f"{file}: {change}")
        case.meet(change)
    if case.rng.random() < 0.05:
        twin = f"jobs.d/{case.rng.choice(('a', 'Z', '.hidden', 'é', 'a b'))}.{case.rng.choice(('yaml', 'yml'))}"
        files[twin] = files[case.rng.choice(sorted(files))]
        case.say(f"{twin}: a copy")
        case.meet("a file more")
    return files


def cut(bases: list[Files], case: Case) -> Files:
    """The files of one base, one of them cut off: successive seeds do so at every byte of every file."""
    places = [(base, name, at) for base in bases for name in base for at in range(len(base[name]) + 1)]
    base, name, at = places[case.seed // CUT_EVERY * CUT_STRIDE % len(places)]
    case.say(f"{name}: cut at byte {at}")
    case.meet("cut at the next byte")
    return base | {name: base[name][:at]}


# --- what must hold ---


class Drawn:
    """The files of one home as `Configuration` looks at them, each case a file that has just changed."""

    def __init__(self, home: Path) -> None:
        self._real = ConfigurationFiles(str(home))
        self.loaded: Loaded | None = None
        self.refused: SpecError | None = None
        self.turn = 0

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(str(self.turn), None)

    def content_hash(self) -> str:
        return self._real.content_hash()

    def load(self) -> Loaded:
        self.loaded = self.refused = None
        try:
            self.loaded = self._real.load()
        except SpecError as error:
            self.refused = error
            raise
        return self.loaded


class FileGround(Ground):
    def __init__(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="procclaw-", dir=memory))
        self._home = self._folder / "home"
        self._bases = bases()
        self._drawn = Drawn(self._home)
        self._store = Store(str(self._folder / "procclaw.db"))
        self._configuration = Configuration(self._drawn, self._store)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._store.close()
        shutil.rmtree(self._folder)

    def play(self, case: Case) -> None:
        is_cut = case.seed % CUT_EVERY == 0
        files = cut(self._bases, case) if is_cut else broken(case.rng.choice(self._bases), case)
        self.judge(case, files, is_slow_parser=case.rng.random() < 0.15)

    def judge(self, case: Case, files: Mapping[str, bytes], *, is_slow_parser: bool = False) -> None:
        self._write({JOBS: b"jobs: {kept: {cmd: x}}\n"})
        before = self._look()
        assert before is not None
        self._write(files)
        self._drawn.loaded = self._drawn.refused = None
        parser = mock.patch.object(specfile, "_fast_loader", return_value=None) if is_slow_parser else nullcontext()
        with parser, within(PATIENCE_SECONDS):
            after = self._look()
        case.must(after is not None, "nothing is in force any more")
        assert after is not None
        if self._drawn.refused is not None:
            case.meet("= refused")
            case.must(after.hash == before.hash, "a bad edit has changed what is in force")
            told = self._store.problems()
            case.must(told is not None and told.problems == self._drawn.refused.problems, "the problems are not kept")
            _judge_problems(case, self._drawn.refused.problems, files)
        else:
            case.meet("= loaded")
            case.must(self._store.problems() is None, "a good edit is told to be a bad one")
            with within(PATIENCE_SECONDS):
                _judge_loaded(case, self._drawn.loaded, after)

    def _write(self, files: Mapping[str, bytes]) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        (self._home / "jobs.d").mkdir(parents=True)
        for name, content in files.items():
            (self._home / name).write_bytes(content)
        self._drawn.turn += 1

    def _look(self) -> Spec | None:
        found = self._configuration.current(NOW + timedelta(seconds=self._drawn.turn))
        return None if found is None else found.spec


_STEP = r'(?:[\w$-]+|"(?:\\.|[^"\\])*")(?:\[\d+\])*'
_PROBLEM = re.compile(
    r"(?P<file>(?:procclaw|jobs)\.yaml|jobs\.d/.+?\.yaml)(?::(?P<line>[1-9]\d*))?"
    rf"(?: {_STEP}(?:\.{_STEP})*)?: (?P<reason>\S.+)"
)
_OF_A_FILE = re.compile(r"is empty; |cannot be read: |there is no such file ")


def _judge_problems(case: Case, problems: tuple[str, ...], files: Mapping[str, bytes]) -> None:
    case.must(bool(problems), "refused without a word")
    lines = {name: len(re.split(rb"\r\n|\n|\r|\x85|\xe2\x80[\xa8\xa9]", content)) for name, content in files.items()}
    places = []
    for problem in problems:
        case.say(problem)
        found = _PROBLEM.fullmatch(problem)
        if found is None:
            case.must(False, f"not a place and a reason: {problem!r}")
            return
        if found["line"] is None:
            case.must(_OF_A_FILE.search(found["reason"]) is not None, f"no line: {problem!r}")
        elif found["file"] in lines:
            case.must(int(found["line"]) <= lines[found["file"]], f"no such line: {problem!r}")
        _judge_words(case, problem)
        places.append((found["file"] != CONFIG, found["file"] != JOBS, found["file"], int(found["line"] or 0)))
    case.must(places == sorted(places), "the problems are not in the order of files and lines")


def _judge_words(case: Case, text: str) -> None:
    case.must(CANARY not in text or not _has_kept_its_name(case), f"a secret is told: {text!r}")
    case.must(TRACEBACK.search(text) is None, f"only a programmer can read it: {text!r}")
    case.must(len(text) <= LONGEST_MESSAGE, f"nobody reads so much: {text[:200]!r}")
    odd = [character for character in text if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")]
    case.must(not odd, f"characters that a terminal may obey: {text!r}")


def _has_kept_its_name(case: Case) -> bool:
    """Whether what makes a text a secret, the key beside it, has been left alone."""
    return not (case.met.keys() & {"words swapped", "another key", "bits flipped"})


def _judge_loaded(case: Case, loaded: Loaded | None, spec: Spec) -> None:
    if loaded is not None:  # None: the same files as before
        for warning in loaded.warnings:
            case.say(warning)
            _judge_words(case, warning)
        again = json.loads(json.dumps(loaded.document))
        case.must(again == loaded.document, "the store would give back another document")
        case.must(spec_from_document(again, "x") == spec_from_document(loaded.document, "x"), "another spec comes back")
        is_masked = not _canaries(masked(loaded.document))
        case.must(is_masked or not _has_kept_its_name(case), "a secret is shown")
    jobs = {name: JobState(name) for name in spec.jobs}
    state = State("boot", jobs)
    for now in (NOW, NOW + timedelta(days=1)):
        state = carried_out(state, plan(spec, state, now), now)
    _judge_looks(spec, state, NOW + timedelta(days=1))


def _judge_looks(spec: Spec, state: State, now: datetime) -> None:
    """What people may ask about it can be answered."""
    board = Board(spec, state.jobs, "boot", now, is_deciding=False)
    for job in list(spec.jobs.values())[:5]:
        gates(job, board, (), None, now)
    forecast(spec, state.jobs, (), now, now + timedelta(days=7))


def _canaries(document: Any) -> list[str]:
    match document:
        case dict():
            return [found for each in document.values() for found in _canaries(each)]
        case list():
            return [found for each in document for found in _canaries(each)]
    return [document] if isinstance(document, str) and CANARY in document else []
