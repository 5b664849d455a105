"""The contract of the models: what is accepted, and how a breach is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.vision.model_card import LABELS, ModelCard, card_of
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, load_model
from tests.models import CARD, card, write_model

CPU = Hardware(provider="cpu", threads=1)


def refusal(path: Path, kind: str = "unet", **changes: Any) -> str:
    """What is said about a model with these faults."""
    with pytest.raises(ModelError) as refused:
        load_model(write_model(path, kind, **changes), CPU)
    return str(refused.value)


def test_the_labels_are_those_of_every_mask() -> None:
    assert LABELS == ("background", "head", "body", "tail")


def test_a_card_survives_its_file(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "model.onnx", "panoptic", metrics={"iou_head": 0.5}), CPU)
    assert model.card == ModelCard.model_validate(card("panoptic", metrics={"iou_head": 0.5}))
    assert ModelCard.model_validate_json(model.card.to_json()) == model.card


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"labels": ["background", "tail", "body", "head"]},
            "labels: expected the order background, head, body, tail, got background, tail, body, head",
            id="published order of labels",
        ),
        pytest.param({"labels": ["background", "head", "body"]}, "labels: expected the order", id="three labels"),
        pytest.param({"input_unit": "kelvin"}, "input_unit: expected celsius, got 'kelvin'", id="kelvin"),
        pytest.param({"schema_version": 2}, "schema_version: Input should be 1", id="newer card"),
        pytest.param({"kind": "yolo"}, "kind: Input should be 'unet' or 'panoptic'", id="unknown kind"),
        pytest.param({"kind": "panoptic"}, "a panoptic model has a stride and a unet has none", id="no stride"),
        pytest.param({"stride": 4}, "a panoptic model has a stride and a unet has none", id="stride of a unet"),
        pytest.param({"kind": "panoptic", "stride": 3}, "stride: Input should be 1, 2 or 4", id="odd stride"),
        pytest.param({"limits": None}, "limits: Input should be a valid array", id="no limits"),
        pytest.param({"metrics": {"iou": "good"}}, "metrics.iou: Input should be a valid number", id="words as metric"),
        pytest.param({"surprise": 1}, "surprise: Extra inputs are not permitted", id="unknown field"),
    ],
)
def test_a_card_with_a_fault_is_refused_and_the_fault_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        card_of({"model_card": json.dumps(CARD | changes)}, "some.onnx")
    assert str(refused.value).startswith("some.onnx: the model card is refused: ")
    assert words in str(refused.value)


def test_every_fault_of_a_card_is_named_at_once() -> None:
    with pytest.raises(ModelError, match=r"input_unit: .*; opset: "):
        card_of({"model_card": json.dumps(CARD | {"input_unit": "K", "opset": 0})}, "some.onnx")


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "model.onnx", card_text="")
    assert "expected a model card in the metadata (model_card), got none" in said
    assert "vivarium export onnx" in said


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        pytest.param("unet", {"opset": 16}, "opset: the card says 17, the graph has 16", id="another opset"),
        pytest.param("unet", {"leave_out": ["confidence"]}, "output confidence: missing", id="no confidence"),
        pytest.param("panoptic", {"leave_out": ["offset"]}, "output offset: missing", id="no offset"),
        pytest.param("unet", {"extra": True}, "output more: not known here", id="another output"),
        pytest.param(
            "unet", {"batch": 1}, "input celsius: expected [N, 1, 192, 256], got [1, 1, 192, 256]", id="fixed batch"
        ),
        pytest.param("panoptic", {"stride": 2}, "output centre: expected [N, 1, 96, 128]", id="another stride"),
    ],
)
def test_a_graph_that_is_not_what_its_card_says_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], words: str
) -> None:
    said = refusal(tmp_path / "model.onnx", kind, **changes)
    assert "the graph is refused: " in said
    assert words in said


def test_a_graph_of_another_size_than_its_card_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", card_text=json.dumps(CARD | {"input_height": 96, "input_width": 128}))
    with pytest.raises(ModelError, match=r"input celsius: expected \[N, 1, 96, 128\], got \[N, 1, 192, 256\]"):
        load_model(path, CPU)


def test_operators_that_not_every_onnxruntime_has_are_refused(tmp_path: Path) -> None:
    assert "operators: expected standard ones, got also those of my.own" in refusal(
        tmp_path / "model.onnx", domain="my.own"
    )


def test_a_model_that_gives_no_numbers_fails_the_trial(tmp_path: Path) -> None:
    assert "confidence: expected numbers, got NaN" in refusal(tmp_path / "model.onnx", nan_confidence=True)


def test_exchanged_models_are_recognised(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", "panoptic")
    with pytest.raises(ModelError, match="expected a unet model, got thresholds-1, a panoptic one: are they exchanged"):
        load_model(path, CPU, kind="unet")
