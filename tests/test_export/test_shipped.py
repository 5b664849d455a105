"""Both shipped networks from nothing with one command, tiny; killed on the way and given again."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.vision.segmenter import Hardware, Model, load_model
from drivers.errors import ConfigError
from export.shipped import Shipment, make_shipped
from training.checkpoints import CheckpointError, history_of
from training.history import version_of
from training.recipe import Kind, Preset, Recipe, preset
from training.train import Run

_WAIT_S = 1500.0
"""Only against hanging: how long it takes depends on what else runs."""


def _words(folder: Path, *more: str) -> list[str]:
    """Two epochs of two steps for each network, the second of them decay; eight bits have tests of their own."""
    size = ("--preset", "quick", "--epochs", "2", "--pictures", "16", "--set", "validation_scenes=2")
    little = ("--set", "decay_epochs=1", "--workers", "0", "--validation", "2", "--judged", "3", "--no-int8")
    places = ("--runs", str(folder / "runs"), "--output", str(folder / "models"))
    return ["export", "shipped", *size, *little, *places, *more]


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "daemon", *_words(folder)]


def _given_here(words: list[str]) -> object:
    """The exit code of the command in this process: torch need not be loaded once more."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["vivarium", *words])
        main()
    return ended.value.code


def _loaded(folder: Path, kind: Kind) -> Model:
    model = load_model(folder / "models" / f"{kind}.onnx", Hardware(provider="cpu"))
    assert model.card.kind == kind
    return model


@pytest.mark.slow
@pytest.mark.timeout(2 * _WAIT_S)
def test_one_command_makes_both_models_and_goes_on_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    started = subprocess.Popen(_command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not (runs / "panoptic" / "checkpoints" / "last.ckpt").is_file():
            assert time.monotonic() < deadline
            assert started.poll() is None
            time.sleep(0.01)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    done = subprocess.run(_command(tmp_path), capture_output=True, text=True, timeout=_WAIT_S, check=False)
    assert done.returncode == 1, done.stderr  # nobody learns to see in four steps
    assert "MISSED" in done.stdout
    assert "panoptic: epochs 1 to 2" not in done.stdout
    assert "unet: epochs 1 to 2" in done.stdout

    plateau = runs / "panoptic" / "checkpoints" / "epoch=000.ckpt"
    origin = history_of(runs / "unet" / "checkpoints" / "last.ckpt").origin
    assert origin is not None
    assert (origin.kind, origin.epochs, origin.version) == ("panoptic", 1, version_of(plateau))
    for kind in Kind:
        model, last = _loaded(tmp_path, kind), runs / kind / "checkpoints" / "last.ckpt"
        assert model.card.version == version_of(last)
        assert model.card.code_hash.split(", ")[-1] == history_of(last).stretches[-1].code_hash
        assert model.card.metrics
        assert (runs / kind / "curves.png").is_file()
    assert "begun with the weights of a panoptic network" in _loaded(tmp_path, Kind.UNET).card.trained_on.text
    assert (runs / "evaluation" / "metrics.json").is_file()

    trained = {path: path.stat().st_mtime_ns for path in runs.glob("*/checkpoints/*")}
    capsys.readouterr()
    assert _given_here(_words(tmp_path)) == 1
    assert capsys.readouterr().out.count("all 2 epochs are done") == 2
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/checkpoints/*")} == trained

    assert _given_here(_words(tmp_path, "--set", "learning_rate=0.5")) == 2
    rate = preset(Preset.QUICK, Kind.PANOPTIC).learning_rate
    assert f"a training by another recipe: learning_rate is {rate} there and 0.5 here" in capsys.readouterr().err


def _recipe(**values: int) -> Recipe:
    return replace(preset(Preset.QUICK, Kind.PANOPTIC), **values)  # type: ignore[arg-type]  # whole numbers, all of them


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 2}, "begins at the end of the plateau"),
        ({"patience_epochs": 3}, "trained to the end"),
        ({"decay_epochs": 0}, "ends with a decay"),
    ],
)
def test_a_recipe_that_cannot_be_shipped_is_refused_at_once(tmp_path: Path, values: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Shipment(recipe=_recipe(**values), run=Run(folder=tmp_path), output=tmp_path)


def test_what_a_broken_training_left_is_not_taken_for_one(tmp_path: Path) -> None:
    shipment = Shipment(recipe=_recipe(), run=Run(folder=tmp_path), output=tmp_path / "models")
    (tmp_path / "panoptic" / "checkpoints").mkdir(parents=True)
    (tmp_path / "panoptic" / "checkpoints" / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        make_shipped(shipment, lambda _words: None)
