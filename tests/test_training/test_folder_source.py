"""Folders of pictures and masks: degrees, tables, false colours; masks of any size; clear words where it fails."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from daemon.cli import app
from daemon.vision.parts import BodyPart
from drivers.false_colour import FalseColourScale
from drivers.vivarium.snapshot import random_scene
from training.folder_source import FolderSource
from training.label_map import LabelMap
from training.samples import DataError, Moment

PUBLISHED = LabelMap.parse("1=tail,2=body,3=head")


def degrees(height: int = 192, width: int = 256) -> NDArray[np.float32]:
    """A floor of 23 °C that rises to the right, with a warm rectangle."""
    celsius = np.full((height, width), 23, np.float32) + np.linspace(0, 1, width, dtype=np.float32)
    celsius[height // 4 : height // 2, width // 4 : width // 2] = 31
    return celsius


def labels(height: int = 192, width: int = 256) -> NDArray[np.uint8]:
    """Foreign ones: the left third of the warm rectangle head (3), the rest body (2), and a tail (1)."""
    mask = np.zeros((height, width), np.uint8)
    top, bottom, left, right = height // 4, height // 2, width // 4, width // 2
    mask[top:bottom, left:right] = 2
    mask[top:bottom, left : left + (right - left) // 3] = 3
    mask[(top + bottom) // 2 : (top + bottom) // 2 + max(height // 40, 1), right : right + width // 4] = 1
    return mask


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_what_vivarium_scene_writes_is_read_as_it_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["scene", "--seed", "41", "--count", "3", "--output", str(tmp_path)])
    assert result.exit_code == 0
    source = FolderSource(tmp_path)
    assert len(source) == 3
    for index, seed in enumerate((41, 42, 43)):
        scene, sample = random_scene(seed), source[index]
        assert sample.name == f"{seed}.npy"
        assert np.array_equal(sample.celsius, scene.celsius, equal_nan=True)
        assert np.array_equal(sample.parts, scene.frame.parts)
        assert sample.instances is not None
        assert np.array_equal(sample.instances, scene.frame.instances)
        assert sample.degrees_known


def test_a_foreign_mask_needs_its_labels_explained(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    write_mask(tmp_path / "a_mask.png", labels())
    with pytest.raises(DataError, match=r"a_mask\.png: nobody knows what the numbers of a foreign mask mean"):
        FolderSource(tmp_path)
    sample = FolderSource(tmp_path, PUBLISHED)[0]
    mask = labels()
    for number, part in ((1, BodyPart.TAIL), (2, BodyPart.BODY), (3, BodyPart.HEAD)):
        assert np.array_equal(sample.parts == part, mask == number)
    assert sample.instances is None


def test_a_squashed_mask_is_stretched_to_its_picture(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees(384, 512))
    squashed = cv2.resize(labels(384, 512), (300, 300), interpolation=cv2.INTER_NEAREST)
    write_mask(tmp_path / "a_mask.png", np.asarray(squashed, np.uint8))
    sample = FolderSource(tmp_path, PUBLISHED)[0]
    expected = labels() == 2
    found = sample.parts == BodyPart.BODY
    assert np.count_nonzero(expected & found) / np.count_nonzero(expected | found) > 0.95
    assert sample.celsius.shape == (192, 256)
    assert sample.celsius[60, 80] == pytest.approx(31)


def test_a_picture_of_another_shape_keeps_its_proportions_with_nothing_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees(192, 192))
    write_mask(tmp_path / "a_mask.png", labels(192, 192))
    sample = FolderSource(tmp_path, PUBLISHED)[0]
    assert np.isnan(sample.celsius[:, :32]).all()
    assert np.isnan(sample.celsius[:, 224:]).all()
    assert not sample.parts[:, :32].any()
    assert np.array_equal(sample.parts[:, 32:224] == BodyPart.HEAD, labels(192, 192) == 3)


def test_a_coarse_picture_is_enlarged_with_its_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees(96, 128))
    write_mask(tmp_path / "a_mask.png", labels(96, 128))
    sample = FolderSource(tmp_path, PUBLISHED)[0]
    assert np.array_equal(sample.parts == BodyPart.BODY, np.kron(labels(96, 128) == 2, np.ones((2, 2), bool)))


def test_a_mask_with_a_palette_is_read_by_number_not_by_colour(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    image = Image.fromarray(labels())
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, 10, 10, 200])
    assert image.mode == "P"
    image.save(tmp_path / "a_mask.png")
    assert np.array_equal(FolderSource(tmp_path, PUBLISHED)[0].parts == BodyPart.HEAD, labels() == 3)


def test_images_and_masks_may_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "images").mkdir(exist_ok=True)
        np.savetxt(tmp_path / "images" / f"night_{number}.csv", degrees(), delimiter=",", fmt="%.3f")
        write_mask(tmp_path / "masks" / f"night_{number}.png", labels())
        write_mask(tmp_path / "instances" / f"night_{number}.png", ((labels() > 0) * 200).astype(np.uint8))
    (tmp_path / "images" / "without_mask.csv").write_text("1,2\n3,4\n")
    source = FolderSource(tmp_path, PUBLISHED)
    assert len(source) == 2
    sample = source[1]
    assert sample.celsius == pytest.approx(degrees(), abs=1e-3)
    assert sample.instances is not None
    assert np.array_equal(sample.instances, (labels() > 0).astype(np.uint8)), "numbers are from 1 on"
    assert source.moment(1) == Moment(session="night", position_s=1)


def test_where_each_picture_shows_one_animal_all_parts_are_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    write_mask(tmp_path / "a_mask.png", labels())
    sample = FolderSource(tmp_path, PUBLISHED, single=True)[0]
    assert sample.instances is not None
    assert np.array_equal(sample.instances, (sample.parts > 0).astype(np.uint8))


def coloured(path: Path, celsius: NDArray[np.float32], low: float, high: float) -> None:
    """As a camera's app shows it."""
    position = np.clip((celsius - low) / (high - low), 0, 1)
    big = cv2.resize(position, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), cv2.applyColorMap((np.clip(big, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET))


def test_false_colours_become_degrees_by_their_range_and_without_one_only_shapes(tmp_path: Path) -> None:
    coloured(tmp_path / "a.png", degrees(), 20, 34)
    write_mask(tmp_path / "a_mask.png", labels())
    known = FolderSource(tmp_path, PUBLISHED, FalseColourScale(range_celsius=(20, 34)))[0]
    assert known.degrees_known
    assert np.nanmax(np.abs(known.celsius - degrees())[4:44, 4:250]) < 0.3
    unknown = FolderSource(tmp_path, PUBLISHED)[0]
    assert not unknown.degrees_known
    assert np.array_equal(unknown.parts, known.parts)


def test_pictures_of_a_folder_share_one_scale_in_whatever_order_they_are_read(tmp_path: Path) -> None:
    coloured(tmp_path / "a1.png", degrees(), 20, 34)
    coloured(tmp_path / "a2.png", degrees() + 2, 20, 34)
    for name in ("a1", "a2"):
        write_mask(tmp_path / f"{name}_mask.png", labels())
    scale = FalseColourScale(range_celsius=(20, 34))
    forwards, backwards = FolderSource(tmp_path, PUBLISHED, scale), FolderSource(tmp_path, PUBLISHED, scale)
    first = forwards[0], forwards[1]
    second = backwards[1], backwards[0]
    assert np.array_equal(first[0].celsius, second[1].celsius, equal_nan=True)
    assert np.array_equal(first[1].celsius, second[0].celsius, equal_nan=True)
    assert float(np.nanmedian(first[1].celsius - first[0].celsius)) == pytest.approx(2, abs=0.2)


def test_a_head_as_thin_as_a_tail_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "a.npy", degrees())
    write_mask(tmp_path / "a_mask.png", labels())
    with caplog.at_level(logging.WARNING):
        FolderSource(tmp_path, PUBLISHED)
        assert not caplog.records
        FolderSource(tmp_path, LabelMap.parse("1=head,2=body,3=tail"))
    (record,) = caplog.records
    assert str(tmp_path) in record.getMessage()
    assert "are the labels exchanged?" in record.getMessage()


def test_a_folder_without_pictures_and_masks_says_what_was_expected(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    with pytest.raises(DataError, match=r"expected pictures with masks, got none: NAME\.npy or NAME\.jpg with"):
        FolderSource(tmp_path, PUBLISHED)


def test_a_mask_in_colours_is_refused_with_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    colours = np.zeros((192, 256, 3), np.uint8)
    colours[50:90, 60:99] = (255, 0, 0)
    write_mask(tmp_path / "a_mask.png", colours)
    with pytest.raises(DataError, match=r"a_mask\.png: expected a mask with one number for each pixel, got .* colours"):
        FolderSource(tmp_path, PUBLISHED)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    np.save(tmp_path / "a.npy", degrees())
    (tmp_path / "a_mask.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a_mask\.png: cannot be read as a mask"):
        FolderSource(tmp_path, PUBLISHED)


def test_a_picture_that_cannot_be_read_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    (tmp_path / "b.npy").write_bytes(b"no array")
    for name in ("a", "b"):
        write_mask(tmp_path / f"{name}_mask.png", labels())
    source = FolderSource(tmp_path, PUBLISHED)
    assert source[0].name == "a.npy"
    with pytest.raises(DataError, match=r"b\.npy: cannot be read as an array"):
        source[1]


def test_a_stack_of_pictures_in_one_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack((degrees(), degrees())))
    write_mask(tmp_path / "a_mask.png", labels())
    with pytest.raises(DataError, match=r"a\.npy: expected one picture in a file, got 2"):
        FolderSource(tmp_path, PUBLISHED)


def test_masks_of_parts_and_animals_that_disagree_are_refused_with_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees())
    write_mask(tmp_path / "a_mask.png", labels())
    animals = (labels() > 0).astype(np.uint8)
    animals[0, :7] = 1
    write_mask(tmp_path / "a-instances.png", animals)
    with pytest.raises(DataError, match="got 0 pixels with a part but no animal and 7 the other way round"):
        FolderSource(tmp_path, PUBLISHED)[0]


def test_a_raw_transfer_is_decoded(tmp_path: Path, golden: Path) -> None:
    with np.load(golden / "g2_eps095_d1.npz") as archive:
        np.save(tmp_path / "a.npy", archive["frame"])
    write_mask(tmp_path / "a_mask.png", labels())
    sample = FolderSource(tmp_path, PUBLISHED)[0]
    assert sample.celsius.shape == (192, 256)
    assert -20 < float(np.nanmedian(sample.celsius)) < 120
