"""False colours back to degrees: recognised, monotonic, without text and cross-hairs, and right on a real picture."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.errors import MaterialError
from drivers.false_colour import FalseColourReader, FalseColourScale, Reading, positions, recognise
from drivers.material_pictures import read_picture
from drivers.palettes import BLACK_HOT, known_palettes
from drivers.placement import Placement
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

ENLARGED = (1428, 1068)
COLDEST, HOTTEST = 20.0, 36.0
WARM_X, WARM_Y = 90.0, 100.0
ROOM_X, ROOM_Y = 220.0, 40.0

COLOURED = [name for name in known_palettes() if name != BLACK_HOT]

# The published picture: centres of the cross-hairs in its pixels, and the temperatures written beside them.
REAL_PICTURE = Path("real") / "rat_frame_00001.jpg"
REAL_MASK = Path("real") / "rat_frame_00001_mask.png"
HOTTEST_CROSS = Reading(x=390, y=683, celsius=29.3)
CENTRE_CROSS = Reading(x=714, y=534, celsius=26.3)
COLDEST_CROSS = (23, 39)
TIME_STAMP = (slice(0, 285), slice(1385, 1428))  # rows, columns
TEXTS = ((slice(550, 650), slice(400, 435)), (slice(400, 500), slice(726, 760)))


def a_rat(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position 0.2 to 0.95 along a palette: a slope of the room and two warm blobs, smooth as a lens makes them."""
    room = 0.2 + 0.1 * columns / IMAGE_WIDTH
    body = 0.45 * np.exp(-(((columns - WARM_X) / 40) ** 2) - ((rows - WARM_Y) / 25) ** 2)
    head = 0.25 * np.exp(-(((columns - 60) / 14) ** 2) - ((rows - WARM_Y) / 14) ** 2)
    return room + body + head


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float64]:
    """Positions on the frame."""
    rows, columns = np.indices((IMAGE_HEIGHT, IMAGE_WIDTH)).astype(np.float64)
    return a_rat(rows, columns)


def painted(truth: NDArray[np.float64], palette: str, *, quality: int = 90, marked: bool = True) -> NDArray[np.uint8]:
    """The picture an app would save: enlarged, coloured, with text and cross-hairs, compressed."""
    enlarged = cv2.resize(truth, ENLARGED, interpolation=cv2.INTER_CUBIC)
    colours = known_palettes()[palette].colours
    picture = colours[np.rint(enlarged.clip(0, 1) * (len(colours) - 1)).astype(int)].round().astype(np.uint8)
    if marked:
        paint(picture, (255, 255, 255), (0, 0, 0))
    good, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert good
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


def paint(picture: NDArray[np.uint8], light: tuple[int, int, int], dark: tuple[int, int, int]) -> None:
    """A time stamp on the room, a number and a cross-hair on the animal."""
    cv2.putText(picture, "2025-05-24 16:54", (900, 1000), cv2.FONT_HERSHEY_SIMPLEX, 1.2, light, 2, cv2.LINE_AA)
    cv2.putText(picture, "29,3 C", (520, 500), cv2.FONT_HERSHEY_SIMPLEX, 1.2, dark, 2, cv2.LINE_AA)
    for start, end in (((560, 560), (600, 560)), ((620, 560), (660, 560)), ((610, 510), (610, 550))):
        cv2.line(picture, start, end, light, 5)


def degrees_of(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    return COLDEST + (HOTTEST - COLDEST) * truth


RANGE = FalseColourScale(range_celsius=(COLDEST, HOTTEST))


@pytest.mark.parametrize("palette", COLOURED)
def test_each_palette_is_recognised_by_its_colours(truth: NDArray[np.float64], palette: str) -> None:
    recognised = recognise(painted(truth, palette), "picture")
    assert recognised.palette.name == palette
    assert recognised.residual_levels < 6


@pytest.mark.parametrize("palette", COLOURED)
def test_degrees_come_back_through_each_palette(truth: NDArray[np.float64], palette: str) -> None:
    celsius = FalseColourReader(RANGE).celsius(painted(truth, palette, marked=False), "picture")
    error = np.abs(celsius - degrees_of(truth))
    assert np.median(error) < 0.1
    assert np.percentile(error, 99) < 0.5


@pytest.mark.parametrize("palette", COLOURED)
def test_text_and_cross_hairs_are_gone_in_each_palette(truth: NDArray[np.float64], palette: str) -> None:
    celsius = FalseColourReader(RANGE).celsius(painted(truth, palette), "picture")
    assert np.abs(celsius - degrees_of(truth)).max() < 1.5  # of 16 °C: a glyph would be off by up to all of them


def test_a_cross_hair_in_the_palettes_own_colours_is_gone(truth: NDArray[np.float64]) -> None:
    picture = painted(truth, "xinfrared_rainbow", marked=False)
    paint(picture, (252, 250, 1), (0, 0, 253))
    celsius = FalseColourReader(RANGE).celsius(picture, "picture")
    assert np.abs(celsius - degrees_of(truth)).max() < 1.5


def test_a_tail_is_no_paint() -> None:
    rows, columns = np.indices((IMAGE_HEIGHT, IMAGE_WIDTH)).astype(np.float64)
    tail = 0.2 + 0.6 * np.exp(-(((rows - 96 - 20 * np.sin(columns / 40)) / 2.2) ** 2))
    celsius = FalseColourReader(RANGE).celsius(painted(tail, "xinfrared_rainbow", marked=False), "picture")
    ridge = celsius[np.rint(96 + 20 * np.sin(columns[0] / 40)).astype(int), np.arange(IMAGE_WIDTH)]
    assert np.abs(ridge - (COLDEST + 0.8 * (HOTTEST - COLDEST))).max() < 1.0


def test_readings_give_the_scale_and_the_room_hardly_matters(truth: NDArray[np.float64]) -> None:
    placement = Placement.fit(*ENLARGED)
    degrees = degrees_of(truth)
    readings = []
    for x, y in ((WARM_X, WARM_Y), (60.0, WARM_Y), (ROOM_X, ROOM_Y)):
        source_x, source_y = placement.point_to_source(x, y)
        readings.append(Reading(x=source_x, y=source_y, celsius=round(float(degrees[round(y), round(x)]), 1)))
    picture = painted(truth, "inferno", marked=False)
    for room in (None, 20.0, 28.0):
        scale = FalseColourScale(readings=tuple(readings), ambient_celsius=room)
        celsius = FalseColourReader(scale).celsius(picture, "picture")
        assert np.abs(celsius - degrees).max() < 0.6


def test_readings_that_say_dark_is_hot_make_a_black_hot_picture(truth: NDArray[np.float64]) -> None:
    picture = painted(truth, BLACK_HOT, marked=False)
    placement = Placement.fit(*ENLARGED)
    readings = tuple(
        Reading(x=x, y=y, celsius=float(degrees_of(truth)[round(place_y), round(place_x)]))
        for place_x, place_y in ((WARM_X, WARM_Y), (ROOM_X, ROOM_Y))
        for x, y in (placement.point_to_source(place_x, place_y),)
    )
    celsius = FalseColourReader(FalseColourScale(readings=readings, ambient_celsius=None)).celsius(picture, "picture")
    assert np.abs(celsius - degrees_of(truth)).max() < 1.0
    named = FalseColourScale(range_celsius=(COLDEST, HOTTEST), palette=BLACK_HOT)
    assert np.abs(FalseColourReader(named).celsius(picture, "picture") - degrees_of(truth)).max() < 0.5


def test_a_picture_at_the_sensors_own_size_is_read_too(truth: NDArray[np.float64]) -> None:
    colours = known_palettes()["turbo"].colours
    picture = colours[np.rint(truth * (len(colours) - 1)).astype(int)].round().astype(np.uint8)
    celsius = FalseColourReader(RANGE).celsius(picture, "picture")
    assert np.abs(celsius - degrees_of(truth)).max() < 0.3


def test_palette_and_scale_of_the_first_picture_hold_for_the_next(truth: NDArray[np.float64]) -> None:
    reader = FalseColourReader(RANGE)
    reader.celsius(painted(truth, "jet"), "first")
    assert reader.recognition is not None and reader.recognition.palette.name == "jet"
    colder = reader.celsius(painted(truth - 0.1, "jet", marked=False), "second")
    assert np.median(np.abs(colder - degrees_of(truth - 0.1))) < 0.1


@pytest.mark.parametrize("palette", list(known_palettes()))
def test_the_inversion_is_monotonic_along_the_palette(palette: str) -> None:
    curve = known_palettes()[palette].colours
    strip = np.repeat(curve[np.newaxis], 64, axis=0).round().astype(np.uint8)
    found = np.nanmedian(positions(strip, known_palettes()[palette], pixels_per_sensor_pixel=4.0), axis=0)
    assert np.diff(found).min() >= -0.01  # rounding of the colours to 8 bits
    assert np.abs(found - np.linspace(0, 1, len(curve))).max() < 0.03


def test_a_picture_of_one_colour_has_one_temperature() -> None:
    picture = np.full((192, 256, 3), (0, 0, 253), np.uint8)
    celsius = FalseColourReader(RANGE).celsius(picture, "picture")
    assert np.ptp(celsius) == 0


def test_a_photograph_is_refused() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    with pytest.raises(MaterialError, match=r"fit no known palette.*nearest is"):
        recognise(noise, "holiday.jpg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({}, "either a range or readings", id="nothing"),
        pytest.param(
            {"range_celsius": (20.0, 30.0), "readings": (HOTTEST_CROSS, CENTRE_CROSS)}, "either a range", id="both"
        ),
        pytest.param({"range_celsius": (30.0, 20.0)}, "must rise", id="falling range"),
        pytest.param({"range_celsius": (20.0, float("nan"))}, "finite", id="nan"),
        pytest.param({"readings": (HOTTEST_CROSS,)}, "at least two readings", id="one reading"),
        pytest.param({"range_celsius": (20.0, 30.0), "palette": "sepia"}, "palette must be one of", id="palette"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MaterialError, match=message):
        FalseColourScale(**arguments)  # type: ignore[arg-type]  # wrong on purpose


def test_readings_against_the_palette_are_refused(truth: NDArray[np.float64]) -> None:
    warm, room = (Placement.fit(*ENLARGED).point_to_source(x, y) for x, y in ((WARM_X, WARM_Y), (ROOM_X, ROOM_Y)))
    scale = FalseColourScale(
        readings=(Reading(x=warm[0], y=warm[1], celsius=20), Reading(x=room[0], y=room[1], celsius=30))
    )
    with pytest.raises(MaterialError, match="hotter readings must lie at hotter colours"):
        FalseColourReader(scale).celsius(painted(truth, "jet"), "picture")


def test_a_reading_outside_the_picture_is_refused(truth: NDArray[np.float64]) -> None:
    scale = FalseColourScale(readings=(HOTTEST_CROSS, Reading(x=2000, y=3, celsius=20)))
    with pytest.raises(MaterialError, match="outside the picture of 1428 x 1068"):
        FalseColourReader(scale).celsius(painted(truth, "jet"), "picture")


# The published picture of a T2S+


@pytest.fixture(scope="module")
def real_picture(real_material: Path) -> NDArray[np.uint8]:
    """RGB, 1428 x 1068."""
    picture = read_picture(real_material / REAL_PICTURE)
    assert picture.dtype == np.uint8
    return picture.astype(np.uint8)


@pytest.fixture(scope="module")
def real_reader(real_picture: NDArray[np.uint8]) -> FalseColourReader:
    """Set up by the two readings of the picture."""
    reader = FalseColourReader(FalseColourScale(readings=(HOTTEST_CROSS, CENTRE_CROSS)))
    reader.celsius(real_picture, "rat")
    return reader


@pytest.fixture(scope="module")
def real_celsius(real_reader: FalseColourReader, real_picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Degrees on the frame."""
    return real_reader.celsius(real_picture, "rat")


@pytest.fixture(scope="module")
def real_animal(real_material: Path) -> NDArray[np.bool_]:
    """Where the published mask has an animal, on the frame."""
    mask = cv2.imread(str(real_material / REAL_MASK), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return np.asarray(cv2.resize(mask, (IMAGE_WIDTH, IMAGE_HEIGHT), interpolation=cv2.INTER_NEAREST)).astype(bool)


@pytest.fixture(scope="module")
def real_panel(real_animal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is farther than 12 pixels from the animal: beyond its reflection."""
    near = cv2.dilate(real_animal.astype(np.uint8), np.ones((25, 25), np.uint8))
    return ~np.asarray(near, bool)


@pytest.mark.real
def test_the_real_picture_is_painted_in_the_apps_rainbow(real_reader: FalseColourReader) -> None:
    assert real_reader.recognition is not None
    assert real_reader.recognition.palette.name == "xinfrared_rainbow"
    assert real_reader.recognition.residual_levels < 10


@pytest.mark.real
def test_the_hottest_part_of_the_real_animal_is_as_the_app_says(
    real_celsius: NDArray[np.float32], real_animal: NDArray[np.bool_]
) -> None:
    assert np.percentile(real_celsius[real_animal], 99) == pytest.approx(HOTTEST_CROSS.celsius, abs=0.5)
    assert real_celsius.max() == pytest.approx(HOTTEST_CROSS.celsius, abs=0.5)
    assert real_animal[np.unravel_index(real_celsius.argmax(), real_celsius.shape)]


@pytest.mark.real
def test_the_real_panel_is_near_the_room(real_celsius: NDArray[np.float32], real_panel: NDArray[np.bool_]) -> None:
    panel = real_celsius[real_panel]
    assert np.percentile(panel, 5) >= 20
    assert np.median(panel) >= 20.5
    assert panel.max() <= 26


@pytest.mark.real
def test_no_glyph_of_the_real_picture_is_left(real_celsius: NDArray[np.float32], real_panel: NDArray[np.bool_]) -> None:
    smooth = cv2.medianBlur(real_celsius, 5)
    bumps = np.abs(real_celsius - smooth)
    assert bumps[real_panel].max() < 0.4
    placement = Placement.fit(*ENLARGED)
    for rows, columns in (TIME_STAMP, *TEXTS):
        left, top = placement.point_to_frame(columns.start, rows.start)
        right, bottom = placement.point_to_frame(columns.stop - 1, rows.stop - 1)
        area = np.s_[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        assert bumps[area].max() < 1.0  # the slope of the animal's own outline
    stamp = real_celsius[:50, 246:]
    assert stamp.max() - stamp.min() < 0.6
    cross_x, cross_y = placement.point_to_frame(*COLDEST_CROSS)
    cross = real_celsius[: round(cross_y) + 9, : round(cross_x) + 9]
    assert cross.max() - cross.min() < 0.5


@pytest.mark.real
def test_nothing_far_from_the_real_animal_is_warm(
    real_celsius: NDArray[np.float32], real_animal: NDArray[np.bool_], real_panel: NDArray[np.bool_]
) -> None:
    assert real_celsius[real_panel].max() < np.median(real_celsius[real_animal]) - 3
