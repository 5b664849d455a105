"""The newest measured frame, for whoever looks."""

import threading

from daemon.overlay import draw, to_png
from daemon.pipeline import Measured
from drivers.frame import ThermalFrame


class LiveView:
    """Holds one frame; the picture is made only when somebody asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._newest: tuple[ThermalFrame, Measured] | None = None
        self._picture: tuple[ThermalFrame, bytes] | None = None

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
        """The newest frame as a PNG file, made once for each frame; None before the first.

        Who asks while it is being made waits for it. A caller keeps the file and not the frame.
        """
        with self._drawing:
            newest, made = self.newest, self._picture
            if newest is None:
                return None
            frame, measured = newest
            if made is None or made[0] is not frame:
                made = (frame, to_png(draw(frame.celsius, measured.segmentation, measured.observation)))
                self._picture = made
            return made[1]
