"""From transfers to thermal frames: what needs the memory of earlier frames."""

from collections import Counter, deque
from dataclasses import dataclass

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
    check_transfer,
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

DRIFT_LIMIT_CELSIUS = 0.25
"""Change of the detector since the last calibration that shifts readings by about 0.3 °C."""

_WARM_CHANGE_CELSIUS = 0.1
_WARM_WINDOW_S = 300.0
_WARM_SAMPLE_S = 10.0

_CONSTANTS_CONFIRMED_AFTER = 3
"""New constants are believed (a range switch) when so many frames in a row agree on them."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """What does not change from frame to frame."""

    constants: Constants
    firmware: str


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
        self._candidate: _Identity | None = None
        self._candidate_seen = 0
        self._calibration: Calibration | None = None
        self._table: NDArray[np.float32] = np.empty(0, np.float32)
        self._last_image: bytes = b""
        self._frozen = False
        self._settled_at_ns = 0
        self._fpa_history: deque[tuple[int, float]] = deque()

    def decode(self, raw: RawFrame, *, calibration: Calibration | None = None) -> ThermalFrame:
        """One transfer to degrees.

        Parameters
        ----------
        raw : RawFrame
            As it came off the wire.
        calibration : Calibration, optional
            The one in force when a recording was made; otherwise it is taken from the stream at each shutter event.

        Raises
        ------
        FrameRejectedError
            Counted in `rejected`; the state is as if the transfer had never come.
        """
        try:
            transfer = transfer_from_bytes(raw.payload)
            metadata = parse_metadata(transfer)
            check_transfer(transfer, metadata)
            self._check_identity(metadata)
            return self._to_degrees(raw, transfer, metadata, calibration)
        except FrameRejectedError as error:
            self.rejected[error.reason] += 1
            raise

    def _check_identity(self, metadata: Metadata) -> None:
        identity = _Identity(metadata.constants, metadata.firmware)
        if identity == self._identity:
            self._candidate, self._candidate_seen = None, 0
            return
        if identity != self._candidate:
            self._candidate, self._candidate_seen = identity, 0
        self._candidate_seen += 1
        if self._identity is not None and self._candidate_seen < _CONSTANTS_CONFIRMED_AFTER:
            raise FrameRejectedError(
                RejectReason.CONSTANTS_CHANGED, f"expected {self._identity}, got {identity}; waiting for confirmation"
            )
        self._identity, self._candidate, self._candidate_seen = identity, None, 0

    def _to_degrees(
        self, raw: RawFrame, transfer: NDArray[np.uint16], metadata: Metadata, calibration: Calibration | None
    ) -> ThermalFrame:
        image = transfer[:IMAGE_HEIGHT].tobytes()
        repeated = not self._still and image == self._last_image
        table, in_force = self._table_for(metadata, calibration, after_event=self._frozen and not repeated)
        counts = transfer[:IMAGE_HEIGHT]
        flags = self._base_flags
        if metadata.variant is Variant.V2:
            if self.correction is None:
                flags |= FrameFlag.UNCERTAIN
            else:
                counts = self.correction.apply(counts, metadata.constants.reference_count)
                if not self.correction.has_gain:
                    flags |= FrameFlag.UNCERTAIN
        # From here on nothing can fail: the state moves on only with a good frame.
        if self._frozen and not repeated:
            self._settled_at_ns = raw.captured_monotonic_ns + round(SETTLING_S * NS_PER_S)
        self._frozen = repeated
        self._last_image = image
        flags |= self._flags_of(raw, metadata, in_force, repeated)
        if metadata.constants.high_range:
            flags |= FrameFlag.HIGH_RANGE
        elif int(counts.max()) >= OVER_RANGE_COUNT:
            flags |= FrameFlag.OVER_RANGE
        return ThermalFrame(
            sequence=raw.sequence,
            captured_utc_ns=raw.captured_utc_ns,
            captured_monotonic_ns=raw.captured_monotonic_ns,
            celsius=table[counts],
            transfer=transfer,
            metadata=metadata,
            calibration=in_force,
            flags=flags,
        )

    def _table_for(
        self, metadata: Metadata, given: Calibration | None, *, after_event: bool
    ) -> tuple[NDArray[np.float32], Calibration]:
        """The table in force; a new one at the start, after a shutter event, and when what it rests on changes."""
        wanted = given or self._calibration_for(metadata, after_event=after_event)
        if wanted != self._calibration:
            self._table = temperature_table(wanted)
            self._calibration = wanted
        return self._table, wanted

    def _calibration_for(self, metadata: Metadata, *, after_event: bool) -> Calibration:
        fresh, held = calibration_of(metadata, self._overrides), self._calibration
        if (
            held is None
            or after_event
            or fresh.shutter_celsius != held.shutter_celsius
            or fresh.constants != held.constants
            or fresh.environment != held.environment
        ):
            return fresh
        return held

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
