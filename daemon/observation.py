"""What is known about one frame once it has been measured: the row of every table and message."""

from dataclasses import dataclass

from daemon.physiology import shows_head
from daemon.posture import Posture
from daemon.vision.parts import BY_SHAPE, BodyPart
from drivers.frame import FrameFlag
from drivers.thermometry import Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class PartObservation:
    """One body part of one animal in one frame."""

    part: BodyPart
    x_px: float
    """Centroid of its pixels, column."""
    y_px: float
    """Centroid of its pixels, row."""
    x_mm: float | None
    """The same by the configured scale; None without one."""
    y_mm: float | None
    area_px: int
    area_mm2: float | None
    valid_px: int
    """Pixels that have a temperature; the five figures below are theirs and None when there is none."""
    mean_celsius: float | None
    median_celsius: float | None
    p95_celsius: float | None
    min_celsius: float | None
    max_celsius: float | None
    outline_px: int | None = None
    """Pixels with background among their eight neighbours; None in what was stored before they were counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who something that is followed is said to be."""

    animal: int | None
    """Its number, from 1; None while it is not known which it is, and for a group."""
    probability: float | None
    """The tracker's posterior of the animal, or of the likeliest candidate; None for a group, and where a person has
    named it."""
    candidates: tuple[int, ...] = ()
    """Animals that it may be; empty where one is named."""
    correction: int | None = None
    """Number of the newest correction by a person that changed this; None where it is the tracker's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalObservation:
    """One animal in one frame, or several that cannot be told apart."""

    animal: int | None
    """Its number, from 1; None while it is not known which it is, and for a group."""
    parts: tuple[PartObservation, ...]
    """Those that were found, in the order of `BodyPart`."""
    posture: Posture | None = None
    """None without head or body."""
    track: int | None = None
    """What is followed from frame to frame, from 1, unique in a run; None where nothing was followed."""
    probability: float | None = None
    """That it is this animal, or, as long as none is named, the likeliest of the candidates; None for a group,
    and where a person has named it."""
    candidates: tuple[int, ...] = ()
    """Animals that it may be; empty where one is named."""
    group: int | None = None
    """Number of the group that this is."""
    doubts: int = 0
    """How often the track may have changed places with another since it began."""
    correction: int | None = None
    """Number of the newest correction by a person that changed who it is; None where it is the tracker's word."""
    before: tuple[Identity, ...] = ()
    """Who it was said to be before each of the corrections in force that changed it, the first one first; only of a
    frame that was just measured."""

    def __post_init__(self) -> None:
        if self.animal is None and self.track is None:
            raise ValueError("expected the number of an animal or of a track, got neither")

    @property
    def key(self) -> int:
        """What tells it from the others of its frame: its track, or without one its animal."""
        return next(number for number in (self.track, self.animal) if number is not None)

    @property
    def identity(self) -> Identity:
        """Who it is said to be."""
        return Identity(
            animal=self.animal,
            probability=self.probability,
            candidates=self.candidates,
            correction=self.correction,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupObservation:
    """Animals that lie or meet so closely that they cannot be told apart."""

    number: int
    """That of the track which stands for them."""
    members: tuple[int, ...]
    """Animals that may be among them."""
    size: int
    """How many of these are."""
    area_px: int
    mean_celsius: float | None
    """Of all their pixels; None where none has a temperature."""
    max_celsius: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameObservation:
    """One measured frame."""

    sequence: int
    captured_utc_ns: int
    captured_monotonic_ns: int
    flags: FrameFlag
    calibration: Calibration
    fpa_celsius: float
    shutter_celsius: float
    background_celsius: float | None
    """Median of what is no animal, °C."""
    animals: tuple[AnimalObservation, ...]
    not_measured: str | None
    """Why nothing was measured (`shutter`, `uncertain`, `error`, `model_slow`); None where it was."""
    block_key: str | None
    """Key of the block that planned this frame; None outside blocks."""
    planned_utc_ns: int | None
    """The planned moment this frame stands for; None outside blocks."""
    segmenter: str | None = None
    """Name of what found the animals; None where nothing was measured, or where it was stored before this was noted."""
    nest_celsius: float | None = None
    """Mean of the nests' pixels that no animal covers, °C; None without a nest, or where hardly any are free."""
    reference_offset_celsius: float | None = None
    """What was added to every degree so that the reference patches have theirs; None where nothing was."""
    reference_uncertainty_celsius: float | None = None
    """Standard uncertainty of that."""
    groups: tuple[GroupObservation, ...] = ()
    """Animals that cannot be told apart; each group is among `animals` too, with the parts that are seen of it."""

    def skin_max_celsius(self, animal: AnimalObservation) -> float | None:
        """The hottest pixel of one of the animals; None where it may not be one of its own eyes or ears.

        By networks its own head must be seen. Without them an animal that touches another is not told apart, so that
        what is told apart is seen whole; where its head is, is reckoned.
        """
        known = [part.max_celsius for part in animal.parts if part.max_celsius is not None]
        head_px = sum(part.area_px for part in animal.parts if part.part is BodyPart.HEAD)
        own = self.segmenter == BY_SHAPE or shows_head(head_px, sum(part.area_px for part in animal.parts))
        return max(known) if known and own else None
