"""The networks at work, in real sessions of onnxruntime on small models."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.vision.onnx_file import ModelError
from daemon.vision.parts import BodyPart
from daemon.vision.segmenter import (
    NICE,
    THREAD_NAME,
    Hardware,
    Model,
    NetworkSegmenter,
    load_model,
    missing_gpu,
    thread_count,
)
from tests.models import BrokenGpu, write_model

CPU = Hardware(provider="cpu", threads=2)


@pytest.fixture
def broken_gpu(monkeypatch: pytest.MonkeyPatch) -> BrokenGpu:
    """In place of a GPU, which no test machine has."""
    return BrokenGpu.install(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A U-Net and a panoptic model."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: load_model(write_model(folder / f"{kind}.onnx", kind), CPU) for kind in ("unet", "panoptic")}


@pytest.fixture(scope="module")
def segmenter(models: dict[str, Model]) -> NetworkSegmenter:
    """Both together."""
    return NetworkSegmenter(unet=models["unet"], panoptic=models["panoptic"])


def picture(height: int = 192, width: int = 256) -> NDArray[np.float32]:
    """A box at 23 °C with one animal: 12 x 24 % of the picture, a head at its left end, a tail on its right."""
    celsius = np.full((height, width), 23, np.float32)
    top, bottom, left = round(0.44 * height), round(0.56 * height), round(0.3 * width)
    head, body, tail = (left + round(share * width) for share in (0.06, 0.24, 0.4))
    celsius[top:bottom, left:head] = 34
    celsius[top:bottom, head:body] = 30
    celsius[(top + bottom) // 2 : (top + bottom) // 2 + max(1, round(0.02 * height)), body:tail] = 25
    return celsius


def expected(celsius: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Labels by the thresholds of the small models."""
    labels = np.where(celsius > 24.6, BodyPart.TAIL, 0)
    labels = np.where(celsius > 26, BodyPart.BODY, labels)
    return np.where(celsius > 33, BodyPart.HEAD, labels).astype(np.uint8)


def test_labels_are_those_of_the_graph_and_the_animal_is_one(segmenter: NetworkSegmenter) -> None:
    found = segmenter.segment(picture())
    np.testing.assert_array_equal(found.parts, expected(picture()))
    np.testing.assert_array_equal(found.instances, expected(picture()) > 0)


def test_name_and_hashes_are_those_of_the_files(segmenter: NetworkSegmenter, models: dict[str, Model]) -> None:
    assert segmenter.name == "thresholds-1+thresholds-1"
    assert segmenter.hashes == {kind: model.sha256 for kind, model in models.items()}
    assert segmenter.provider == "cpu"


@pytest.mark.parametrize(
    ("height", "width"), [(384, 512), (480, 640), (96, 128), (120, 160), (192, 200), (256, 192), (300, 300)]
)
def test_results_come_back_at_the_pictures_own_size(segmenter: NetworkSegmenter, height: int, width: int) -> None:
    celsius = picture(height, width)
    found, wanted = segmenter.segment(celsius), expected(celsius)
    assert found.parts.shape == found.instances.shape == (height, width)
    both = np.count_nonzero((found.parts > 0) & (wanted > 0))
    either = np.count_nonzero((found.parts > 0) | (wanted > 0))
    assert both / either > 0.85
    assert set(np.unique(found.instances)) == {0, 1}


def test_a_square_stays_a_square(segmenter: NetworkSegmenter) -> None:
    celsius = np.full((600, 300), 23, np.float32)
    celsius[200:320, 90:210] = 30
    rows, columns = np.nonzero(segmenter.segment(celsius).parts)
    assert np.ptp(rows) == pytest.approx(119, abs=7)
    assert np.ptp(columns) == pytest.approx(119, abs=7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_picture_of_no_numbers_holds_no_animal(segmenter: NetworkSegmenter, value: float) -> None:
    found = segmenter.segment(np.full((192, 256), value, np.float32))
    assert not found.parts.any()
    assert not found.instances.any()


def test_holes_cost_only_themselves(segmenter: NetworkSegmenter) -> None:
    celsius = picture()
    celsius[:, 100:102] = np.nan
    wanted = expected(celsius)
    np.testing.assert_array_equal(segmenter.segment(celsius).parts, wanted)


def test_many_pictures_in_one_run_are_the_same_as_one_by_one(segmenter: NetworkSegmenter) -> None:
    pictures = np.stack([picture(), np.roll(picture(), 30, 0), np.full((192, 256), np.nan, np.float32)])
    together = segmenter.segment_many(pictures)
    for one, celsius in zip(together, pictures, strict=True):
        alone = segmenter.segment(celsius)
        np.testing.assert_array_equal(one.parts, alone.parts)
        np.testing.assert_array_equal(one.instances, alone.instances)


def test_a_unet_alone_takes_each_piece_for_an_animal(models: dict[str, Model]) -> None:
    celsius = picture()
    celsius[10:30, 10:50] = 30
    found = NetworkSegmenter(unet=models["unet"], panoptic=None).segment(celsius)
    assert found.instances.max() == 2
    assert set(np.unique(found.instances[10:30, 10:50])) == {2}


def test_no_more_animals_than_live_in_the_box(models: dict[str, Model]) -> None:
    celsius = picture()
    celsius[10:20, 10:20] = 30
    found = NetworkSegmenter(unet=models["unet"], panoptic=None, most=1).segment(celsius)
    np.testing.assert_array_equal(found.instances > 0, expected(picture()) > 0)


def test_without_any_model_there_is_no_segmenter() -> None:
    with pytest.raises(ModelError, match="expected a unet, a panoptic model or both, got none"):
        NetworkSegmenter(unet=None, panoptic=None)


def test_two_models_must_take_pictures_of_one_size(tmp_path: Path, models: dict[str, Model]) -> None:
    small = load_model(write_model(tmp_path / "small.onnx", "panoptic", input_height=96, input_width=128), CPU)
    with pytest.raises(ModelError, match=r"small\.onnx: expected pictures of 192 x 256 .* got 96 x 128"):
        NetworkSegmenter(unet=models["unet"], panoptic=small)


def test_a_model_that_fails_on_a_picture_says_so_and_serves_the_next(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "fails.onnx", fails_above_celsius=40), CPU)
    with pytest.raises(ModelError, match=r"fails\.onnx: thresholds-1 fails: .*Reshape"):
        model.run(np.full((1, 192, 256), 41, np.float32))
    assert model.run(picture()[np.newaxis])["parts"].any()


def test_a_run_that_takes_too_long_can_be_broken_off(tmp_path: Path) -> None:
    path = write_model(tmp_path / "slow.onnx", slow_steps=10_000_000, slow_above_celsius=40)
    model = load_model(path, CPU)
    over = threading.Event()

    def break_off() -> None:
        while not over.wait(0.02):
            model.interrupt()

    breaker = threading.Thread(target=break_off)
    breaker.start()
    try:
        with pytest.raises(ModelError, match="terminate flag"):
            model.run(np.full((1, 192, 256), 41, np.float32))
    finally:
        over.set()
        breaker.join()
    assert model.run(picture()[np.newaxis])["parts"].any()  # what was broken off does not break the next


@pytest.mark.parametrize("failing", ["unet", "panoptic"])
def test_when_one_of_two_fails_both_have_ended_and_the_reason_is_told(
    tmp_path: Path, models: dict[str, Model], failing: str
) -> None:
    both = dict(models)
    both[failing] = load_model(write_model(tmp_path / "fails.onnx", failing, fails_above_celsius=40), CPU)
    segmenter = NetworkSegmenter(unet=both["unet"], panoptic=both["panoptic"])
    with pytest.raises(ModelError, match=r"fails\.onnx"):
        segmenter.segment(np.full((192, 256), 41, np.float32))
    assert "network" not in {thread.name for thread in threading.enumerate()}
    np.testing.assert_array_equal(segmenter.segment(picture()).parts, expected(picture()))


def test_what_is_loaded_is_what_was_hashed_even_if_the_file_is_replaced(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = load_model(path, CPU)
    path.write_bytes(b"something else")
    np.testing.assert_array_equal(model.run(picture()[np.newaxis])["parts"][0], expected(picture()))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_threads_of_the_networks_give_way_and_the_callers_does_not(tmp_path: Path) -> None:
    def tasks() -> set[str]:
        return {path.name for path in Path("/proc/self/task").iterdir()}

    before = tasks()
    model = load_model(write_model(tmp_path / "model.onnx"), Hardware(provider="cpu", threads=3))
    deadline = time.monotonic() + 60  # only against hanging
    while len(new := tasks() - before) != 3:  # the trial's thread ends; the network's own and two of the pool stay
        assert time.monotonic() < deadline, f"expected 3 threads, got {new}"
    assert {os.getpriority(os.PRIO_PROCESS, int(task)) for task in new} == {
        os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + NICE
    }
    assert model.threads == 3


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_each_of_two_networks_with_one_thread_runs_in_a_nice_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Hardware(provider="cpu", threads=1)
    both = {kind: load_model(write_model(tmp_path / kind, kind), one) for kind in ("unet", "panoptic")}
    nice: list[int] = []
    run = Model.run

    def noted(model: Model, celsius: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return run(model, celsius)

    monkeypatch.setattr(Model, "run", noted)
    NetworkSegmenter(unet=both["unet"], panoptic=both["panoptic"]).segment(picture())
    NetworkSegmenter(unet=both["unet"], panoptic=None).segment(picture())
    assert nice == 3 * [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + NICE]


def test_a_networks_thread_ends_with_the_network(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    model = load_model(write_model(tmp_path / "unet.onnx"), CPU)
    frames = np.full((1, model.card.input_height, model.card.input_width), 23, np.float32)
    assert model.start(frames).result().keys() == model.run(frames).keys()
    (thread,) = set(threading.enumerate()) - before
    assert thread.name.startswith(THREAD_NAME)
    del model
    thread.join(5)
    assert not thread.is_alive()


def test_a_trial_that_does_not_end_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.vision.segmenter.TRIAL_LIMIT_S", 0.3)
    path = write_model(tmp_path / "endless.onnx", slow_steps=10_000_000)
    with pytest.raises(ModelError, match=r"endless\.onnx: the trial of thresholds-1 took more than 0\.3 s"):
        load_model(path, CPU)


def test_a_trial_that_nobody_waits_for_any_more_is_broken_off(tmp_path: Path) -> None:
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(ModelError, match="terminate flag"):
        load_model(write_model(tmp_path / "endless.onnx", slow_steps=10_000_000), CPU, given_up=given_up)


@pytest.mark.parametrize(
    ("cores", "threads"),
    [pytest.param(set(range(n)), t, id=f"{n} cores") for n, t in ((1, 1), (2, 2), (3, 2), (16, 4))],
)
def test_threads_are_chosen_so_that_a_core_is_left(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: cores, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert thread_count() == threads
    assert thread_count(networks=2) == max(1, threads // 2)
    assert thread_count(7) == 7


@pytest.mark.skipif(missing_gpu() is None, reason="there is a GPU on this machine")
def test_a_missing_gpu_is_no_error_and_makes_no_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(write_model(tmp_path / "model.onnx"), Hardware(provider="cuda"))
    assert model.provider == "cpu"
    model.run(picture()[np.newaxis])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_gpu_that_does_not_start_is_left_for_the_cpu_without_noise(
    tmp_path: Path, broken_gpu: BrokenGpu, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken_gpu.starts = False
    model = load_model(write_model(tmp_path / "model.onnx"), Hardware(provider="auto", threads=1))
    assert model.provider == "cpu"
    assert "model.onnx does not start on the GPU: " in caplog.text
    assert capfd.readouterr().out == ""


def test_a_gpu_that_fails_on_a_frame_is_told_and_not_exchanged_in_the_middle_of_it(
    tmp_path: Path, broken_gpu: BrokenGpu, capfd: pytest.CaptureFixture[str]
) -> None:
    model = load_model(write_model(tmp_path / "model.onnx"), Hardware(provider="auto", threads=1))
    assert model.provider == "cuda"
    broken_gpu.works = False
    for _ in range(2):
        with pytest.raises(ModelError, match=r"model\.onnx: thresholds-1 fails: .*CUDA failure 700"):
            model.run(picture()[np.newaxis])
    assert model.provider == "cuda"
    assert capfd.readouterr().out == ""
