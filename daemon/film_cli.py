"""`vivarium film`: the moving vivarium of the simulated camera, as pictures to look at and truth to judge by."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from daemon.overlay import false_colour
from daemon.scene_cli import contact_sheet, write_png
from drivers.errors import ConfigError
from drivers.scene import Scene
from drivers.vivarium.anatomy import Species
from drivers.vivarium.moment import Moment
from drivers.vivarium.rhythm import MAX_RESIDENTS
from drivers.vivarium.truth import SceneFrame

STRIP_NAME = "strip.png"
MOMENTS_NAME = "moments.jsonl"

_TILE_PX = (176, 132)
_ON_STRIP = 60
"""More pictures than these are not on the strip."""
_LOW_CELSIUS, _HIGH_CELSIUS, _LEVELS = 20.0, 36.0, 48
_START = datetime(2026, 9, 22, 3)  # of UTC, as the option is read


def film(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files; made if needed.")],
    seed: Annotated[int, typer.Option(min=0, help="Of animals, ways and box.")] = 1,
    animals: Annotated[int, typer.Option(min=0, max=MAX_RESIDENTS, help="How many.")] = 3,
    species: Annotated[Species, typer.Option(help="Of which kind.")] = Species.RAT,
    start: Annotated[datetime, typer.Option(help="The first moment, UTC.")] = _START,
    step_s: Annotated[float, typer.Option(min=0.001, help="Seconds from one moment to the next.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="How many moments.")] = 24,
    truth_only: Annotated[bool, typer.Option("--truth-only", help="Make no pictures: a day takes seconds.")] = False,
) -> None:
    """Write what is true of the simulated camera's animals at each moment, and a strip of pictures.

    moments.jsonl has one line per moment: identity, place, posture, temperatures and contacts of each animal.
    """
    scene, tiles = Scene(seed, animals, species=species), list[NDArray[np.uint8]]()
    start_s = start.replace(tzinfo=UTC).timestamp()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with (output / MOMENTS_NAME).open("w", encoding="utf-8") as lines:
            for number in range(count):
                utc_s = start_s + number * step_s
                lines.write(moment_json(scene.moment(utc_s)) + "\n")
                if not truth_only and len(tiles) < _ON_STRIP:
                    tiles.append(_tile(scene.at(utc_s), number * step_s))
        if tiles:
            write_png(output / STRIP_NAME, contact_sheet(tiles))
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    typer.echo(f"{count} moments of seed {seed} in {output}")


def moment_json(moment: Moment) -> str:
    """A moment as one line; parts by name."""
    fields = asdict(moment)
    for told, animal in zip(fields["animals"], moment.animals, strict=True):
        told["surface_celsius"] = {part.name.lower(): celsius for part, celsius in animal.surface_celsius.items()}
    return json.dumps(fields)


def _tile(frame: SceneFrame, since_s: float) -> NDArray[np.uint8]:
    celsius = cv2.resize(frame.radiometric_celsius, _TILE_PX, interpolation=cv2.INTER_AREA)
    step = (_HIGH_CELSIUS - _LOW_CELSIUS) / _LEVELS
    picture = false_colour((np.rint(np.clip(celsius, _LOW_CELSIUS, _HIGH_CELSIUS) / step) * step).astype(np.float32))
    cv2.putText(picture, f"{since_s:g} s", (3, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 255))
    return picture
