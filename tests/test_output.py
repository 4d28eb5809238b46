import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from procclaw.model.errors import ProcclawError
from procclaw.model.log import LINE_BYTES, Gone, Layout, Piece, filler, leading_filler, lines
from procclaw.model.records import Slice
from procclaw.model.spec import LogPolicy
from procclaw.system.output import Output
from procclaw.system.output.files import CHUNK_BYTES, TAIL_BYTES, LogFiles

LOG = "report.log"
KIB = 1024


@contextmanager
def nobody_writes(path: str) -> Iterator[bool]:
    """Stands in for holding writers still where the test has none that run by themselves."""
    yield True


@contextmanager
def cannot_be_held_still(path: str) -> Iterator[bool]:
    yield False


class Log:
    """A log in a directory of its own, together with all that was ever written to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / LOG
        self.output = Output(str(directory), nobody_writes)
        self.written = b""
        self.number = 0

    def write(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)
        self.written += data

    def write_lines(self, size: int) -> None:
        """Numbered lines, at least `size` bytes of them."""
        data = b""
        while len(data) < size:
            data += b"line %06d of the report\n" % self.number
            self.number += 1
        self.write(data)

    def rotate(self, size: int = 8 * KIB, keep: int = 50, *, is_in_use: bool = False) -> bool:
        return self.output.rotate(LOG, LogPolicy(size, keep, timestamps=False), is_in_use=is_in_use)

    def pieces(self, start: int = 0, end: int | None = None) -> list[Piece]:
        return joined(self.output.read(LOG, start, end))

    def archives(self) -> list[Path]:
        return sorted(self.directory.glob(f"{LOG}.*"))

    def last_lines(self, count: int, start: int = 0, end: int | None = None) -> bytes:
        """What `tail` finds, which is within what was written."""
        end = len(self.written) if end is None else end
        return self.written[self.output.tail(LOG, count, start, end) : end]


def joined(pieces: Iterator[Piece]) -> list[Piece]:
    """The pieces, those that adjoin as one."""
    result: list[Piece] = []
    for piece in pieces:
        if result and isinstance(result[-1], bytes) and isinstance(piece, bytes):
            result[-1] += piece
        else:
            result.append(piece)
    return result


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def collapsing(log: Log) -> Log:
    """A log on a filesystem that can take blocks off a file's front."""
    log.write_lines(20 * KIB)
    log.rotate(is_in_use=True)
    if log.path.stat().st_size == 0:
        pytest.skip("the temporary directory's filesystem cannot collapse ranges")
    return log


# --- names and positions ---


def test_each_concurrent_place_of_a_job_has_logs_of_its_own(log: Log) -> None:
    assert log.output.log_files("report", 0) == ("report.log", "report.error.log")
    assert log.output.log_files("report", 2) == ("report.2.log", "report.2.error.log")


def test_a_log_that_is_not_there_yet_ends_at_zero_and_asking_creates_nothing(log: Log) -> None:
    assert log.output.position(LOG) == 0
    assert list(log.directory.iterdir()) == []


def test_a_home_without_a_log_directory_has_empty_logs(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "logs"), nobody_writes)
    assert output.position(LOG) == 0
    assert list(output.read(LOG)) == []


def test_closing_a_slice_fills_in_where_the_log_ends(log: Log) -> None:
    log.write(b"before\n")
    opened = Slice(LOG, log.output.position(LOG), None)
    log.write(b"mine\n")
    closed = log.output.close(opened)
    assert closed == Slice(LOG, 7, 12)
    log.write(b"after\n")
    assert log.pieces(closed.start, closed.end) == [b"mine\n"]


# --- rotation: what becomes of the files ---


def test_a_log_below_its_limit_is_left_alone(log: Log) -> None:
    log.write(b"x" * 99 + b"\n")
    assert not log.rotate(101)
    assert not log.rotate(101, is_in_use=True)
    assert log.archives() == []


def test_a_log_that_is_missing_is_nothing_to_rotate(log: Log) -> None:
    assert not log.rotate()


def test_between_attempts_the_file_itself_becomes_the_archive(log: Log) -> None:
    log.write_lines(8 * KIB)
    inode = log.path.stat().st_ino
    assert log.rotate()
    assert [path.name for path in log.archives()] == ["report.log.000000000000000"]
    assert log.archives()[0].stat().st_ino == inode
    assert not log.path.exists()
    assert log.output.position(LOG) == len(log.written)


def test_archives_are_named_by_the_offset_of_their_first_byte(log: Log) -> None:
    starts = []
    for _ in range(3):
        starts.append(len(log.written))
        log.write_lines(8 * KIB)
        log.rotate()
    assert [path.name for path in log.archives()] == [f"report.log.{start:015d}" for start in starts]


def test_no_more_archives_are_kept_than_asked_for(log: Log) -> None:
    starts = []
    for _ in range(5):
        starts.append(len(log.written))
        log.write_lines(8 * KIB)
        log.rotate(keep=2)
    assert len(log.archives()) == 2
    assert log.pieces() == [Gone(0, starts[3]), log.written[starts[3] :]]


@pytest.mark.parametrize("is_in_use", [False, True])
def test_with_no_archives_kept_the_older_part_is_just_cut(log: Log, is_in_use: bool) -> None:
    log.write_lines(20 * KIB)
    assert log.rotate(keep=0, is_in_use=is_in_use)
    log.write(b"next\n")
    assert log.archives() == []
    gone, *rest = log.pieces()
    assert isinstance(gone, Gone)
    assert rest == [log.written[gone.end :]]
    assert log.output.position(LOG) == len(log.written)


def test_a_log_that_outgrew_its_limit_is_divided_at_line_ends_and_its_oldest_part_dropped(log: Log) -> None:
    log.write_lines(100 * KIB)
    assert log.rotate(8 * KIB, keep=3)
    archives = [path.read_bytes() for path in log.archives()]
    assert len(archives) == 3
    assert all(archive.startswith(b"line ") and archive.endswith(b"\n") for archive in archives)
    assert all(7 * KIB < len(archive) < 17 * KIB for archive in archives)
    assert log.written.endswith(b"".join(archives))
    gone, rest = log.pieces()
    assert isinstance(gone, Gone)
    assert rest == b"".join(archives)


def test_a_log_in_use_keeps_its_file_and_loses_whole_blocks(collapsing: Log) -> None:
    log = collapsing
    assert b"".join(path.read_bytes() for path in log.archives()) == log.written
    left = log.path.read_bytes()
    assert left == filler(LOG, len(log.written), len(left))
    assert len(left) < 4 * KIB + 200
    assert log.pieces() == [log.written]


def test_a_log_in_use_is_archived_up_to_its_last_line_end(collapsing: Log) -> None:
    log = collapsing
    log.write_lines(20 * KIB)
    log.write(b"half a li")
    assert log.rotate(is_in_use=True)
    assert all(path.read_bytes().endswith(b"\n") for path in log.archives())
    assert log.path.read_bytes().endswith(b" \nhalf a li")
    assert log.pieces() == [log.written]


def test_a_log_in_use_that_is_one_endless_line_is_rotated_too(collapsing: Log) -> None:
    log = collapsing
    log.write(b"x" * 3 * 1024 * KIB)
    assert log.rotate(1024 * KIB, is_in_use=True)
    log.write(b"x\n")
    assert log.path.stat().st_size < 8 * KIB
    assert log.pieces() == [log.written]


def test_the_filler_of_a_log_in_use_never_shows_however_it_is_rotated_next(collapsing: Log) -> None:
    log = collapsing
    for is_in_use in (True, False, True, False, False):
        log.write_lines(12 * KIB)
        assert log.rotate(keep=50, is_in_use=is_in_use)
    assert log.pieces() == [log.written]
    log.write_lines(KIB)
    assert log.pieces(777, len(log.written) - 77) == [log.written[777:-77]]


def test_a_line_that_looks_like_a_filler_is_shown_as_what_a_job_printed(collapsing: Log) -> None:
    log = collapsing
    log.write(filler(LOG, len(log.written), 200))
    log.write_lines(20 * KIB)
    log.write(filler(LOG, 4711))
    log.rotate(is_in_use=True)
    assert log.pieces() == [log.written]


def test_slices_read_back_exactly_after_any_number_of_rotations(collapsing: Log) -> None:
    log = collapsing
    slices = []
    for turn in range(12):
        opened = Slice(LOG, log.output.position(LOG), None)
        log.write_lines(5 * KIB + 700 * turn)
        slices.append(log.output.close(opened))
        log.rotate(keep=50, is_in_use=turn % 3 != 0)
    for part in slices:
        assert part.end is not None
        assert log.pieces(part.start, part.end) == [log.written[part.start : part.end]]


def test_a_log_whose_writers_cannot_be_held_still_loses_nothing_and_is_not_copied_again_and_again(log: Log) -> None:
    LogFiles(str(log.directory), LOG, set()).save(Layout(is_collapsible=False))
    log.output = Output(str(log.directory), cannot_be_held_still)
    log.write_lines(20 * KIB)
    with pytest.raises(ProcclawError, match=r"report\.log: what writes to it could not be held still"):
        log.rotate(is_in_use=True)
    assert log.archives() == []
    assert not log.rotate(is_in_use=True)
    log.write_lines(21 * KIB)
    with pytest.raises(ProcclawError, match="held still"):
        log.rotate(is_in_use=True)
    assert log.pieces() == [log.written]
    assert log.rotate()
    assert log.pieces() == [log.written]


# --- what users do to files ---


def test_a_deleted_log_goes_on_with_its_offsets_and_reading_says_what_is_gone(log: Log) -> None:
    log.write(b"old\n")
    assert log.output.position(LOG) == 4
    log.path.unlink()
    assert log.output.position(LOG) == 4
    log.write(b"new\n")
    assert log.output.position(LOG) == 8
    assert log.pieces() == [Gone(0, 4), b"new\n"]


@pytest.mark.parametrize("regrown", [b"new\n", b"something new and a good deal longer than all before\n"])
def test_an_emptied_log_goes_on_with_its_offsets_even_if_it_has_grown_past_them(log: Log, regrown: bytes) -> None:
    log.write(b"first line\nsecond line\n")
    end = log.output.position(LOG)
    os.truncate(log.path, 0)
    log.write(regrown)
    assert log.pieces() == [Gone(0, end), regrown]
    assert log.output.position(LOG) == end + len(regrown)
    assert log.pieces() == [Gone(0, end), regrown]


def test_an_emptied_log_with_a_filler_goes_on_with_its_offsets(collapsing: Log) -> None:
    log = collapsing
    end = log.output.position(LOG)
    os.truncate(log.path, 0)
    log.write(b"new\n" * 10_000)
    assert log.pieces(end) == [b"new\n" * 10_000]
    assert log.rotate(is_in_use=True)
    assert log.pieces() == [log.written]


def test_a_deleted_archive_is_gone_and_the_rest_is_read(log: Log) -> None:
    for _ in range(3):
        log.write_lines(8 * KIB)
        log.rotate()
    first, second, third = (int(path.name.rpartition(".")[2]) for path in log.archives())
    log.archives()[1].unlink()
    assert first == 0
    assert log.pieces() == [log.written[:second], Gone(second, third), log.written[third:]]


def test_a_shortened_archive_is_gone_from_there_on(log: Log) -> None:
    log.write_lines(8 * KIB)
    log.rotate()
    log.write(b"next\n")
    os.truncate(log.archives()[0], 100)
    end = len(log.written)
    assert log.pieces() == [log.written[:100], Gone(100, end - 5), b"next\n"]


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b'{"base": "x"}'])
def test_a_lost_or_damaged_layout_is_made_again_from_the_files(collapsing: Log, damage: bytes | None) -> None:
    log = collapsing
    for is_in_use in (False, True, True):
        log.write_lines(12 * KIB)
        log.rotate(is_in_use=is_in_use)
    log.write_lines(KIB)
    layout = log.directory / f".{LOG}.layout"
    if damage is None:
        layout.unlink()
    else:
        layout.write_bytes(damage)
    log.output = Output(str(log.directory), nobody_writes)
    assert log.pieces() == [log.written]
    assert log.output.position(LOG) == len(log.written)
    log.write_lines(12 * KIB)
    assert log.rotate(is_in_use=True)
    assert log.pieces() == [log.written]


def test_logs_restored_from_a_backup_are_still_the_same_logs(collapsing: Log, tmp_path: Path) -> None:
    log = collapsing
    log.write_lines(KIB)
    log.output.position(LOG)
    restored = tmp_path / "restored"
    restored.mkdir()
    for path in tmp_path.glob("*report*"):
        (restored / path.name).write_bytes(path.read_bytes())
    assert joined(Output(str(restored), nobody_writes).read(LOG)) == [log.written]


def test_one_log_never_takes_another_ones_archives_for_its_own(log: Log) -> None:
    other = log.directory / "my-report.log.000000000000007"
    other.write_bytes(b"not yours\n")
    log.write_lines(8 * KIB)
    log.rotate(keep=0)
    assert other.exists()


# --- reading ---


def test_reading_goes_in_bounded_chunks_through_anything_a_job_may_print(log: Log) -> None:
    log.write(b"\xff\xfe\x00\r" * CHUNK_BYTES)
    chunks = list(log.output.read(LOG))
    assert max(map(len, chunks)) == CHUNK_BYTES
    assert b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)) == log.written


def test_reading_past_the_end_says_what_is_not_there(log: Log) -> None:
    log.write(b"all\n")
    assert log.pieces(2, 10) == [b"l\n", Gone(4, 10)]


@pytest.mark.parametrize(
    ("content", "count", "wanted"),
    [
        pytest.param(b"", 5, b"", id="an empty log"),
        pytest.param(b"a\nb\nc\n", 0, b"", id="none wanted"),
        pytest.param(b"a\nb\nc\n", 1, b"c\n", id="the last"),
        pytest.param(b"a\nb\nc\n", 2, b"b\nc\n", id="some"),
        pytest.param(b"a\nb\nc\n", 3, b"a\nb\nc\n", id="exactly all"),
        pytest.param(b"a\nb\nc\n", 9, b"a\nb\nc\n", id="more than there are"),
        pytest.param(b"a\nb\nc", 2, b"b\nc", id="an unfinished last line"),
        pytest.param(b"\n\n\n", 2, b"\n\n", id="empty lines"),
        pytest.param(b"a\n" + b"x" * 3 * CHUNK_BYTES + b"\nz\n", 1, b"z\n", id="behind a long line"),
        pytest.param(b"a\n" + b"x" * 3 * CHUNK_BYTES, 1, b"x" * 3 * CHUNK_BYTES, id="one long line"),
        pytest.param(b"a\n" + b"x" * (CHUNK_BYTES - 1) + b"\n", 1, b"x" * (CHUNK_BYTES - 1) + b"\n", id="chunk's edge"),
    ],
)
def test_the_last_lines_are_found_from_the_end(log: Log, content: bytes, count: int, wanted: bytes) -> None:
    log.write(content)
    assert log.last_lines(count) == wanted


def test_the_last_lines_are_found_across_archives_and_within_a_slice(log: Log) -> None:
    for _ in range(3):
        log.write_lines(8 * KIB)
        log.rotate()
    everything = log.written.splitlines(keepends=True)
    assert log.last_lines(700) == b"".join(everything[-700:])
    cut = len(b"".join(everything[:500]))
    assert log.last_lines(200, end=cut) == b"".join(everything[300:500])
    assert log.last_lines(200, start=cut - 50, end=cut) == log.written[cut - 50 : cut]


def test_the_last_lines_do_not_reach_across_what_is_gone(log: Log) -> None:
    log.write(b"old\n")
    log.output.position(LOG)
    os.truncate(log.path, 0)
    log.write(b"x\ny\n")
    assert log.output.tail(LOG, 3) == 4
    assert log.output.tail(LOG, 1) == 6


def test_lines_are_told_apart_whatever_the_pieces_and_none_is_longer_than_the_bound() -> None:
    pieces: list[Piece] = [
        b"on",
        b"e\ntw",
        b"o\n\n",
        Gone(5, 9),
        b"tail",
        Gone(10, 11),
        b"x" * (2 * LINE_BYTES + 1),
        b"y\nend",
    ]
    *short, first, second, rest, end = lines(pieces)
    assert short == [b"one", b"two", b"", Gone(5, 9), b"tail", Gone(10, 11)]
    assert (first, second, rest, end) == (b"x" * LINE_BYTES, b"x" * LINE_BYTES, b"xy", b"end")


def test_a_line_of_exactly_the_bound_is_one_line() -> None:
    pieces: list[Piece] = [b"x" * LINE_BYTES, b"\n", b"y" * LINE_BYTES + b"\n"]
    assert list(lines(pieces)) == [b"x" * LINE_BYTES, b"y" * LINE_BYTES]


def test_a_filler_is_known_by_its_exact_form_only() -> None:
    line = filler(LOG, 4711, 300)
    assert len(line) == 300
    assert leading_filler(LOG, line + b"more\n") == (4711, 300)
    for other in (line[1:], line.replace(b" \n", b"x\n"), line.replace(b"4711", b"many"), line.rstrip()):
        assert leading_filler(LOG, other) is None
    assert leading_filler("other.log", line) is None


def test_a_huge_sparse_line_is_searched_without_holding_it(log: Log) -> None:
    size = 100 * 1024 * KIB
    log.write(b"first\n")
    os.truncate(log.path, size)
    assert log.output.tail(LOG, 1) == 6
    end_of_it = list(lines(log.output.read(LOG, size - 5 * CHUNK_BYTES)))
    assert {len(line) for line in end_of_it} == {LINE_BYTES}


# --- following ---


def test_a_follower_gets_nothing_when_nothing_came_and_everything_once(log: Log) -> None:
    follower = log.output.follow(LOG, 0)
    assert list(follower.read_new()) == []
    log.write(b"a\nhal")
    assert list(follower.read_new()) == [b"a\nhal"]
    assert list(follower.read_new()) == []
    log.write(b"f\n")
    assert list(follower.read_new()) == [b"f\n"]
    assert follower.position == 7


def test_a_follower_starts_where_it_is_told(log: Log) -> None:
    log.write(b"old\nnew\n")
    assert list(log.output.follow(LOG, 4).read_new()) == [b"new\n"]


@pytest.mark.parametrize("is_in_use", [False, True])
def test_a_follower_misses_nothing_when_the_log_is_rotated_between_its_looks(log: Log, is_in_use: bool) -> None:
    follower = log.output.follow(LOG, 0)
    got = b""
    for size in (20 * KIB, 100, 9 * KIB, 30 * KIB, 1):
        log.write_lines(size)
        log.rotate(keep=50, is_in_use=is_in_use)
        log.write(b"a line right after it\n")
        got += b"".join(piece for piece in follower.read_new() if isinstance(piece, bytes))
    assert got == log.written


@pytest.mark.parametrize("new", [b"x\n", b"new line that fits not\n", b"n" * 100 + b"\n"])
def test_a_follower_goes_on_with_a_log_that_was_emptied_or_replaced(log: Log, new: bytes) -> None:
    log.write(b"a line\nanother line\nx\n")
    follower = log.output.follow(LOG, 0)
    assert list(follower.read_new()) == [log.written]
    replacement = log.directory / "replacement"
    replacement.write_bytes(new)
    replacement.rename(log.path)
    assert list(follower.read_new()) == [new]
    assert list(follower.read_new()) == []


def test_a_follower_that_was_too_slow_for_retention_is_told_what_it_missed(log: Log) -> None:
    log.write_lines(8 * KIB)
    follower = log.output.follow(LOG, 0)
    list(follower.read_new())
    position = follower.position
    for _ in range(4):
        log.write_lines(9 * KIB)
        log.rotate(keep=1)
    gone, *rest = joined(follower.read_new())
    assert isinstance(gone, Gone)
    assert gone.start == position
    assert rest == [log.written[gone.end :]]


def test_a_follower_that_stops_halfway_takes_up_where_it_stopped(log: Log) -> None:
    log.write(b"x" * 2 * CHUNK_BYTES)
    follower = log.output.follow(LOG, 0)
    first = next(follower.read_new())
    assert isinstance(first, bytes)
    assert first + b"".join(piece for piece in follower.read_new() if isinstance(piece, bytes)) == log.written


# --- the layout ---


def test_the_layout_remembers_just_enough_to_know_the_file_again(log: Log) -> None:
    log.write_lines(KIB)
    log.output.position(LOG)
    stored = json.loads((log.directory / f".{LOG}.layout").read_bytes())
    assert stored["end"] == len(log.written)
    assert bytes.fromhex(stored["tail"]) == log.written[-TAIL_BYTES:]
    assert stored["archives"] == list(Layout().archives)
