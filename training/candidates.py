"""What can be judged: anything that finds parts and animals in degrees, with the runtime's own steps behind it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.panoptic import CentreMap, PartMap, grouped, merged
from daemon.vision.segmenter import Hardware, load_model
from drivers.errors import VivariumError
from drivers.placement import Placement
from training.checkpoints import load
from training.verdict import Found

Outputs = Mapping[str, NDArray[Any]]


class CandidateError(VivariumError):
    """What was given cannot be judged: say what was expected."""


class Candidate(Protocol):
    """Finds parts and animals in a picture."""

    @property
    def name(self) -> str:
        """For titles and records: what it is, with its version or hash."""
        ...

    @property
    def tells_apart(self) -> bool:
        """Whether it can tell animals apart that touch."""
        ...

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """Label one picture of degrees C, shape (192, 256), NaN allowed."""
        ...


class ClassicalCandidate:
    """The path without a network; fulfils `Candidate`.

    Parameters
    ----------
    animals : int
        How many it may find at most.
    min_area_px : int
        Smaller warm areas are no animals.
    """

    tells_apart = False

    def __init__(self, animals: int, min_area_px: int) -> None:
        self._segmenter = ClassicalSegmenter(animals=animals, min_area_px=min_area_px)

    @property
    def name(self) -> str:
        """See `Candidate`."""
        return self._segmenter.name

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """See `Candidate`."""
        segmentation = self._segmenter.segment(celsius)
        return Found(parts=segmentation.parts, instances=segmentation.instances)


class LabelNetwork(Protocol):
    """One network with the outputs of `daemon.vision.model_card`."""

    @property
    def name(self) -> str:
        """What it is, with a hash."""
        ...

    @property
    def kind(self) -> str:
        """`unet` or `panoptic`."""
        ...

    @property
    def stride(self) -> int | None:
        """Pixels per cell of centre and offset; None where there are none."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of its pictures."""
        ...

    def run(self, celsius: NDArray[np.float32]) -> Outputs:
        """Its outputs by name for one picture of its size, without the first dimension."""
        ...


class OnnxNetwork:
    """A network from an ONNX file, run on the CPU; fulfils `LabelNetwork`.

    Raises
    ------
    ModelError
        If it does not keep the contract.
    """

    def __init__(self, path: Path) -> None:
        self._model = load_model(path, Hardware(provider="cpu"))
        self.name = f"{self._model.card.title} ({path.name}, sha256 {self._model.sha256[:12]})"
        self.kind = self._model.card.kind
        self.stride = self._model.card.stride
        self.input_size = (self._model.card.input_height, self._model.card.input_width)

    def run(self, celsius: NDArray[np.float32]) -> Outputs:
        """See `LabelNetwork`."""
        outputs = {name: array[0] for name, array in self._model.run(celsius[np.newaxis]).items()}
        if "centre" in outputs:
            outputs["centre"] = outputs["centre"][0]
        return outputs


class CheckpointNetwork:
    """A network from a checkpoint, before it is exported; fulfils `LabelNetwork`.

    Raises
    ------
    CheckpointError
        If no network can be made of the file.
    """

    def __init__(self, path: Path) -> None:
        self._network = load(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.kind = str(self._network.kind)
        self.name = f"{self.kind} ({path.name}, sha256 {digest[:12]})"
        self.stride = self._network.stride
        self.input_size = self._network.input_size

    def run(self, celsius: NDArray[np.float32]) -> Outputs:
        """See `LabelNetwork`."""
        with torch.inference_mode():
            tensors = self._network(torch.tensor(celsius)[None, None])
        names = ("parts", "confidence", "centre", "offset")[: len(tensors)]
        outputs = {name: tensor[0].numpy() for name, tensor in zip(names, tensors, strict=True)}
        if "centre" in outputs:
            outputs["centre"] = outputs["centre"][0]
        return outputs


def opened_network(path: Path) -> LabelNetwork:
    """A network from an `.onnx` file or a checkpoint; the same errors as these."""
    return OnnxNetwork(path) if path.suffix.lower() == ".onnx" else CheckpointNetwork(path)


class NetworkCandidate:
    """One network or both, with the runtime's merging and grouping behind them; fulfils `Candidate`.

    A U-Net alone takes each connected piece for an animal; with a panoptic network animals are told apart by it, and of
    two opinions on a pixel the surer one counts. What `daemon.vision.segmenter.NetworkSegmenter` gives for the same
    files is the same labels, but without the confidence that curves and average precision need.

    Parameters
    ----------
    networks : list of LabelNetwork
        One, or one of each kind.
    most : int
        How many animals there are at most.

    Raises
    ------
    CandidateError
        If there are others.
    """

    def __init__(self, networks: list[LabelNetwork], *, most: int) -> None:
        by_kind = {network.kind: network for network in networks}
        if not networks or len(by_kind) != len(networks) or len({network.input_size for network in networks}) > 1:
            told = ", ".join(f"{network.kind} of {network.input_size}" for network in networks) or "none"
            raise CandidateError(
                f"expected a unet model, a panoptic one, or one of each for pictures of one size; got {told}"
            )
        self._networks = [by_kind[kind] for kind in ("unet", "panoptic") if kind in by_kind]
        self._most = most

    @property
    def name(self) -> str:
        """See `Candidate`."""
        return " + ".join(network.name for network in self._networks)

    @property
    def tells_apart(self) -> bool:
        """See `Candidate`."""
        return self._networks[-1].kind == "panoptic"

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """See `Candidate`."""
        height, width = self._networks[0].input_size
        known = np.where(np.isfinite(celsius), celsius, np.float32(np.nan))
        placement = Placement.fit(celsius.shape[1], celsius.shape[0], frame_width=width, frame_height=height)
        placed = known if celsius.shape == (height, width) else placement.field_to_frame(known)
        outputs = [network.run(placed) for network in self._networks]
        maps = [PartMap(parts=each["parts"], confidence=each["confidence"]) for each in outputs]
        labels = maps[0] if len(maps) == 1 else merged(*maps)
        stride = self._networks[-1].stride
        centres = (
            None
            if stride is None
            else CentreMap(centre=outputs[-1]["centre"], offset=outputs[-1]["offset"], stride=stride)
        )
        segmentation = grouped(labels.parts, centres, most=self._most)
        layers = (segmentation.parts, segmentation.instances, labels.confidence)
        if celsius.shape == (height, width):
            return Found(parts=layers[0], instances=layers[1], confidence=layers[2])
        return Found(
            parts=placement.labels_to_source(layers[0]),
            instances=placement.labels_to_source(layers[1]),
            confidence=placement.labels_to_source(layers[2]),
        )
