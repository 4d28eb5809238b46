"""The configuration files: which they are, whether they changed, and reading them.

procclaw.yaml, jobs.yaml and jobs.d/*.yaml become one checked and completed document, or a SpecError with every problem
of every file. What the values mean is for `model` (tree, shape, completion, rules, assembly); here are the files,
PyYAML and jsonschema. Those two are imported by `load` alone: they cost more than all that `procclaw list` does. A file
that exists is never written to.
"""

import gc
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from procclaw import __version__
from procclaw.model.clock import from_microseconds
from procclaw.model.errors import SpecError

if TYPE_CHECKING:
    from procclaw.model.assembly import Schema, Source
    from procclaw.model.rules import CheckSchedule, LintSchedule
    from procclaw.model.shape import Shape
    from procclaw.model.tree import Fault, Node

CONFIG_FILE = "procclaw.yaml"
JOBS_FILE = "jobs.yaml"
JOBS_FOLDER = "jobs.d"
"""Its *.yaml are read in the order of their names; names that begin with a dot are an editor's."""

TIMEZONE_FILE = "/etc/timezone"
LOCALTIME_LINK = "/etc/localtime"

_LARGEST_FILE = 64 << 20
"""Bytes; a quarter of a million jobs. More is a mistake, such as a log in the wrong place."""
_JOBS_SCHEMA, _CONFIG_SCHEMA = "jobs.schema.json", "procclaw.schema.json"
_YAML_WORDS = (
    ("found character", "unquoted text cannot begin with {character}; put it in quotes"),
    ("mapping values are not allowed", '": " is not expected here; put the text in quotes or mend the indentation'),
    ("could not find expected ':'", 'a ":" is missing after a key, or a line is not indented far enough'),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("expected the node content", "a value is missing, or a [ or {{ is not closed"),
    ("expected ',' or", "a list in [ ] or a mapping in {{ }} is not closed, or lacks a comma"),
    ("expected '<document start>'", "the file goes on where its one value has ended"),
    ("found unexpected end of stream", "a quote is opened here and never closed"),
)
"""What PyYAML's problem begins with, and how we say it."""


class Fingerprint(NamedTuple):
    """What the directory entries tell without reading a file; another text means that something may have changed."""

    text: str
    newest_at: datetime | None
    """When a file, or the folder of jobs, was last changed in any way; None if there is none."""


class Loaded(NamedTuple):
    document: dict[str, Any]
    warnings: tuple[str, ...]
    content_hash: str
    """What the function of that name gives for what was read."""


class _Content(NamedTuple):
    name: str
    content: bytes
    problem: str = ""
    """Why there is no content."""


def paths(home: str) -> tuple[str, ...]:
    """The files that make up the configuration, in their order; the first two whether they exist or not."""
    names = (CONFIG_FILE, JOBS_FILE, *(f"{JOBS_FOLDER}/{name}" for name in _folder(home, ".yaml")))
    return tuple(os.path.join(home, name) for name in names)


def fingerprint(home: str) -> Fingerprint:
    """Taken before `load`, it differs later if anything changed while that was reading."""
    seen: list[tuple[object, ...]] = []
    newest = 0
    for path in (*paths(home), os.path.join(home, JOBS_FOLDER)):
        try:
            entry = os.stat(path)
        except OSError as error:
            seen.append((path, error.errno))
            continue
        seen.append((path, entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns))
        # The inode's own time: `mv` and `cp -p` bring an old time of modification with them.
        newest = max(newest, entry.st_ctime_ns)
    text = sha256(repr((_program(), seen)).encode("utf-8", "surrogateescape")).hexdigest()
    return Fingerprint(text, from_microseconds(newest // 1000) if newest else None)


def content_hash(home: str, system_timezone: str) -> str:
    """Equal hashes mean that `load` has nothing new to say."""
    return _hash(_contents(home), system_timezone)


def load(home: str, *, check_schedule: "CheckSchedule", lint_schedule: "LintSchedule", system_timezone: str) -> Loaded:
    """Read, check and complete everything. Raises SpecError with all problems, in the order of files and lines."""
    contents = _contents(home)
    document, warnings = _assembled(contents, check_schedule, lint_schedule, system_timezone)
    unread = (f"{JOBS_FOLDER}/{name}: is not read, its name does not end in .yaml" for name in _folder(home, ".yml"))
    document["has_config_file"] = any(content.name == CONFIG_FILE for content in contents)
    return Loaded(document, (*warnings, *unread), _hash(contents, system_timezone))


def read_ahead(*, check_schedule: "CheckSchedule", lint_schedule: "LintSchedule") -> None:
    """Import and read all that `load` can come to need: once our own file is replaced, nothing more comes out of it."""
    contents = (_Content(JOBS_FILE, _REHEARSAL),)
    with suppress(SpecError):
        _assembled(contents, check_schedule, lint_schedule, "UTC")


_REHEARSAL = b"""\
jobs:
  good: {cmd: x, type: scheduled, schedule: "0 3 * * mon", timezone: Europe/Berlin}
  wrong: {cmd: x, tpye: manual}
"""


def _assembled(
    contents: Iterable[_Content], check_schedule: "CheckSchedule", lint_schedule: "LintSchedule", system_timezone: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    from procclaw.model.assembly import Surroundings, assemble

    around = Surroundings(check_schedule, lint_schedule, system_timezone)
    with _no_garbage_collection():
        sources = [_source(content) for content in contents]
        return assemble(sources, _schema(_CONFIG_SCHEMA), _schema(_JOBS_SCHEMA), around)


@cache
def find_schema(name: str) -> dict[str, Any]:
    """A JSON Schema by file name: from the package where it was installed or zipped, else from the checkout."""
    import json
    from pkgutil import get_data

    with suppress(OSError):
        return dict(json.loads(get_data("procclaw", f"schema/{name}") or b""))
    return dict(json.loads(get_data("procclaw", f"../schema/{name}") or b""))


def system_timezone(environ: Mapping[str, str]) -> str:
    """The machine's time zone by name: `TZ`, /etc/timezone, the target of /etc/localtime; UTC if none of them tells."""
    for name in (environ.get("TZ", ""), _first_line(TIMEZONE_FILE), _link_target(LOCALTIME_LINK)):
        name = name.removeprefix(":").rpartition("zoneinfo/")[2]
        if name and _is_zone(name):
            return name
    return "UTC"


def write_initial(home: str, path_env: str, timezone: str) -> tuple[str, ...]:
    """Create what is missing of a new home's configuration and say what that was; what exists is left as it is."""
    created = []
    for folder in (home, os.path.join(home, JOBS_FOLDER)):
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700)
            created.append(folder)
    # As JSON, which is YAML too, so no character of a path can mean anything; `${` would begin a reference.
    import json

    path = json.dumps(path_env.encode(errors="ignore").decode(), ensure_ascii=False).replace("${", "$${")
    config = _FIRST_CONFIG.format(path=path, timezone=timezone)
    for name, text in ((CONFIG_FILE, config), (JOBS_FILE, _FIRST_JOBS)):
        file = os.path.join(home, name)
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
            created.append(file)
    return tuple(created)


_FIRST_CONFIG = """\
# How ProcClaw itself behaves. Everything here may be left out.

# The zone of every time without an offset.
timezone: {timezone}

# What all jobs find in their environment, whoever starts them.
env:
  PATH: {path}

# Fields for every job that does not say otherwise, for instance:
# defaults:
#   shutdown:
#     grace_period: 10
"""

_FIRST_JOBS = """\
# The jobs. Saving this file applies it. To begin, take away the {} and the # before the lines below.
jobs: {}
#  hello:
#    cmd: echo "Hello from ProcClaw"
#
#  clock:
#    cmd: date
#    type: scheduled
#    schedule: "*/5 * * * *"
"""


def _folder(home: str, suffix: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(home, JOBS_FOLDER))
    except OSError:
        return []
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))


def _contents(home: str) -> tuple[_Content, ...]:
    """Every file's content, or why there is none; procclaw.yaml only if it exists."""
    found = []
    for path in paths(home):
        name = os.path.relpath(path, home)
        try:
            found.append(_Content(name, _read(path)))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and name == JOBS_FILE:
                found.append(_Content(name, b"", _missing(home)))
            elif not isinstance(error, FileNotFoundError) or name != CONFIG_FILE or os.path.islink(path):
                why = error.strerror.lower() if error.strerror else str(error)
                found.append(_Content(name, b"", f"cannot be read: {why}"))
    return tuple(found)


def _read(path: str) -> bytes:
    # Non-blocking: a FIFO under this name would keep us waiting for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        entry = os.fstat(descriptor)
        if not stat.S_ISREG(entry.st_mode):
            raise OSError("it is not a regular file")
        if entry.st_size > _LARGEST_FILE:
            raise OSError(f"it is larger than {_LARGEST_FILE >> 20} MiB")
        return file.read()


def _missing(home: str) -> str:
    if os.path.exists(os.path.join(home, "jobs.yml")):
        return f'there is no such file in {home}; rename "jobs.yml"'
    return f'there is no such file in {home}; "procclaw init" makes one, "jobs: {{}}" in it declares none'


def _hash(contents: Iterable[_Content], timezone: str) -> str:
    return sha256(repr((_program(), timezone, tuple(contents))).encode("utf-8", "surrogateescape")).hexdigest()


@cache
def _program() -> str:
    """What the same files mean may change with the program: its version and its schemas."""
    return sha256(repr((__version__, find_schema(_JOBS_SCHEMA), find_schema(_CONFIG_SCHEMA))).encode()).hexdigest()


@cache
def _schema(name: str) -> "Schema":
    from jsonschema import Draft202012Validator

    from procclaw.model.assembly import Schema

    shape = _shape(name)
    return Schema(shape, Draft202012Validator(shape).iter_errors)


@cache
def _shape(name: str) -> "Shape":
    from procclaw.model.shape import resolved

    # References are put in their places beforehand, so jsonschema has none to resolve: not in a file, not on a network.
    shape: Shape = resolved(find_schema(name), find_schema(_JOBS_SCHEMA)["$defs"])
    return shape


def brought_up_to_date(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document that an earlier version stored, with every field that this one knows."""
    from procclaw.model.completion import brought_up_to_date

    return brought_up_to_date(document, _shape(_CONFIG_SCHEMA), _shape(_JOBS_SCHEMA))


def _source(content: _Content) -> "Source":
    from procclaw.model.assembly import Source
    from procclaw.model.tree import Fault, Unreadable

    name = content.name
    if content.problem:
        return Source(name, None, [Fault(0, (), content.problem)], 0)
    try:
        text = content.content.decode("utf-8-sig")
        root, faults = _composed(text)
    except UnicodeDecodeError as error:
        line = content.content.count(b"\n", 0, error.start) + 1
        return Source(name, None, [Fault(line, (), f"byte 0x{content.content[error.start]:02x} is not UTF-8 text")], 0)
    except Unreadable as error:
        return Source(name, None, [error.fault], 0)
    if root is None and not faults:
        what = '"jobs: {}" declares no jobs' if name != CONFIG_FILE else "delete it or write {}"
        faults = [Fault(0, (), f"is empty; {what}")]
    return Source(name, root, faults, len(text))


def parsed(text: str) -> "tuple[Node | None, list[Fault]]":
    """The tree of a YAML text that need not be a file of ours, and what is wrong with its writing."""
    from procclaw.model.tree import Unreadable

    try:
        return _composed(text)
    except Unreadable as error:
        return None, [error.fault]


def _composed(text: str) -> "tuple[Node | None, list[Fault]]":
    """The tree of a file. Raises Unreadable."""
    import yaml

    from procclaw.model.tree import Unreadable, compose

    fast = _fast_loader()
    if fast is not None:
        # The C parser says less about what it does not like, so its complaint is only a reason to read again.
        with suppress(yaml.YAMLError):
            return compose(yaml.parse(text, Loader=fast), len(text))
    try:
        return compose(yaml.parse(text, Loader=yaml.SafeLoader), len(text))
    except yaml.YAMLError as error:
        raise Unreadable(_syntax_fault(error, text)) from error


def _syntax_fault(error: Exception, text: str) -> "Fault":
    from yaml import MarkedYAMLError
    from yaml.reader import ReaderError

    from procclaw.model.shape import quoted
    from procclaw.model.tree import Fault

    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Fault(line, (), f"the character U+{ord(text[error.position]):04X} is not allowed in YAML")
    assert isinstance(error, MarkedYAMLError)
    is_open = "quoted scalar" in (error.context or "")
    mark = error.context_mark if is_open and error.context_mark else error.problem_mark or error.context_mark
    index = 0 if mark is None else mark.index
    line = 1 if mark is None else mark.line + 1
    begin = text.rfind("\n", 0, index) + 1
    if "\t" in text[begin : index + 1]:
        return Fault(line, (), "a tab cannot indent or separate here; use spaces")
    problem = error.problem or "cannot be read"
    words = next((said for start, said in _YAML_WORDS if problem.startswith(start)), "not YAML: {problem}")
    return Fault(line, (), words.format(character=quoted(text[index : index + 1]), problem=problem))


@cache
def _fast_loader() -> "type[Any] | None":
    """PyYAML's C parser, six times as fast; the .pyz has none, but may run where the system's PyYAML brings one."""
    import sys
    from importlib.machinery import EXTENSION_SUFFIXES

    import yaml

    if not yaml.__with_libyaml__:
        places = [os.path.join(place, "yaml") for place in sys.path[1:]]
        yaml.__path__ += [
            each for each in places if os.path.exists(os.path.join(each, "_yaml" + EXTENSION_SUFFIXES[0]))
        ]
    try:
        from yaml.cyaml import CSafeLoader
    except ImportError:
        return None
    return CSafeLoader


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Trees are many small objects and none is garbage: collecting while they grow takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _first_line(path: str) -> str:
    with suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        return file.readline().strip()
    return ""


def _link_target(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
