"""`vivarium train` from end to end, as processes of their own."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from daemon.cli import main
from daemon.vision.parts import BodyPart
from drivers.errors import ConfigError
from drivers.vivarium.truth import Contact
from training.checkpoints import history_of, load
from training.history import history_from_json, sources_hash
from training.material import FIRST_VALIDATION_SEED
from training.pixel_measures import pixel_measures, pixel_metrics
from training.recipe import Kind, Preset, preset
from training.scenes import SceneSource
from training.train import Run, stored_recipe, train

QUICK_CPU_S = 180.0
"""Of one core: seconds that the clock shows depend on what else runs."""
QUICK_MEAN_IOU = 0.5
"""Of head, body and tail after the few epochs of the preset."""

WATCHED_SCENES = 8
_WAIT_S = 1500.0
"""Only against hanging: how long it takes depends on what else runs."""


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "daemon", "train", *words]


def _run(*words: str, within_s: float = _WAIT_S) -> str:
    done = subprocess.run(_command(*words), capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _run_here(*words: str) -> None:
    """Give the command in this process, where nothing depends on its being one of its own: torch is loaded already."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["vivarium", "train", *words])
        main()
    assert not ended.value.code


def _small(folder: Path, *words: str) -> list[str]:
    """Four steps an epoch, watched with eight scenes."""
    size = ("--pictures", "32", "--epochs", "3", "--set", f"validation_scenes={WATCHED_SCENES}")
    return ["unet", *size, "--workers", "0", "--output", str(folder), *words]


@pytest.mark.slow
@pytest.mark.timeout(_WAIT_S)
def test_the_quick_preset_learns_to_label_parts_in_less_than_three_minutes_of_a_core(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = _run("unet", "--preset", "quick", "--output", str(tmp_path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < QUICK_CPU_S
    reported = re.search(r"mean IoU of head, body and tail (0\.\d+)", said)
    assert reported is not None, said
    assert float(reported[1]) >= QUICK_MEAN_IOU

    checkpoints = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert checkpoints == [*(f"epoch={epoch:03d}.ckpt" for epoch in range(9)), "last.ckpt"]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    curves = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text(encoding="utf-8")
    assert "val_miou_all" in curves.splitlines()[0]
    record = json.loads((tmp_path / "epochs" / "008" / "metrics_multiclass.json").read_text(encoding="utf-8"))
    assert record["mean_iou_without_background"] == pytest.approx(float(reported[1]), abs=6e-4)

    # The stored network, as it is shipped, labels as well as was said of it; in float32 instead of bfloat16.
    network, metrics, scenes = (
        load(tmp_path / "checkpoints" / "last.ckpt"),
        pixel_metrics(),
        SceneSource(FIRST_VALIDATION_SEED, preset(Preset.QUICK, Kind.UNET).validation_scenes),
    )
    for index in range(len(scenes)):
        sample = scenes[index]
        with torch.inference_mode():
            parts = network(torch.from_numpy(sample.celsius.copy())[None, None])[0]
        metrics.update(parts.long(), torch.from_numpy(sample.parts.copy())[None].long())
    measures = pixel_measures(metrics.compute())
    assert measures.mean_iou_parts == pytest.approx(float(reported[1]), abs=0.01)
    assert set(measures.classes) >= {part.name.lower() for part in BodyPart}


@pytest.mark.slow
@pytest.mark.timeout(_WAIT_S)
def test_a_training_that_is_killed_and_resumed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _run_here(*_small(whole))
    process = subprocess.Popen(_command(*_small(killed)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _WAIT_S / 2
        while not (killed / "epochs" / "001").is_dir():  # the checkpoint of the first epoch is complete by then
            assert time.monotonic() < deadline
            assert process.poll() is None
            os.sched_yield()
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = _run(*_small(killed, "--resume"))
    assert said.startswith("3 epochs")
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, killed)
    )
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    assert len(list((killed / "logs").glob("version_*/metrics.csv"))) == 2  # neither start overwrites the other's


@pytest.mark.slow
@pytest.mark.timeout(_WAIT_S)
def test_two_processes_train_one_network_together(tmp_path: Path) -> None:
    said = _run(*_small(tmp_path, "--epochs", "1", "--devices", "2", "--accelerator", "cpu"))
    assert said.count("mean IoU") == 1  # only one of them speaks
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 2  # 32 pictures, 8 a step, shared by two
    record = json.loads((tmp_path / "epochs" / "000" / "metrics_multiclass.json").read_text(encoding="utf-8"))
    pixels = sum(map(sum, record["confusion"]["pixels_true_by_row"]))
    assert pixels == WATCHED_SCENES * 192 * 256  # counted by both, added up


@pytest.mark.slow
@pytest.mark.timeout(_WAIT_S)
def test_processes_that_watch_with_different_pictures_wait_for_each_other(tmp_path: Path) -> None:
    """Of two scenes only the second has its animals apart, and each process is shown one."""
    contacts = [SceneSource(FIRST_VALIDATION_SEED, 2)[index].contact for index in range(2)]
    assert [contact is Contact.APART for contact in contacts] == [False, True]
    words = ("--epochs", "1", "--devices", "2", "--accelerator", "cpu", "--set", "validation_scenes=2")
    _run(*_small(tmp_path, *words), within_s=300)
    record = json.loads((tmp_path / "epochs" / "000" / "metrics_multiclass_apart.json").read_text(encoding="utf-8"))
    assert sum(map(sum, record["confusion"]["pixels_true_by_row"])) == 192 * 256


@pytest.mark.slow
@pytest.mark.timeout(_WAIT_S)
def test_a_torn_last_checkpoint_is_mended_and_what_came_before_is_remembered(tmp_path: Path) -> None:
    _run_here(*_small(tmp_path, "--epochs", "1"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    history = history_of(last)
    assert [one.generator_hash for one in history.stretches] == [sources_hash(["drivers/vivarium"])]
    assert history_from_json((tmp_path / "history.json").read_text(encoding="utf-8")) == history
    last.write_bytes(last.read_bytes()[:1000])
    _run(*_small(tmp_path, "--resume", "--epochs", "2", "--seed", "5", "--workers", "3"))
    assert [(one.first_epoch, one.seed) for one in history_of(last).stretches] == [(0, 0), (1, 5)]
    stored = torch.load(last, weights_only=True)
    assert (stored["epoch"], stored["global_step"]) == (1, 8), "three workers share four batches"


def test_a_training_is_not_begun_over_another_one(tmp_path: Path) -> None:
    recipe = preset(Preset.QUICK, Kind.UNET)
    with pytest.raises(ConfigError, match="no training to go on with"):
        train(recipe, Run(folder=tmp_path, resume=True))
    with pytest.raises(ConfigError, match="no training to go on with"):
        stored_recipe(Run(folder=tmp_path, resume=True))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match="a training already"):
        train(recipe, Run(folder=tmp_path))


def test_without_the_extra_the_command_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['vivarium', 'train', 'unet'];"
        "from daemon.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert re.search(r"torch[\w.]* is not installed", done.stderr)
    assert "strong-vivarium[training" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_of_the_service_do_not_load_torch() -> None:
    program = "import sys; import daemon.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=100, check=False).returncode == 0
