"""A camera that warms up under the product's capture loop: recalibrated by the drift of its detector, and by age."""

import threading
import time
from typing import Any, cast

import numpy as np

from daemon.cameras import camera_device, camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.sampling import CameraFound, CameraLost, Sampler
from daemon.settings import CameraSettings, EnvironmentSettings
from drivers.clock import SystemClock
from drivers.frame import FrameFlag, ThermalFrame
from drivers.virtual.control_socket import Operator
from tests.hil.jobs.plain_reader import await_node

_KEPT_EACH_S = 1.0
_RATE_HZ = 8
"""Pictures that drift are made one by one, which an emulated processor cannot do 25 times a second."""
SHUTTER_WORD = 0x8000


class Notebook:
    """Stands where the sampler stands; keeps a few numbers of a frame in each second."""

    block = None

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._next_s = 0.0

    def camera(self, change: CameraFound | CameraLost) -> None:
        """Not of interest."""

    def trouble(self, why: str) -> None:
        """Not of interest."""

    def look(self, *, utc_ns: int, monotonic_ns: int) -> None:
        """Not of interest."""

    def wanted_in_s(self, *, utc_ns: int, monotonic_ns: int) -> float | None:
        """No frame is wanted at a moment of its own."""

    def offer(self, frame: ThermalFrame) -> None:
        """Any frame but a frozen one."""
        now_s = frame.captured_monotonic_ns / 1e9
        if frame.flags & FrameFlag.SHUTTER or now_s < self._next_s:
            return
        self._next_s = now_s + _KEPT_EACH_S
        self.rows.append(
            {
                "at_s": round(now_s, 2),
                "celsius": round(float(np.nanmedian(frame.celsius)), 3),
                "fpa_celsius": round(frame.metadata.fpa_celsius, 3),
                "calibrated_at_fpa_celsius": round(frame.calibration.fpa_celsius, 3),
                "drifted": bool(frame.flags & FrameFlag.DRIFTED),
            }
        )


def run(warmth: str, age_s: str, watched_s: str) -> dict[str, Any]:
    """What was read of a constant scene, and when shutter cycles were asked for."""
    operator = Operator()
    operator(f"fps {_RATE_HZ}")
    operator(f"plug {warmth}")
    await_node()
    settings = CameraSettings(kind="t2s_plus", environment=EnvironmentSettings(distance_m=1.0))
    notebook, clock = Notebook(), SystemClock()
    loop = CaptureLoop(
        camera_opener(settings, clock),
        cast(Sampler, notebook),
        clock=clock,
        settings=CaptureSettings(
            frame_timeout_s=settings.frame_timeout_s,
            retry_max_s=settings.retry_max_s,
            recalibrate_after_s=float(age_s),
        ),
        beat=lambda: None,
        device=camera_device(settings),
    )
    thread = threading.Thread(target=loop.run, name="capture")
    thread.start()
    try:
        time.sleep(float(watched_s))
    finally:
        loop.stop()
        thread.join()
    cycles = [at_ns / 1e9 for word, at_ns in operator("words")["words"] if word == SHUTTER_WORD]
    return {"rows": notebook.rows, "cycles_s": cycles, "rejected": dict(loop.rejected)}
