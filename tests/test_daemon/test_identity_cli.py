"""`vivarium identity judge` on a few seconds of simulated animals."""

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.identity_cli import Masks, judged


def test_the_command_prints_scores_for_all_frames_and_outside_huddles() -> None:
    result = CliRunner().invoke(app, ["identity", "judge", "--rate", "1", "--minutes", "0.1", "--animals", "2"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "2 rats, seed 1, 0.1 min at 1 fps, masks: true"
    assert [line.split()[0] for line in lines[2:]] == ["all", "outside"]


@pytest.mark.parametrize("masks", list(Masks))
def test_one_animal_is_always_itself(masks: Masks) -> None:
    over_all, _ = judged(3, rate_hz=1, minutes=0.1, animals=1, masks=masks)
    assert (over_all.wrong_share, over_all.swaps) == (0, 0)
    if masks is Masks.NETWORKS:  # behind the shutter, with which a camera begins, nothing is seen
        assert over_all.idf1 is not None
        assert over_all.idf1 > 0.5
    else:
        assert over_all.idf1 == 1
        assert np.isclose(over_all.animal_hours, 6 / 3600)
