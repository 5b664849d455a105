"""Observations with numbers worked out by hand, and their accuracy against the truth of simulated rats."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.measure import measure, unmeasurable
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart, Segmentation
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.device_timeline import FRAME_PERIOD_NS
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.vivarium.moment import AnimalMoment
from drivers.vivarium.posture import Stance
from drivers.vivarium.truth import AnimalTruth

START_UTC_NS = 1_750_000_000_000_000_000

ISSUE_LIMIT_CELSIUS = 0.2
ISSUE_LEAST_PX = 50
STRAIGHT_PX = 92
"""From snout to tail base; the rats are about 110 px long."""


@pytest.fixture(scope="module")
def camera_frame() -> ThermalFrame:
    """Any good frame; the tests put degrees of their own into it."""
    clock = SimulatedClock(START_UTC_NS)
    with SimulatedCamera.create(clock=clock) as camera:
        return camera.read(timeout_s=1)


def frame_of(
    camera_frame: ThermalFrame, celsius: NDArray[np.float32], flags: FrameFlag = FrameFlag.NONE
) -> ThermalFrame:
    return ThermalFrame(
        sequence=7,
        captured_utc_ns=START_UTC_NS,
        captured_monotonic_ns=5,
        celsius=celsius,
        transfer=camera_frame.transfer,
        metadata=camera_frame.metadata,
        calibration=camera_frame.calibration,
        flags=flags,
    )


def floor(celsius: float = 20.0) -> NDArray[np.float32]:
    return np.full((192, 256), celsius, np.float32)


def labels(*places: tuple[slice, slice, int, BodyPart]) -> Segmentation:
    """Rows, columns, instance and part of rectangles."""
    parts = np.zeros((192, 256), np.uint8)
    instances = np.zeros_like(parts)
    for rows, columns, instance, part in places:
        parts[rows, columns] = part
        instances[rows, columns] = instance
    return Segmentation(parts=parts, instances=instances)


def test_one_part_by_hand(camera_frame: ThermalFrame) -> None:
    """Four by three pixels in the corner of the picture, all of them inner or beside an inner one."""
    celsius = floor()
    celsius[0:3, 0:4] = [[30, 31, 32, 25], [33, 34, 35, 25], [25, 25, 25, 25]]
    body = labels((slice(0, 3), slice(0, 4), 1, BodyPart.BODY))
    observation = measure(
        frame_of(camera_frame, celsius),
        body,
        numbers={1: 4},
        mm_per_px=2.0,
        block_key="2025-06-15/night/1",
        planned_utc_ns=START_UTC_NS - 3,
    )
    # The six pixels 30..35 are inner: beyond the picture there is no floor. The right column has beside it 32 and 35
    # twice, then 35 alone; the lowest row has 33 and 34, then 33 to 35, then 34 and 35. Nowhere is a fall outwards.
    expected = [30, 31, 32, 33.5, 33, 34, 35, 33.5, 33.5, 34, 34.5, 35]
    (animal,) = observation.animals
    (part,) = animal.parts
    assert (animal.animal, part.part) == (4, BodyPart.BODY)
    assert (part.x_px, part.y_px, part.x_mm, part.y_mm) == (1.5, 1.0, 3.0, 2.0)
    assert (part.area_px, part.area_mm2, part.valid_px) == (12, 48.0, 12)
    assert part.mean_celsius == pytest.approx(sum(expected) / 12, abs=1e-5)
    # Sorted: 30 31 32 33 33.5 33.5 | 33.5 34 34 34.5 35 35; the 95th percentile is at index 0.95 * 11, between the 35s.
    assert part.median_celsius == pytest.approx(33.5, abs=1e-5)
    assert part.p95_celsius == pytest.approx(35.0, abs=1e-5)
    assert (part.min_celsius, part.max_celsius) == (30.0, 35.0)
    assert observation.background_celsius == 20.0
    assert (observation.sequence, observation.captured_utc_ns, observation.captured_monotonic_ns) == (
        7,
        START_UTC_NS,
        5,
    )
    assert (observation.block_key, observation.planned_utc_ns) == ("2025-06-15/night/1", START_UTC_NS - 3)
    assert observation.calibration == camera_frame.calibration
    assert observation.fpa_celsius == camera_frame.metadata.fpa_celsius
    assert observation.shutter_celsius == camera_frame.metadata.shutter_celsius
    assert observation.not_measured is None


def test_a_part_without_any_temperature_has_a_place_and_no_degrees(camera_frame: ThermalFrame) -> None:
    celsius = floor()
    celsius[40:60, 40:60] = np.nan
    head = labels((slice(40, 60), slice(40, 60), 1, BodyPart.HEAD))
    observation = measure(
        frame_of(camera_frame, celsius), head, numbers={1: 1}, mm_per_px=None, block_key=None, planned_utc_ns=None
    )
    (part,) = observation.animals[0].parts
    assert (part.x_px, part.y_px, part.area_px, part.valid_px) == (49.5, 49.5, 400, 0)
    assert (part.x_mm, part.y_mm, part.area_mm2) == (None, None, None)
    figures = (part.mean_celsius, part.median_celsius, part.p95_celsius, part.min_celsius, part.max_celsius)
    assert figures == (None, None, None, None, None)


def test_a_picture_full_of_animal_or_without_degrees_has_no_background(camera_frame: ThermalFrame) -> None:
    everywhere = labels((slice(None), slice(None), 1, BodyPart.BODY))
    nowhere = labels()
    for celsius, segmentation in ((floor(30), everywhere), (floor(np.nan), nowhere)):
        observation = measure(
            frame_of(camera_frame, celsius),
            segmentation,
            numbers={},
            mm_per_px=None,
            block_key=None,
            planned_utc_ns=None,
        )
        assert observation.background_celsius is None
        assert observation.animals == ()


def test_what_has_no_part_is_an_animal_without_any(camera_frame: ThermalFrame) -> None:
    parts, instances = np.zeros((192, 256), np.uint8), np.zeros((192, 256), np.uint8)
    instances[10:20, 10:20] = 1
    observation = measure(
        frame_of(camera_frame, floor()),
        Segmentation(parts=parts, instances=instances),
        numbers={1: 1},
        mm_per_px=None,
        block_key=None,
        planned_utc_ns=None,
    )
    assert [(each.animal, each.parts, each.posture) for each in observation.animals] == [(1, (), None)]


def test_animals_come_in_the_order_of_their_numbers_and_strangers_not_at_all(camera_frame: ThermalFrame) -> None:
    three = labels(
        (slice(10, 30), slice(10, 40), 1, BodyPart.BODY),
        (slice(50, 70), slice(10, 40), 2, BodyPart.BODY),
        (slice(50, 70), slice(40, 50), 2, BodyPart.HEAD),
        (slice(90, 110), slice(10, 40), 3, BodyPart.BODY),
    )
    observation = measure(
        frame_of(camera_frame, floor()),
        three,
        numbers={1: 2, 2: 1, 9: 3},
        mm_per_px=1,
        block_key=None,
        planned_utc_ns=None,
    )
    assert [animal.animal for animal in observation.animals] == [1, 2]
    assert [part.part for part in observation.animals[0].parts] == [BodyPart.HEAD, BodyPart.BODY]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param(FrameFlag.SHUTTER, "shutter", id="shutter"),
        pytest.param(FrameFlag.UNCERTAIN, "uncertain", id="uncertain"),
        pytest.param(FrameFlag.UNCERTAIN | FrameFlag.SHUTTER, "shutter", id="both"),
    ],
)
def test_what_is_no_measurement_is_not_measured(camera_frame: ThermalFrame, flags: FrameFlag, reason: str) -> None:
    assert unmeasurable(flags) == reason
    body = labels((slice(10, 30), slice(10, 40), 1, BodyPart.BODY))
    for segmentation in (body, None):
        observation = measure(
            frame_of(camera_frame, floor(), flags | FrameFlag.SETTLING),
            segmentation,
            numbers={1: 1},
            mm_per_px=None,
            block_key=None,
            planned_utc_ns=None,
        )
        assert observation.not_measured == reason
        assert observation.animals == ()
        assert observation.background_celsius is None


@pytest.mark.parametrize(
    "flags", [FrameFlag.NONE, FrameFlag.SETTLING | FrameFlag.DRIFTED | FrameFlag.OVER_RANGE | FrameFlag.ESTIMATED]
)
def test_other_flags_do_not_stop_measuring(flags: FrameFlag) -> None:
    assert unmeasurable(flags) is None


def test_contradictions_are_refused(camera_frame: ThermalFrame) -> None:
    frame = frame_of(camera_frame, floor())
    with pytest.raises(ValueError, match=r"frame 7 can be measured .* but has no segmentation"):
        measure(frame, None, numbers={}, mm_per_px=None, block_key=None, planned_utc_ns=None)
    with pytest.raises(ValueError, match="each animal is one instance"):
        measure(frame, labels(), numbers={1: 1, 2: 1}, mm_per_px=None, block_key=None, planned_utc_ns=None)


def walks_straight(rat: AnimalTruth | AnimalMoment) -> bool:
    """Whether a rat walks, hardly bent, with all of its tail in the picture."""
    whole = 2 < rat.tail_tip[0] < 253 and 2 < rat.tail_tip[1] < 189
    return rat.stance is Stance.WALKING and whole and math.dist(rat.snout, rat.tail_base) > STRAIGHT_PX


def errors_celsius(camera: SimulatedCamera, frame: ThermalFrame, segmentation: Segmentation) -> dict[str, float]:
    """Measured minus true mean surface temperature of each part that is large enough."""
    observation = measure(
        frame, segmentation, numbers={1: 1}, mm_per_px=None, block_key=None, planned_utc_ns=None
    )  # fmt: skip
    measured = {part.part: part.mean_celsius for animal in observation.animals for part in animal.parts}
    errors = {}
    for truth in camera.truth(frame).truths:
        mean = measured.get(BodyPart(truth.part))
        if truth.area_px >= ISSUE_LEAST_PX:
            assert mean is not None
            errors[truth.part.name] = mean - truth.surface_celsius
    return errors


@pytest.mark.parametrize("seed", range(15))
def test_parts_of_simulated_rats_are_measured_within_a_fifth_of_a_degree(seed: int) -> None:
    """Five frames of each rat, hours apart, as it walks straight ahead, off the wire with the sensor's noise.

    Truth is the mean true surface temperature over the true pixels of each part.
    """
    clock, scene = SimulatedClock(START_UTC_NS), Scene(seed)
    segmenter = ClassicalSegmenter(1, 150)
    pauses_s = np.random.default_rng(seed).uniform(10, 20_000, size=5)

    def newest_frame_utc_s() -> float:
        since_ns = clock.utc_ns() - START_UTC_NS
        return (START_UTC_NS + since_ns - since_ns % FRAME_PERIOD_NS) / NS_PER_S

    with SimulatedCamera(SimulatedDevice(clock=clock, seed=seed, scene=scene), clock=clock) as camera:
        for pause_s in pauses_s.tolist():
            clock.advance(pause_s)
            while not walks_straight(scene.moment(newest_frame_utc_s()).animals[0]):  # without a picture of it
                clock.advance(4.0)
            frame = camera.read(timeout_s=1)
            assert walks_straight(camera.truth(frame).animals[0])
            errors = errors_celsius(camera, frame, segmenter.segment(frame.celsius))
            assert len(errors) == 3
            assert max(map(abs, errors.values())) < ISSUE_LIMIT_CELSIUS, (pause_s, errors)


@pytest.mark.parametrize("seed", range(6))
def test_with_the_true_outlines_parts_are_measured_within_a_fifth_of_a_degree_in_every_posture(seed: int) -> None:
    """But for a tail that is wound around the sleeping animal: beside warmer fur its few pixels cannot be unmixed."""
    clock = SimulatedClock(START_UTC_NS)
    with SimulatedCamera.create(clock=clock, seed=seed) as camera:
        for _ in range(12):
            clock.advance(173.0)
            frame = camera.read(timeout_s=1)
            truth = camera.truth(frame)
            errors = errors_celsius(camera, frame, Segmentation(parts=truth.parts, instances=truth.instances))
            if truth.animals[0].stance is Stance.CURLED:
                errors.pop("TAIL", None)
            assert max(map(abs, errors.values())) < ISSUE_LIMIT_CELSIUS, (truth.animals[0].stance, errors)


@pytest.mark.real
def test_nothing_is_invented_on_uncorrected_counts(real_material: Path) -> None:
    transfer = np.load(real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy")
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.astype("<u2").tobytes())
    frame = FrameDecoder().decode(raw)
    segmentation = ClassicalSegmenter(1, 150).segment(frame.celsius)
    observation = measure(frame, segmentation, numbers={1: 1}, mm_per_px=None, block_key=None, planned_utc_ns=None)
    assert observation.not_measured == "uncertain"
    assert observation.animals == ()
