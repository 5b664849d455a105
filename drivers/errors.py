"""Everything this project raises on purpose."""


class VivariumError(Exception):
    """Root; a handler for it never hides a programming error."""


class ConfigError(VivariumError):
    """config.toml is wrong: say where, do not start."""


class CameraError(VivariumError):
    """Something between the sensor and us."""


class FrameTimeoutError(CameraError, TimeoutError):
    """No frame in time: try again on the same connection."""


class FrameRejectedError(CameraError):
    """A transfer arrived but is not a good frame: count it by its reason, read the next one."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """Short and stable, for counters: one of `drivers.t2s_protocol.RejectReason`."""


class CameraLostError(CameraError):
    """The device is gone: close and open anew."""


class CameraAbsentError(CameraLostError):
    """No such camera is on the bus: wait until it is plugged in."""


class CameraRefusedError(CameraError):
    """Something is there that cannot be used as it is: say what was expected, what came, and what to do."""


class ControlError(CameraError):
    """A command did not reach the camera; its frames go on."""


class ReplayEndedError(CameraError):
    """The recorded material is over: there is nothing more to read."""


class RecordingError(VivariumError):
    """A recording cannot be written or read."""


class MaterialError(VivariumError):
    """A file to be replayed is not what it should be: say what was expected and what came."""


class UnscaledColoursError(MaterialError):
    """A picture has colours and nobody said which degrees they stand for."""


class StoreError(VivariumError):
    """The database cannot be read or written at present: nothing was half done, the same call may be made again."""


class StoreRejectedError(StoreError):
    """Rows contradict each other or a rule of the schema: the same call will never succeed, do not repeat it."""
