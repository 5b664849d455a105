"""`vivarium evaluate`: a table, files, and pictures that show what they should."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from drivers.errors import ConfigError
from tests.models import write_model
from training.candidates import CandidateError, NetworkCandidate, OnnxNetwork, opened_network
from training.charts import draw_confusion, draw_flows
from training.checkpoints import load, untrained
from training.evaluate import EvaluationError, evaluate, table_rows, write_results
from training.evaluate_cli import evaluate as command
from training.frame_sheet import JudgedFrame, WorstFrames, sheet
from training.metrics import ALL
from training.recipe import Kind, Preset, preset, recipe_to_json
from training.samples import Sample
from training.scenes import SceneSource
from training.unet import UNet, UNetShape
from training.verdict import Found, judge

CHARTS = ("confusion.png", "sankey.png", "roc.png", "precision_recall.png", "worst_frames.png")
SCENES = SceneSource(990_000, 8)


class Truth:
    """A candidate that knows the scenes, and answers with the truth moved to the right."""

    name = "the truth"
    tells_apart = True

    def __init__(self, source: SceneSource, shift: int = 0) -> None:
        self._by_picture = {source[index].celsius.tobytes(): source[index] for index in range(len(source))}
        self._shift = shift

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """See `training.candidates.Candidate`."""
        sample = self._by_picture[celsius.tobytes()]
        assert sample.instances is not None
        confidence = np.where(sample.parts > 0, np.float32(0.8), np.float32(0.99))
        return Found(
            parts=np.roll(sample.parts, self._shift, 1),
            instances=np.roll(sample.instances, self._shift, 1),
            confidence=np.roll(confidence, self._shift, 1),
        )


def picture(path: Path) -> NDArray[np.uint8]:
    content = cv2.imread(str(path))
    assert content is not None, path
    return np.asarray(content, np.uint8)


def test_the_command_judges_the_path_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(tmp_path / "out", classical=True, count=6)
    printed = capsys.readouterr().out
    assert printed.startswith("classical-1 on scenes 990000 to 990005\n")
    for measure in ("mean IoU head, body, tail", "PQ animals", "AP50:95", "clDice tail", "tail error, mean, °C"):
        assert f"\n{measure} " in printed
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["candidate"] == "classical-1"
    assert record["groups"][ALL]["frames"] == 6
    assert sum(group["frames"] for name, group in record["groups"].items() if name != ALL) == 6
    segmenter = ClassicalSegmenter(animals=4, min_area_px=150)
    samples = [SCENES[index] for index in range(6)]
    right = sum(int((segmenter.segment(sample.celsius).parts == sample.parts).sum()) for sample in samples)
    assert record["groups"][ALL]["accuracy"] == pytest.approx(right / (6 * 192 * 256))
    multiclass = json.loads((tmp_path / "out" / "metrics_multiclass.json").read_text())
    assert multiclass["classes"] == record["groups"][ALL]["classes"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        (*CHARTS, "metrics.json", "metrics_multiclass.json")
    )
    for name in CHARTS:
        assert picture(tmp_path / "out" / name).std() > 5, f"{name} is not empty"


def test_the_same_evaluation_twice_writes_the_same_files(tmp_path: Path) -> None:
    evaluation = evaluate(Truth(SCENES, shift=2), SCENES)
    for name in ("one", "other"):
        write_results(evaluation, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes(), file.name


def test_the_truth_itself_is_perfect_and_a_shifted_one_is_not() -> None:
    right = dict((row[0], row[-1]) for row in table_rows(evaluate(Truth(SCENES), SCENES).measures))
    for measure in (
        "mean IoU head, body, tail",
        "PQ animals",
        "AP50",
        "count right",
        "boundary F1 tail",
        "clDice tail",
    ):
        assert right[measure] == "1.000", measure
    wrong = dict((row[0], row[-1]) for row in table_rows(evaluate(Truth(SCENES, shift=6), SCENES).measures))
    for measure in ("mean IoU head, body, tail", "PQ animals", "AP50:95", "boundary F1 tail", "clDice tail"):
        assert float(wrong[measure]) < 0.95, measure
    assert wrong["count right"] == "1.000"


def test_the_worst_pictures_come_first_and_the_best_are_left_out() -> None:
    kept = WorstFrames(3)
    scores = []
    for index in range(8):
        sample = SCENES[index]
        found = Truth(SceneSource(990_000 + index, 1), shift=index).find(sample.celsius)
        frame = JudgedFrame(sample=sample, found=found, verdict=judge(sample, found))
        scores.append(frame.verdict.score)
        kept.add(frame)
    assert [frame.verdict.score for frame in kept.frames] == sorted(scores)[:3]


def test_the_sheet_shows_the_labels_of_truth_and_finding_in_their_colours() -> None:
    sample = SCENES[0]
    nothing = np.zeros_like(sample.parts)
    found = Found(parts=nothing, instances=nothing)
    shown = sheet((JudgedFrame(sample=sample, found=found, verdict=judge(sample, found)),))
    third = (shown.shape[1] - 8) // 3
    truth, empty = shown[20:200, third : 2 * third], shown[20:200, 2 * third : 3 * third]
    green = (120, 255, 120)
    assert np.count_nonzero((truth == green).all(axis=-1)) > 100
    assert not (empty == green).all(axis=-1).any()
    with pytest.raises(ValueError, match="at least one picture"):
        sheet(())


def flows_area(confusion: NDArray[np.int64], path: Path, bgr: tuple[int, int, int]) -> int:
    """Pixels of a block's colour in the flow chart."""
    draw_flows(confusion, "x", path)
    return int(np.count_nonzero((picture(path) == bgr).all(axis=-1)))


def test_the_flow_chart_has_blocks_as_high_as_their_labels(tmp_path: Path) -> None:
    red = (0x28, 0x27, 0xD6)
    confusion = np.diag((1000, 100, 300, 100)).astype(np.int64)
    one = flows_area(confusion, tmp_path / "a.png", red)
    confusion[1, 1] = 400
    other = flows_area(confusion, tmp_path / "b.png", red)
    assert other / one == pytest.approx((400 / 800) / (100 / 500), rel=0.1), "the background is left out of the whole"


def test_the_confusion_chart_is_darker_where_more_pixels_are(tmp_path: Path) -> None:
    draw_confusion(np.diag((10, 10, 10, 10)).astype(np.int64), "x", tmp_path / "right.png")
    draw_confusion(np.full((4, 4), 10, np.int64), "x", tmp_path / "wrong.png")
    dark = [int(np.count_nonzero(picture(tmp_path / f"{name}.png")[..., 2] < 60)) for name in ("right", "wrong")]
    assert dark[0] > 3 * dark[1]


def test_results_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="the results cannot be written: Not a directory"):
        write_results(evaluate(Truth(SCENES), SceneSource(990_000, 1)), tmp_path / "file" / "out")


def test_nothing_to_judge_and_two_things_to_judge_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="what is to be judged"):
        command(tmp_path / "out")
    with pytest.raises(ConfigError, match="what is to be judged"):
        command(tmp_path / "out", models=[tmp_path / "a.onnx"], classical=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A U-Net and a panoptic model that only know thresholds."""
    folder = tmp_path_factory.mktemp("models")
    return (
        write_model(folder / "unet.onnx", "unet"),
        write_model(folder / "panoptic.onnx", "panoptic", head_celsius=32.0),
    )


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1), (1, 0)], ids=["unet", "panoptic", "both", "both, turned"])
def test_networks_are_judged_by_what_the_service_makes_of_them(
    models: tuple[Path, Path], which: tuple[int, ...]
) -> None:
    chosen = [models[number] for number in which]
    candidate = NetworkCandidate([OnnxNetwork(path) for path in chosen], most=4)
    loaded = {model.card.kind: model for model in (load_model(path, Hardware(provider="cpu")) for path in chosen)}
    service = NetworkSegmenter(unet=loaded.get("unet"), panoptic=loaded.get("panoptic"), most=4)
    pixels = 0
    for index in range(len(SCENES)):
        celsius = SCENES[index].celsius.copy()
        celsius[:3, :5] = (np.nan, np.inf, -np.inf, 20, 30)
        found, expected = candidate.find(celsius), service.segment(celsius)
        assert np.array_equal(found.parts, expected.parts)
        assert found.instances is not None
        assert np.array_equal(found.instances, expected.instances)
        assert found.confidence is not None
        assert found.confidence.shape == celsius.shape
        pixels += int(np.count_nonzero(found.parts))
    assert pixels > 1000, "they find something"


def test_networks_for_larger_pictures_are_judged_at_the_size_of_the_truth(tmp_path: Path) -> None:
    path = write_model(tmp_path / "large.onnx", "unet", input_height=384, input_width=512)
    candidate = NetworkCandidate([OnnxNetwork(path)], most=4)
    service = NetworkSegmenter(unet=load_model(path, Hardware(provider="cpu")), panoptic=None, most=4)
    found, expected = candidate.find(SCENES[1].celsius), service.segment(SCENES[1].celsius)
    assert np.array_equal(found.parts, expected.parts)
    assert found.confidence is not None
    assert found.confidence.shape == (192, 256)


def test_a_checkpoint_is_judged_as_the_network_that_is_shipped(tmp_path: Path) -> None:
    torch.manual_seed(3)
    recipe = preset(Preset.QUICK, Kind.PANOPTIC)
    weights = {f"network.{name}": value for name, value in untrained(recipe).state_dict().items()}
    torch.save({"recipe": recipe_to_json(recipe), "state_dict": weights}, tmp_path / "a.ckpt")
    network = opened_network(tmp_path / "a.ckpt")
    assert network.kind == "panoptic"
    assert network.name.startswith("panoptic (a.ckpt, sha256 ")
    outputs = network.run(SCENES[0].celsius)
    with torch.inference_mode():
        expected = load(tmp_path / "a.ckpt")(torch.from_numpy(SCENES[0].celsius[np.newaxis, np.newaxis].copy()))
    assert np.array_equal(outputs["parts"], expected[0][0].numpy())
    assert np.array_equal(outputs["centre"], expected[2][0, 0].numpy())
    assert outputs["offset"].shape == (2, *outputs["centre"].shape)
    found = NetworkCandidate([network], most=4).find(SCENES[0].celsius)
    assert found.confidence is not None
    assert np.allclose(found.confidence, expected[1][0].numpy())
    assert found.instances is not None
    assert found.parts.shape == found.instances.shape == (192, 256)


def test_a_checkpoint_of_the_published_system_is_judged_in_degrees(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = UNet(UNetShape.doubling(width=2, depth=4, channels=3))
    torch.save({"model_state_dict": published.state_dict()}, tmp_path / "best.pth")
    command(tmp_path / "out", models=[tmp_path / "best.pth"], count=1)
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["candidate"].startswith("unet (best.pth, ")
    assert record["groups"][ALL]["frames"] == 1


def test_two_models_of_one_kind_are_refused(models: tuple[Path, Path]) -> None:
    with pytest.raises(CandidateError, match="expected a unet model, a panoptic one, or one of each"):
        NetworkCandidate([OnnxNetwork(models[0]), OnnxNetwork(models[0])], most=4)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"a\.onnx"):
        command(tmp_path / "out", models=[tmp_path / "a.onnx"])


def test_the_command_names_the_models_that_it_judged(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(tmp_path / "out", models=list(models), count=2)
    assert "unet.onnx, sha256 " in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "panoptic.onnx" in record["candidate"]


def test_a_folder_is_judged_with_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    for index in range(3):
        sample = SCENES[index]
        np.save(tmp_path / "data" / f"a_{index}.npy", sample.celsius)
        foreign = np.array((0, 3, 2, 1), np.uint8)[sample.parts]
        Image.fromarray(foreign).save(tmp_path / "data" / f"a_{index}_mask.png")
    command(tmp_path / "out", classical=True, data=[str(tmp_path / "data")], labels="1=tail,2=body,3=head", count=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"classical-1 on 2 of 3 of {tmp_path / 'data'}"
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(record["groups"]) == {ALL}, "how close the animals are is not known"
    assert record["groups"][ALL]["animals"] is None


def test_the_command_is_part_of_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "evaluate", "--classical", "--count", "1", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = csv.reader([next(line for line in done.stdout.splitlines() if line.startswith("pictures"))], delimiter=" ")
    assert row[-1] == "1"


def test_a_picture_without_a_temperature_is_judged(tmp_path: Path) -> None:
    empty = np.zeros((192, 256), np.uint8)
    blind = Sample(name="blind", celsius=np.full((192, 256), np.nan, np.float32), parts=empty, instances=empty.copy())
    found = ClassicalSegmenter(animals=4, min_area_px=150).segment(blind.celsius)
    assert judge(blind, Found(parts=found.parts, instances=found.instances)).score == 1
