"""`vivarium identity judge` on a few seconds of simulated animals."""

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.identity_cli import judged
from drivers.scene import Scene


def test_the_command_prints_scores_for_all_frames_and_outside_huddles() -> None:
    result = CliRunner().invoke(app, ["identity", "judge", "--rate", "1", "--minutes", "0.1", "--animals", "2"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "2 rats, seed 1, 0.1 min at 1 fps, masks: true"
    assert [line.split()[0] for line in lines[2:]] == ["all", "outside"]


@pytest.mark.parametrize("merged", [False, True], ids=["true masks", "merged masks"])
def test_one_animal_is_always_itself(merged: bool) -> None:
    over_all, _ = judged(Scene(3, 1), rate_hz=1, minutes=0.1, animals=1, merged=merged)
    assert (over_all.idf1, over_all.wrong_share, over_all.swaps) == (1, 0, 0)
    assert np.isclose(over_all.animal_hours, 6 / 3600)
