"""The newest measured frame, for whoever looks."""

import threading
from collections.abc import Callable

from daemon.overlay import draw, to_png
from daemon.pipeline import Measured
from drivers.frame import ThermalFrame


class LiveView:
    """Holds one frame; the picture is made only when somebody asks for it.

    Parameters
    ----------
    banner : callable
        What is said across the picture at the moment; None for nothing.
    """

    def __init__(self, banner: Callable[[], str | None] = lambda: None) -> None:
        self._banner = banner
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._newest: tuple[ThermalFrame, Measured] | None = None
        self._picture: tuple[ThermalFrame, str | None, bytes] | None = None

    def show(self, frame: ThermalFrame, measured: Measured) -> None:
        """Replace the newest frame."""
        with self._lock:
            self._newest = (frame, measured)

    @property
    def newest(self) -> tuple[ThermalFrame, Measured] | None:
        """The newest frame and what was measured on it."""
        with self._lock:
            return self._newest

    def picture(self) -> bytes | None:
        """The newest frame as a PNG file, made once for each frame and banner; None before the first.

        Who asks while it is being made waits for it. A caller keeps the file and not the frame.
        """
        with self._drawing:
            newest, made = self.newest, self._picture
            if newest is None:
                return None
            (frame, measured), banner = newest, self._banner()
            if made is None or made[0] is not frame or made[1] != banner:
                made = (frame, banner, _drawn(frame, measured, banner))
                self._picture = made
            return made[2]

    def picture_of(self, frame: ThermalFrame, measured: Measured) -> bytes:
        """Some frame as a PNG file, with what is said at the moment."""
        return _drawn(frame, measured, self._banner())


def _drawn(frame: ThermalFrame, measured: Measured, banner: str | None) -> bytes:
    return to_png(draw(frame.celsius, measured.segmentation, measured.observation, banner=banner))
