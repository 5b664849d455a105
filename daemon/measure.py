"""From labels and degrees to what is known about a frame: positions, areas, temperatures."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.posture import posture_of
from daemon.reference import Offset, corrected
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.shape import Mask, window
from drivers.frame import FrameFlag, ThermalFrame

_UNMEASURABLE = ((FrameFlag.SHUTTER, "shutter"), (FrameFlag.UNCERTAIN, "uncertain"))
"""Flags on which nothing is measured, with the reason in the record; the first that is set speaks."""

_RIM_SHARE = np.float32(0.5)
"""How much of the fall of temperature before the outline goes on in it; see `unmixed_celsius`."""

_NEIGHBOURS = np.ones((3, 3), np.uint8)

LEAST_NEST_PX = 20
"""With fewer free pixels nothing is said about the warmth of a nest."""


def unmeasurable(flags: FrameFlag) -> str | None:
    """Why a frame with these flags must not be measured: `shutter` or `uncertain`; None when it may be."""
    return next((reason for flag, reason in _UNMEASURABLE if flag in flags), None)


def measure(
    frame: ThermalFrame,
    segmentation: Segmentation | None,
    *,
    numbers: Mapping[int, int],
    mm_per_px: float | None,
    block_key: str | None,
    planned_utc_ns: int | None,
    left_out: str | None = None,
    segmenter: str | None = None,
    offset: Offset | None = None,
    nests: Mask | None = None,
) -> FrameObservation:
    """Positions, areas and temperatures of every numbered animal in a frame.

    Parameters
    ----------
    frame : ThermalFrame
        Where the degrees come from.
    segmentation : Segmentation or None
        What is where in it. None is allowed for a frame that `unmeasurable` names or that is left out.
    numbers : mapping of int to int
        Instance in the segmentation -> number of the animal. Instances without a number are not reported.
    mm_per_px : float or None
        Size of a pixel at the animals' distance; without it there are no millimetres.
    block_key, planned_utc_ns
        The block and the planned moment this frame stands for, handed through.
    left_out : str, optional
        Why nothing is measured on a frame that could be.
    segmenter : str, optional
        Name of who made the segmentation, handed through.
    offset : Offset, optional
        What the references in the scene say is to be added to every degree.
    nests : (height, width) bool, optional
        Pixels of all zones that are nests.

    Raises
    ------
    ValueError
        If two instances share a number, or a measurable frame comes without a segmentation.

    Notes
    -----
    Centroid and area are those of all pixels of a part. Temperatures are those that `unmixed_celsius` gives.
    """
    reason = unmeasurable(frame.flags) or left_out
    animals: tuple[AnimalObservation, ...] = ()
    background = nest = None
    if reason is None:
        if segmentation is None:
            raise ValueError(f"frame {frame.sequence} can be measured (flags {frame.flags!r}) but has no segmentation")
        if len(set(numbers.values())) != len(numbers):
            raise ValueError(f"each animal is one instance, got the numbers {dict(numbers)}")
        frame = corrected(frame, offset)
        celsius = unmixed_celsius(frame.celsius, segmentation.instances)
        animals = _animals(celsius, segmentation, numbers, mm_per_px)
        free = segmentation.instances == 0
        background = _median_or_none(frame.celsius[free])
        nest = None if nests is None else _nest_celsius(frame.celsius[nests & free])
    return FrameObservation(
        sequence=frame.sequence,
        captured_utc_ns=frame.captured_utc_ns,
        captured_monotonic_ns=frame.captured_monotonic_ns,
        flags=frame.flags,
        calibration=frame.calibration,
        fpa_celsius=frame.metadata.fpa_celsius,
        shutter_celsius=frame.metadata.shutter_celsius,
        background_celsius=background,
        animals=animals,
        not_measured=reason,
        block_key=block_key,
        planned_utc_ns=planned_utc_ns,
        segmenter=segmenter,
        nest_celsius=nest,
        reference_offset_celsius=offset.celsius if offset is not None and reason is None else None,
        reference_uncertainty_celsius=offset.uncertainty if offset is not None and reason is None else None,
    )


def _nest_celsius(free: NDArray[np.float32]) -> float | None:
    known = free[np.isfinite(free)]
    return float(known.mean(dtype=np.float64)) if known.size >= LEAST_NEST_PX else None


def unmixed_celsius(celsius: NDArray[np.float32], instances: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Degrees with the outline of the animals freed from the floor that its pixels see as well.

    Parameters
    ----------
    celsius : (height, width) float32
        °C, NaN allowed.
    instances : (height, width) uint8
        0 background, otherwise the number of an animal.

    Returns
    -------
    (height, width) float32
        As `celsius`, but each pixel of an animal's outline (one with background among its eight neighbours) has what
        its inner neighbours have, less half of what these have lost against theirs. One without inner neighbours,
        as on the tip of a tail, keeps its own value, and one without a temperature stays without.

    Notes
    -----
    A pixel on the outline sees animal and floor at once (the partial volume effect). Half of all pixels of a tail
    four pixels wide lie there and would pull its mean down by 0.4 °C. To leave them out would be as wrong: the mean
    would then be that of a tail's thick, warm base, and of a head without its cooler rim. So they are counted,
    with the temperature of the animal beside them. Coat cools towards the rim: a part of the fall seen in the next
    ring is this, the other part is the lens's blur, so half of it is continued outwards, and never a rise.
    On simulated rats this keeps the means of all parts within 0.2 °C for a blur (sigma) of 0.4 to 0.8 px. Through a
    lens that is out of focus thin parts still come out too cold: a tail by 0.25 °C at 1 px.
    The border between two parts or two animals is no outline, nor is the edge of the picture.
    """
    unmixed = celsius.copy()
    if instances.any():
        here = window(instances > 0)
        unmixed[here] = _unmixed(celsius[here], (instances[here] > 0).astype(np.uint8))
    return unmixed


def _unmixed(celsius: NDArray[np.float32], animal: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Beyond the picture OpenCV counts as animal here, so the edge of the picture is not eroded.
    whole = cv2.erode(animal, _NEIGHBOURS)
    deep = cv2.erode(whole, _NEIGHBOURS)
    known = np.isfinite(celsius)
    inside, within = _mean_around(celsius, (whole > 0) & known)
    deeper, within_deeper = _mean_around(celsius, (deep > 0) & known)
    second = (whole > deep) & known & within_deeper
    fall, _ = _mean_around(np.where(second, np.minimum(celsius - deeper, 0), np.float32(0)), second)
    outline = (animal > whole) & known & within
    return np.where(outline, inside + _RIM_SHARE * fall, celsius).astype(np.float32)


def _mean_around(values: NDArray[np.float32], used: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the used among each pixel and its eight neighbours, 0 where there is none; and where there is one."""
    counts = _sums_around(used.astype(np.float32))
    sums = _sums_around(np.where(used, values, np.float32(0)))
    means: NDArray[np.float32] = np.divide(sums, np.maximum(counts, np.float32(1)), dtype=np.float32)
    return means, counts > 0


def _sums_around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over each pixel and its eight neighbours; nothing lies beyond the picture."""
    sums = cv2.boxFilter(values, -1, _NEIGHBOURS.shape, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums, np.float32)


def _median_or_none(celsius: NDArray[np.float32]) -> float | None:
    known = celsius[np.isfinite(celsius)]
    return float(np.median(known)) if known.size else None


def _animals(
    celsius: NDArray[np.float32], segmentation: Segmentation, numbers: Mapping[int, int], mm_per_px: float | None
) -> tuple[AnimalObservation, ...]:
    found = []
    rows, columns = np.nonzero(segmentation.instances)
    instances, labels = segmentation.instances[rows, columns], segmentation.parts[rows, columns]
    outline = _outline(segmentation.instances)[rows, columns]
    for instance, animal in sorted(numbers.items(), key=lambda pair: pair[1]):
        own = instances == instance
        if not own.any():
            continue
        places = {part: np.flatnonzero(own & (labels == part)) for part in BodyPart}
        places = {part: here for part, here in places.items() if here.size}
        parts = tuple(
            _part(part, rows[here], columns[here], celsius, mm_per_px, outline_px=int(np.count_nonzero(outline[here])))
            for part, here in places.items()
        )
        posture = posture_of({part: (rows[here], columns[here]) for part, here in places.items()})
        found.append(AnimalObservation(animal=animal, parts=parts, posture=posture))
    return tuple(found)


def _outline(instances: NDArray[np.uint8]) -> Mask:
    """Pixels of animals with background among their eight neighbours; beyond the picture there is none."""
    animal = (instances > 0).astype(np.uint8)
    return np.asarray(animal > cv2.erode(animal, _NEIGHBOURS))


def _part(
    part: BodyPart,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    celsius: NDArray[np.float32],
    mm_per_px: float | None,
    *,
    outline_px: int,
) -> PartObservation:
    values = celsius[rows, columns].astype(np.float64)
    values = np.sort(values[np.isfinite(values)])
    x_px, y_px, area_px = float(columns.mean()), float(rows.mean()), int(rows.size)
    some = values.size > 0
    return PartObservation(
        part=part,
        x_px=x_px,
        y_px=y_px,
        x_mm=None if mm_per_px is None else x_px * mm_per_px,
        y_mm=None if mm_per_px is None else y_px * mm_per_px,
        area_px=area_px,
        area_mm2=None if mm_per_px is None else area_px * mm_per_px**2,
        valid_px=int(values.size),
        mean_celsius=float(values.mean()) if some else None,
        median_celsius=_percentile(values, 50) if some else None,
        p95_celsius=_percentile(values, 95) if some else None,
        min_celsius=float(values[0]) if some else None,
        max_celsius=float(values[-1]) if some else None,
        outline_px=outline_px,
    )


def _percentile(ascending: NDArray[np.float64], percent: int) -> float:
    """Of sorted values, linear in between: what `np.percentile` gives, which takes many times as long on so few."""
    below, share = divmod((len(ascending) - 1) * percent, 100)
    low = float(ascending[below])
    return low + (float(ascending[min(below + 1, len(ascending) - 1)]) - low) * share / 100
