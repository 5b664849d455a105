"""What happens to the animals of a simulated week: named scripts, or a list of incidents in a JSON file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from drivers.errors import ConfigError
from drivers.vivarium.incidents import Incident, IncidentKind
from drivers.vivarium.rhythm import DAY_S

NONE = "none"


@dataclass(frozen=True, slots=True)
class _Usual:
    """When a named script begins, in hours after the lights went off, and for how long."""

    after_dark_h: float
    hours: float


_USUAL = {
    IncidentKind.FEVER: _Usual(2, 4),
    IncidentKind.HYPOTHERMIA: _Usual(2, 4),
    IncidentKind.IMMOBILITY: _Usual(1, 8),
    IncidentKind.TAIL_INJURY: _Usual(1, 10),
}
NAMES = (*(kind.value for kind in _USUAL), NONE)

NIGHT = 6
"""A named script is about this night, or the last one of a shorter simulation that ends within it."""


class ScriptedIncident(BaseModel):
    """One incident of a script file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: IncidentKind
    animal: Annotated[int, Field(ge=1)]
    start: AwareDatetime
    """ISO 8601 with zone."""
    hours: Annotated[float, Field(gt=0)]
    celsius: float | None = None


def script_of(name: str, *, first_day: date, days: int, animals: int, lights_on_utc_s: float) -> tuple[Incident, ...]:
    """The incidents of a named script, which is about animal 2, or the only one; or those of a file.

    Raises
    ------
    ConfigError
        If it is neither a name nor a file of incidents, or has an animal that is not there.
    """
    if name == NONE:
        return ()
    if name in NAMES:
        kind = IncidentKind(name)
        night = min(NIGHT, max(days - 1, 1))
        midnight_utc_s = datetime.combine(first_day + timedelta(days=night - 1), time(), UTC).timestamp()
        dark_utc_s = midnight_utc_s + lights_on_utc_s + DAY_S / 2
        start_utc_s = dark_utc_s + 3600 * _USUAL[kind].after_dark_h
        return (
            Incident(kind=kind, animal=min(2, animals), start_utc_s=start_utc_s, duration_s=3600 * _USUAL[kind].hours),
        )
    return _read(Path(name), animals)


def _read(path: Path, animals: int) -> tuple[Incident, ...]:
    try:
        found = TypeAdapter(tuple[ScriptedIncident, ...]).validate_json(path.read_bytes())
        if any(each.animal > animals for each in found):
            raise ConfigError(f"{path}: expected animals 1 to {animals}")
        return tuple(
            Incident(
                kind=each.kind,
                animal=each.animal,
                start_utc_s=each.start.timestamp(),
                duration_s=3600 * each.hours,
                celsius=each.celsius,
            )
            for each in found
        )
    except OSError as error:
        raise ConfigError(
            f"--script {path}: expected {', '.join(NAMES)} or a file of incidents: {error.strerror}"
        ) from error
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"--script {path}: {error}") from error


def truth_json(script: Sequence[Incident]) -> str:
    """The same for `vivarium rules replay --truth`; absence is no illness."""
    return json.dumps(
        [
            {
                "kind": each.kind.value,
                "animal": each.animal,
                "start": datetime.fromtimestamp(each.start_utc_s, UTC).isoformat(),
                "end": datetime.fromtimestamp(each.end_utc_s, UTC).isoformat(),
            }
            for each in script
            if each.kind is not IncidentKind.ABSENCE
        ],
        indent=2,
    )
