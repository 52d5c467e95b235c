"""Files of records: kills at any byte, damage before the end, and full disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.datasets.journal import MAGIC, Journal
from mlff_calc.errors import DatasetError

RECORDS = [b"first", b"", b"second" * 30, b"\0" * 20]


def write(path: Path) -> list[int]:
    """Write the records, and return where each of them ends."""
    with Journal.create(path, RECORDS[0]) as journal:
        ends = [path.stat().st_size]
        for record in RECORDS[1:]:
            journal.append(record)
            ends.append(path.stat().st_size)
    return ends


def test_a_kill_at_any_byte_loses_only_the_record_that_was_being_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = write(path)
    whole = path.read_bytes()
    for size in sorted({*range(ends[0], len(whole) + 1, 7), *ends, *(end - 1 for end in ends[1:])}):
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        with Journal(path) as journal:
            assert [journal[k] for k in range(len(journal))] == RECORDS[:kept]
            assert journal.lost == size - ends[kept - 1]
            journal.append(b"more")
        with Journal(path) as journal:
            assert [journal[k] for k in range(len(journal))] == [*RECORDS[:kept], b"more"]


def test_zeros_that_a_power_cut_leaves_at_the_end_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    with Journal(path) as journal:
        assert len(journal) == len(RECORDS)
        assert journal.lost == 100


def test_damage_before_the_end_is_an_error_and_never_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = write(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        if place >= ends[-2] + 16:  # content of the last record: as if it had been written in part
            with Journal(path) as journal:
                assert len(journal) == len(RECORDS) - 1
        else:
            with pytest.raises(DatasetError, match=r"damaged at byte|not a journal"):
                Journal(path)
            assert path.read_bytes() == damaged


def test_a_full_disk_leaves_whole_records_only(tmp_path: Path, child) -> None:
    path = tmp_path / "journal"

    def fill() -> None:
        with Journal.create(path, b"head") as journal:
            journal.append(b"kept")
            try:
                journal.append(b"x" * 5000)
            except OSError as error:
                raise SystemExit(f"{Path(error.filename).name} and {len(journal)} records") from error

    import signal

    def without_signal() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        fill()

    process = child(without_signal, largest_file=1000)
    process.wait()
    with Journal(path) as journal:
        assert [journal[0], journal[1], len(journal), journal.lost] == [b"head", b"kept", 2, 0]


@pytest.mark.parametrize("content", [b"", b"hello", MAGIC, b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="journal"):
        Journal(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        Journal(tmp_path / "absent")
