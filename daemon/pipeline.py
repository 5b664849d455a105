"""One frame to one observation: segment, number, measure. The service and the offline analysis share it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.measure import measure, unmeasurable
from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from daemon.reference import References, polygon_mask
from daemon.settings import ZoneSettings
from daemon.track import Following, KnownThen, Tracker
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
    """Instance in the segmentation -> `AnimalObservation.key` in the observation."""


def nests_of(zones: Iterable[ZoneSettings]) -> Mask | None:
    """Pixels of all zones that are nests, (192, 256) bool; None without one."""
    masks = [polygon_mask(zone.polygon) for zone in zones if zone.kind == "nest"]
    return np.logical_or.reduce(masks) if masks else None


class Pipeline:
    """Follows the animals from frame to frame; belongs to one thread.

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
        self._tracker = Tracker(animals)
        self._mm_per_px = mm_per_px
        self._references = references
        self._nests = nests

    def restore(self, known: Sequence[KnownThen]) -> None:
        """Go on from what was known of the animals before a restart; before the first frame."""
        self._tracker.restore(known)

    def process(
        self, frame: ThermalFrame, *, block_key: str | None = None, planned_utc_ns: int | None = None
    ) -> Measured:
        """Measure one frame; frames that are no measurement come out with the reason and no animals."""
        left_out = None if unmeasurable(frame.flags) else self._left_out(frame)
        if unmeasurable(frame.flags) or left_out:
            empty = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
            segmentation = Segmentation(parts=empty, instances=empty.copy())
            following = Following(segmentation=segmentation, instances={})
            by, offset = None, None
        else:
            segmentation = self.segmenter.segment(frame.celsius)
            following = self._tracker.follow(segmentation, frame.celsius, frame.captured_monotonic_ns)
            segmentation = following.segmentation
            by = segmentation.by or self.segmenter.name
            offset = None if self._references is None else self._references.offset(frame, segmentation.instances)
        numbers = {instance: followed.track for instance, followed in following.instances.items()}
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
            regions=following.regions,
        )
        return Measured(observation=identified(observation, following), segmentation=segmentation, numbers=numbers)


def identified(observation: FrameObservation, following: Following) -> FrameObservation:
    """An observation whose animals have the numbers of tracks, with what is known of who they are."""
    followed = {each.track: each for each in following.instances.values()}
    animals, groups = [], []
    for each in observation.animals:
        known = followed[each.key]
        group = known.track if known.size > 1 else None
        animals.append(
            replace(
                each,
                track=known.track,
                animal=known.animal,
                probability=known.probability,
                candidates=known.candidates,
                doubts=known.doubts,
                group=group,
                posture=each.posture if group is None else None,
            )
        )
        if group is not None:
            groups.append(_group(animals[-1], known.size))
    animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
    return replace(observation, animals=tuple(animals), groups=tuple(groups))


def _group(seen: AnimalObservation, size: int) -> GroupObservation:
    warm = [part for part in seen.parts if part.mean_celsius is not None and part.max_celsius is not None]
    known = sum(part.valid_px for part in warm)
    return GroupObservation(
        number=seen.key,
        members=seen.candidates,
        size=size,
        area_px=sum(part.area_px for part in seen.parts),
        mean_celsius=sum((part.mean_celsius or 0.0) * part.valid_px for part in warm) / known if known else None,
        max_celsius=max((part.max_celsius for part in warm if part.max_celsius is not None), default=None),
    )
