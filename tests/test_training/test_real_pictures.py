"""The published picture of a rat and its mask, as a source of labelled pictures."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from daemon.vision.parts import BodyPart
from training.datasets import open_source
from training.evaluate_cli import evaluate
from training.samples import DataError

pytestmark = pytest.mark.real

LABELS = "1=tail,2=body,3=head"
READINGS = "reading=390,683,29.3&reading=714,534,26.3"
"""The two cross-hairs burnt into the picture whose place and number can both be read."""


@pytest.fixture
def published(real_material: Path, tmp_path: Path) -> Path:
    """The two files, named as they were published."""
    folder = real_material / "real"
    for name in ("rat_frame_00001.jpg", "rat_frame_00001_mask.png"):
        if not (folder / name).is_file():
            pytest.skip(f"real material is not present: {folder / name}")
        shutil.copy(folder / name, tmp_path)
    return tmp_path


def test_the_published_mask_is_stretched_from_its_square_onto_the_picture(
    published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        sample = open_source(f"{published}?labels={LABELS}&{READINGS}")[0]
    assert not caplog.records, "with the right map nothing is doubtful"
    assert sample.degrees_known
    area = {part: int(np.count_nonzero(sample.parts == part)) for part in BodyPart}
    assert area[BodyPart.BODY] > 2 * max(area[BodyPart.HEAD], area[BodyPart.TAIL])
    assert min(area.values()) > 300
    columns = {part: float(np.nonzero(sample.parts == part)[1].mean()) for part in BodyPart}
    assert columns[BodyPart.HEAD] < columns[BodyPart.BODY] < columns[BodyPart.TAIL], "it looks to the left"
    warm = {part: float(np.nanmean(sample.celsius[sample.parts == part])) for part in BodyPart}
    floor = float(np.nanmedian(sample.celsius[sample.parts == 0]))
    assert warm[BodyPart.HEAD] > floor + 2, "the stretched mask lies on the warm animal"
    assert warm[BodyPart.BODY] > floor + 2
    assert warm[BodyPart.BODY] > warm[BodyPart.TAIL] > floor


def test_the_label_map_of_its_own_text_is_doubted(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_source(f"{published}?labels=1=head,2=body,3=tail&{READINGS}")
    assert "times longer than wide, which a tail is: are the labels exchanged?" in caplog.text


def test_without_a_label_map_it_is_refused(published: Path) -> None:
    with pytest.raises(DataError, match="nobody knows what the numbers of a foreign mask mean"):
        open_source(str(published))


def test_the_path_without_a_network_is_judged_on_it(published: Path, tmp_path: Path) -> None:
    evaluate(tmp_path / "out", classical=True, data=[f"{published}?labels={LABELS}&{READINGS}&animals=1"], animals=1)
    group = json.loads((tmp_path / "out" / "metrics.json").read_text())["groups"]["all"]
    assert group["animal_iou"] >= 0.8
    assert group["classes"]["head"]["iou"] >= 0.65
    assert group["animals"]["ends_right_share"] == group["animals"]["count_right_share"] == 1
