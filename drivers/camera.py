"""The promise every thermal camera keeps: real, simulated or replayed."""

from dataclasses import dataclass
from typing import Protocol, Self

from drivers.frame import ThermalFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraInfo:
    """Who the camera is."""

    kind: str
    """`simulated`, `replay` or `t2s_plus`."""

    product: str
    serial: str
    firmware: str

    location: str
    """Where it is attached or what is replayed: a USB port path, a file, a seed."""

    frame_rate_hz: float
    """Frames per second it delivers by itself."""

    @property
    def has_shutter(self) -> bool:
        """Whether it can be asked to calibrate; recorded material has its shutter cycles in it."""
        return self.kind != "replay"


class ThermalCamera(Protocol):
    """A source of frames, opened by `with` and read by one thread."""

    @property
    def info(self) -> CameraInfo:
        """Known once the camera is open."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...

    def read(self, timeout_s: float) -> ThermalFrame:
        """Wait for the next frame.

        Raises
        ------
        FrameTimeoutError
            Nothing came within `timeout_s`; reading again is allowed.
        FrameRejectedError
            A transfer came that is no good frame; reading again is allowed.
        CameraLostError
            The device went away; only opening anew helps.
        ReplayEndedError
            Recorded material is over.
        """
        ...

    def calibrate(self) -> None:
        """Ask for a shutter cycle; the picture stands still for about 1.3 s. Without effect on recorded material."""
        ...
