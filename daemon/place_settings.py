"""`[[zone]]` and `[[reference]]` of the config: parts of the picture."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from daemon.section import Section
from daemon.setting_kinds import written_as
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

Coordinates = tuple[tuple[float, float], ...]


def _polygon(points: Coordinates) -> Coordinates:
    if len(points) < 3:
        raise ValueError(f"expected at least three corners [x, y], got {len(points)}")
    for x, y in points:
        if not (0 <= x <= IMAGE_WIDTH - 1 and 0 <= y <= IMAGE_HEIGHT - 1):
            raise ValueError(f"expected corners from [0, 0] to [{IMAGE_WIDTH - 1}, {IMAGE_HEIGHT - 1}], got [{x}, {y}]")
    twice_area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points, (*points[1:], points[0]), strict=True))
    if twice_area == 0:
        raise ValueError("expected corners around an area, got a line")
    return points


PolygonSetting = Annotated[Coordinates, AfterValidator(_polygon)]


class ZoneSettings(Section):
    """A part of the box that is watched: time in it, entries, latency; its polygon is in pixels of the camera."""

    name: Annotated[
        str, written_as(r"[a-z][a-z0-9_]{0,31}", "up to 32 small letters, digits and _, beginning with a letter")
    ]
    """Small letters, digits and _: part of the names of its measures, as in zone_NAME_share."""
    kind: Literal["nest", "food", "water", "other"] = "other"
    """food and water are entered by the nose, the others by the trunk; of a nest the warmth is measured."""
    polygon: PolygonSetting
    """Corners [x, y] in pixels, x from 0 to 255, y down from 0 to 191."""


class ReferenceSettings(Section):
    """A patch of known temperature in the picture; it takes the camera's drift out of every degree."""

    polygon: PolygonSetting
    """Corners [x, y] in pixels, well inside the patch; matt, and not where animals lie."""
    celsius: float | None = Field(None, ge=-20, le=120)
    """Its temperature, where that is fixed; otherwise give topic."""
    topic: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^#+\x00]+$")
    """MQTT topic on which a contact probe publishes its temperature: a number, or JSON with temperature or value."""
    uncertainty_celsius: float = Field(0.3, gt=0, le=5)
    """Standard uncertainty of that temperature."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "ReferenceSettings":
        if (self.celsius is None) == (self.topic is None):
            raise ValueError("a reference needs either celsius or topic")
        return self
