"""From torch to ONNX: the file does what the network does, and says what it is."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from daemon.cli import main
from daemon.vision.model_card import ModelCard
from daemon.vision.model_check import scenes
from daemon.vision.onnx_file import ModelError, read_onnx
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from export.checkpoint_card import card_of_network
from export.onnx import OPSET, export_onnx, fused, parity
from training.checkpoints import epochs_of, load, untrained
from training.recipe import Kind, Preset, Recipe, preset, recipe_to_json
from training.unet import UNet, UNetShape

CPU = Hardware(provider="cpu", threads=1)
EPOCHS_DONE = 3


def random_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights of a network that has seen something: its normalisations are not those of the start."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias):
                assert isinstance(values, Tensor)
                values.data = torch.randn(values.shape, generator=generator) * 0.2
            for values in (module.running_var, module.weight):
                assert isinstance(values, Tensor)
                values.data = torch.rand(values.shape, generator=generator) + 0.5
    return network.state_dict()


def recipe(kind: Kind) -> Recipe:
    return replace(preset(Preset.QUICK, kind), epochs=10, decay_epochs=2, pictures_per_epoch=1000, scene_uses=2)


@pytest.fixture(scope="module", params=list(Kind))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small network with random weights."""
    torch.manual_seed(0)
    kind: Kind = request.param
    state = random_state(untrained(recipe(kind)))
    path: Path = tmp_path_factory.mktemp("checkpoint") / f"{kind}.ckpt"
    stored = {
        "recipe": recipe_to_json(recipe(kind)),
        "state_dict": {f"network.{name}": value for name, value in state.items()},
        "epoch": EPOCHS_DONE - 1,
    }
    torch.save(stored, path)
    return path


@pytest.fixture(scope="module")
def card(checkpoint: Path) -> ModelCard:
    return card_of_network(load(checkpoint), checkpoint, epochs=epochs_of(checkpoint))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(load(checkpoint), card, path)
    return path


def test_the_card_says_where_the_network_comes_from(checkpoint: Path, card: ModelCard) -> None:
    assert card.version == hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    assert card.kind == checkpoint.stem
    assert card.trained_on.scenes == EPOCHS_DONE * 500
    assert card.trained_on.seeds == f"0 to {EPOCHS_DONE * 500 - 1}"
    assert card.trained_on.text.startswith("synthetic scenes, 3 of 10 epochs of 1000 augmented pictures")
    assert card.limits[0].startswith("Trained on synthetic pictures alone")
    assert card.licence == "MIT"


def test_what_an_older_checkpoint_does_not_say_is_unknown(card: ModelCard) -> None:
    assert card.code_hash == "unknown"
    assert card.trained_on.text.endswith("; what its weights were before is unknown")
    assert card.trained_on.generator_hash == "unknown"


def test_the_file_carries_the_card_and_only_standard_operators(exported: Path, card: ModelCard) -> None:
    found = read_onnx(exported)
    assert load_model(exported, CPU).card == card
    assert found.opsets == {"": OPSET}
    assert "BatchNormalization" not in found.operators
    assert str(exported.parent).encode() not in found.content
    assert b".py" not in found.content  # nothing of the machine that exported it


def test_labels_are_those_of_torch(checkpoint: Path, exported: Path) -> None:
    pictures = [each.celsius for each in scenes(24, 950_000)]
    holed = pictures[0].copy()
    holed[::3] = np.nan
    same = parity(load(checkpoint), exported, [*pictures, holed])
    assert same.frames == 25
    assert same.pixels == 25 * 192 * 256
    assert same.good, str(same)


def test_all_outputs_are_those_of_torch_for_several_pictures_at_once(checkpoint: Path, exported: Path) -> None:
    pictures = np.stack([each.celsius for each in scenes(3, 950_000)])
    outputs = load_model(exported, CPU).run(pictures)
    with torch.inference_mode():
        wanted = load(checkpoint)(torch.from_numpy(pictures)[:, None])
    assert len(outputs) == len(wanted)
    for (name, got), want in zip(outputs.items(), wanted, strict=True):
        if name != "parts":
            np.testing.assert_allclose(got, want.numpy(), atol=2e-3, err_msg=name)


def test_parity_sees_another_network(checkpoint: Path, exported: Path) -> None:
    other = load(checkpoint)
    with torch.no_grad():
        next(iter(other.network.parameters())).mul_(1.2)
    different = parity(other, exported, [each.celsius for each in scenes(4, 950_000)])
    assert not different.good
    assert "have another label" in str(different)


def test_exporting_leaves_the_network_as_it_was(checkpoint: Path) -> None:
    network = load(checkpoint)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused(network)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_same_network_gives_the_same_file(
    checkpoint: Path, card: ModelCard, exported: Path, tmp_path: Path
) -> None:
    export_onnx(load(checkpoint), card, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_a_card_of_another_opset_is_refused(checkpoint: Path, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the card says opset 17, and 18 is what is exported"):
        export_onnx(load(checkpoint), card.model_copy(update={"opset": 17}), tmp_path / "model.onnx")


def test_a_published_checkpoint_becomes_a_model_of_the_service(tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "published.pth"
    network = UNet(UNetShape.doubling(width=4, depth=4, channels=3))
    torch.save({"model_state_dict": random_state(network), "epoch": 7}, checkpoint)
    loaded = load(checkpoint)
    card = card_of_network(loaded, checkpoint, epochs=epochs_of(checkpoint))
    assert card.name == "published-unet"
    export_onnx(loaded, card, tmp_path / "model.onnx")
    pictures = [each.celsius for each in scenes(3, 950_000)]
    assert parity(loaded, tmp_path / "model.onnx", pictures).good
    segmenter = NetworkSegmenter(unet=load_model(tmp_path / "model.onnx", CPU), panoptic=None)
    assert segmenter.segment(pictures[0]).parts.shape == (192, 256)


@pytest.mark.slow
def test_the_command_writes_a_file_with_what_was_measured_of_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "model.onnx"
    arguments = ["export", "onnx", str(checkpoint), "--output", str(output), "--validation", "3"]
    monkeypatch.setattr(sys, "argv", ["vivarium", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "parity: " in printed
    assert "in 200 frames" in printed
    card = load_model(output, CPU).card
    assert set(card.metrics) >= {"iou_head", "iou_body", "iou_tail", "iou_mean"}
    assert card.measured_on == "3 synthetic scenes, seeds 940000 to 940002"
    onnx.checker.check_model(onnx.load(output), full_check=True)


def test_a_checkpoint_that_is_none_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"nothing")
    monkeypatch.setattr(
        sys, "argv", ["vivarium", "export", "onnx", str(tmp_path / "bad.ckpt"), "-o", str(tmp_path / "m")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "bad.ckpt: cannot be read as a checkpoint" in capsys.readouterr().err
