"""Sources by a short text, and mixed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from drivers.vivarium.dice import FIRST_TEST_SEED
from training.datasets import SampleDataset, open_source
from training.folder_source import FolderSource
from training.mixed import MixedSource, PartOfSource
from training.samples import DataError, Moment, Sample
from training.scenes import SceneSource
from training.source_spec import SourceSpec


def folder(path: Path, count: int) -> Path:
    """Pictures of nothing with foreign masks."""
    path.mkdir()
    mask = np.zeros((192, 256), np.uint8)
    mask[50:70, 50:90] = 2
    for number in range(count):
        np.save(path / f"a_{number}.npy", np.full((192, 256), 20 + number, np.float32))
        Image.fromarray(mask).save(path / f"a_{number}_mask.png")
    return path


def test_scenes_are_those_for_judging_unless_others_are_named() -> None:
    source = open_source("scenes")
    assert len(source) == 500
    assert source[0].name == str(FIRST_TEST_SEED)
    few = open_source("scenes:17+3")
    assert [few[index].name for index in range(len(few))] == ["17", "18", "19"]
    assert open_source("scenes", first_seed=4, count=2)[1].name == "5"


def test_a_scene_carries_all_that_is_known_about_it() -> None:
    sample = open_source("scenes:41+1")[0]
    assert sample.surface_celsius is not None
    assert sample.instances is not None
    assert sample.contact is not None
    assert len(sample.animals) >= len(np.unique(sample.instances)) - 1


def test_a_scene_beyond_the_last_does_not_exist() -> None:
    with pytest.raises(IndexError):
        SceneSource(0, 3)[3]


def test_options_stand_behind_a_question_mark(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", 1)
    spec = SourceSpec.parse(f"{path}?labels=1=tail,2=body,3=head&range=20,40&weight=2.5")
    assert spec.place == str(path)
    assert spec.one("labels") == "1=tail,2=body,3=head"
    source = open_source(f"{path}?labels=1=tail,2=body,3=head")
    assert isinstance(source, FolderSource)
    assert set(np.unique(source[0].parts)) == {0, 2}


def test_labels_of_a_source_go_before_those_for_all(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", 1)
    assert set(np.unique(open_source(str(path), labels="2=head")[0].parts)) == {0, 1}
    assert set(np.unique(open_source(f"{path}?labels=2=tail", labels="2=head")[0].parts)) == {0, 3}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("nowhere", "nowhere: there is no such file or folder; expected scenes", id="no such folder"),
        pytest.param("scenes:5", r"expected scenes:FIRST\+COUNT", id="scenes without a count"),
        pytest.param("scenes:5+0", r"expected scenes:FIRST\+COUNT", id="no scene"),
        pytest.param("scenes?colour=red", "expected options labels, range, .* got 'colour=red'", id="unknown option"),
        pytest.param("scenes?weight", "expected options .* got 'weight'", id="option without a value"),
        pytest.param("{folder}?labels=2=body&labels=2=tail", "labels is given 2 times", id="labels twice"),
        pytest.param("{folder}?labels=2=body&range=20", "expected range=LOW,HIGH", id="half a range"),
        pytest.param("{folder}?labels=2=body&range=20,x", "expected range=LOW,HIGH", id="a range of letters"),
        pytest.param("{folder}?labels=2=body&range=40,20", "range of false colours must rise", id="a falling range"),
        pytest.param("{folder}?labels=2=body&reading=1,2,30", "at least two readings", id="one reading"),
        pytest.param(
            "{folder}?labels=2=body&animals=2", "expected animals=1, or masks of the animals", id="two animals"
        ),
        pytest.param("{folder}/a_0.npy", "expected scenes or", id="one array"),
    ],
)
def test_a_text_that_is_not_understood_is_refused(tmp_path: Path, spec: str, message: str) -> None:
    path = folder(tmp_path / "a", 1)
    with pytest.raises(DataError, match=message):
        open_source(spec.replace("{folder}", str(path)))


def test_several_sources_are_mixed_by_weight(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", 3), folder(tmp_path / "other", 40)
    specs = [f"{one}?labels=2=body&weight=3", f"{other}?labels=2=body"]
    mixed = open_source(specs, length=400, seed=1)
    names = Counter(mixed.moment(index).session.partition("/")[0] for index in range(len(mixed)))
    assert names["0"] == pytest.approx(300, abs=30)
    assert len(mixed) == 400
    assert len(open_source(specs)) == 43
    with pytest.raises(DataError, match="expected a positive weight, got '-1'"):
        open_source([specs[0], f"{other}?labels=2=body&weight=-1"])


def test_without_weights_sources_stand_one_after_the_other(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", 2), folder(tmp_path / "other", 3)
    joined = open_source([f"{one}?labels=2=body", f"{other}?labels=2=tail", "scenes:5+1"])
    assert len(joined) == 6
    assert [joined[index].name for index in range(6)] == ["a_0.npy", "a_1.npy", "a_0.npy", "a_1.npy", "a_2.npy", "5"]
    assert [int(joined[index].parts.max()) for index in range(5)] == [2, 2, 3, 3, 3]
    assert joined.moment(1) == Moment(session="0/a", position_s=1)
    assert joined.moment(2) == Moment(session="1/a", position_s=0)
    with pytest.raises(IndexError):
        joined[6]


def order(mixed: MixedSource) -> list[tuple[str, float]]:
    moments = [mixed.moment(index) for index in range(len(mixed))]
    return [(moment.session, moment.position_s) for moment in moments]


def test_a_mix_depends_on_its_seed_alone() -> None:
    sources = (SceneSource(0, 5), SceneSource(100, 50))
    one, same, other = (MixedSource(sources, (1, 1), length=60, seed=seed) for seed in (7, 7, 8))
    assert order(one) == order(same) != order(other)
    last_first = [one[index].name for index in reversed(range(3))]
    assert last_first == [same[index].name for index in range(3)][::-1]


def test_every_picture_of_a_mix_comes_once_before_one_comes_twice() -> None:
    mixed = MixedSource([SceneSource(0, 5), SceneSource(100, 50)], (1, 1), length=80, seed=3)
    counts = Counter(session for session, _ in order(mixed))
    small = [count for session, count in counts.items() if session.startswith("0/")]
    large = [count for session, count in counts.items() if session.startswith("1/")]
    assert len(small) == 5
    assert max(small) - min(small) <= 1
    assert max(large) == 1


def test_a_mix_without_positive_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="a positive weight for each of 1 sources"):
        MixedSource([SceneSource(0, 5)], (0,), length=3, seed=0)


def test_a_part_of_a_source_is_that_part() -> None:
    part = PartOfSource(SceneSource(10, 5), (4, 0))
    assert [part[index].name for index in range(len(part))] == ["14", "10"]
    assert part.moment(0) == Moment(session="14", position_s=0)
    assert part.name == "2 of 5 of scenes 10 to 14"


def test_torch_reads_a_source_in_its_loaders() -> None:
    loader = DataLoader(SampleDataset(SceneSource(10, 3)), batch_size=2, collate_fn=list)
    batches: list[list[Sample]] = list(loader)
    assert [[sample.name for sample in batch] for batch in batches] == [["10", "11"], ["12"]]


def test_a_sample_that_contradicts_itself_cannot_be_made() -> None:
    parts = np.zeros((192, 256), np.uint8)
    celsius = np.zeros((192, 256), np.float32)
    instances = parts.copy()
    instances[0, 0] = 1
    with pytest.raises(ValueError, match="x: an animal is where its parts are"):
        Sample(name="x", celsius=celsius, parts=parts, instances=instances)
    with pytest.raises(ValueError, match="x: parts must be 0 to 3, got 4"):
        Sample(name="x", celsius=celsius, parts=parts + np.uint8(4), instances=None)
    with pytest.raises(ValueError, match=r"x: celsius must be \(192, 256\) float32, got float64"):
        Sample(name="x", celsius=celsius.astype(np.float64), parts=parts, instances=None)
