"""Mutation testing of `planning/`: each function is changed in every small way mutmut knows, and a test must fail.

`python -m tests.mutants` judges all modules, `python -m tests.mutants plan runs` these two; mutmut comes with
`pip install -e '.[mutation]'`. It prints each module's score, and fails where the whole is below 95 % or where what
survived is not what `tests/data/survivors.txt` lists, each with its reason. Only tests that wait for nothing take part
(`[tool.mutmut]` in pyproject.toml), so what nothing but a random walk would notice counts as survived.

mutmut makes the mutants; the tests are run from here, as a plugin of one pytest: it collects them once, notes which
functions each calls, and forks for every mutant. With a pytest of its own for each mutant it takes ten times as long.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from math import ceil
from pathlib import Path
from time import monotonic, process_time
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANNING = ROOT / "procclaw" / "planning"
SURVIVORS = ROOT / "tests" / "data" / "survivors.txt"
WANTED_PERCENT = 95.0

CHILDREN = os.cpu_count() or 1
SPARE_SECONDS, SPARE_TIMES = 2, 3
"""A mutant that needs so much more CPU time than its tests took before is in a loop."""
MOST_SECONDS = 600
MOST_BYTES = 4 << 30

SURVIVED, KILLED, UNTESTED = 0, 1, 33
"""Exit codes as mutmut keeps and shows them (`mutmut browse`)."""
MOST_NUMBERED = 250
"""Tests that an exit code has room to tell apart."""


# --- what pytest does with it ---


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--judge", metavar="MODULE,…", help="run the tests once for each mutant of these modules")
    parser.addoption("--again", action="store_true", help="only for those that are not known to be killed")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    modules: str | None = session.config.getoption("--judge")
    if modules is None:
        return None
    tests = _tests(session)
    if session.testsfailed:
        return True  # they fail without any change as well
    session.config.option.tbstyle = "no"
    _forget_results()
    gc.collect()
    gc.freeze()  # so that the children do not copy what they only look at
    for module in modules.split(","):
        _judge(session, module, tests, is_again=session.config.getoption("--again"))
    return True


def _forget_results() -> None:
    """What has been memoised is that of the functions as they are, and no mutant would be asked."""
    modules = [module for name, module in sys.modules.items() if name.startswith("procclaw.")]
    for value in chain.from_iterable(vars(module).values() for module in modules):
        if hasattr(value, "cache_clear"):
            value.cache_clear()


class Tests(NamedTuple):
    of: dict[str, list[pytest.Item]]
    """By function, the tests that come to call it."""
    seconds: dict[pytest.Item, float]
    """The CPU time that each takes."""

    def of_mutant(self, name: str) -> list[pytest.Item]:
        return self.of[name.partition("__mutmut_")[0]]


def _tests(session: pytest.Session) -> Tests:
    """Run each test once as things are, and see what it comes to call."""
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state

    set_mutant_under_test("stats")
    tests = Tests(defaultdict(list), {})
    # After the last the first again: what is set up once for all stays, and the children find it.
    for item, following in zip(session.items, [*session.items[1:], session.items[0]], strict=True):
        state()._stats.clear()
        begun = process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        tests.seconds[item] = process_time() - begun
        for function in state()._stats:
            tests.of[function].append(item)
    return tests


def _judge(session: pytest.Session, module: str, tests: Tests, *, is_again: bool) -> None:
    path = Path("procclaw", "planning", f"{module}.py.meta")
    found = json.loads(path.read_text())
    codes: dict[str, int | None] = found["exit_code_by_key"]
    running: dict[int, tuple[str, list[pytest.Item]]] = {}

    def reap() -> None:
        pid, status = os.wait()
        name, its_own = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        codes[name] = KILLED if code > KILLED else code
        if code > KILLED:
            # What noticed one mutant of a function is likely to notice the next.
            its_own.insert(0, its_own.pop(code - KILLED - 1))
        keep()  # whoever interrupts this goes on with --again

    def keep() -> None:
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(found, indent=4))
        whole.replace(path)

    for each in tests.of.values():
        each.sort(key=lambda item: (item.path.name != f"test_{module}.py", tests.seconds[item]))
    for name in [name for name, code in codes.items() if not is_again or code in (None, SURVIVED, UNTESTED)]:
        its_own = tests.of_mutant(name)
        if not its_own:
            codes[name] = UNTESTED
        else:
            if len(running) >= CHILDREN:
                reap()
            limit = SPARE_SECONDS + SPARE_TIMES * ceil(sum(tests.seconds[item] for item in its_own))
            running[_fork(session, name, its_own, limit)] = (name, its_own)
    while running:
        reap()
    keep()


def _fork(session: pytest.Session, name: str, tests: list[pytest.Item], cpu_seconds: int) -> int:
    """Run the tests on a mutant. The exit code is `SURVIVED`, or tells which of them failed."""
    from mutmut.mutation.trampoline import set_mutant_under_test

    pid = os.fork()
    if pid:
        return pid
    try:
        # Whatever becomes of it is to end this process alone, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(MOST_SECONDS)
        set_mutant_under_test(name)
        for number, (item, following) in enumerate(zip(tests, [*tests[1:], None], strict=True)):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os._exit(KILLED + 1 + number if number < MOST_NUMBERED else KILLED)
        os._exit(SURVIVED)
    finally:
        os._exit(KILLED)


# --- the command ---


class Verdict(NamedTuple):
    """What became of one mutant."""

    module: str
    is_killed: bool
    mutant: str
    """As `survivors.txt` names it: where it is, the line as it is written, and as it was changed."""


def make(modules: Iterable[str], *, is_again: bool) -> None:
    """Make the mutants, in a copy of the sources below `mutants/`; with `is_again` only the tests are copied anew."""
    from mutmut.__main__ import create_mutants
    from mutmut.configuration import config
    from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir

    config().only_mutate = [f"procclaw/planning/{module}.py" for module in modules]
    with contextlib.redirect_stdout(io.StringIO()):
        if not is_again:
            shutil.rmtree("mutants", ignore_errors=True)
            copy_src_dir()
        copy_also_copy_files()
        if not is_again:
            create_mutants(CHILDREN)


def judge(modules: Iterable[str], *, is_again: bool) -> None:
    """Run the tests for each of them. Raises SystemExit where they fail without any change."""
    from mutmut.configuration import config

    arguments = ["-m", "pytest", "--judge", ",".join(modules), *config().pytest_add_cli_args]
    arguments += ["--again"] if is_again else []
    tests = config().pytest_add_cli_args_test_selection
    done = subprocess.run([sys.executable, *arguments, *tests], cwd="mutants", capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"the tests fail as they are:\n{done.stdout}{done.stderr}")


def verdicts(modules: Iterable[str]) -> Iterator[Verdict]:
    """What the last run found."""
    from mutmut.mutation.data import SourceFileMutationData

    for module in modules:
        found = SourceFileMutationData(path=Path("procclaw", "planning", f"{module}.py"))
        found.load()
        for name, code in found.exit_code_by_key.items():
            if code is None:
                raise SystemExit(f"{module} was not judged")
            is_killed = code not in (SURVIVED, UNTESTED)
            yield Verdict(module, is_killed, name if is_killed else _in_words(name, Path(found.path)))


def _in_words(name: str, path: Path) -> str:
    """`module.function: line as it is => line as it was changed`; every edit moves the numbers that mutmut gives."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = [line for line in get_diff_for_mutant(name, path=path).splitlines() if line[:3] not in ("---", "+++")]
    before, after = (" / ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    module, _, function = name.partition("__mutmut_")[0].removeprefix("procclaw.planning.").partition(".")
    function = function.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
    return f"{module}.{function}: {before} => {after or 'nothing'}"


def listed() -> set[str]:
    """The mutants whose survival is accounted for: the indented lines, each below its reason."""
    return {line.strip() for line in SURVIVORS.read_text().splitlines() if line.startswith(" ")}


def report(judged: list[Verdict], modules: list[str]) -> bool:
    """Print the scores and what is not as it was written down; whether all is well."""
    print(f"{'module':<16}{'mutants':>8}{'killed':>8}{'survived':>10}{'score':>9}")
    for module in modules:
        _print_score(module, [each for each in judged if each.module == module])
    percent = _print_score("all", judged)
    survivors = {each.mutant for each in judged if not each.is_killed}
    expected = {mutant for mutant in listed() if mutant.partition(".")[0] in modules}
    for mutant in sorted(survivors - expected):
        print(f"survived, and nobody says why: {mutant}")
    for mutant in sorted(expected - survivors):
        print(f"listed as a survivor, and is none: {mutant}")
    return percent >= WANTED_PERCENT and survivors == expected


def _print_score(what: str, judged: list[Verdict]) -> float:
    killed = sum(each.is_killed for each in judged)
    percent = 100 * killed / len(judged) if judged else 100.0
    print(f"{what:<16}{len(judged):>8}{killed:>8}{len(judged) - killed:>10}{percent:>8.1f}%")
    return percent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    known = sorted(path.stem for path in PLANNING.glob("*.py") if path.stem != "__init__")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"some of {', '.join(known)}; none: all of them")
    parser.add_argument(
        "--again", action="store_true", help="judge only what is not known to be killed, by today's tests"
    )
    arguments = parser.parse_args()
    modules = arguments.modules or known
    if not set(modules) <= set(known):
        parser.error(f"no modules of planning: {', '.join(sorted(set(modules) - set(known)))}")
    os.chdir(ROOT)
    begun = monotonic()
    make(modules, is_again=arguments.again)
    judge(modules, is_again=arguments.again)
    is_well = report(list(verdicts(modules)), modules)
    print(f"in {(monotonic() - begun) / 60:.1f} minutes")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
