"""What the host makes of the pictures of a v2's closed shutter."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.frame import RawFrame, ThermalFrame
from drivers.nuc import average_offset
from drivers.shutter import HostCalibration
from drivers.t2s_protocol import IMAGE_HEIGHT
from drivers.virtual.reel import Reel

PERIOD_S = 0.04


@pytest.fixture
def template(reel: Reel) -> ThermalFrame:
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=reel.raw[0].tobytes())
    return FrameDecoder().decode(raw)


def calibrated(template: ThermalFrame, transfers: list[NDArray[np.uint16]]) -> HostCalibration:
    """A calibration that has seen these transfers, one after the other, from 0.36 s after the command on."""
    calibration = HostCalibration()
    calibration.commanded(0)
    for number, transfer in enumerate((*transfers, transfers[-1])):
        at_s = 0.36 + PERIOD_S * number if number < len(transfers) else 0.9
        calibration.flags_of(replace(template, transfer=transfer, captured_monotonic_ns=round(at_s * NS_PER_S)))
    return calibration


def test_the_offset_is_the_mean_of_the_shutter_pictures(template: ThermalFrame, reel: Reel) -> None:
    blades = list(reel.raw_blade[:8])
    offset = calibrated(template, blades).take_offset()
    assert offset is not None
    assert np.array_equal(offset, average_offset([blade[:IMAGE_HEIGHT] for blade in blades]))


def test_a_picture_of_the_scene_among_them_is_left_out(template: ThermalFrame, reel: Reel) -> None:
    blades = list(reel.raw_blade[:4])
    offset = calibrated(template, [reel.raw[0], *blades]).take_offset()
    assert offset is not None
    assert np.array_equal(offset, average_offset([blade[:IMAGE_HEIGHT] for blade in blades]))


def test_pictures_that_have_nothing_in_common_make_no_offset(template: ThermalFrame, reel: Reel) -> None:
    rng = np.random.default_rng(1)
    pictures = []
    for level in (1000, 3000, 6000, 9000):
        transfer = reel.raw[0].copy()
        transfer[:IMAGE_HEIGHT] = level + rng.integers(0, 800, transfer[:IMAGE_HEIGHT].shape)
        pictures.append(transfer)
    calibration = calibrated(template, pictures)
    assert calibration.take_offset() is None
    assert calibration.failures == 1
    assert calibration.wants_retry(10 * NS_PER_S)
