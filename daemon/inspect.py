"""One frame of anything, explained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.cameras import false_colour_scale
from daemon.messaging.payloads import flag_names, iso_utc
from daemon.settings import ReadingSettings, ReplaySettings
from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError, MaterialError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.material import MaterialFrame, open_material
from drivers.replay import decode_material
from drivers.t2s_protocol import Environment, Variant
from drivers.thermometry import EnvironmentOverrides, atmospheric_transmission, temperature_table


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameReport:
    """One frame, decoded."""

    item: MaterialFrame
    frames: int
    """How many there are in the file."""
    frame: ThermalFrame

    def rows(self) -> Iterator[tuple[str, str]]:
        """Everything about it, as names and texts."""
        yield from self._origin()
        if self.frame.flags & FrameFlag.ESTIMATED:
            yield "camera", "not known: these are degrees that somebody else made, in a table or in colours"
        else:
            yield from self._camera()
            yield from self._calibration()
        yield from self._temperatures()
        if self.frame.flags & FrameFlag.UNCERTAIN:
            yield "caution", f"these are not the true temperatures: {self._why_uncertain()}"

    def _why_uncertain(self) -> str:
        if self.frame.correction is not None:
            return "there was no gain map of this v2 camera"
        if not self.item.recorded:
            return "the host correction of this v2 camera is missing"
        if self.item.flags & FrameFlag.UNCERTAIN:
            return "this v2 camera had shown no picture of its closed shutter yet"
        return (
            "the recording does not hold the host correction of this v2 camera: it was made before corrections were "
            "kept, or what it holds is damaged"
        )

    def _origin(self) -> Iterator[tuple[str, str]]:
        placement = self.item.placement
        yield "source", f"{self.item.source} of {self.frames}, {placement.source_width} x {placement.source_height}"
        if self.item.recorded:
            yield "captured", iso_utc(self.frame.captured_utc_ns)
        yield "flags", ", ".join(flag_names(self.frame.flags)) or "none"

    def _camera(self) -> Iterator[tuple[str, str]]:
        metadata = self.frame.metadata
        statistics = metadata.statistics
        yield "camera", f"{metadata.product} {metadata.variant}, serial {metadata.serial}, firmware {metadata.firmware}"
        yield "detector", f"{metadata.fpa_celsius:.2f} °C (register {metadata.fpa_raw}), average {metadata.fpa_average}"
        trim = f", trim {metadata.shutter_trim}" if metadata.variant is Variant.V2 else ""
        yield "shutter", f"{metadata.shutter_celsius:.2f} °C (register {metadata.shutter_raw}{trim})"
        if metadata.core_celsius is not None:
            yield "core", f"{metadata.core_celsius:.2f} °C (register {metadata.core_raw})"
        if metadata.variant is Variant.V1:
            yield (
                "camera's own figures",
                f"max {statistics.max_count} at ({statistics.max_x}, {statistics.max_y}), "
                f"min {statistics.min_count} at ({statistics.min_x}, {statistics.min_y}), "
                f"average {statistics.average_count}, centre {statistics.centre_count}, user {statistics.user_counts}",
            )
        yield "row 0, word 16", str(metadata.row0_word16)
        yield "user area", _environment(metadata.environment)
        yield "factory environment", _environment(metadata.factory_environment)

    def _calibration(self) -> Iterator[tuple[str, str]]:
        calibration = self.frame.calibration
        constants = calibration.constants
        yield (
            "constants",
            f"reference {constants.reference_count} ({'high' if constants.high_range else 'normal'} range), "
            f"a {constants.a:.6g}, b {constants.b:.6g}, ka {constants.ka:.6g}, kb {constants.kb:.6g}, "
            f"kc {constants.kc:.6g}",
        )
        correction = self.frame.correction
        if correction is not None:
            offset, gain = correction.offset, correction.gain
            dead = "no gain map" if gain is None else f"gain map with {int((gain == 0).sum())} dead pixels"
            yield "host correction", f"offset {offset.min()}..{offset.max()}, mean {offset.mean():.1f}, {dead}"
        yield (
            "degrees from",
            f"shutter {calibration.shutter_celsius:.2f} °C, detector {calibration.fpa_celsius:.2f} °C, "
            f"{_environment(calibration.environment)}, "
            f"transmission {atmospheric_transmission(calibration.environment):.6f}, "
            f"first valid count {int(np.argmax(np.isfinite(temperature_table(calibration))))}",
        )

    def _temperatures(self) -> Iterator[tuple[str, str]]:
        celsius = self.frame.celsius
        valid = np.isfinite(celsius)
        counts = self.frame.counts
        if not self.frame.flags & FrameFlag.ESTIMATED:
            yield "counts", f"{counts.min()}..{counts.max()}, mean {counts.mean():.1f}"
        if not valid.any():
            yield "temperatures", "none: no count has one"
            return
        hottest, coldest = np.nanargmax(celsius), np.nanargmin(celsius)
        height, width = celsius.shape
        yield (
            "temperatures",
            f"min {celsius.flat[coldest]:.2f} °C at ({coldest % width}, {coldest // width}), "
            f"max {celsius.flat[hottest]:.2f} °C at ({hottest % width}, {hottest // width}), "
            f"mean {celsius[valid].mean(dtype=np.float64):.2f}, median {np.median(celsius[valid]):.2f}, "
            f"centre {celsius[height // 2, width // 2]:.2f}",
        )
        yield "without temperature", f"{int((~valid).sum())} of {celsius.size} pixels"


def _environment(environment: Environment) -> str:
    return (
        f"emissivity {environment.emissivity:.3f}, reflected {environment.reflected_celsius:.2f} °C, "
        f"air {environment.air_celsius:.2f} °C, humidity {environment.humidity:.2f}, "
        f"distance {environment.distance_m:g} m, correction {environment.correction_celsius:+.2f} °C"
    )


def inspect_frame(
    path: Path,
    *,
    index: int = 0,
    overrides: EnvironmentOverrides | None = None,
    range_celsius: tuple[float, float] | None = None,
    readings: tuple[ReadingSettings, ...] = (),
) -> FrameReport:
    """Decode frame `index` of the material; frames before it are decoded too, as their camera session was.

    The overrides go before the camera's values and those of a recording; degrees that were given as degrees or colours
    stay what they are.

    Raises
    ------
    MaterialError
        If there is no such frame, or it is refused.
    """
    scale = false_colour_scale(ReplaySettings(range_celsius=range_celsius, readings=readings))
    with open_material(path, scale=scale) as material:
        frames = len(material)
        if not 0 <= index < frames:
            raise MaterialError(f"{path}: expected a frame number from 0 to {frames - 1}, got {index}")
        decoder = FrameDecoder(overrides=overrides, still=material.still)
        for position, item in enumerate(material):
            try:
                frame = decode_material(decoder, item, overrides)
            except FrameRejectedError as error:
                if position == index:
                    raise MaterialError(f"{item.source} is no good frame: {error}") from error
                continue
            if position == index:
                return FrameReport(item=item, frames=frames, frame=frame)
    raise MaterialError(f"{path}: ends before frame {index}")
