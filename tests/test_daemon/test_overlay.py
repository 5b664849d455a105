"""A frame for people: colours, outlines, labels."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.overlay import PART_COLOURS_BGR, draw, draw_refused, false_colour, to_png
from daemon.pipeline import Measured, Pipeline
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import FrameFlag, ThermalFrame
from drivers.simulated import SimulatedCamera

Picture = NDArray[np.uint8]


def measure(frame: ThermalFrame) -> Measured:
    """As the service does."""
    return Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None).process(frame)


@pytest.fixture(scope="module")
def frame() -> ThermalFrame:
    """A simulated rat."""
    with SimulatedCamera.create(clock=SimulatedClock(1_790_046_000 * NS_PER_S), seed=3) as camera:
        return camera.read(1)


def painted(frame: ThermalFrame, measured: Measured, scale: int = 3) -> Picture:
    """The overlay of a frame."""
    return draw(frame.celsius, measured.segmentation, measured.observation, scale=scale)


def has_colour(picture: Picture, colour: tuple[int, int, int]) -> int:
    """How many pixels have exactly this colour."""
    return int((picture == np.array(colour, np.uint8)).all(axis=-1).sum())


def text_pixels(picture: Picture) -> int:
    """Black pixels of label plates."""
    return has_colour(picture, (0, 0, 0))


def test_hotter_is_brighter_and_what_has_no_temperature_is_black() -> None:
    celsius = np.linspace(20, 40, 192 * 256, dtype=np.float32).reshape(192, 256).copy()
    celsius[0, :10] = np.nan
    coloured = false_colour(celsius)
    assert coloured.dtype == np.uint8
    assert coloured.shape == (192, 256, 3)
    assert not coloured[0, :10].any()
    brightness = coloured.astype(int).sum(axis=-1)
    assert brightness[40, 0] < brightness[96, 0] < brightness[150, 0] < brightness[191, 255]


@pytest.mark.parametrize("value", [np.nan, 25.0, np.inf])
def test_pictures_without_contrast_are_no_mistake(value: float) -> None:
    coloured = false_colour(np.full((192, 256), value, np.float32))
    assert coloured.shape == (192, 256, 3)
    assert (coloured == coloured[0, 0]).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parts_are_outlined_in_their_colours_at_any_size(scale: int, frame: ThermalFrame) -> None:
    measured = measure(frame)
    picture = painted(frame, measured, scale)
    assert picture.shape == (192 * scale, 256 * scale, 3)
    for part in BodyPart:
        edge = has_colour(picture, PART_COLOURS_BGR[part])
        assert edge > 20 * scale, part


def test_labels_hide_little_of_the_animal_and_lie_inside_the_picture(frame: ThermalFrame) -> None:
    measured = measure(frame)
    plain = false_colour(frame.celsius)
    plain = np.asarray(cv2.resize(plain, (768, 576), interpolation=cv2.INTER_LINEAR), np.uint8)
    picture = painted(frame, measured)
    plates = (picture == 0).all(axis=-1) & (plain != 0).any(axis=-1)
    parts = cv2.resize(measured.segmentation.parts, (768, 576), interpolation=cv2.INTER_NEAREST)
    for part, limit in ((BodyPart.HEAD, 0.25), (BodyPart.TAIL, 0.25), (BodyPart.BODY, 0.3)):
        assert plates[parts == part].mean() < limit, part
    assert plates.sum() > 1000, "there are three labels"


@pytest.mark.parametrize(("x_px", "y_px"), [(0.0, 0.0), (255.0, 0.0), (0.0, 191.0), (255.0, 191.0)])
def test_a_label_at_the_edge_is_moved_inside(x_px: float, y_px: float, frame: ThermalFrame) -> None:
    measured = measure(frame)
    (animal,) = measured.observation.animals
    head = replace(next(part for part in animal.parts if part.part is BodyPart.HEAD), x_px=x_px, y_px=y_px)
    observation = replace(measured.observation, animals=(replace(animal, parts=(head,)),))
    nothing = replace(observation, animals=(replace(animal, parts=()),))
    labelled = draw(frame.celsius, measured.segmentation, observation)
    rows, columns = np.nonzero((labelled != draw(frame.celsius, measured.segmentation, nothing)).any(axis=-1))
    assert rows.size > 500, "the whole plate is there"
    assert np.ptp(columns) > 60
    assert rows.min() > 0
    assert rows.max() < 575
    assert columns.min() > 0
    assert columns.max() < 767


def test_a_part_without_temperature_has_its_name_only(frame: ThermalFrame) -> None:
    measured = measure(frame)
    (animal,) = measured.observation.animals
    shapes = tuple(replace(part, mean_celsius=None) for part in animal.parts)
    observation = replace(measured.observation, animals=(replace(animal, parts=shapes),))
    shapes_only = draw(frame.celsius, measured.segmentation, observation)
    assert text_pixels(shapes_only) < text_pixels(painted(frame, measured))


def test_a_frame_without_animal_or_measurement_says_so(frame: ThermalFrame) -> None:
    measured = measure(frame)
    silent = replace(measured.segmentation, parts=np.zeros((192, 256), np.uint8))
    nobody = draw(frame.celsius, silent, replace(measured.observation, animals=()))
    shutter = measure(replace(frame, flags=FrameFlag.SHUTTER))
    refused = painted(frame, shutter)
    plain = cv2.resize(false_colour(frame.celsius), (768, 576), interpolation=cv2.INTER_LINEAR)
    for picture in (nobody, refused):
        rows, columns = np.nonzero((picture != plain).any(axis=-1))
        assert rows.max() < 40, "in the upper left corner"
        assert columns.max() < 400
    assert shutter.observation.not_measured == "shutter"
    assert (nobody != refused).any()


def test_a_refused_frame_has_the_size_of_the_others_and_its_reason() -> None:
    picture = draw_refused("torn", scale=4)
    assert picture.shape == (768, 1024, 3)
    assert 100 < has_colour(picture, (255, 255, 255)) < 5000


def test_a_png_gives_back_every_pixel(frame: ThermalFrame) -> None:
    picture = painted(frame, measure(frame))
    decoded = cv2.imdecode(np.frombuffer(to_png(picture), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, picture)
