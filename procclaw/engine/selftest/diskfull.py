"""The promise about full disks, kept on a small disk in memory: nobody's own disk is filled to find out.

The disk is seen by a copy of this process alone, so all of it happens there; what the copy has to say it leaves in a
file beside the disk.
"""

import os

from procclaw.engine.selftest.bench import Bench, Broken, NotCheckable, launch, until
from procclaw.model.clock import SystemClock
from procclaw.model.errors import DiskFull
from procclaw.model.outside import RecordPhase
from procclaw.system.homedir import prepare
from procclaw.system.processes import Processes, smalldisk

_MEGABYTES = 2
_CODE = 7
_WITHIN_SECONDS = 8.0
_HOLDS, _NO_DISK, _BROKEN = 0, 10, 11


def exit_code_is_kept(bench: Bench) -> str:
    beside = bench.folder("disk")
    place = os.path.join(beside, "small")
    os.mkdir(place)
    code = bench.outcome(bench.nursery.start("fill a disk", beside), "a copy has filled a small disk")
    said = _said(beside)
    if code == _NO_DISK:
        raise NotCheckable(f"no small disk can be mounted to be filled: {said}")
    if code != _HOLDS:
        raise Broken(said or f"the copy that was to fill a small disk ended with {code}")
    return said


def fill_a_disk(beside: str) -> int:
    """What the copy does: a job ends while there is no byte left, and one more is not started."""
    place = os.path.join(beside, "small")
    try:
        smalldisk.mount(place, _MEGABYTES)
    except OSError as error:
        _say(beside, error.strerror or str(error))
        return _NO_DISK
    prepare(place)
    processes = Processes(place)
    text = f"{until('../go')}exit {_CODE}"
    record = "selftest.full.1.00000000000000000000000000000000"
    launch(place, processes, record, text)
    smalldisk.fill(place)
    try:
        processes.create_record("selftest.full.2.00000000000000000000000000000001")
    except DiskFull:
        pass
    else:
        _say(beside, "a record could be made although the disk is full: its end may find no room")
        return _BROKEN
    with open(os.path.join(beside, "go"), "w"):
        pass
    clock = SystemClock()
    deadline = clock.monotonic() + _WITHIN_SECONDS
    while (sight := processes.sight(record)).phase is not RecordPhase.EXITED and clock.monotonic() < deadline:
        clock.sleep(0.01)
    if sight.exit_code != _CODE:
        _say(beside, f"a job that exited with {_CODE} on a full disk is on record as {sight.phase}, {sight.exit_code}")
        return _BROKEN
    _say(beside, f"exit code {_CODE} kept on a small disk in memory, filled to the last byte; another start is refused")
    return _HOLDS


def _say(beside: str, text: str) -> None:
    with open(os.path.join(beside, "said"), "w") as file:
        file.write(text)


def _said(beside: str) -> str:
    try:
        with open(os.path.join(beside, "said")) as file:
            return file.read()
    except FileNotFoundError:
        return ""
