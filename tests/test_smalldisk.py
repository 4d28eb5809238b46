"""A small disk is seen by who mounted it alone, can be filled, and goes with them."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from procclaw.system.processes import smalldisk
from procclaw.system.processes.copies import Nursery
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.real

WITHIN = 10.0
REFUSED = 9


def carry_out(order: Sequence[str]) -> int:
    place = order[0]
    try:
        smalldisk.mount(place, 1)
    except OSError:
        return REFUSED
    Path(place, "inside").write_text("seen by the copy")
    smalldisk.fill(place)
    try:
        Path(place, "one more").write_bytes(bytes(8192))
        code = 0
    except OSError as error:
        code = error.errno or 0
    Path(place, "..", "filled").touch()
    while not Path(place, "..", "go").exists():
        time.sleep(0.01)
    return code


@pytest.fixture
def nursery(reaper: Reaper) -> Iterator[Nursery]:
    nursery = Nursery(carry_out)
    yield nursery
    nursery.close()


def test_it_is_full_for_its_own_and_not_there_for_others(nursery: Nursery, home: Path) -> None:
    place = home / "small"
    place.mkdir()
    copy = nursery.start(str(place))
    filled = home / "filled"
    wait_until(lambda: filled.exists() or nursery.code(copy) is not None, WITHIN, lambda: nursery.code(copy))
    if nursery.code(copy) == REFUSED:
        pytest.skip("this machine lets nobody mount a disk for himself: nothing is proved about small disks")
    assert list(place.iterdir()) == []
    assert not os.path.ismount(place)
    (home / "go").touch()
    assert nursery.wait(copy, WITHIN) == errno.ENOSPC
    place.rmdir()
