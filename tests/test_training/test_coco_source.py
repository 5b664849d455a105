"""COCO panoptic annotations: categories to parts, segments to animals."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from daemon.vision.parts import BodyPart
from training.coco_source import CocoSource
from training.samples import DataError, Moment

SHAPE = (192, 256)
PUBLISHED = ({"id": 1, "name": "body"}, {"id": 2, "name": "head"}, {"id": 3, "name": "tail"}, {"id": 4, "name": "rat"})

Ids = NDArray[np.int64]
Segments = list[dict[str, Any]]


def paint(ids: Ids, first: int, left: int, top: int) -> None:
    """An animal that looks to the left: segments first (head), first + 1 (body), first + 2 (tail)."""
    ids[top : top + 12, left : left + 12] = first
    ids[top : top + 12, left + 12 : left + 50] = first + 1
    ids[top + 5 : top + 8, left + 50 : left + 90] = first + 2


def segments(first: int, **more: Any) -> Segments:
    """Of `paint`, in the categories of the published data."""
    return [{"id": first + place, "category_id": category, **more} for place, category in enumerate((2, 1, 3))]


def write(
    folder: Path, ids: Ids, infos: Segments, *, categories: tuple[dict[str, Any], ...] = PUBLISHED, **changes: Any
) -> Path:
    """One annotated picture."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "night_7.npy", np.where(ids > 0, 31, 23).astype(np.float32))
    colours = np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    (folder / "panoptic").mkdir(exist_ok=True)
    Image.fromarray(colours).save(folder / "panoptic" / "night_7.png")
    content = {
        "images": [{"id": 3, "file_name": "night_7.npy", "width": 256, "height": 192}],
        "annotations": [{"image_id": 3, "file_name": "night_7.png", "segments_info": infos}],
        "categories": list(categories),
    }
    path = folder / "panoptic.json"
    path.write_text(json.dumps(content | changes))
    return path


def two_animals() -> Ids:
    """Ids need all three bytes of the colour."""
    ids = np.zeros(SHAPE, np.int64)
    paint(ids, 300, 20, 20)
    paint(ids, 70_000, 100, 120)
    return ids


def test_categories_become_parts_and_each_body_an_animal_with_what_touches_it(tmp_path: Path) -> None:
    ids = two_animals()
    source = CocoSource(write(tmp_path, ids, segments(300) + segments(70_000)))
    sample = source[0]
    assert len(source) == 1
    assert sample.name == "night_7.npy"
    assert source.moment(0) == Moment(session="night", position_s=7)
    for number, part in ((300, BodyPart.HEAD), (301, BodyPart.BODY), (70_002, BodyPart.TAIL)):
        assert set(np.unique(sample.parts[ids == number])) == {part}
    assert sample.instances is not None
    assert set(np.unique(sample.instances[(ids >= 300) & (ids < 303)])) == {1}
    assert set(np.unique(sample.instances[ids >= 70_000])) == {2}


def test_a_part_that_touches_no_body_goes_to_the_nearest(tmp_path: Path) -> None:
    ids = two_animals()
    ids[ids == 302] = 0
    ids[100:103, 60:95] = 302  # 68 px below its own, 17 px above the other
    sample = CocoSource(write(tmp_path, ids, segments(300) + segments(70_000)))[0]
    assert sample.instances is not None
    assert set(np.unique(sample.instances[ids == 302])) == {2}


def test_a_named_animal_goes_before_what_touches(tmp_path: Path) -> None:
    ids = two_animals()
    infos = segments(300, animal=5) + segments(70_000, animal=6)
    infos[2]["animal"], infos[5]["animal"] = 6, 5  # tails exchanged, as where one lies across another
    sample = CocoSource(write(tmp_path, ids, infos))[0]
    assert sample.instances is not None
    assert set(np.unique(sample.instances[np.isin(ids, (300, 301, 70_002))])) == {1}
    assert set(np.unique(sample.instances[np.isin(ids, (70_000, 70_001, 302))])) == {2}


def test_parts_belong_to_the_rat_whose_box_holds_them(tmp_path: Path) -> None:
    ids = two_animals()
    ids[12:20, 40:50] = 9  # an ear that nobody called head: pixels of the whole animal
    infos = segments(300) + segments(70_000)
    infos += [
        {"id": 9, "category_id": 4, "bbox": [20, 12, 90, 20]},
        {"id": 10, "category_id": 4, "bbox": [100, 120, 90, 12]},  # without a pixel of its own
    ]
    sample = CocoSource(write(tmp_path, ids, infos))[0]
    assert sample.instances is not None
    assert len(np.unique(sample.instances)) == 3
    assert len(np.unique(sample.instances[np.isin(ids, (9, 300, 301, 302))])) == 1
    assert set(np.unique(sample.parts[ids == 9])) == {BodyPart.BODY}


def test_names_of_categories_can_be_said(tmp_path: Path) -> None:
    categories = ({"id": 1, "name": "Rumpf"}, {"id": 2, "name": "Kopf"}, {"id": 3, "name": "Schwanz"})
    path = write(tmp_path, two_animals(), segments(300) + segments(70_000), categories=categories)
    with pytest.raises(
        DataError, match=r"category 'Rumpf' is none of background, rat, mouse, animal, head, body, tail"
    ):
        CocoSource(path)
    sample = CocoSource(path, categories={"Rumpf": "body", "2": "head", "Schwanz": "tail"})[0]
    assert set(np.unique(sample.parts)) == {0, 1, 2, 3}
    with pytest.raises(DataError, match=r"expected a category of .* got Hals=body"):
        CocoSource(path, categories={"Hals": "body"})


def test_segments_of_the_background_are_background(tmp_path: Path) -> None:
    ids = two_animals()
    ids[150:180, 20:60] = 8
    categories = (*PUBLISHED, {"id": 5, "name": "Background"})
    infos = [*segments(300), *segments(70_000), {"id": 8, "category_id": 5}]
    sample = CocoSource(write(tmp_path, ids, infos, categories=categories))[0]
    assert not sample.parts[ids == 8].any()


def test_exchanged_heads_and_tails_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, two_animals(), segments(300) + segments(70_000))
    with caplog.at_level(logging.WARNING):
        CocoSource(path, categories={"head": "tail", "tail": "head"})
    assert "are the labels exchanged?" in caplog.text


def test_a_segment_that_is_not_described_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, two_animals(), segments(300))
    with pytest.raises(DataError, match=r"night_7\.png: holds segment 70000, which panoptic\.json does not describe"):
        CocoSource(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, two_animals(), segments(300) + segments(70_000))
    (tmp_path / "night_7.npy").unlink()
    with pytest.raises(DataError, match=r"names night_7\.npy, but .* is not there; say where with images= and masks="):
        CocoSource(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "expected JSON, got something else", id="no JSON"),
        pytest.param("[]", "expected COCO panoptic annotations", id="no object"),
        pytest.param('{"images": [], "annotations": []}', "categories: Field required", id="no categories"),
        pytest.param('{"images": [], "annotations": [], "categories": []}', "at least one annotation", id="nothing"),
        pytest.param(
            '{"images": [], "annotations": [{"image_id": 1, "file_name": "a.png"}], "categories": []}',
            r"annotations\.0\.segments_info: Field required",
            id="boxes, not panoptic",
        ),
    ],
)
def test_what_is_no_panoptic_annotation_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        CocoSource(path)


def test_a_gray_png_of_segments_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, two_animals(), segments(300) + segments(70_000))
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "panoptic" / "night_7.png")
    with pytest.raises(DataError, match="expected a PNG of 8-bit colours, as COCO stores segment ids"):
        CocoSource(path)
