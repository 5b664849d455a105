"""Recorded material as a camera: at its own pace, through the same decoder."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, Clock
from drivers.decoder import FrameDecoder
from drivers.errors import CameraLostError, FrameTimeoutError, MaterialError, ReplayEndedError
from drivers.false_colour import FalseColourScale
from drivers.frame import FrameFlag, ThermalFrame
from drivers.material import Material, MaterialFrame, open_material
from drivers.t2s_protocol import FRAME_RATE_HZ, parse_metadata, transfer_from_bytes
from drivers.thermometry import EnvironmentOverrides

LONGEST_PAUSE_S = 1.5
"""Longer gaps in the material are shortened to this: played in full, they would be taken for a lost camera."""

_FLAGS_OF_THE_MOMENT = FrameFlag.SHUTTER | FrameFlag.SETTLING | FrameFlag.DRIFTED
"""What depends on the frames around: a recording that knows its flags knows these better than a decoder that sees
only the frames which were recorded."""


class ReplayCamera:
    """Plays recorded material as if a camera sent it.

    Frames come at the material's own time differences and are stamped with the clock's present time. The transfers
    are those of the material to the byte; degrees and false colours come as transfers that decode to them, flagged
    `ESTIMATED`, and the host's values for emissivity and so on do not change them.

    Parameters
    ----------
    path : Path
        See `drivers.material.open_material`.
    clock : Clock
        Paces and stamps the frames.
    loop : bool
        Start again at the end.
    scale : FalseColourScale, optional
        For false colours. A room temperature among the `overrides` goes before the scale's own.
    rate_hz : float
        Frames per second where the material has no times of its own.
    overrides : EnvironmentOverrides, optional
        The host's values.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        loop: bool = True,
        scale: FalseColourScale | None = None,
        rate_hz: float = FRAME_RATE_HZ,
        overrides: EnvironmentOverrides | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._loop = loop
        self._overrides = overrides or EnvironmentOverrides()
        if scale is not None and self._overrides.air_celsius is not None:
            scale = replace(scale, ambient_celsius=self._overrides.air_celsius)
        self._scale = scale
        self._rate_hz = rate_hz
        self._decoder = FrameDecoder()
        self._rejected: Counter[str] = Counter()
        self._material: Material | None = None
        self._frames: Iterator[MaterialFrame] = iter(())
        self._first: MaterialFrame | None = None
        self._next: MaterialFrame | None = None
        self._played_s = 0.0
        self._info: CameraInfo | None = None
        self._due_ns = 0
        self._sequence = 0

    def __enter__(self) -> Self:
        """Open the material.

        Raises
        ------
        MaterialError
            If it cannot be replayed.
        """
        material = open_material(self._path, scale=self._scale, rate_hz=self._rate_hz)
        self._start_over(material)
        self._first = self._next = next(self._frames, None)
        self._info = _info_of(material, self._next)
        self._material = material
        self._sequence = 0
        self._due_ns = self._clock.monotonic_ns()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._frames, self._first, self._next, self._material = iter(()), None, None, None

    @property
    def info(self) -> CameraInfo:
        """Of the camera that made the material, as far as its first frame says."""
        if self._info is None:
            raise CameraLostError(f"{self._path}: the replay is not open; use `with`")
        return self._info

    @property
    def rejected(self) -> Counter[str]:
        """Refused transfers by reason, in all rounds."""
        return self._rejected + self._decoder.rejected

    def read(self, timeout_s: float) -> ThermalFrame:
        """Wait until the next frame is due.

        Raises
        ------
        FrameTimeoutError
            It is not due within `timeout_s`.
        FrameRejectedError
            The transfer in the material is no good frame.
        ReplayEndedError
            The material is over and does not loop.
        CameraLostError
            The material cannot be read any more, or is not open.
        """
        if self._material is None:
            raise CameraLostError(f"{self._path}: the replay is not open; use `with`")
        frame = self._next or self._following(self._material)
        self._next = frame
        wait_s = (self._due_ns - self._clock.monotonic_ns()) / NS_PER_S
        if wait_s > timeout_s:
            self._clock.wait(timeout_s)
            raise FrameTimeoutError(f"{frame.source} is due in {wait_s:.3f} s, not within {timeout_s:g} s")
        self._clock.wait(wait_s)
        self._next = None
        return self._decode(frame)

    def calibrate(self) -> None:
        """Do nothing: what is recorded has its shutter cycles in it."""

    def _following(self, material: Material) -> MaterialFrame:
        """The frame after the last one delivered, and when it is due."""
        now_ns = self._clock.monotonic_ns()
        try:
            frame = next(self._frames, None)
            if frame is None and self._loop:
                self._start_over(material)
                frame = next(self._frames, None)
                pause_s = 1 / material.rate_hz
            elif frame is not None:
                pause_s = frame.time_s - self._played_s
        except MaterialError as error:
            raise CameraLostError(f"{material.path}: cannot be read any more: {error}") from error
        if frame is None:
            raise ReplayEndedError(f"{material.path}: all {self._sequence} frames were played")
        pause_ns = round(min(max(pause_s, 0.0), LONGEST_PAUSE_S) * NS_PER_S)
        # A reader that came late does not get the rest in a burst.
        self._due_ns = max(self._due_ns + pause_ns, now_ns)
        return frame

    def _start_over(self, material: Material) -> None:
        """From the first frame, with a decoder that does not compare it with the last one."""
        if not material.still or self._first is None:
            self._rejected += self._decoder.rejected
            self._decoder = FrameDecoder(overrides=self._overrides, still=material.still)
        if len(material) == 1 and self._first is not None:
            self._frames = iter((self._first,))  # one picture is read and understood once, not at every frame
        else:
            self._frames = iter(material)
        self._played_s = 0.0

    def _decode(self, frame: MaterialFrame) -> ThermalFrame:
        self._played_s = frame.time_s
        now = replace(
            frame.raw,
            sequence=self._sequence,
            captured_utc_ns=self._clock.utc_ns(),
            captured_monotonic_ns=self._clock.monotonic_ns(),
        )
        self._sequence += 1
        return decode_material(self._decoder, replace(frame, raw=now), self._overrides)


def decode_material(
    decoder: FrameDecoder, frame: MaterialFrame, overrides: EnvironmentOverrides | None = None
) -> ThermalFrame:
    """The frame as it was at its capture: with what was recorded of calibration, host correction and flags.

    Parameters
    ----------
    decoder : FrameDecoder
        Of this material.
    frame : MaterialFrame
        What is played.
    overrides : EnvironmentOverrides, optional
        The host's values of today, which go before those of a recording and never change estimated degrees.

    Raises
    ------
    FrameRejectedError
        If the transfer is no good frame.
    """
    calibration = frame.calibration
    if calibration is None:
        decoded = decoder.decode(frame.raw, correction=frame.correction)
        return replace(decoded, flags=decoded.flags | frame.flags)
    if overrides is not None and not frame.flags & FrameFlag.ESTIMATED:
        calibration = replace(calibration, environment=overrides.apply(calibration.environment))
    decoded = decoder.decode(frame.raw, calibration=calibration, correction=frame.correction)
    return replace(decoded, flags=decoded.flags & ~_FLAGS_OF_THE_MOMENT | frame.flags)


def _info_of(material: Material, first: MaterialFrame | None) -> CameraInfo:
    product = serial = firmware = ""
    if first is not None and first.raw.payload:
        metadata = parse_metadata(transfer_from_bytes(first.raw.payload))
        product, serial, firmware = metadata.product, metadata.serial, metadata.firmware
    return CameraInfo(
        kind="replay",
        product=product,
        serial=serial,
        firmware=firmware,
        location=str(material.path),
        frame_rate_hz=material.rate_hz,
    )
