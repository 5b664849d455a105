"""Small files that are there as a whole or not at all."""

import os
from pathlib import Path

import pytest

from drivers.durable import create_anew, write_durably, write_together


def test_a_file_takes_the_place_of_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_durably(path, b"first")
    write_durably(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_the_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "shadow", tmp_path / "state.json"
    other.write_text("of root")
    path.with_name("state.json.tmp").symlink_to(other)
    write_durably(path, b"ours")
    assert (path.read_bytes(), path.is_symlink()) == (b"ours", False)
    assert other.read_text() == "of root"


def test_a_link_that_comes_between_removing_and_making_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, path = tmp_path / "shadow", tmp_path / "state.json"
    other.write_text("of root")
    path.symlink_to(other)
    monkeypatch.setattr(Path, "unlink", lambda *_args, **_named: None)
    with pytest.raises(FileExistsError):
        create_anew(path)
    assert other.read_text() == "of root"


def test_a_file_that_is_made_anew_has_the_mode_asked_for(tmp_path: Path) -> None:
    os.close(create_anew(tmp_path / "new", 0o600))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_files_that_are_written_together_are_waited_for_once_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, ...]] = []

    def sync(_number: int) -> None:
        done.append(tuple(sorted(each.name for each in tmp_path.iterdir())))

    monkeypatch.setattr(os, "fsync", sync)
    write_together(tmp_path, {"plot.png": b"plot", "frame.png": b"frame"})
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"plot.png": b"plot", "frame.png": b"frame"}
    assert done == [("frame.png", "plot.png")] * 3, "each file and the folder, when both are there"


def test_a_file_that_is_there_is_not_written_together_with_others_through_its_link(tmp_path: Path) -> None:
    other = tmp_path / "shadow"
    other.write_text("of root")
    (tmp_path / "plot.png").symlink_to(other)
    write_together(tmp_path, {"plot.png": b"ours"})
    assert other.read_text() == "of root"
