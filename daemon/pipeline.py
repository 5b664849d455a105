"""One frame to one observation: segment, number, measure. The service and the offline analysis share it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from daemon.measure import measure, unmeasurable
from daemon.observation import FrameObservation
from daemon.reference import References, polygon_mask
from daemon.settings import ZoneSettings
from daemon.track import NearestNumbering
from daemon.vision.parts import Segmentation, Segmenter
from daemon.vision.shape import Mask
from drivers.frame import ThermalFrame
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """An observation and the masks it was made from."""

    observation: FrameObservation
    segmentation: Segmentation
    """Empty where the frame was not measured."""
    numbers: Mapping[int, int] = field(default_factory=dict)
    """Instance in the segmentation -> number of the animal in the observation."""


def nests_of(zones: Iterable[ZoneSettings]) -> Mask | None:
    """Pixels of all zones that are nests, (192, 256) bool; None without one."""
    masks = [polygon_mask(zone.polygon) for zone in zones if zone.kind == "nest"]
    return np.logical_or.reduce(masks) if masks else None


class Pipeline:
    """Keeps the numbering of the animals from frame to frame; belongs to one thread.

    Parameters
    ----------
    segmenter : Segmenter
        Finds them.
    animals : int
        How many there are at most.
    mm_per_px : float or None
        Size of a pixel at the animals' distance.
    left_out : callable
        Why a frame that could be measured is not to be; None when it is.
    references : References, optional
        Patches of known temperature in the scene.
    nests : (height, width) bool, optional
        Pixels of the zones that are nests.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        animals: int,
        mm_per_px: float | None,
        left_out: Callable[[ThermalFrame], str | None] = lambda _frame: None,
        references: References | None = None,
        nests: Mask | None = None,
    ) -> None:
        self.segmenter = segmenter
        self._left_out = left_out
        self._numbering = NearestNumbering(animals)
        self._mm_per_px = mm_per_px
        self._references = references
        self._nests = nests

    def process(
        self, frame: ThermalFrame, *, block_key: str | None = None, planned_utc_ns: int | None = None
    ) -> Measured:
        """Measure one frame; frames that are no measurement come out with the reason and no animals."""
        left_out = None if unmeasurable(frame.flags) else self._left_out(frame)
        if unmeasurable(frame.flags) or left_out:
            empty = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
            segmentation = Segmentation(parts=empty, instances=empty.copy())
            numbers: dict[int, int] = {}
            by, offset = None, None
        else:
            segmentation = self.segmenter.segment(frame.celsius)
            numbers = self._numbering.number(segmentation)
            by = segmentation.by or self.segmenter.name
            offset = None if self._references is None else self._references.offset(frame, segmentation.instances)
        observation = measure(
            frame,
            segmentation,
            numbers=numbers,
            mm_per_px=self._mm_per_px,
            block_key=block_key,
            planned_utc_ns=planned_utc_ns,
            left_out=left_out,
            segmenter=by,
            offset=offset,
            nests=self._nests,
        )
        return Measured(observation=observation, segmentation=segmentation, numbers=numbers)
