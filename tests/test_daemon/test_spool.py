"""What waits on the disk comes back in its order, and a disk that is full is said."""

from pathlib import Path

import pytest

from daemon.spool import Spool, SpoolError


def test_parts_come_back_in_their_order_as_often_as_asked() -> None:
    with Spool[int]() as spool:
        spool.put([1, 2])
        spool.put([])
        spool.put([3])
        assert [list(spool.parts()), list(spool.parts())] == [[[1, 2], [3]]] * 2
        assert len(spool) == 3


def test_a_full_disk_is_told_with_its_folder_and_the_file_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = Path("/dev/full").open("r+b")  # noqa: SIM115 - the spool is to close it
    monkeypatch.setattr("daemon.spool.tempfile.TemporaryFile", lambda: full)
    monkeypatch.setattr("daemon.spool.tempfile.gettempdir", lambda: "/somewhere")
    with pytest.raises(SpoolError, match="/somewhere: No space left on device"), Spool[int]() as spool:
        spool.put([1])
    assert full.closed


def test_a_folder_that_takes_no_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("daemon.spool.tempfile.TemporaryFile", refuse)
    with pytest.raises(SpoolError, match="No usable temporary directory"), Spool[int]():
        pass
