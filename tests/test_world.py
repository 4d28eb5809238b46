"""The simulated machine does what a real one does, as far as the engine can tell."""

from collections.abc import Callable
from random import Random

import pytest

from procclaw.model.outside import Launch, Measure
from procclaw.model.records import Attempt
from tests.contract_processes import STAYS, Behaviour, ProcessesContract, start
from tests.lives import SECOND, Child, Clock, Script, Trace
from tests.world import Machine

PATIENCE_STEPS = 100


class SimulatedBench:
    def __init__(self) -> None:
        clock = Clock()
        self.processes = Machine(clock, Random(1), Trace(clock))
        self.processes.script_for = lambda launch: self._scripts[launch.record]
        self._scripts: dict[str, Script] = {}

    def launch(self, record: str, behaviour: Behaviour) -> Launch:
        self._scripts[record] = Script(
            seconds=None if behaviour.exit_code is None else 0.01,
            code=behaviour.exit_code or 0,
            on_term="ignores" if behaviour.ignores_term else "dies",
            children=(Child(0, None, True, True, "dies"),) if behaviour.leaves_behind else (),
            fate="runs" if behaviour.cwd_exists else "no_cwd",
        )
        job_id, run_id, number, _ = record.split(".")
        about = (("PROCCLAW_JOB_ID", job_id), ("PROCCLAW_RUN_ID", run_id), ("PROCCLAW_ATTEMPT", number))
        return Launch(record, ("job",), "/", about, "job.log", "job.error.log", timestamps=False)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(PATIENCE_STEPS):
            if condition():
                return
            self.processes.advance(SECOND // 100)
        raise AssertionError(f"it did not come to hold:\n{self.processes.trace.lines}")

    def wait_until_up(self, attempt: Attempt) -> None:
        self.wait_until(lambda: bool(self.processes.members([attempt])[attempt.id]))

    def kill(self, pid: int) -> None:
        self.processes._end(self.processes.procs[pid])


class TestSimulatedProcesses(ProcessesContract):
    @pytest.fixture
    def bench(self) -> SimulatedBench:
        return SimulatedBench()


def test_what_is_measured_is_what_the_script_says_times_the_processes_and_their_lives() -> None:
    bench = SimulatedBench()
    machine = bench.processes
    child = Child(4 * SECOND, None, leaves_session=False, carries_mark=True, on_term="dies")
    machine.script_for = lambda launch: Script(memory_mb=100, cpu_share=0.5, children=(child,))
    attempt = start(bench, STAYS)

    def measured() -> Measure:
        return machine.measure([attempt])[attempt.id]

    machine.advance(2 * SECOND)
    assert measured() == pytest.approx((1.0, 100), abs=0.1)
    machine.advance(4 * SECOND)
    assert measured() == pytest.approx((4.0, 200), abs=0.1)
