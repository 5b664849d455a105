"""`vivarium identity`: how well animals are kept apart, on animals whose truth is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from daemon.identity_score import IdentityCount, IdentityScore
from daemon.track import Tracker
from daemon.vision.parts import Segmentation
from drivers.scene import Scene
from drivers.vivarium.rhythm import MAX_RESIDENTS
from drivers.vivarium.truth import SceneFrame

identity_app = typer.Typer(help="Which animal is which, and how well that is known.", no_args_is_help=True)

_NS_PER_S = 1_000_000_000
_FIRST_UTC_S = 1_790_046_000
"""Tuesday 2026-09-22 03:00 UTC, in the dark: that is when rats meet."""
_LEAST_PX = 20
"""Of an animal fewer pixels are not seen."""
_WIDTH = 10_000


@identity_app.command()
def judge(
    rate_hz: Annotated[float, typer.Option("--rate", min=0.01, max=25, help="Frames per second.")] = 25.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 120.0,
    animals: Annotated[int, typer.Option(min=1, max=MAX_RESIDENTS)] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated box.")] = 1,
    merged: Annotated[
        bool, typer.Option("--merged", help="Animals that touch are one instance, as without the panoptic network.")
    ] = False,
) -> None:
    """Follow simulated animals by their true masks and print how well they are kept apart; judges no network."""
    over_all, apart = judged(Scene(seed, animals), rate_hz=rate_hz, minutes=minutes, animals=animals, merged=merged)
    table = Table("frames", "IDF1", "wrong", "not known", "swaps", "swaps/animal-hour", "animal-hours", box=None)
    for name, score in (("all", over_all), ("outside huddles", apart)):
        table.add_row(name, *_figures(score))
    typer.echo(
        f"{animals} rats, seed {seed}, {minutes:g} min at {rate_hz:g} fps, masks: {'merged' if merged else 'true'}"
    )
    Console(width=_WIDTH, markup=False, highlight=False).print(table)


def judged(
    scene: Scene, *, rate_hz: float, minutes: float, animals: int, merged: bool
) -> tuple[IdentityScore, IdentityScore]:
    """Scores over all animals that are seen, and over those that lie in no huddle."""
    over_all, apart = IdentityCount(), IdentityCount()
    for shown in _shown(scene, rate_hz=rate_hz, minutes=minutes, animals=animals, merged=merged):
        over_all.add(shown.names)
        apart.add({animal: name for animal, name in shown.names.items() if animal not in shown.huddled})
    return over_all.score(rate_hz=rate_hz), apart.score(rate_hz=rate_hz)


@dataclass(frozen=True, slots=True)
class _Shown:
    names: dict[int, int | None]
    """True animal -> what it is said to be."""
    huddled: frozenset[int]


def _shown(scene: Scene, *, rate_hz: float, minutes: float, animals: int, merged: bool) -> Iterator[_Shown]:
    tracker = Tracker(animals)
    for step in range(max(1, round(minutes * 60 * rate_hz))):
        utc_s = _FIRST_UTC_S + step / rate_hz
        frame = scene.at(utc_s)
        instances = _together(frame.instances) if merged else frame.instances.copy()
        segmentation = Segmentation(parts=frame.parts.copy(), instances=instances)
        found = tracker.follow(segmentation, frame.radiometric_celsius, round(step / rate_hz * _NS_PER_S))
        said = {instance: followed.animal for instance, followed in found.instances.items()}
        huddled = frozenset(one.animal for one in scene.moment(utc_s).animals if one.huddle)
        yield _Shown(_names(frame, instances, said), huddled)


def _together(instances: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Animals that touch as one instance; specks are nobody."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((instances > 0).astype(np.uint8), connectivity=8)
    kept = np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] >= _LEAST_PX)
    renumbered = np.zeros(len(statistics), np.uint8)
    renumbered[kept[kept > 0]] = np.arange(1, np.count_nonzero(kept > 0) + 1)
    together: NDArray[np.uint8] = renumbered[labels]
    return together


def _names(frame: SceneFrame, instances: NDArray[np.uint8], said: dict[int, int | None]) -> dict[int, int | None]:
    """What each animal of which enough is seen is said to be; of several in one instance the largest has the name."""
    names: dict[int, int | None] = {}
    overlaps = np.bincount(frame.instances.ravel().astype(np.intp) * 256 + instances.ravel(), minlength=256)
    size = -(-len(overlaps) // 256)
    table = np.pad(overlaps, (0, size * 256 - len(overlaps))).reshape(size, 256)
    owners = table.argmax(axis=0)
    for animal in range(1, size):
        if table[animal].sum() < _LEAST_PX:
            continue
        instance = int(table[animal, 1:].argmax()) + 1
        names[animal] = said.get(instance) if owners[instance] == animal else None
    return names


def _figures(score: IdentityScore) -> Iterator[str]:
    for value, text in (
        (score.idf1, ".4f"),
        (score.wrong_share, ".2%"),
        (score.unresolved_share, ".2%"),
        (float(score.swaps), ".0f"),
        (score.swaps_per_animal_hour, ".2f"),
        (score.animal_hours, ".2f"),
    ):
        yield "-" if value is None else format(value, text)
