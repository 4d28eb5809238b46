"""The person beside a soak: edits jobs.yaml, makes mistakes in it, starts, stops, asks, and looks whether it was done.

What they see to be wrong is raised as AssertionError and ends nothing: the soak writes it down and goes on.
"""

import json
import time
from collections.abc import Callable
from random import Random
from typing import Any

from tests.bench.soak.jobs import Job, continuous, logging
from tests.bench.soak.watch import Journal, metrics, of_job, pids
from tests.driver import Driver
from tests.httpclient import Client

WITHIN = 45.0
"""Seconds for what takes a few: the machine is shared, and a removal waits for the file to be left alone."""
MOST_ADDED = 8


class Operator:
    def __init__(self, driver: Driver, client: Client, journal: Journal, jobs: dict[str, Job], seed: int) -> None:
        self._driver = driver
        self._client = client
        self._journal = journal
        self._jobs = jobs
        self._random = Random(seed)
        self._added: list[str] = []
        self._count = 0
        self._round: list[Callable[[], None]] = []

    def act(self) -> None:
        """The next of all that there is to do, in an order that differs from round to round."""
        if not self._round:
            self._round = [
                *(self.add, self.add, self.remove, self.change, self.change, self.mistake),
                *(self.look, self.look, self.start_and_stop, self.restart, self.hold, self.pause_for_a_while),
                *(self.read_the_api, self.dead_letters, self.trigger, self.chain),
            ]
            self._random.shuffle(self._round)
        deed = self._round.pop()
        began = time.monotonic()
        deed()
        self._journal.write("operator", deed=deed.__name__, seconds=round(time.monotonic() - began, 2))

    # --- editing ---

    def save(self) -> None:
        self._driver.declare(self._jobs)

    def add(self) -> None:
        if len(self._added) >= MOST_ADDED:
            self.remove()
        self._count += 1
        name = f"added-{self._count}"
        self._jobs[name] = continuous(logging(20))
        self._added.append(name)
        self.save()
        self._wait(lambda: self._pid(name))

    def remove(self) -> None:
        if not self._added:
            return
        name = self._added.pop(self._random.randrange(len(self._added)))
        del self._jobs[name]
        self.save()
        self._wait(lambda: self._client.get(f"/api/v1/jobs/{name}").status == 404)
        self._wait(lambda: not of_job(self._driver.home, name))

    def change(self) -> None:
        """Something that the job's process can see, so it is replaced."""
        name = self._one_of("edited")
        before = of_job(self._driver.home, name)
        self._count += 1
        self._jobs[name] = {**self._jobs[name], "env": {"EDITION": self._count}}
        self.save()
        self._wait(lambda: self._pid(name) not in (None, *before))
        self._are_gone(name, before)

    def mistake(self) -> None:
        """A file that breaks off, or one that says what cannot be; then the good one again."""
        file = self._driver.home / "jobs.yaml"
        text = file.read_text()
        wrong = json.dumps({"jobs": {**self._jobs, "wrong": {"cmd": "true", "schedule": "61 * * * *"}}})
        file.write_text(self._random.choice((text[: len(text) // 2], wrong)))
        self._wait(lambda: not self._is_valid())
        self._driver.ask("list", "-q", "edited")
        self.save()
        self._wait(self._is_valid)

    def _is_valid(self) -> bool:
        return metrics(self._client)["procclaw_config_valid"][""] == 1

    # --- asking ---

    def look(self) -> None:
        name = self._random.choice(list(self._jobs))
        for words in (("list", "--json"), ("why", name), ("status", name), ("runs", "list", name)):
            self._driver.ask(*words)

    def start_and_stop(self) -> None:
        """A start tells the pid; how long that takes, by command line and by HTTP, is written down."""
        name = self._one_of("manual")
        began = time.monotonic()
        self._driver.ask("start", name)
        by_command = time.monotonic() - began
        assert self._pid(name) is not None, f"{name} was started and has no pid"
        self._driver.ask("stop", name)
        assert not of_job(self._driver.home, name), f"{name} was stopped and lives"
        began = time.monotonic()
        told = self._client.post(f"/api/v1/jobs/{name}/start")
        by_http = time.monotonic() - began
        assert told.status == 200, told
        assert told.json["pid"], told.json
        self._journal.write("reaction", command_s=round(by_command, 4), http_s=round(by_http, 4))

    def restart(self) -> None:
        """Of jobs that do not let themselves be stopped easily."""
        name = self._one_of(self._random.choice(("stubborn", "forking")))
        before = of_job(self._driver.home, name)
        self._driver.ask("restart", name)
        self._are_gone(name, before)
        self._wait(lambda: self._pid(name))

    def hold(self) -> None:
        name = self._one_of(self._random.choice(("stubborn", "forking", "edited")))
        self._driver.ask("stop", name)
        left = of_job(self._driver.home, name)
        assert not left, f"{name} was stopped and {left} live"
        self._driver.ask("why", name)
        self._driver.ask("start", name)
        self._wait(lambda: self._pid(name))

    def pause_for_a_while(self) -> None:
        """Its due times are in the ledger all the same."""
        name = self._one_of("paused")
        word = "resume" if self._driver.ask("status", name, "--json").json["paused"] else "pause"
        self._driver.ask(word, name)

    def read_the_api(self) -> None:
        paths = ("jobs", "runs?limit=200", "queue", "dlq", "plan", "alerts", "events?limit=500", "config", "workflows")
        for path in (*(f"/api/v1/{path}" for path in paths), "/health", "/metrics", "/openapi.json", "/"):
            told = self._client.get(path)
            assert told.status == 200, f"{path}: {told}"

    def dead_letters(self) -> None:
        entries = self._driver.ask("dlq", "--json").json["entries"]
        if entries:
            self._driver.ask("dlq", "reinject", str(self._random.choice(entries)["id"]))
        self._driver.ask("dlq", "purge", "--all")

    def trigger(self) -> None:
        name = self._one_of("hooked")
        told = self._client.post(f"/api/v1/trigger/{name}", {"round": self._count})
        assert told.status in (200, 202), told
        self._wait(lambda: not of_job(self._driver.home, name))

    def chain(self) -> None:
        self._driver.ask("chain", "manual-0", self._one_of("manual"), "--wait")

    # --- seeing ---

    def _one_of(self, kind: str) -> str:
        return self._random.choice([name for name in self._jobs if name.startswith(f"{kind}-")])

    def _pid(self, name: str) -> int | None:
        return pids(self._client, [name])[name]

    def _are_gone(self, name: str, before: set[int]) -> None:
        """What lived of it; its pid may be another job's by now, but not this one's."""
        self._wait(lambda: not before & of_job(self._driver.home, name))

    def _wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            assert time.monotonic() < deadline, f"not within {WITHIN:g} s"
            time.sleep(0.3)
