"""Frames as they are measured, with animals of a few numbers, for tests of what is made of them."""

from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.posture import Posture
from daemon.vision.parts import BodyPart
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS

START_UTC_NS = 1_795_000_020 * SECOND_NS // MINUTE_NS * MINUTE_NS
"""A whole minute in November 2026."""

CALIBRATION = Calibration(
    constants=Constants(reference_count=6000, a=0.0125, b=1.5, ka=1e-3, kb=-2e-4, kc=0.97),
    shutter_celsius=27.0,
    fpa_celsius=34.0,
    environment=Environment(emissivity=0.98, reflected_celsius=22.0),
)


def part(
    kind: BodyPart,
    x_px: float,
    y_px: float,
    celsius: float,
    *,
    area_px: int = 100,
    outline_px: int = 20,
    max_celsius: float | None = None,
) -> PartObservation:
    """A part of one temperature, apart from its maximum."""
    return PartObservation(
        part=kind,
        x_px=x_px,
        y_px=y_px,
        x_mm=None,
        y_mm=None,
        area_px=area_px,
        area_mm2=None,
        valid_px=area_px,
        mean_celsius=celsius,
        median_celsius=celsius,
        p95_celsius=celsius,
        min_celsius=celsius,
        max_celsius=celsius if max_celsius is None else max_celsius,
        outline_px=outline_px,
    )


def rat(
    number: int = 1,
    *,
    at: tuple[float, float] = (100.0, 100.0),
    head: float = 34.0,
    body: float = 32.0,
    tail: float | None = 27.0,
    eye: float = 36.0,
    nose: tuple[float, float] | None = None,
    length_px: float = 60.0,
) -> AnimalObservation:
    """A rat whose trunk has its centre at a place: a head of 100 px to the left, a body of 300 px, and a tail."""
    x, y = at
    parts = [
        part(BodyPart.HEAD, x - 15, y, head, max_celsius=eye),
        part(BodyPart.BODY, x + 5, y, body, area_px=300),
    ]
    if tail is not None:
        parts.append(part(BodyPart.TAIL, x + 40, y, tail, area_px=90, outline_px=60))
    nose_x, nose_y = nose or (x - 25, y)
    posture = Posture(nose_x_px=nose_x, nose_y_px=nose_y, length_px=length_px, curl=0.1)
    return AnimalObservation(animal=number, parts=tuple(parts), posture=posture)


def frame(
    second: float,
    *animals: AnimalObservation,
    flags: FrameFlag = FrameFlag.NONE,
    ambient: float | None = 22.0,
    nest: float | None = None,
    not_measured: str | None = None,
    fpa_celsius: float = 34.0,
    block_key: str | None = None,
    offset: tuple[float, float] | None = None,
) -> FrameObservation:
    """The frame of a time, in seconds after the start."""
    since_ns = round(second * SECOND_NS)
    return FrameObservation(
        sequence=round(second * 25),
        captured_utc_ns=START_UTC_NS + since_ns,
        captured_monotonic_ns=since_ns,
        flags=flags,
        calibration=CALIBRATION,
        fpa_celsius=fpa_celsius,
        shutter_celsius=27.0,
        background_celsius=ambient,
        animals=animals,
        not_measured=not_measured,
        block_key=block_key,
        planned_utc_ns=None if block_key is None else START_UTC_NS + int(second) * SECOND_NS,
        nest_celsius=nest,
        reference_offset_celsius=None if offset is None else offset[0],
        reference_uncertainty_celsius=None if offset is None else offset[1],
    )
