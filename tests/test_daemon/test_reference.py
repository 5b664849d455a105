"""Reference patches: the offset they give, when they are not read, and what they do to the degrees of a frame."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.measure import measure
from daemon.pipeline import nests_of
from daemon.reference import HOLD_S, Offset, References, corrected, polygon_mask, weighted_offset
from daemon.settings import ReferenceSettings, ZoneSettings
from daemon.vision.parts import BodyPart, Segmentation
from drivers.clock import SimulatedClock
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera
from drivers.t2s_protocol import fpa_raw

PATCH = ReferenceSettings(polygon=((10, 10), (19, 10), (19, 19), (10, 19)), celsius=30.0, uncertainty_celsius=0.2)
PROBED = ReferenceSettings(polygon=((10, 10), (19, 10), (19, 19), (10, 19)), topic="lab/probe")
NOBODY = np.zeros((192, 256), np.uint8)


@pytest.fixture(scope="module")
def camera_frame() -> ThermalFrame:
    """Any good frame; the tests put degrees of their own into it."""
    clock = SimulatedClock(1_750_000_000_000_000_000)
    with SimulatedCamera.create(clock=clock) as camera:
        return camera.read(timeout_s=1)


def seen(camera_frame: ThermalFrame, patch_celsius: float, *, later_s: float = 0.0, fpa: float = 0.0) -> ThermalFrame:
    """A floor of 22 °C with the patch as the camera reads it."""
    celsius = np.full((192, 256), 22.0, np.float32)
    celsius[8:22, 8:22] = patch_celsius
    metadata = camera_frame.metadata
    raw = fpa_raw(metadata.fpa_celsius + fpa)
    return replace(
        camera_frame,
        celsius=celsius,
        captured_monotonic_ns=camera_frame.captured_monotonic_ns + round(later_s * 1e9),
        metadata=replace(metadata, fpa_raw=raw),
    )


def rat_at(rows: slice, columns: slice) -> NDArray[np.uint8]:
    instances = NOBODY.copy()
    instances[rows, columns] = 1
    return instances


def test_a_polygon_covers_its_corners_and_nothing_outside() -> None:
    mask = polygon_mask(PATCH.polygon)
    assert mask.sum() == 100
    assert mask[10, 10]
    assert mask[19, 19]
    assert not mask[20, 10]


def test_the_offset_is_what_the_patch_should_read_more(camera_frame: ThermalFrame) -> None:
    found = References([PATCH]).offset(seen(camera_frame, 28.5), NOBODY)
    assert found is not None
    assert (found.celsius, found.uncertainty) == (1.5, 0.2)
    assert References([]).offset(seen(camera_frame, 28.5), NOBODY) is None


def test_two_patches_count_by_their_uncertainty() -> None:
    """Weights 25 and 6.25: (25 * 1 + 6.25 * 2) / 31.25 = 1.2, and 1 / sqrt(31.25)."""
    found = weighted_offset([(1.0, 0.2), (2.0, 0.4)])
    assert found.celsius == pytest.approx(1.2)
    assert found.uncertainty == pytest.approx(0.1789, abs=1e-4)


def test_every_degree_is_corrected_and_nothing_else(camera_frame: ThermalFrame) -> None:
    frame = seen(camera_frame, 28.5)
    parts = rat_at(slice(80, 100), slice(80, 100))
    segmentation = Segmentation(parts=parts * np.uint8(BodyPart.BODY), instances=parts)
    numbers = {1: 1}
    kwargs = {"numbers": numbers, "mm_per_px": None, "block_key": None, "planned_utc_ns": None}
    plain = measure(frame, segmentation, **kwargs)  # type: ignore[arg-type]
    warmer = measure(frame, segmentation, offset=Offset(celsius=1.5, uncertainty=0.2), **kwargs)  # type: ignore[arg-type]
    assert warmer.background_celsius == pytest.approx(23.5)
    assert warmer.animals[0].parts[0].mean_celsius == pytest.approx((plain.animals[0].parts[0].mean_celsius or 0) + 1.5)
    assert (warmer.reference_offset_celsius, warmer.reference_uncertainty_celsius) == (1.5, 0.2)
    assert plain.reference_offset_celsius is None
    np.testing.assert_array_equal(warmer.animals[0].parts[0].x_px, plain.animals[0].parts[0].x_px)
    assert corrected(frame, None) is frame


@pytest.mark.parametrize(
    "animal",
    [
        pytest.param((slice(12, 30), slice(12, 30)), id="on it"),
        pytest.param((slice(21, 40), slice(10, 30)), id="beside it"),
    ],
)
def test_a_patch_under_or_beside_an_animal_is_not_read(camera_frame: ThermalFrame, animal: tuple[slice, slice]) -> None:
    assert References([PATCH]).offset(seen(camera_frame, 28.5), rat_at(*animal)) is None


def test_a_patch_that_is_uneven_or_absurd_or_unknown_is_not_read(camera_frame: ThermalFrame) -> None:
    assert References([PATCH]).offset(seen(camera_frame, 15.0), NOBODY) is None
    assert References([PATCH]).offset(seen(camera_frame, float("nan")), NOBODY) is None
    uneven = seen(camera_frame, 28.5)
    celsius = uneven.celsius.copy()
    celsius[10:20, 10:13] = 24
    assert References([PATCH]).offset(replace(uneven, celsius=celsius), NOBODY) is None


def test_an_offset_holds_while_the_patch_is_hidden_and_its_uncertainty_grows(camera_frame: ThermalFrame) -> None:
    references, hidden = References([PATCH]), rat_at(slice(12, 30), slice(12, 30))
    references.offset(seen(camera_frame, 28.5), NOBODY)
    held = references.offset(seen(camera_frame, 28.5, later_s=60, fpa=0.5), hidden)
    assert held is not None
    assert held.celsius == 1.5
    assert held.uncertainty == pytest.approx(np.hypot(0.2, 0.6 / np.sqrt(3)), abs=0.005)  # the register has steps
    assert references.offset(seen(camera_frame, 28.5, later_s=HOLD_S + 1), hidden) is None


def test_an_offset_ends_with_its_calibration(camera_frame: ThermalFrame) -> None:
    references, hidden = References([PATCH]), rat_at(slice(12, 30), slice(12, 30))
    references.offset(seen(camera_frame, 28.5), NOBODY)
    later = seen(camera_frame, 28.5, later_s=10)
    calibrated = replace(later, calibration=replace(later.calibration, fpa_celsius=40.0))
    assert references.offset(calibrated, hidden) is None


def test_a_probe_gives_the_known_temperature_and_none_while_it_is_silent(camera_frame: ThermalFrame) -> None:
    said: dict[str, float] = {}
    references = References([PROBED], lambda topic, _monotonic_ns: said.get(topic))
    assert references.offset(seen(camera_frame, 28.5), NOBODY) is None
    said["lab/probe"] = 29.0
    found = references.offset(seen(camera_frame, 28.5), NOBODY)
    assert found is not None
    assert found.celsius == 0.5


def test_warmth_of_the_nest_is_that_of_what_no_animal_covers(camera_frame: ThermalFrame) -> None:
    nest = ZoneSettings(name="nest", kind="nest", polygon=((8, 8), (21, 8), (21, 21), (8, 21)))
    nests = nests_of([nest, ZoneSettings(name="food", kind="food", polygon=((90, 90), (99, 90), (99, 99)))])
    assert nests is not None
    assert nests.sum() == 14 * 14
    frame = seen(camera_frame, 26.0)
    kwargs = {"mm_per_px": None, "block_key": None, "planned_utc_ns": None, "nests": nests}
    for columns, expected in ((slice(8, 15), 26.0), (slice(8, 22), None)):
        instances = rat_at(slice(8, 22), columns)
        segmentation = Segmentation(parts=instances * np.uint8(BodyPart.BODY), instances=instances)
        observation = measure(frame, segmentation, numbers={1: 1}, **kwargs)  # type: ignore[arg-type]
        assert observation.nest_celsius == expected
    assert nests_of([]) is None
