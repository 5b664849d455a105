"""The networks at work: ONNX files in onnxruntime, from degrees to animals with parts."""

import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from daemon.vision.model_card import INPUT_NAME, ModelCard, Tensor, card_of, check_graph, expected_outputs
from daemon.vision.onnx_file import ModelError, OnnxFile, read_onnx
from daemon.vision.panoptic import MOST_ANIMALS, CentreMap, PartMap, grouped, merged
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.runtime import onnxruntime
from drivers.placement import Placement

logger = logging.getLogger(__name__)

Field = NDArray[np.float32]
Provider = Literal["cuda", "cpu"]

THREAD_NAME = "vision-network"
"""What the names of the models' own threads begin with."""

MOST_THREADS = 4
"""Of all networks: more only wait for each other on pictures as small as these."""

NICE = 5
"""The networks' threads are so much nicer than the rest: capture gets three shares of a core to one of theirs."""

_PROVIDERS: Mapping[Provider, list[Any]] = {
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "cpu": ["CPUExecutionProvider"],
}
_NAMES: Mapping[str, Provider] = {"CUDAExecutionProvider": "cuda", "CPUExecutionProvider": "cpu"}

_FATAL_ONLY = 4
"""Severity of onnxruntime's own lines; what goes wrong comes as an exception as well."""

_LONGEST_REASON = 300
_ROUNDING = 1e-3

TRIAL_LIMIT_S = 60.0
"""A model whose trial takes longer is given up: no frame would ever be measured by it."""

_LOOK_S = 0.1
"""How often the thread that breaks off a trial looks."""

_KINDS: Mapping[str, Any] = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}

onnxruntime.set_default_logger_severity(_FATAL_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a network is to run on."""

    provider: Literal["auto", "cuda", "cpu"] = "auto"
    """auto takes an NVIDIA GPU where there is one that onnxruntime can use."""
    threads: int = 0
    """Of the CPU; 0 chooses for a network that runs alone, see `thread_count`."""


def thread_count(wanted: int = 0, *, networks: int = 1) -> int:
    """Threads for each of so many networks that run at once.

    As wanted, or they share the cores; of more than two cores one is left to capture.
    """
    if wanted:
        return wanted
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores if cores <= 2 else cores - 1, MOST_THREADS) // networks)


def missing_gpu() -> str | None:
    """Why no NVIDIA GPU can be used; None when one may be there."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this onnxruntime is built for the CPU"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine"
    return None


class Model:
    """One network, loaded, checked and warm. Made by `load_model`; `run` belongs to one thread at a time.

    It keeps a thread of its own, which ends with the model.
    """

    def __init__(
        self,
        file: OnnxFile,
        card: ModelCard,
        session: onnxruntime.InferenceSession,
        *,
        threads: int,
        beside: ThreadPoolExecutor,
    ) -> None:
        self.path = file.path
        self.card = card
        self.sha256 = file.sha256
        self.threads = threads
        self.provider: Provider = _NAMES.get(session.get_providers()[0], "cpu")
        """What really runs it."""
        self._session = session
        self._beside = beside
        self._outputs = expected_outputs(card)
        self._running: onnxruntime.RunOptions | None = None

    def run(self, celsius: Field) -> dict[str, NDArray[Any]]:
        """The outputs by name, as `daemon.vision.model_card` describes them.

        Parameters
        ----------
        celsius : (n, input_height, input_width) float32
            Degrees C, NaN allowed.

        Raises
        ------
        ModelError
            If the network fails, is interrupted, or gives something else than it has declared.
        """
        self._running = onnxruntime.RunOptions()
        self._running.log_severity_level = _FATAL_ONLY
        try:
            arrays = self._session.run(list(self._outputs), {INPUT_NAME: celsius[:, np.newaxis]}, self._running)
        except Exception as error:  # onnxruntime's errors have no root of their own
            raise ModelError(f"{self.path}: {self.card.title} fails: {_first_line(error)}") from error
        finally:
            self._running = None
        outputs = dict(zip(self._outputs, arrays, strict=True))
        for name, tensor in self._outputs.items():
            wanted = (len(celsius), *tensor.shape[1:])
            if outputs[name].shape != wanted or outputs[name].dtype != _KINDS[tensor.kind]:
                raise ModelError(
                    f"{self.path}: {name}: expected {tensor.kind} {wanted}, got {outputs[name].dtype} "
                    f"{outputs[name].shape}"
                )
        return outputs

    def start(self, celsius: Field) -> Future[dict[str, NDArray[Any]]]:
        """Begin a `run` in the model's own thread."""
        return self._beside.submit(self.run, celsius)

    def interrupt(self) -> None:
        """Make `run`, which another thread is in, fail soon."""
        running = self._running
        if running is not None:
            running.terminate = True


def load_model(
    path: Path,
    hardware: Hardware,
    *,
    kind: Literal["unet", "panoptic"] | None = None,
    given_up: threading.Event | None = None,
) -> Model:
    """Load a model, compare its card with its graph, and try it.

    The trial warms it up: the next run is as fast as all later ones. It is broken off after `TRIAL_LIMIT_S`.

    Parameters
    ----------
    path : Path
        The ONNX file.
    hardware : Hardware
        What it is to run on.
    kind : str, optional
        What it must be; any kind when left out.
    given_up : threading.Event, optional
        Breaks the trial off when nobody wants the model any more.

    Raises
    ------
    ModelError
        If it is no ONNX file, not what its card or the contract says, or fails in the trial or does not end it.
    """
    file = read_onnx(path)
    card = card_of(file.metadata, str(path))
    if kind is not None and card.kind != kind:
        raise ModelError(f"{path}: expected a {kind} model, got {card.title}, a {card.kind} one: are they exchanged?")
    threads = thread_count(hardware.threads)
    # A thread that is nice, as then are all threads that come of it (Linux inherits that).
    beside = ThreadPoolExecutor(1, thread_name_prefix=THREAD_NAME, initializer=be_nice)
    session = beside.submit(_session, file, hardware, threads).result()
    check_graph(
        card,
        inputs={each.name: Tensor(each.type, tuple(each.shape)) for each in session.get_inputs()},
        outputs={each.name: Tensor(each.type, tuple(each.shape)) for each in session.get_outputs()},
        opsets=file.opsets,
        origin=str(path),
    )
    model = Model(file, card, session, threads=threads, beside=beside)
    with _limited(model, given_up or threading.Event()):
        _try(model)
    return model


@contextmanager
def _limited(model: Model, given_up: threading.Event) -> Iterator[None]:
    """Break off what the model is in when it takes too long, or nobody wants it any more."""
    over, late = threading.Event(), threading.Event()
    until_s = time.monotonic() + TRIAL_LIMIT_S

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if time.monotonic() > until_s:
                late.set()
            if late.is_set() or given_up.is_set():
                model.interrupt()

    watcher = threading.Thread(target=watch, name="model-trial", daemon=True)
    watcher.start()
    try:
        yield
    except ModelError as error:
        if not late.is_set():
            raise
        raise ModelError(
            f"{model.path}: the trial of {model.card.title} took more than {TRIAL_LIMIT_S:g} s: it is too slow here"
        ) from error
    finally:
        over.set()
        watcher.join()


def _session(file: OnnxFile, hardware: Hardware, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that waits for work asleep leaves its core to capture.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted: Provider = "cpu" if hardware.provider == "cpu" or missing_gpu() else "cuda"
    if wanted == "cuda":
        onnxruntime.preload_dlls()
    if wanted == "cuda":
        try:
            return _made(file, options, "cuda")
        except Exception as error:  # see `Model.run`
            logger.warning("%s does not start on the GPU: %s", file.path, _first_line(error))
    try:
        return _made(file, options, "cpu")
    except Exception as error:  # see `Model.run`
        raise ModelError(f"{file.path}: onnxruntime refuses the model: {_first_line(error)}") from error


def _made(file: OnnxFile, options: onnxruntime.SessionOptions, provider: Provider) -> onnxruntime.InferenceSession:
    # Its own way from a GPU that fails to the CPU prints, and loads the model anew in the middle of a frame: we do it
    # ourselves, beside what runs.
    return onnxruntime.InferenceSession(file.content, options, providers=_PROVIDERS[provider], enable_fallback=0)


def be_nice() -> None:
    """Let all other threads go before the calling one, and before those that it starts (Linux)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it: a network that is not nice is still one
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:_LONGEST_REASON] or type(error).__name__


def _try(model: Model) -> None:
    """Two pictures at once and one alone: one with something warm in it, one without any temperature."""
    height, width = model.card.input_height, model.card.input_width
    floor = np.full((height, width), 23, np.float32)
    floor[height // 3 : height // 2, width // 3 : width // 2] = 31
    floor[:2] = np.nan
    nothing = np.full_like(floor, np.nan)
    for batch in (np.stack((floor, nothing)), floor[np.newaxis]):
        outputs = model.run(batch)
        highest = int(outputs["parts"].max())
        if highest > max(BodyPart):
            raise ModelError(f"{model.path}: parts: expected labels up to {max(BodyPart):d}, got {highest}")
        for name in outputs.keys() - {"parts"}:
            if not np.isfinite(outputs[name]).all():
                raise ModelError(f"{model.path}: {name}: expected numbers, got NaN where the picture has none")
        for name in outputs.keys() & {"confidence", "centre"}:
            low, high = float(outputs[name].min()), float(outputs[name].max())
            if low < -_ROUNDING or high > 1 + _ROUNDING:
                raise ModelError(f"{model.path}: {name}: expected 0 to 1, got {low:.3g} to {high:.3g}")


class NetworkSegmenter:
    """Finds animals and their parts with one network or both; fulfils `daemon.vision.parts.Segmenter`.

    With both, labels are merged and animals told apart by the panoptic one. With a U-Net alone each connected piece is
    an animal. Both run at once, each in its own nice thread: two networks on a core each take less time than one
    after the other on two cores.

    Parameters
    ----------
    unet, panoptic : Model or None
        At least one.
    most : int
        How many animals there are at most.

    Raises
    ------
    ModelError
        If there is none, or the two take pictures of different sizes.
    """

    def __init__(self, *, unet: Model | None, panoptic: Model | None, most: int = MOST_ANIMALS) -> None:
        self.models = tuple(model for model in (unet, panoptic) if model is not None)
        if not self.models:
            raise ModelError("expected a unet, a panoptic model or both, got none")
        self._unet, self._panoptic = unet, panoptic
        self.most = most
        """How many animals there are at most."""
        card = self.models[0].card
        self._height, self._width = card.input_height, card.input_width
        for model in self.models:
            if (model.card.input_height, model.card.input_width) != (self._height, self._width):
                raise ModelError(
                    f"{model.path}: expected pictures of {self._height} x {self._width} as {self.models[0].path} takes "
                    f"them, got {model.card.input_height} x {model.card.input_width}: export both for one size"
                )

    @property
    def name(self) -> str:
        """See `Segmenter`."""
        return "+".join(model.card.title for model in self.models)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each model's file, by its kind."""
        return {model.card.kind: model.sha256 for model in self.models}

    @property
    def provider(self) -> Provider:
        """What really runs them; the CPU when it has a part in it."""
        return "cuda" if all(model.provider == "cuda" for model in self.models) else "cpu"

    def of_most(self, most: int) -> "NetworkSegmenter":
        """The same networks for another number of animals."""
        return NetworkSegmenter(unet=self._unet, panoptic=self._panoptic, most=most)

    def interrupt(self) -> None:
        """Make a `segment` that another thread is in fail soon."""
        for model in self.models:
            model.interrupt()

    def segment(self, celsius: Field) -> Segmentation:
        """See `Segmenter`; a picture of another size than the networks' is scaled, never squashed.

        Raises
        ------
        ModelError
            If a network fails.
        """
        return self.segment_many(celsius[np.newaxis])[0]

    def segment_many(self, frames: Field) -> list[Segmentation]:
        """The same for pictures of one size, shape (n, height, width), in one run of each network."""
        height, width = frames.shape[1:]
        if (height, width) == (self._height, self._width):
            return self._segment(_without_infinities(frames))
        placement = Placement.fit(width, height, frame_width=self._width, frame_height=self._height)
        placed = np.stack([placement.field_to_frame(_without_infinities(frame)) for frame in frames])
        return [
            Segmentation(
                parts=placement.labels_to_source(found.parts), instances=placement.labels_to_source(found.instances)
            )
            for found in self._segment(placed)
        ]

    def outputs(self, frames: Field) -> dict[str, dict[str, NDArray[Any]]]:
        """What the networks give for pictures of their own size, by kind and name.

        Raises
        ------
        ModelError
            If one fails; both have ended then.
        """
        started = [model.start(frames) for model in self.models]
        wait(started)
        try:
            return {model.card.kind: each.result() for model, each in zip(self.models, started, strict=True)}
        finally:
            started.clear()  # an error would hold them, and they it

    def _segment(self, frames: Field) -> list[Segmentation]:
        outputs = self.outputs(frames)
        return [
            self._grouped({kind: _one(arrays, index) for kind, arrays in outputs.items()})
            for index in range(len(frames))
        ]

    def _grouped(self, outputs: Mapping[str, Mapping[str, NDArray[Any]]]) -> Segmentation:
        maps = [PartMap(parts=each["parts"], confidence=each["confidence"]) for each in outputs.values()]
        labels = maps[0] if len(maps) == 1 else merged(*maps)
        centres = None
        if self._panoptic is not None and self._panoptic.card.stride is not None:
            found = outputs["panoptic"]
            centres = CentreMap(centre=found["centre"][0], offset=found["offset"], stride=self._panoptic.card.stride)
        return grouped(labels.parts, centres, most=self.most)


def _one(arrays: Mapping[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
    return {name: array[index] for name, array in arrays.items()}


def _without_infinities(celsius: Field) -> Field:
    """Degrees as the networks take them: what is no number is NaN."""
    celsius = np.ascontiguousarray(celsius, np.float32)
    infinite = np.isinf(celsius)
    return np.where(infinite, np.float32(np.nan), celsius) if infinite.any() else celsius
