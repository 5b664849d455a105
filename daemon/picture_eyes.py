"""What is measured on pictures of a simulated box: which animal is which is true, all else as in the field."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from daemon.measure import measure, unmeasurable
from daemon.observation import FrameObservation
from daemon.vision.parts import Segmentation, Segmenter
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import ThermalFrame
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.vivarium.truth import SceneFrame

LEAST_OF_INSTANCE = 0.7
"""An instance that shows less of one animal than this shows several, and none of them is told apart."""
LEAST_OF_ANIMAL = 0.3
"""One that covers less of what is seen of an animal is a piece of it."""

_READ_TIMEOUT_S = 2.0


class PictureEyes:
    """A simulated camera, looked at now and then.

    Which animal is which is taken from the truth: this measures sight, not identity. An animal that is not told apart
    from another is not there.

    Parameters
    ----------
    scene : RememberedScene
        What the camera looks at.
    segmenter : Segmenter
        Finds the animals.
    start_utc_ns : int
        Before the first look.
    seed : int
        Of the camera's noise.
    mm_per_px : float or None
        Size of a pixel.
    """

    def __init__(
        self, scene: "RememberedScene", segmenter: Segmenter, *, start_utc_ns: int, seed: int, mm_per_px: float | None
    ) -> None:
        self._clock = SimulatedClock(start_utc_ns)
        self._segmenter = segmenter
        self._mm_per_px = mm_per_px
        device = SimulatedDevice(seed=seed, scene=scene, clock=self._clock)
        self.camera = SimulatedCamera(device, clock=self._clock)

    def look(
        self, utc_ns: int, *, block_key: str | None = None, planned_utc_ns: int | None = None
    ) -> tuple[FrameObservation, SceneFrame]:
        """Measure the next frame after a moment; not before the last look. The camera must be open."""
        self._clock.advance(max(0, utc_ns - self._clock.utc_ns()) / NS_PER_S)
        frame = self.camera.read(_READ_TIMEOUT_S)
        truth = self.camera.truth(frame)
        return self._measured(frame, truth, block_key, planned_utc_ns), truth

    def _measured(
        self, frame: ThermalFrame, truth: SceneFrame, block_key: str | None, planned_utc_ns: int | None
    ) -> FrameObservation:
        segmentation = None if unmeasurable(frame.flags) else self._segmenter.segment(frame.celsius)
        return measure(
            frame,
            segmentation,
            numbers={} if segmentation is None else numbers_by_truth(segmentation, truth.instances),
            mm_per_px=self._mm_per_px,
            block_key=block_key,
            planned_utc_ns=planned_utc_ns,
            segmenter=self._segmenter.name,
        )


class RememberedScene(Scene):
    """A scene whose last picture is kept: camera and truth ask for the same one."""

    _last: SceneFrame | None = None

    def at(self, utc_s: float) -> SceneFrame:
        """See `Scene`."""
        if self._last is None or self._last.utc_s != utc_s:
            self._last = super().at(utc_s)
        return self._last


def numbers_by_truth(segmentation: Segmentation, true: NDArray[np.uint8]) -> dict[int, int]:
    """Instance in the segmentation -> the animal that it shows; without those that show several, or a piece of one."""
    whole = Counter(true[true > 0].tolist())
    found: dict[int, tuple[int, int]] = {}
    for instance in np.unique(segmentation.instances[segmentation.instances > 0]).tolist():
        here = segmentation.instances == instance
        animals = Counter(true[here & (true > 0)].tolist())
        if not animals:
            continue
        animal, pixels = animals.most_common(1)[0]
        alone = pixels >= LEAST_OF_INSTANCE * animals.total() and pixels >= LEAST_OF_ANIMAL * whole[animal]
        if alone and pixels > found.get(animal, (0, 0))[1]:
            found[animal] = pixels, instance
    return {instance: animal for animal, (_, instance) in found.items()}
