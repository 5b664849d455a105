"""The host correction of the v2 camera, bit for bit against the golden steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.nuc import GAIN_ONE, DeadPixels, HostCorrection, average_offset, destripe, non_uniformity
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH, NORMAL_RANGE_REFERENCE, parse_metadata
from drivers.thermometry import calibration_of, temperature_table

Image = NDArray[np.uint16]
Vectors = dict[str, NDArray[np.uint16]]

HIGH_RANGE_REFERENCE = 2000
SHAPE = (IMAGE_HEIGHT, IMAGE_WIDTH)


@pytest.fixture(scope="module")
def vectors(golden: Path) -> Vectors:
    """Inputs and outputs of every step, image rows only where a transfer was stored."""
    with np.load(golden / "v2_nuc.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def shutter_frames(vectors: Vectors) -> list[Image]:
    """Frame i is frame 0 plus offset i on the pixels that are not 0."""
    first = vectors["shutter_frame0"][:IMAGE_HEIGHT]
    return [np.where(first == 0, first, first + offset) for offset in vectors["shutter_frame_offsets"]]


def image_of(count: int) -> Image:
    return np.full(SHAPE, count, dtype=np.uint16)


def filled(image: Image, dead: NDArray[np.bool_]) -> Image:
    result = image.copy()
    DeadPixels(dead).fill(result)
    return result


def test_the_offset_is_the_golden_one(vectors: Vectors, shutter_frames: list[Image]) -> None:
    assert len(shutter_frames) == 3
    assert np.array_equal(average_offset(shutter_frames), vectors["offset_b"])


def test_each_step_gives_the_golden_counts(vectors: Vectors) -> None:
    scene, gain = vectors["scene_frame"][:IMAGE_HEIGHT], vectors["gain_k"]
    corrected = non_uniformity(scene, vectors["offset_b"], gain, NORMAL_RANGE_REFERENCE)
    assert np.array_equal(corrected, vectors["nuc"])
    destriped = destripe(corrected)
    assert np.array_equal(destriped, vectors["destriped"])
    assert np.array_equal(filled(destriped, gain == 0), vectors["final_counts"])


def test_the_whole_correction_gives_the_golden_counts(vectors: Vectors, shutter_frames: list[Image]) -> None:
    correction = HostCorrection(offset=average_offset(shutter_frames), gain=vectors["gain_k"])
    scene = vectors["scene_frame"][:IMAGE_HEIGHT]
    reference = parse_metadata(vectors["scene_frame"]).constants.reference_count
    assert reference == NORMAL_RANGE_REFERENCE
    assert np.array_equal(correction.apply(scene, reference), vectors["final_counts"])


def test_counts_of_the_high_range_are_4000_lower(vectors: Vectors) -> None:
    correction = HostCorrection(offset=vectors["offset_b"], gain=vectors["gain_k"])
    lower = correction.apply(vectors["scene_frame"][:IMAGE_HEIGHT], HIGH_RANGE_REFERENCE)
    truth = np.maximum(vectors["final_counts"].astype(np.int32) - 4000, 0)
    assert np.array_equal(lower, truth)


def test_golden_pixels_have_their_temperatures(golden: Path, vectors: Vectors) -> None:
    table = temperature_table(calibration_of(parse_metadata(vectors["scene_frame"])))
    correction = HostCorrection(offset=vectors["offset_b"], gain=vectors["gain_k"])
    final = correction.apply(vectors["scene_frame"][:IMAGE_HEIGHT], NORMAL_RANGE_REFERENCE)
    pixels = json.loads((golden / "v2_nuc.json").read_text())["pixels"]
    assert len(pixels) == 10
    for pixel in pixels:
        count = final[pixel["y"], pixel["x"]]
        assert count == pixel["final"]
        assert table[count] == pytest.approx(pixel["c"], abs=5e-4)


@pytest.mark.parametrize(("counts", "mean"), [((5,), 5), ((5, 6), 6), ((5, 5, 6), 5), ((5, 6, 6), 6), ((0, 0, 1), 0)])
def test_halves_are_rounded_up_in_the_offset(counts: tuple[int, ...], mean: int) -> None:
    offset = average_offset([image_of(count) for count in counts])
    assert offset.dtype == np.uint16
    assert (offset == mean).all()


def test_an_offset_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        average_offset([])


def test_an_even_picture_has_no_stripes_to_remove() -> None:
    assert np.array_equal(destripe(image_of(6000)), image_of(6000))


def test_a_stripe_is_reduced_and_a_warm_edge_is_left_alone() -> None:
    striped = image_of(6000)
    striped[:, 100] += 10
    striped[:, 200:] += 500  # beyond the tolerance of 16 counts: a scene, not a stripe
    result = destripe(striped)
    # 17 neighbours, 16 of them 10 lower: the mean vote is -9.4, truncated.
    assert (result[:, 100] == 6001).all()
    assert (result[:, 199] == 6000).all()
    assert (result[:, 200:] == 6500).all()


def destriped_by_definition(image: Image) -> Image:
    """Pixel by neighbour by neighbour, in wide integers: slow, and nothing to get wrong."""
    values = image.astype(np.int64)
    padded = np.pad(values, ((0, 0), (8, 8)), mode="reflect")
    kept, total = np.zeros_like(values), np.zeros_like(values)
    for shift in range(17):
        difference = padded[:, shift : shift + values.shape[1]] - values
        near = np.abs(difference) <= 16
        kept += near
        total += np.where(near, difference, 0)
    votes = np.minimum(kept, 5)
    contribution = (total * votes * -(-65_536 // kept)) >> 16
    column = np.trunc(contribution.sum(axis=0) / votes.sum(axis=0)).astype(np.int64)
    result: Image = np.clip(values + column, 0, 16_383).astype(np.uint16)
    return result


@pytest.mark.parametrize("spread", [1, 5, 20, 300, 20_000], ids="spread {}".format)
@pytest.mark.parametrize("middle", [0, 6000, 16_383])
def test_stripes_are_removed_to_the_bit_as_defined(middle: int, spread: int) -> None:
    rng = np.random.default_rng(spread + middle)
    stripes = rng.integers(-10, 11, IMAGE_WIDTH)
    counts = middle + stripes + rng.normal(0, spread, SHAPE)
    image = np.clip(np.rint(counts), 0, 16_383).astype(np.uint16)
    assert np.array_equal(destripe(image), destriped_by_definition(image))


@pytest.mark.parametrize("step", [16, -16, 17])
def test_neighbours_at_the_limit_of_similarity_are_counted_without_overflow(step: int) -> None:
    image = image_of(6000)
    image[:, 100] = 6000 + step  # all its 16 neighbours are as far away as they may be, or just farther
    assert np.array_equal(destripe(image), destriped_by_definition(image))


@pytest.mark.parametrize("count", [0, 16_383])
def test_destriped_counts_stay_within_14_bits(count: int) -> None:
    image = image_of(count)
    image[:, ::2] = abs(count - 10)
    assert int(destripe(image).max()) <= 16_383


@pytest.mark.parametrize(
    ("raw", "gain", "corrected"),
    [
        pytest.param(5001, GAIN_ONE, 6001, id="gain one"),
        pytest.param(5003, GAIN_ONE // 2, 6001, id="rounded towards zero above the offset"),
        pytest.param(4997, GAIN_ONE // 2, 5999, id="rounded towards zero below the offset"),
        pytest.param(16_383, 4 * GAIN_ONE - 1, 16_383, id="clamped above"),
        pytest.param(0, 4 * GAIN_ONE - 1, 0, id="clamped below"),
        pytest.param(9999, 0, 6000, id="a dead pixel reads the pedestal"),
    ],
)
def test_non_uniformity_is_integer_arithmetic(raw: int, gain: int, corrected: int) -> None:
    result = non_uniformity(image_of(raw), image_of(5000), image_of(gain), NORMAL_RANGE_REFERENCE)
    assert (result == corrected).all()


def test_a_dead_pixel_gets_the_rounded_mean_of_its_living_neighbours() -> None:
    image = np.arange(25, dtype=np.uint16).reshape(5, 5)
    dead = np.zeros((5, 5), dtype=np.bool_)
    dead[2, 2] = dead[1, 1] = True
    # (2, 2): 7 + 8 + 11 + 13 + 16 + 17 + 18 = 90 over 7; (1, 1): 0 + 1 + 2 + 5 + 7 + 10 + 11 = 36 over 7.
    result = filled(image, dead)
    assert (result[2, 2], result[1, 1]) == (13, 5)
    assert np.array_equal(result[~dead], image[~dead])


def test_the_neighbourhood_of_a_dead_corner_is_mirrored_and_grows() -> None:
    image = np.arange(25, dtype=np.uint16).reshape(5, 5)
    dead = np.zeros((5, 5), dtype=np.bool_)
    dead[:2, :2] = True
    # 3 x 3 around the corner, mirrored, is dead altogether; 5 x 5 counts columns and rows 1 and 2 twice:
    # row 0: 2*2; rows 1 twice: 2*(7+7); row 2 twice: 2*(10 + 2*11 + 2*12); over 2 + 4 + 10 = 16.
    assert filled(image, dead)[0, 0] == round((4 + 28 + 112) / 16)


def test_without_a_gain_map_the_gain_is_one_and_the_degrees_are_not_trusted(vectors: Vectors) -> None:
    scene = vectors["scene_frame"][:IMAGE_HEIGHT]
    without = HostCorrection(offset=vectors["offset_b"], gain=None)
    with_ones = HostCorrection(offset=vectors["offset_b"], gain=image_of(GAIN_ONE))
    assert not without.has_gain
    assert with_ones.has_gain
    assert np.array_equal(without.apply(scene, 6000), with_ones.apply(scene, 6000))


def test_a_picture_without_a_valid_pixel_cannot_be_filled() -> None:
    with pytest.raises(ValueError, match="all are dead"):
        DeadPixels(np.ones((5, 5), dtype=np.bool_))


def test_a_correction_of_another_shape_or_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"offset must be \(192, 256\) uint16, got uint16 \(196, 256\)"):
        HostCorrection(offset=np.zeros((196, 256), dtype=np.uint16), gain=None)
    with pytest.raises(ValueError, match=r"gain must be \(192, 256\) uint16, got float64"):
        HostCorrection(offset=image_of(0), gain=np.ones(SHAPE))  # type: ignore[arg-type]  # the wrong type on purpose


def test_a_gain_map_of_dead_pixels_is_refused() -> None:
    half = image_of(GAIN_ONE)
    half[:, : IMAGE_WIDTH // 2] = 0
    with pytest.raises(ValueError, match="24576 of 49152: fetch it from the camera again"):
        HostCorrection(offset=image_of(0), gain=half)
