"""Which networks are found, and what is said of those that are not."""

import threading
from pathlib import Path
from typing import Literal

import pytest

from daemon.networks import Networks, Preparation, find_networks, on_cpu, open_networks
from daemon.settings import VisionSettings
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import NetworkSegmenter
from tests.models import BrokenGpu, write_model

SHIPPED = VisionSettings(provider="cpu", threads=1)


def name(networks: Networks) -> str | None:
    return None if networks.segmenter is None else networks.segmenter.name


def test_a_package_without_any_model_ships_none_and_that_is_no_problem(tmp_path: Path) -> None:
    found = find_networks(SHIPPED, most=1, shipped_dir=tmp_path)
    assert (found.segmenter, found.problem) == (None, None)
    assert "brings no networks" in str(found.why_none)


@pytest.mark.parametrize(("there", "missing"), [("unet", "panoptic"), ("panoptic", "unet")])
def test_a_shipped_model_that_is_missing_is_a_problem_and_the_other_one_is_used(
    tmp_path: Path, there: Literal["unet", "panoptic"], missing: str
) -> None:
    write_model(tmp_path / f"{there}.onnx", there)
    found = find_networks(SHIPPED, most=1, shipped_dir=tmp_path)
    assert found.segmenter is not None
    assert set(found.segmenter.hashes) == {there}
    assert f"vision.{missing}: " in str(found.problem)
    assert f"{missing}.onnx is missing from this installation" in str(found.problem)
    with pytest.raises(ModelError, match="is missing from this installation"):
        open_networks(SHIPPED, most=1, shipped_dir=tmp_path)


def test_one_that_is_switched_off_is_not_missing(tmp_path: Path) -> None:
    write_model(tmp_path / "unet.onnx")
    found = find_networks(SHIPPED.model_copy(update={"panoptic": "off"}), most=1, shipped_dir=tmp_path)
    assert (name(found), found.problem) == ("thresholds-1", None)


def test_of_two_files_that_are_named_the_good_one_is_used(tmp_path: Path) -> None:
    good = write_model(tmp_path / "good.onnx")
    bad = tmp_path / "bad.onnx"
    vision = VisionSettings(unet=str(good), panoptic=str(bad), provider="cpu", threads=1)
    found = find_networks(vision, most=1, shipped_dir=tmp_path)
    assert name(found) == "thresholds-1"
    assert found.problem == f"vision.panoptic: {bad}: the model cannot be read: No such file or directory"
    write_model(bad, "panoptic", input_height=96, input_width=128)
    found = find_networks(vision, most=1, shipped_dir=tmp_path)
    assert found.segmenter is None
    assert "expected pictures of 192 x 256" in str(found.problem)


def test_what_fails_on_a_gpu_is_the_same_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BrokenGpu.install(monkeypatch)
    path = write_model(tmp_path / "model.onnx")
    vision = VisionSettings(unet=str(path), panoptic="off", threads=1)
    gpu = open_networks(vision, most=3).segmenter
    assert gpu is not None
    assert gpu.provider == "cuda"
    cpu = on_cpu(gpu, vision).segmenter
    assert cpu is not None
    assert (cpu.provider, cpu.hashes, cpu.most) == ("cpu", gpu.hashes, 3)
    write_model(path, head_celsius=32)
    with pytest.raises(ModelError, match="expected the file with the SHA-256"):
        on_cpu(gpu, vision)


def test_nobody_has_to_wait_for_networks_that_get_ready(tmp_path: Path) -> None:
    let_go = threading.Event()
    vision = VisionSettings(unet=str(write_model(tmp_path / "model.onnx")), panoptic="off", provider="cpu", threads=1)

    def work(_given_up: threading.Event) -> Networks:
        let_go.wait()
        return open_networks(vision, most=1)

    preparation = Preparation(work)
    assert preparation.take(0) is None
    let_go.set()
    networks = preparation.take(30)
    assert networks is not None
    assert isinstance(networks.segmenter, NetworkSegmenter)
    preparation.end(30)


def test_networks_that_end_in_an_error_nobody_expected_are_a_problem() -> None:
    def work(_given_up: threading.Event) -> Networks:
        raise MemoryError("no room")

    preparation = Preparation(work)
    networks = preparation.take(30)
    assert networks == Networks(segmenter=None, why_none="no room", problem="no room")
    preparation.end(30)


def test_networks_that_nobody_wants_any_more_end_soon(tmp_path: Path) -> None:
    endless = write_model(tmp_path / "endless.onnx", slow_steps=10_000_000)
    vision = VisionSettings(unet=str(endless), panoptic="off", provider="cpu", threads=1)
    preparation = Preparation(lambda given_up: find_networks(vision, most=1, given_up=given_up))
    assert preparation.take(0.2) is None
    preparation.end(30)
    assert preparation.over
    assert preparation.take(0) is None
