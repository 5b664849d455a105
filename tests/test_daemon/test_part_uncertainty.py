"""The uncertainty of one part in one frame, by hand and against that of a minute."""

import math
from dataclasses import replace

import pytest

from daemon.minute_values import MinuteCollector
from daemon.observation import FrameObservation, PartObservation
from daemon.part_uncertainty import part_uncertainty
from daemon.physiology import TemperatureUncertainty
from daemon.vision.parts import BodyPart
from drivers.frame import FrameFlag
from tests.observations import frame, rat


def of_part(which: BodyPart, shown: FrameObservation) -> TemperatureUncertainty:
    found = part_uncertainty(part_of(which, shown), shown)
    assert found is not None
    return found


def part_of(which: BodyPart, shown: FrameObservation) -> PartObservation:
    return next(each for each in shown.animals[0].parts if each.part is which)


def test_that_of_a_tail_in_one_frame_is_made_of_its_causes() -> None:
    """90 px, 22.5 independent; 0.5 °C of the detector; 27 against 22 °C at 0.98; three pixels wide."""
    found = of_part(BodyPart.TAIL, frame(0, rat(), fpa_celsius=34.5))
    assert found.noise == pytest.approx(math.sqrt(0.025**2 / 22.5 + 0.010**2))
    assert found.drift == pytest.approx(0.6 / math.sqrt(3))
    assert found.emissivity == pytest.approx(0.015 * (300.15**4 - 295.15**4) / (4 * 0.98 * 300.15**3))
    assert found.size == pytest.approx(math.erfc(3 / (2 * math.sqrt(2 * (0.64 + 1 / 12)))) * 5 / 2 * math.sqrt(4 / 3))
    assert found.total == pytest.approx(math.hypot(found.noise, found.drift, found.emissivity, found.size))


def test_a_reference_takes_the_place_of_drift_and_what_is_as_warm_as_the_floor_does_not_mix() -> None:
    assert of_part(BodyPart.BODY, frame(0, rat(), fpa_celsius=36.0, offset=(0.5, 0.1))).drift == 0.1
    assert of_part(BodyPart.TAIL, frame(0, rat(tail=22.0))).size == 0
    assert of_part(BodyPart.TAIL, frame(0, rat(), ambient=None)).size == 0, "of what lies beside it nothing is known"


def test_a_minute_of_the_same_frame_differs_by_its_noise_alone() -> None:
    frames = [frame(second, rat(), fpa_celsius=34.5) for second in range(60)]
    collector = MinuteCollector(animals=1, zones=(), mm_per_px=None, due=lambda _minute: 60.0, maintenance=tuple)
    values = [value for each in frames for value in collector.add(each)] + collector.finish()
    of_minute = next(each for each in values if each.measure == "tail_mean_celsius").uncertainty
    alone = of_part(BodyPart.TAIL, frames[0])
    assert of_minute == pytest.approx(replace(alone, noise=alone.noise / math.sqrt(60)).total)


def test_without_a_temperature_of_a_camera_there_is_none() -> None:
    shown = frame(0, rat())
    body = part_of(BodyPart.BODY, shown)
    assert part_uncertainty(replace(body, mean_celsius=None, valid_px=0), shown) is None
    assert part_uncertainty(body, replace(shown, flags=FrameFlag.ESTIMATED)) is None
    assert part_uncertainty(replace(body, outline_px=None), shown) is not None, "as early versions stored it"
