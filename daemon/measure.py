"""From labels and degrees to what is known about a frame: positions, areas, temperatures."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from daemon.medians import median_where
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.posture import posture_of
from daemon.reference import Offset, corrected
from daemon.unmixing import unmixed
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.regions import Regions
from daemon.vision.shape import Mask
from drivers.frame import FrameFlag, ThermalFrame

_UNMEASURABLE = ((FrameFlag.SHUTTER, "shutter"), (FrameFlag.UNCERTAIN, "uncertain"))
"""Flags on which nothing is measured, with the reason in the record; the first that is set speaks."""

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
    regions: Regions | None = None,
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
    regions : Regions, optional
        Of the segmentation, where they are known already.

    Raises
    ------
    ValueError
        If two instances share a number, or a measurable frame comes without a segmentation.

    Notes
    -----
    Centroid and area are those of all pixels of a part. Temperatures are those that `daemon.unmixing` gives.
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
        regions = Regions.of(segmentation) if regions is None else regions
        animals = _animals(frame.celsius, segmentation.instances, regions, numbers, mm_per_px)
        free = segmentation.instances == 0
        background = median_where(frame.celsius, free)
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


def _animals(
    celsius: NDArray[np.float32],
    instances: NDArray[np.uint8],
    regions: Regions,
    numbers: Mapping[int, int],
    mm_per_px: float | None,
) -> tuple[AnimalObservation, ...]:
    freed = unmixed(celsius, instances, regions)
    degrees, known = freed.celsius.astype(np.float64), np.isfinite(freed.celsius)
    xs, ys, outlines = regions.sums(regions.columns), regions.sums(regions.rows), regions.sums(freed.outline)
    found = []
    for instance, number in sorted(numbers.items(), key=lambda pair: pair[1]):
        if instance not in regions.instances:
            continue
        own = regions.parts_of(instance)
        parts = tuple(
            _part(
                part,
                np.sort(degrees[here][known[here]]),
                area_px=here.stop - here.start,
                x_sum=xs[index],
                y_sum=ys[index],
                outline_px=outlines[index],
                mm_per_px=mm_per_px,
            )
            for part, (index, here) in own.items()
        )
        posture = posture_of({part: (regions.rows[here], regions.columns[here]) for part, (_, here) in own.items()})
        found.append(AnimalObservation(animal=number, parts=parts, posture=posture))
    return tuple(found)


def _part(
    part: BodyPart,
    ascending: NDArray[np.float64],
    *,
    area_px: int,
    x_sum: int,
    y_sum: int,
    outline_px: int,
    mm_per_px: float | None,
) -> PartObservation:
    """Of the temperatures of its pixels, sorted, and of sums over their columns and rows."""
    x_px, y_px = x_sum / area_px, y_sum / area_px
    some = len(ascending) > 0
    return PartObservation(
        part=part,
        x_px=x_px,
        y_px=y_px,
        x_mm=None if mm_per_px is None else x_px * mm_per_px,
        y_mm=None if mm_per_px is None else y_px * mm_per_px,
        area_px=area_px,
        area_mm2=None if mm_per_px is None else area_px * mm_per_px**2,
        valid_px=len(ascending),
        mean_celsius=float(np.add.reduce(ascending)) / len(ascending) if some else None,
        median_celsius=_percentile(ascending, 50) if some else None,
        p95_celsius=_percentile(ascending, 95) if some else None,
        min_celsius=float(ascending[0]) if some else None,
        max_celsius=float(ascending[-1]) if some else None,
        outline_px=outline_px,
    )


def _percentile(ascending: NDArray[np.float64], percent: int) -> float:
    """Of sorted values, linear in between: what `np.percentile` gives, which takes many times as long on so few."""
    below, share = divmod((len(ascending) - 1) * percent, 100)
    low = float(ascending[below])
    return low + (float(ascending[min(below + 1, len(ascending) - 1)]) - low) * share / 100
