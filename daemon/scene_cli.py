"""`vivarium scene`: random pictures of the synthetic vivarium with their truth, as files to look at and to train on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from daemon.overlay import PART_COLOURS_BGR, false_colour
from drivers.errors import ConfigError
from drivers.vivarium.dice import FIRST_TEST_SEED
from drivers.vivarium.snapshot import Snapshot, random_scene

SHEET_NAME = "sheet.png"

_COLUMNS = 6
_TILE_PX = (176, 132)
"""Width and height of a picture on the contact sheet."""
_ON_SHEET = 60
"""More pictures than these are not on the contact sheet."""
_LEVELS = 40
"""Colours of a picture on the contact sheet; fewer make a smaller file."""
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 9)


def scene(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the pictures; made if needed.")],
    seed: Annotated[
        int, typer.Option(min=0, help=f"Of the first picture; from {FIRST_TEST_SEED} on they are for judging only.")
    ] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many pictures, each with the next seed.")] = 24,
    sheet_only: Annotated[bool, typer.Option("--sheet-only", help="Write the contact sheet alone.")] = False,
) -> None:
    """Make random thermal pictures of rats and mice with the truth about them.

    For each seed: SEED.npy (degrees C), SEED-parts.png (1 head, 2 body, 3 tail), SEED-instances.png (the animals'
    numbers) and SEED.json (points, temperatures, who lies on whom); and sheet.png, where a person sees them all.
    """
    tiles: list[NDArray[np.uint8]] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for number in range(seed, seed + count):
            snapshot = random_scene(number)
            if not sheet_only:
                _write(snapshot, output)
            if len(tiles) < _ON_SHEET:
                tiles.append(_tile(snapshot))
        write_png(output / SHEET_NAME, contact_sheet(tiles))
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    typer.echo(f"{count} scenes from seed {seed} in {output}; look at {output / SHEET_NAME}")


def truth_json(snapshot: Snapshot) -> str:
    """The truth about the animals of a picture; parts by name."""
    frame = snapshot.frame
    animals = []
    for animal in frame.animals:
        fields = asdict(animal)
        fields["surface_celsius"] = {part.name.lower(): celsius for part, celsius in animal.surface_celsius.items()}
        animals.append(fields)
    visible = [asdict(truth) | {"part": truth.part.name.lower()} for truth in frame.truths]
    return json.dumps(
        {"seed": snapshot.seed, "contact": frame.contact(), "animals": animals, "visible_parts": visible}, indent=1
    )


def _write(snapshot: Snapshot, output: Path) -> None:
    np.save(output / f"{snapshot.seed}.npy", snapshot.celsius)
    write_png(output / f"{snapshot.seed}-parts.png", snapshot.frame.parts)
    write_png(output / f"{snapshot.seed}-instances.png", snapshot.frame.instances)
    (output / f"{snapshot.seed}.json").write_text(truth_json(snapshot) + "\n", encoding="utf-8")


def _tile(snapshot: Snapshot) -> NDArray[np.uint8]:
    """The picture, and below it the parts in their colours with the animals' outlines."""
    celsius = cv2.resize(snapshot.celsius, _TILE_PX, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(celsius, (0.5, 99.8))
    step = max(float(high - low), 0.1) / _LEVELS
    picture = false_colour((np.rint(celsius / step) * step).astype(np.float32))
    cv2.putText(picture, str(snapshot.seed), (3, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 255))
    parts = cv2.resize(snapshot.frame.parts, _TILE_PX, interpolation=cv2.INTER_NEAREST)
    instances = cv2.resize(snapshot.frame.instances, _TILE_PX, interpolation=cv2.INTER_NEAREST)
    colours = np.array(((0, 0, 0), *PART_COLOURS_BGR.values()), np.uint8)
    labels = colours[parts]
    grown = cv2.dilate(instances, np.ones((3, 3), np.uint8))
    labels[(grown != instances) & (instances > 0)] = 255  # where one animal ends and another begins
    return np.concatenate((picture, labels))


def contact_sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size side by side, six in a row."""
    empty = [np.zeros_like(tiles[0])] * (-len(tiles) % min(_COLUMNS, len(tiles)))
    columns = min(_COLUMNS, len(tiles))
    tiles = tiles + empty
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture; raises OSError if it cannot be written."""
    done, encoded = cv2.imencode(".png", picture, _PNG_OPTIONS)
    if not done:
        raise OSError(0, "PNG encoding failed", str(path))
    path.write_bytes(encoded.tobytes())
