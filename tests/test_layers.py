"""The rooms of the package and what each may use, read from the source: nobody has to remember it.

A name that a module imports or refers to is resolved through its imports to a dotted name, so `from time import
monotonic as m; m()` is a use of `time.monotonic`. What is reached some other way (getattr, importlib) is not seen.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Which rooms (or single modules) of the package a room may import besides itself.
MAY_IMPORT = {
    "model": (),
    "planning": ("model",),
    "system": ("model",),
    "engine": ("model", "planning", "system"),
    "interface": ("model", "planning.views", "engine"),
    "__main__": ("interface",),
    "__init__": (),
}

# What the modules of `system` share among themselves: a command of whatever kind runs in one way, and the two that
# answer later wait in one way.
SHARED = ("system.processes.run_command", "system.processes.CommandResult", "system.underway")

CLOCK = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.clock_gettime",
    "time.clock_gettime_ns",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
)
PROCESSES = (
    "subprocess",
    "multiprocessing",
    "signal",
    "pty",
    "os.kill",
    "os.killpg",
    "os.fork",
    "os.forkpty",
    "os.system",
    "os.popen",
    "os.posix_spawn",
    "os.posix_spawnp",
    "os.setsid",
    "os.setpgid",
    "os.pidfd_open",
    "os.wait",
    "os.wait3",
    "os.wait4",
    "os.waitid",
    "os.waitpid",
    *(f"os.{family}{suffix}" for family in ("exec", "spawn") for suffix in ("l", "le", "lp", "v", "ve", "vp", "vpe")),
)
OUTSIDE_WORLD = (
    "random",
    "secrets",
    "uuid",
    "os",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "glob",
    "socket",
    "select",
    "selectors",
    "fcntl",
    "threading",
    "asyncio",
    "concurrent",
    "urllib",
    "http",
    "logging",
    "time.sleep",
    "builtins.open",
    "builtins.print",
    "builtins.input",
)


class Rule(NamedTuple):
    names: tuple[str, ...]
    """What is regulated, and everything below it."""
    rooms: tuple[str, ...]
    """Where the rule holds."""
    except_in: tuple[str, ...]
    why: str


# A program of its own, handed as text to a Python beside the job: it shares nothing with us, not even the clock.
RELAY = "system.relay"

RULES = (
    Rule(("sqlite3",), ("",), ("system.store",), "only system/store speaks SQL"),
    Rule((*PROCESSES, "/proc"), ("",), ("system.processes", RELAY), "only system/processes deals with processes"),
    Rule(CLOCK, ("",), ("model.clock", RELAY), "only model/clock reads a clock"),
    Rule(("bottle",), ("",), ("interface.api",), "only interface/api speaks HTTP"),
    Rule(OUTSIDE_WORLD, ("planning",), (), "planning is made of pure functions"),
)

# What every command loads: these and all that they import while being imported. `list` has 35 ms, pathlib takes 15.
FAST_PATH = ("model", "system.store", "planning.views", "interface.cli")
SLOW_IMPORTS = ("pathlib", "yaml", "jsonschema", "bottle", "keyring", "croniter", "jeepney", "asyncio", "logging")

# None touches a process: an open file of our own by name, what is mounted, the platform's table of signal numbers.
NO_PROCESSES = ("/proc/self/fd", "/proc/self/mountinfo")
SIGNAL_NUMBERS = "signal.Signals"


class Use(NamedTuple):
    line: int
    name: str
    is_import: bool
    is_immediate: bool
    """It happens when the module is imported: not within a function, nor for the type checker only."""


class Module(NamedTuple):
    name: str
    """Without the package's own name: "system.store"."""
    path: str
    uses: tuple[Use, ...]

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def noun(self) -> str:
        """What a module of `system` owns: store and store_migrations, or store.migrations, are one."""
        return ".".join(self.name.split(".")[:2]).partition("_")[0]


class Walker(ast.NodeVisitor):
    """Collects the uses in one module."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.uses: list[Use] = []
        self._package = f"procclaw.{module}".split(".") if is_package else f"procclaw.{module}".split(".")[:-1]
        self._bound: dict[str, str] = {}
        self._later = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        for outside in (*getattr(node, "decorator_list", ()), node.args, getattr(node, "returns", None)):
            if outside is not None:
                self.visit(outside)
        self._later += 1
        for inside in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(inside)
        self._later -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 (the visitor's naming)
    visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        is_typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.visit(node.test)
        self._later += is_typing
        for inside in node.body:
            self.visit(inside)
        self._later -= is_typing
        for inside in node.orelse:
            self.visit(inside)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            first = alias.name.partition(".")[0]
            self._bound[alias.asname or first] = alias.name if alias.asname else first
            self._use(node, alias.name, is_import=True)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = ".".join(self._package[: len(self._package) - node.level + 1]) if node.level else ""
        source = ".".join(part for part in (base, node.module) if part)
        for alias in node.names:
            self._bound[alias.asname or alias.name] = f"{source}.{alias.name}"
            self._use(node, f"{source}.{alias.name}", is_import=True)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if name := self._resolve(node):
            self._use(node, name)
        else:
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if name := self._resolve(node):
            self._use(node, name)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value.startswith("/proc") and not node.value.startswith(NO_PROCESSES):
            self._use(node, "/proc")

    def visit_Expr(self, node: ast.Expr) -> None:
        # A string that stands alone is a docstring.
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def _resolve(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Attribute):
            owner = self._resolve(node.value)
            return f"{owner}.{node.attr}" if owner else None
        if not isinstance(node, ast.Name):
            return None
        if node.id in ("open", "print", "input"):
            return self._bound.get(node.id, f"builtins.{node.id}")
        return self._bound.get(node.id)

    def _use(self, node: ast.stmt | ast.expr, name: str, is_import: bool = False) -> None:
        self.uses.append(Use(node.lineno, name, is_import, not self._later))


def read_module(path: str, source: str) -> Module:
    """`path` is relative to the checkout: procclaw/system/store.py."""
    name = path.removesuffix(".py").removeprefix("procclaw/").replace("/", ".")
    is_package = name.endswith(".__init__")
    name = name.removesuffix(".__init__") if is_package else name
    walker = Walker(name, is_package)
    # Twice: a function may refer to what is imported further down.
    walker.visit(ast.parse(source))
    walker.uses.clear()
    walker.visit(ast.parse(source))
    return Module(name, path, tuple(walker.uses))


def is_below(name: str, above: str) -> bool:
    return not above or name == above or name.startswith((f"{above}.", f"{above}_"))


def faults(module: Module) -> Iterator[str]:
    """What the module does that its room forbids."""
    for use in module.uses:
        if use.is_import and (why := misplaced_import(module, use.name)):
            yield f"{module.path}:{use.line}: must not import {use.name}: {why}"
        for rule in RULES:
            holds = any(is_below(module.name, room) for room in rule.rooms)
            excepted = any(is_below(module.name, place) for place in rule.except_in)
            if holds and not excepted and is_regulated(use.name, rule):
                yield f"{module.path}:{use.line}: must not use {use.name}: {rule.why}"


def is_regulated(name: str, rule: Rule) -> bool:
    return any(is_within(name, regulated) for regulated in rule.names) and not is_within(name, SIGNAL_NUMBERS)


def is_within(name: str, regulated: str) -> bool:
    return name == regulated or name.startswith(f"{regulated}.")


def misplaced_import(module: Module, name: str) -> str | None:
    """Why a module must not import that part of the package; None if it may, or if it is no room of ours."""
    target = name.removeprefix("procclaw.")
    room = target.partition(".")[0]
    if target == name or room not in MAY_IMPORT:
        return None
    if room == module.room:
        is_shared = any(is_within(target, shared) for shared in SHARED)
        is_neighbour = room == "system" and not is_shared and not is_below(target, module.noun)
        return "a module of system never imports a neighbour" if is_neighbour else None
    allowed = MAY_IMPORT[module.room]
    if any(is_within(target, place) for place in allowed):
        return None
    return f"{module.room} may import {', '.join(allowed) or 'no other room'}"


def slow_imports(modules: Iterable[Module]) -> Iterator[str]:
    """Slow modules that the fast path loads, each with the line that does it."""
    by_name = {module.name: module for module in modules}
    waiting = [name for name in by_name if any(is_below(name, place) for place in FAST_PATH)]
    loaded = set(waiting)
    while waiting:
        module = by_name[waiting.pop()]
        for use in module.uses:
            if not (use.is_import and use.is_immediate):
                continue
            if any(is_within(use.name, slow) for slow in SLOW_IMPORTS):
                yield f"{module.path}:{use.line}: must not import {use.name} outside a function: `list` would load it"
            more = {name for name in (*prefixes(use.name), use.name) if name in by_name} - loaded
            waiting.extend(more)
            loaded |= more


def prefixes(name: str) -> Iterator[str]:
    """The modules of ours that importing `name` runs, which may be something in the last of them."""
    parts = name.removeprefix("procclaw.").split(".") if name.startswith("procclaw.") else []
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


@pytest.fixture(scope="module")
def package() -> list[Module]:
    paths = sorted((ROOT / "procclaw").rglob("*.py"))
    return [read_module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def test_every_module_keeps_to_its_room(package: list[Module]) -> None:
    found = [fault for module in package for fault in faults(module)]
    assert not found, "\n".join(found)


def test_nothing_slow_is_loaded_by_every_command(package: list[Module]) -> None:
    found = list(slow_imports(package))
    assert not found, "\n".join(found)


def test_every_module_lies_in_a_known_room(package: list[Module]) -> None:
    assert {module.room for module in package} - MAY_IMPORT.keys() == set()


@pytest.mark.parametrize(
    ("path", "source", "wanted"),
    [
        ("model/spec.py", "from procclaw.planning import plan", "must not import procclaw.planning.plan"),
        ("model/spec.py", "import procclaw.system.store", "must not import procclaw.system.store"),
        ("planning/plan.py", "from procclaw.system.store import Store", "must not import procclaw.system.store.Store"),
        ("planning/plan.py", "from ..engine import world", "must not import procclaw.engine.world"),
        ("system/store.py", "from procclaw.engine import world", "must not import procclaw.engine.world"),
        ("system/store.py", "def f():\n  from procclaw.planning.plan import plan", ":2: must not import"),
        ("system/output/files.py", "from procclaw.system import store", "never imports a neighbour"),
        ("system/output/files.py", "from ..processes import signals", "never imports a neighbour"),
        ("system/output/files.py", "import procclaw.system.processes", "never imports a neighbour"),
        ("system/probes/checks.py", "from procclaw.system.processes import Processes", "never imports a neighbour"),
        ("engine/daemon.py", "from procclaw.interface import api", "must not import procclaw.interface.api"),
        ("engine/daemon.py", "if TYPE_CHECKING:\n  from procclaw.interface.api import App", ":2: must not import"),
        ("interface/cli.py", "from procclaw.system import store", "must not import procclaw.system.store"),
        ("interface/cli.py", "from procclaw.planning import plan", "must not import procclaw.planning.plan"),
        ("engine/controller.py", "import sqlite3", "must not use sqlite3"),
        ("system/watch.py", "def f():\n  from sqlite3 import connect", ":2: must not use sqlite3.connect"),
        ("system/watch.py", "import subprocess as s", "must not use subprocess"),
        ("engine/daemon.py", "from signal import SIGTERM", "must not use signal.SIGTERM"),
        ("engine/daemon.py", "import os\nos.kill(1, 9)", ":2: must not use os.kill"),
        ("engine/daemon.py", "import os as o\nend = o.killpg", ":2: must not use os.killpg"),
        ("system/watch.py", "x = open('/proc/1/stat')", "must not use /proc"),
        ("system/watch.py", "x = f'/proc/{pid}/stat'", "must not use /proc"),
        ("system/store.py", "import time\nnow = time.time()", ":2: must not use time.time"),
        ("system/store.py", "from time import monotonic as m", "must not use time.monotonic"),
        ("engine/daemon.py", "def f():\n  return d.now()\nfrom datetime import datetime as d", ":2: must not use"),
        ("engine/daemon.py", "import datetime\ndatetime.datetime.utcnow()", "must not use datetime.datetime.utcnow"),
        ("system/specfile.py", "from procclaw.system import relay", "never imports a neighbour"),
        ("interface/metrics.py", "import bottle", "must not use bottle"),
        ("planning/plan.py", "import random", "must not use random"),
        ("planning/plan.py", "import logging", "must not use logging"),
        ("planning/plan.py", "from pathlib import Path", "must not use pathlib.Path"),
        ("planning/plan.py", "import os.path", "must not use os.path"),
        ("planning/plan.py", "def f():\n  print('x')", ":2: must not use builtins.print"),
        ("planning/plan.py", "x = open('x').read()", "must not use builtins.open"),
    ],
)
def test_a_module_that_breaks_a_rule_is_named(path: str, source: str, wanted: str) -> None:
    (fault,) = set(faults(read_module(f"procclaw/{path}", source)))
    assert fault.startswith(f"procclaw/{path}:")
    assert wanted in fault


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("system/store.py", "import sqlite3"),
        ("system/store_migrations.py", "import sqlite3\nfrom procclaw.system import store"),
        ("system/store.py", "from procclaw.system.store_migrations import migrate"),
        ("system/processes/signals.py", "import os, signal\nos.kill(2, signal.SIGTERM)\nx = '/proc/1'"),
        ("system/processes/__init__.py", "from procclaw.system.processes.table import Row"),
        ("system/watch.py", '"""Reads no /proc."""\nx = "/proc/self/fd/3"'),
        ("system/filesystem.py", "x = open('/proc/self/mountinfo')"),
        ("system/relay.py", "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nnow = time.time_ns()"),
        ("model/clock.py", "import time\nnow = time.time()"),
        ("model/completion.py", "from signal import Signals\nx = Signals['SIGTERM'].value"),
        ("model/log.py", "from datetime import datetime\nx = datetime.fromisoformat('2026-01-01')"),
        ("system/specfile.py", "from procclaw import __version__"),
        ("system/probes/checks.py", "from procclaw.system.processes import run_command"),
        ("system/probes/__init__.py", "from procclaw.system.underway import UnderWay"),
        ("interface/cli.py", "from procclaw.planning.views import status\nfrom procclaw.engine import operations"),
        ("interface/api.py", "import bottle\nprint(now.time())"),
        ("engine/controller.py", "class C:\n  def open(self): self.store.open(); self.clock.now()"),
    ],
)
def test_a_module_within_its_rules_is_left_alone(path: str, source: str) -> None:
    assert list(faults(read_module(f"procclaw/{path}", source))) == []


def test_a_slow_import_is_found_behind_another_module() -> None:
    modules = [
        read_module("procclaw/interface/cli.py", "from procclaw.engine.home import Home"),
        read_module("procclaw/engine/home.py", "import procclaw.system.specfile"),
        read_module("procclaw/system/specfile.py", "x = 1\nfrom pathlib import Path"),
    ]
    (fault,) = slow_imports(modules)
    assert fault.startswith("procclaw/system/specfile.py:2: must not import pathlib.Path")


def test_a_slow_import_inside_a_function_is_no_fault() -> None:
    source = "if TYPE_CHECKING:\n  from pathlib import Path\ndef f():\n  import yaml"
    assert list(slow_imports([read_module("procclaw/model/spec.py", source)])) == []


def test_a_command_that_reads_loads_nothing_slow() -> None:
    """The same, seen from outside: what is really in memory after importing the command line."""
    import subprocess

    script = "import sys; import procclaw.interface.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & set(SLOW_IMPORTS) == set()
