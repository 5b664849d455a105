"""`vivarium identity`: how well animals are kept apart, on animals whose truth is known."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from daemon.identity_score import IdentityCount, IdentityScore
from daemon.measure import unmeasurable
from daemon.networks import open_networks
from daemon.picture_eyes import RememberedScene
from daemon.settings import Settings
from daemon.track import Tracker
from daemon.vision.onnx_file import ModelError
from daemon.vision.parts import Segmentation
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.vivarium.rhythm import MAX_RESIDENTS
from drivers.vivarium.truth import SceneFrame

identity_app = typer.Typer(help="Which animal is which, and how well that is known.", no_args_is_help=True)

_FIRST_UTC_S = 1_790_046_000
"""Tuesday 2026-09-22 03:00 UTC, in the dark: that is when rats meet."""
_LEAST_PX = 20
"""Of an animal fewer pixels are not seen."""
_WIDTH = 10_000
_READ_TIMEOUT_S = 2.0


class Masks(StrEnum):
    """What the animals are followed by."""

    TRUE = "true"
    MERGED = "merged"
    NETWORKS = "networks"


@identity_app.command()
def judge(
    rate_hz: Annotated[float, typer.Option("--rate", min=0.01, max=25, help="Frames per second.")] = 25.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 120.0,
    animals: Annotated[int, typer.Option(min=1, max=MAX_RESIDENTS)] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated box.")] = 1,
    masks: Annotated[
        Masks,
        typer.Option(
            help="What the animals are followed by: their true masks; those in which animals that touch are one, as "
            "without the panoptic network; what the shipped networks find in the pictures of the simulated camera."
        ),
    ] = Masks.TRUE,
) -> None:
    """Follow simulated animals and print how well they are kept apart."""
    over_all, apart = judged(seed, rate_hz=rate_hz, minutes=minutes, animals=animals, masks=masks)
    table = Table("frames", "IDF1", "wrong", "not known", "swaps", "swaps/animal-hour", "animal-hours", box=None)
    for name, score in (("all", over_all), ("outside huddles", apart)):
        table.add_row(name, *_figures(score))
    typer.echo(f"{animals} rats, seed {seed}, {minutes:g} min at {rate_hz:g} fps, masks: {masks}")
    Console(width=_WIDTH, markup=False, highlight=False).print(table)


def judged(
    seed: int, *, rate_hz: float, minutes: float, animals: int, masks: Masks
) -> tuple[IdentityScore, IdentityScore]:
    """Scores over all animals that are seen, and over those that lie in no huddle."""
    over_all, apart = IdentityCount(), IdentityCount()
    scene, tracker = RememberedScene(seed, animals), Tracker(animals)
    moments = [_FIRST_UTC_S + step / rate_hz for step in range(max(1, round(minutes * 60 * rate_hz)))]
    looks = _by_networks(scene, moments, seed, animals) if masks is Masks.NETWORKS else _by_truth(scene, moments, masks)
    for look in looks:
        at_ns = round((look.truth.utc_s - _FIRST_UTC_S) * NS_PER_S)
        followed = tracker.follow(look.segmentation, look.celsius, at_ns).instances
        names = _names(look.truth, look.segmentation.instances, {key: one.animal for key, one in followed.items()})
        huddled = {one.animal for one in scene.moment(look.truth.utc_s).animals if one.huddle}
        over_all.add(names)
        apart.add({animal: name for animal, name in names.items() if animal not in huddled})
    return over_all.score(rate_hz=rate_hz), apart.score(rate_hz=rate_hz)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    segmentation: Segmentation
    celsius: NDArray[np.float32]
    truth: SceneFrame


def _by_truth(scene: Scene, moments: Iterable[float], masks: Masks) -> Iterator[_Look]:
    for utc_s in moments:
        frame = scene.at(utc_s)
        instances = _together(frame.instances) if masks is Masks.MERGED else frame.instances.copy()
        segmentation = Segmentation(parts=frame.parts.copy(), instances=instances)
        yield _Look(segmentation, frame.radiometric_celsius, frame)


def _by_networks(scene: RememberedScene, moments: Iterable[float], seed: int, animals: int) -> Iterator[_Look]:
    """What the service would see; where it measures nothing, as behind the shutter, there is no look."""
    segmenter = open_networks(Settings().vision, most=animals).segmenter
    if segmenter is None:
        raise ModelError("expected the networks of the package, found none: see `vivarium model info`")
    clock = SimulatedClock(round(_FIRST_UTC_S * NS_PER_S))
    camera = SimulatedCamera(SimulatedDevice(seed=seed, scene=scene, clock=clock), clock=clock)
    with camera:
        for utc_s in moments:
            clock.advance(max(0.0, utc_s - clock.utc_ns() / NS_PER_S))
            frame = camera.read(_READ_TIMEOUT_S)
            if not unmeasurable(frame.flags):
                yield _Look(segmenter.segment(frame.celsius), frame.celsius, camera.truth(frame))


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
