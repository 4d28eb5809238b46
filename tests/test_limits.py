"""How much a process may have."""

import resource
import sys
from pathlib import Path

import pytest

from procclaw.system.processes.limits import allowance_of, rooms_above
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux tells of another process")


def test_of_ourselves_it_is_what_we_can_raise_our_own_to() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert allowance_of(0).descriptors == (None if hard == resource.RLIM_INFINITY else hard)


@pytest.mark.real
def test_of_another_process_it_is_that_ones(reaper: Reaper) -> None:
    process = reaper.spawn(["/bin/sh", "-c", "ulimit -n 77; exec sleep 1000"])
    wait_until(lambda: allowance_of(process.pid).descriptors == 77, 10, lambda: allowance_of(process.pid))


def test_the_tightest_of_the_cgroups_around_it_counts(tmp_path: Path) -> None:
    inner = tmp_path / "user.slice" / "unit.service"
    inner.mkdir(parents=True)
    for folder, most, current in ((inner, "max", "3"), (inner.parent, "100", "40"), (tmp_path, "50", "45")):
        (folder / "pids.max").write_text(f"{most}\n")
        (folder / "pids.current").write_text(f"{current}\n")
    assert sorted(rooms_above(str(tmp_path), "/user.slice/unit.service")) == [
        (5, f"{tmp_path}/pids.max"),
        (60, f"{inner.parent}/pids.max"),
    ]
    assert list(rooms_above(str(tmp_path / "nothing"), "/")) == []
