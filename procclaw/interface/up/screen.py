"""What `procclaw up` shows, from a thread of its own: the loop never waits for a terminal.

Each line that a job prints comes after the job's name, padded and in a colour of its own; what happens to jobs, and
what the loop says, comes after our own name. Lines are read from the log files the jobs write, as `logs -f` does, from
where those ended when we began; all that was written before an end is shown before that end is told.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import chain

from procclaw.engine import logs as job_logs
from procclaw.engine.controller import Cycle
from procclaw.engine.home import Home
from procclaw.engine.operations import Filter, Operations
from procclaw.interface.console import TELLING_APART, Console, Unwritten, printable
from procclaw.interface.history import ERR_MARK, line_view
from procclaw.interface.up.bringup import BringUp, bring_up_of
from procclaw.interface.up.words import ENDED, HOLD_SET, of_event
from procclaw.model.errors import NotFound, ProcclawError
from procclaw.model.records import Event, Run
from procclaw.planning.views import event_view

OWN_NAME = "procclaw"
_LOOK_SECONDS = 0.1
_LAST_WORDS_SECONDS = 30.0
"""How long a terminal may take for what is left to be shown at the end."""


class Screen:
    """A `Front` of the loop, from `begin` on. `close` returns when everything has been shown."""

    def __init__(self, home: Home, console: Console, lose: Callable[[Home], None]) -> None:
        """`lose` is called, with a home for that thread, once nobody can be shown anything any more."""
        self._home_path = home.paths.home
        self._console = console
        self._lose = lose
        self._begins = job_logs.ends(home)
        newest = home.store.events(0, None, 1)
        self._seen_event = newest[-1].id if newest else 0
        self._sentences: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._following: dict[str, job_logs.Following] = {}
        self._one_at_a_time: set[str] = set()
        """Jobs of which nobody goes on with a line once one has ended."""
        self._colours: dict[str, str] = {}
        self._spec_hash = ""
        self._version = -1
        self._problems: tuple[str, ...] = ()
        self._bring_up: BringUp | None = None
        """As it was told last; once settled nothing more is told of it."""
        self._width = len(OWN_NAME)
        self._has_begun = False
        """There has been a cycle, so a configuration is in force."""
        self._trouble = ""
        self._is_stopping = False
        self._is_closing = False
        self._nudge = threading.Event()
        self._thread = threading.Thread(target=self._show, name="procclaw-up", daemon=True)

    # --- from the loop's thread ---

    def begin(self) -> None:
        self._thread.start()

    def take_note(self, cycle: Cycle, seconds: float) -> None:
        del seconds
        self._has_begun = self._has_begun or cycle.spec is not None
        self._nudge.set()

    def tell(self, sentence: str) -> None:
        self._sentences.put(sentence)
        self._nudge.set()

    def close(self) -> None:
        self._is_closing = True
        self._nudge.set()
        self._thread.join(_LAST_WORDS_SECONDS)

    # --- from its own ---

    def _show(self) -> None:
        with closing(Home(self._home_path)) as home:
            try:
                self._keep_shown(home, Operations(home, OWN_NAME))
            except (BrokenPipeError, Unwritten):
                if not self._is_closing:
                    self._lose(home)
            except Exception as error:  # noqa: BLE001 (a boundary: what is shown must not stop what is done)
                import traceback

                home.log.line("error", "nothing is shown any more, a bug in ProcClaw", detail=traceback.format_exc())
                self._console.complain(f"{OWN_NAME}: a bug in ProcClaw: {error}; the jobs go on, Ctrl-C stops them")

    def _keep_shown(self, home: Home, operations: Operations) -> None:
        while True:
            is_last = self._is_closing
            self._nudge.clear()
            self._look_once(home, operations)
            if is_last:
                break
            self._nudge.wait(_LOOK_SECONDS)
        for job_id in self._following:
            self._show_lines(job_id, and_unfinished=True)
        self._console.flush()

    def _look_once(self, home: Home, operations: Operations) -> None:
        """A trouble of ours is told, and it is looked again; one that only repeats itself is told once."""
        try:
            self._look(home, operations)
            self._trouble = ""
        except Unwritten:
            raise
        except ProcclawError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._console.complain(f"{OWN_NAME}: {error}")

    def _look(self, home: Home, operations: Operations) -> None:
        while not self._sentences.empty():
            self._say(self._sentences.get())
        version = home.store.data_version()
        has_news = self._has_begun and version != self._version
        events: tuple[Event, ...] = ()
        if has_news:
            self._take_in_jobs(home, operations)
            events = home.store.events(self._seen_event)
            self._version = version
        for event in events:
            self._seen_event = event.id
            self._is_stopping = self._is_stopping or (event.job_id is None and event.kind == HOLD_SET)
            if event.kind == ENDED and event.job_id in self._following:
                self._show_lines(event.job_id, and_unfinished=event.job_id in self._one_at_a_time)
            self._tell(home, operations, event)
        for job_id in self._following:
            self._show_lines(job_id)
        if has_news:
            self._tell_of_files(operations)
            self._tell_of_bring_up(operations)
        self._console.flush()

    def _take_in_jobs(self, home: Home, operations: Operations) -> None:
        """Follow those that are declared now; what is no longer may have more to say all the same."""
        spec = operations.spec()
        if spec.hash == self._spec_hash:
            return
        if self._spec_hash:
            self._bring_up = None
            self._say(f"the file was read again: {len(spec.jobs)} jobs in force")
        self._spec_hash = spec.hash
        for job in spec.jobs.values():
            if job.id in self._following:
                continue
            parts = job_logs.of_job(home, job.id, max(1, job.concurrency.max_instances))
            if job.concurrency.max_instances == 1:
                self._one_at_a_time.add(job.id)
            begun = [part._replace(end=self._begins.get(part.file, 0)) for part in parts]
            self._following[job.id] = job_logs.Following(home, begun)
            self._colours[job.id] = TELLING_APART[len(self._colours) % len(TELLING_APART)]
            self._width = max(self._width, len(job.id))

    # --- what is said ---

    def _show_lines(self, job_id: str, *, and_unfinished: bool = False) -> None:
        following = self._following[job_id]
        for line in chain(following.new_lines(), following.unfinished() if and_unfinished else ()):
            self._line(job_id, line)

    def _tell(self, home: Home, operations: Operations, event: Event) -> None:
        if event.job_id is None:
            return
        sentence = of_event(event, _run_of(operations, event), home.clock.now())
        if sentence is None:
            return
        if self._console.is_json:
            self._console.json_line(event_view(event))
        else:
            self._say(f"{event.job_id}: {sentence}")

    def _tell_of_files(self, operations: Operations) -> None:
        problems = operations.problems()
        if problems and problems != self._problems:
            for problem in problems:
                self._say(problem)
            self._say("the file cannot be used; the last good one stays in force")
        self._problems = problems

    def _tell_of_bring_up(self, operations: Operations) -> None:
        if self._is_stopping or (self._bring_up is not None and self._bring_up.is_settled):
            return
        now = bring_up_of(operations.jobs(Filter()))
        if (now.wanted or now.held) and now != self._bring_up:
            self._say(now.told)
        self._bring_up = now

    def _say(self, sentence: str) -> None:
        if self._console.is_json:
            self._console.json_line({"message": sentence})
            return
        name = self._console.paint(OWN_NAME.ljust(self._width), "grey")
        self._console.say(f"{name} | {printable(sentence)}")

    def _line(self, job_id: str, line: job_logs.Line) -> None:
        if self._console.is_json:
            self._console.json_line({"job_id": job_id, **line_view(line)})
            return
        name = self._console.paint(f"{job_id.ljust(self._width)} |", self._colours[job_id])
        mark = self._console.paint(ERR_MARK, "red") if line.is_stderr else ""
        self._console.say(f"{name} {mark}{printable(line.text)}")


def _run_of(operations: Operations, event: Event) -> Run | None:
    run_id = dict(event.fields).get("run")
    try:
        return None if run_id is None else operations.run(run_id)
    except NotFound:
        return None
