"""From transfers to thermal frames: what needs the memory of earlier frames."""

from collections import Counter, deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.errors import FrameRejectedError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.nuc import HostCorrection
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    Constants,
    Metadata,
    RejectReason,
    Variant,
    check_metadata,
    check_picture,
    parse_metadata,
    transfer_from_bytes,
)
from drivers.thermometry import (
    OVER_RANGE_COUNT,
    Calibration,
    EnvironmentOverrides,
    calibration_of,
    temperature_table,
)

SETTLING_S = 3.0
"""Readings are taken from about three seconds after a shutter event."""

RANGE_SETTLING_S = 120.0
"""Readings wander for one to two minutes after the temperature range was switched."""

DRIFT_LIMIT_CELSIUS = 0.25
"""Change of the detector since the last calibration that shifts readings by about 0.3 °C."""

_WARM_CHANGE_CELSIUS = 0.1
_WARM_WINDOW_S = 300.0
_WARM_SAMPLE_S = 10.0

CONFIRMED_AFTER = 3
"""New constants (a range switch), shutter or user-area values are believed when so many frames in a row agree."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """What does not change from frame to frame."""

    variant: Variant
    constants: Constants
    firmware: str


class _Candidate:
    """A value that differs from the one in force, and how many frames in a row have said it.

    The metadata rows carry no checksum: one damaged frame, or one received while the user area is being written byte
    by byte, must not move the degrees.
    """

    def __init__(self) -> None:
        self._value: object = None
        self._seen = 0

    def confirmed(self, value: object) -> bool:
        """Count one more frame that says `value`; True from the third in a row on."""
        self._seen = self._seen + 1 if value == self._value else 1
        self._value = value
        return self._seen >= CONFIRMED_AFTER

    def forget(self) -> None:
        """A frame said what is in force."""
        self._value, self._seen = None, 0


class FrameDecoder:
    """Turns the transfers of one camera session into thermal frames, or says why one is refused.

    Parameters
    ----------
    overrides : EnvironmentOverrides
        The host's values for emissivity, distance and so on.
    still : bool
        The material repeats by nature (a picture shown again and again): a repeated picture is no shutter event.
    base_flags : FrameFlag
        Set on every frame.
    """

    def __init__(
        self,
        *,
        overrides: EnvironmentOverrides | None = None,
        still: bool = False,
        base_flags: FrameFlag = FrameFlag.NONE,
    ) -> None:
        self._overrides = overrides or EnvironmentOverrides()
        self._still = still
        self._base_flags = base_flags
        self.rejected: Counter[str] = Counter()
        """Refused transfers by `RejectReason`."""
        self.correction: HostCorrection | None = None
        """v2: what the host must do to the counts; without it a v2 frame is `UNCERTAIN`."""
        self._identity: _Identity | None = None
        self._new_identity = _Candidate()
        self._calibration: Calibration | None = None
        self._new_calibration = _Candidate()
        self._latched_correction: HostCorrection | None = None
        self._table: NDArray[np.float32] = np.empty(0, np.float32)
        self._last_image: bytes = b""
        self._frozen = False
        self._settled_at_ns = 0
        self._fpa_history: deque[tuple[int, float]] = deque()

    def decode(
        self, raw: RawFrame, *, calibration: Calibration | None = None, correction: HostCorrection | None = None
    ) -> ThermalFrame:
        """One transfer to degrees.

        Parameters
        ----------
        raw : RawFrame
            As it came off the wire.
        calibration : Calibration, optional
            The one in force when a recording was made; otherwise it is taken from the stream at each shutter event.
        correction : HostCorrection, optional
            The one in force when a recording of a v2 was made; otherwise the `correction` of this decoder.

        Raises
        ------
        FrameRejectedError
            Counted in `rejected`. Nothing of the refused transfer stays but the count of frames that agree on new
            constants.
        """
        try:
            transfer = transfer_from_bytes(raw.payload)
            extremes = check_picture(transfer)  # first: a foreign picture is not worth the reading of its metadata
            metadata = parse_metadata(transfer)
            check_metadata(transfer, metadata, extremes)
            identity = self._believed_identity(metadata, calibration)
            return self._to_degrees(raw, transfer, metadata, identity, calibration, correction or self.correction)
        except FrameRejectedError as error:
            self.rejected[error.reason] += 1
            raise

    def _believed_identity(self, metadata: Metadata, given: Calibration | None) -> _Identity:
        identity = _Identity(metadata.variant, metadata.constants, metadata.firmware)
        if self._identity is None:
            return identity
        # A recorded frame was believed at its capture, after others that were refused and are not in the recording.
        if identity == self._identity or (given is not None and given.constants == identity.constants):
            self._new_identity.forget()
        elif not self._new_identity.confirmed(identity):
            raise FrameRejectedError(
                RejectReason.CONSTANTS_CHANGED, f"expected {self._identity}, got {identity}; waiting for confirmation"
            )
        return identity

    def _to_degrees(
        self,
        raw: RawFrame,
        transfer: NDArray[np.uint16],
        metadata: Metadata,
        identity: _Identity,
        given: Calibration | None,
        correction: HostCorrection | None,
    ) -> ThermalFrame:
        image = transfer[:IMAGE_HEIGHT].tobytes()
        repeated = not self._still and image == self._last_image
        thawed = self._frozen and not repeated
        correction = None if metadata.variant is Variant.V1 else correction
        calibration = given or self._calibration_for(metadata, correction, after_event=thawed)
        table = self._table if calibration == self._calibration else temperature_table(calibration)
        counts, flags = _corrected(transfer[:IMAGE_HEIGHT], metadata, correction)
        # From here on nothing can fail: the state moves on only with a good frame.
        self._note_settling(raw.captured_monotonic_ns, identity, calibration, thawed)
        self._identity = identity
        self._calibration, self._table, self._latched_correction = calibration, table, correction
        self._last_image, self._frozen = image, repeated
        flags |= self._base_flags | self._flags_of(raw, metadata, calibration, repeated)
        if metadata.constants.high_range:
            flags |= FrameFlag.HIGH_RANGE
        elif int(counts.max()) >= OVER_RANGE_COUNT:
            flags |= FrameFlag.OVER_RANGE
        return ThermalFrame(
            sequence=raw.sequence,
            captured_utc_ns=raw.captured_utc_ns,
            captured_monotonic_ns=raw.captured_monotonic_ns,
            celsius=table.take(counts),
            transfer=transfer,
            metadata=metadata,
            calibration=calibration,
            correction=correction,
            flags=flags,
        )

    def _calibration_for(
        self, metadata: Metadata, correction: HostCorrection | None, *, after_event: bool
    ) -> Calibration:
        """The calibration in force; a new one at the start, after a shutter event, and when what it rests on changes.

        Shutter and detector temperature are latched: between shutter events they wander without the picture's offset
        having changed. A v1 moves its shutter register in shutter cycles only, so a lasting change of it is a cycle,
        even when its frozen picture was not seen; a v2 reads its sensor all the time, and there a new host correction
        is the event.
        """
        fresh, held = calibration_of(metadata, self._overrides), self._calibration
        if held is None or fresh.constants != held.constants or correction is not self._latched_correction:
            self._new_calibration.forget()
            return fresh
        cycles = metadata.variant is Variant.V1
        if after_event and cycles:
            held = replace(held, fpa_celsius=fresh.fpa_celsius)
        moved = cycles and fresh.shutter_celsius != held.shutter_celsius
        if not moved and fresh.environment == held.environment:
            self._new_calibration.forget()
            return held
        wanted = fresh if moved else replace(held, environment=fresh.environment)
        stated = (wanted.shutter_celsius, wanted.environment)  # the detector's temperature is never quite the same
        return wanted if self._new_calibration.confirmed(stated) else held

    def _note_settling(self, now_ns: int, identity: _Identity, calibration: Calibration, thawed: bool) -> None:
        """After a shutter event or a range switch readings are not yet steady."""
        if self._identity is None or self._calibration is None:
            return
        if identity.constants.high_range != self._identity.constants.high_range:
            settling_s = RANGE_SETTLING_S
        elif thawed or calibration.shutter_celsius != self._calibration.shutter_celsius:
            settling_s = SETTLING_S
        else:
            return
        self._settled_at_ns = max(self._settled_at_ns, now_ns + round(settling_s * NS_PER_S))

    def _flags_of(self, raw: RawFrame, metadata: Metadata, calibration: Calibration, repeated: bool) -> FrameFlag:
        flags = FrameFlag.SHUTTER if repeated else FrameFlag.NONE
        if not self._warm(raw.captured_monotonic_ns, metadata.fpa_celsius) or (
            raw.captured_monotonic_ns < self._settled_at_ns
        ):
            flags |= FrameFlag.SETTLING
        if abs(metadata.fpa_celsius - calibration.fpa_celsius) > DRIFT_LIMIT_CELSIUS:
            flags |= FrameFlag.DRIFTED
        return flags

    def _warm(self, now_ns: int, fpa: float) -> bool:
        """Whether the detector moved by less than 0.1 °C in the last five minutes, as far as they are known."""
        history = self._fpa_history
        if not history or now_ns - history[-1][0] >= _WARM_SAMPLE_S * NS_PER_S:
            history.append((now_ns, fpa))
        while len(history) > 1 and now_ns - history[1][0] >= _WARM_WINDOW_S * NS_PER_S:
            history.popleft()
        return abs(fpa - history[0][1]) < _WARM_CHANGE_CELSIUS


def _corrected(
    counts: NDArray[np.uint16], metadata: Metadata, correction: HostCorrection | None
) -> tuple[NDArray[np.uint16], FrameFlag]:
    """The counts that the table is for, and whether they can be believed."""
    if metadata.variant is Variant.V1:
        return counts, FrameFlag.NONE
    if correction is None:
        return counts, FrameFlag.UNCERTAIN
    corrected = correction.apply(counts, metadata.constants.reference_count)
    return corrected, FrameFlag.NONE if correction.has_gain else FrameFlag.UNCERTAIN
