"""`vivarium seen-errors`: how far what is measured on simulated pictures lies from what is true of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Annotated

import typer

from daemon.drawn_eyes import true_places
from daemon.networks import open_networks
from daemon.observation import AnimalObservation, FrameObservation
from daemon.picture_eyes import PictureEyes, RememberedScene
from daemon.seen_errors import Error, PartErrors, SeenErrors
from daemon.settings import Settings, load_settings
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart, Segmenter
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.moment import AnimalMoment, Moment

PAIR_S = 1.0
"""Two looks so far apart tell what changes from frame to frame from what stays."""

_START_UTC_NS = 1_790_000_000 * NS_PER_S
_STEP_S = 4231
"""From pair to pair: no round part of a day or of a cycle of activity."""


@dataclass(slots=True)
class _Quantity:
    """Seen minus true, pair by pair."""

    pairs: list[tuple[float, float]] = field(default_factory=list)

    def error(self) -> Error:
        """Split into what stays within a pair and what does not."""
        everything = [each for pair in self.pairs for each in pair]
        quick = (fmean((second - first) ** 2 for first, second in self.pairs) / 2) ** 0.5
        whole = pstdev(everything)
        return Error(
            bias=round(fmean(everything), 3),
            slow=round(max(whole**2 - quick**2, 0.0) ** 0.5, 3),
            quick=round(quick, 3),
        )


class Comparison:
    """Gathers pairs of looks, each beside its truth."""

    def __init__(self) -> None:
        self._quantities: dict[tuple[str, str], _Quantity] = defaultdict(_Quantity)
        self._pixels: dict[tuple[BodyPart, str], list[int]] = defaultdict(list)
        self._background: list[float] = []
        self._seen: dict[str, list[bool]] = {"apart": [], "touching": [], "huddled": []}
        self._heads: dict[str, list[bool]] = {"apart": [], "touching": [], "huddled": []}

    def add(self, looks: Iterable[tuple[FrameObservation, Moment]]) -> None:
        """Two looks, a moment apart."""
        errors: list[dict[tuple[int, str, str], float]] = []
        for observation, moment in looks:
            if observation.not_measured is not None:
                return
            if observation.background_celsius is not None:
                self._background.append(observation.background_celsius)
            seen = {each.animal: each for each in observation.animals}
            for true in moment.animals:
                how = "huddled" if true.huddle else "touching" if true.touching else "apart"
                self._seen[how].append(true.animal in seen)
                if true.animal in seen:
                    self._heads[how].append(observation.skin_max_celsius(seen[true.animal]) is not None)
            errors.append(
                {
                    (true.animal, *name): error
                    for true in moment.animals
                    if true.animal in seen
                    for name, error in self._compared(observation, seen[true.animal], true)
                }
            )
        first, second = errors
        for key in first.keys() & second.keys():
            self._quantities[key[1:]].pairs.append((first[key], second[key]))

    def _compared(
        self, observation: FrameObservation, seen: AnimalObservation, true: AnimalMoment
    ) -> Iterator[tuple[tuple[str, str], float]]:
        skin = observation.skin_max_celsius(seen)
        if skin is not None:
            yield ("animal", "skin"), skin - true.skin_celsius
        places = true_places(true)
        for part in seen.parts:
            self._pixels[part.part, "area"].append(part.area_px)
            self._pixels[part.part, "outline"].append(part.outline_px or 0)
            yield (part.part.name, "x"), part.x_px - places[part.part][0]
            yield (part.part.name, "y"), part.y_px - places[part.part][1]
            if part.mean_celsius is not None:
                yield (part.part.name, "mean"), part.mean_celsius - true.surface_celsius[ScenePart(part.part)]

    def errors(self, source: str) -> SeenErrors:
        """What was found.

        Raises
        ------
        ConfigError
            If too little was seen to tell.
        """
        if not all(self._quantities[part.name, "mean"].pairs for part in BodyPart):
            raise ConfigError("seen-errors: no animal was seen twice with all its parts; look at more pairs")
        return SeenErrors(
            source=source,
            head=self._part(BodyPart.HEAD),
            body=self._part(BodyPart.BODY),
            tail=self._part(BodyPart.TAIL),
            skin_celsius=self._quantities["animal", "skin"].error(),
            background_celsius=Error(
                bias=round(fmean(self._background), 3), slow=round(pstdev(self._background), 3), quick=0.0
            ),
            **{
                f"{name}_{how}": round(fmean(share), 3) if share else 0.0
                for name, shares in (("seen", self._seen), ("head", self._heads))
                for how, share in shares.items()
            },
        )

    def counts(self) -> str:
        """How much the figures rest on."""
        return ", ".join(f"{len(seen)} times {how}" for how, seen in self._seen.items())

    def _part(self, part: BodyPart) -> PartErrors:
        x, y = (self._quantities[part.name, axis] for axis in "xy")
        return PartErrors(
            mean_celsius=self._quantities[part.name, "mean"].error(),
            place_px=_Quantity(x.pairs + y.pairs).error(),
            area_px=round(median(self._pixels[part, "area"])),
            outline_px=round(median(self._pixels[part, "outline"])),
        )


def segmenter_of(settings: Settings) -> Segmenter:
    """What finds the animals by these settings: the networks, or without any the classical way."""
    measure = settings.measure
    networks = open_networks(settings.vision, most=settings.animal_count).segmenter
    return networks or ClassicalSegmenter(animals=settings.animal_count, min_area_px=measure.min_area_px)


def seen_errors(
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to be written.")],
    seed: Annotated[int, typer.Option(min=0, help="Of animals and box.")] = 7,
    animals: Annotated[int, typer.Option(min=1, max=6, help="How many.")] = 3,
    pairs: Annotated[int, typer.Option(min=1, help="How many moments, each looked at twice, a second apart.")] = 150,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Whose [vision] is used; else the shipped.")
    ] = None,
) -> None:
    """Compare what is measured on simulated pictures with the truth; for `vivarium simulate --script --errors`.

    Which animal is which is taken from the truth. Moments are spread over days, nights and activity.
    """
    settings = Settings() if config is None else load_settings(config)
    settings = settings.model_copy(update={"measure": settings.measure.model_copy(update={"animals": animals})})
    scene, segmenter = RememberedScene(seed, animals), segmenter_of(settings)
    eyes = PictureEyes(scene, segmenter, start_utc_ns=_START_UTC_NS, seed=seed, mm_per_px=None)
    comparison = Comparison()
    with eyes.camera:
        for number in range(pairs):
            at_utc_ns = _START_UTC_NS + number * _STEP_S * NS_PER_S
            looks = []
            for after_s in (0.0, PAIR_S):
                observation, truth = eyes.look(at_utc_ns + round(after_s * NS_PER_S))
                looks.append((observation, scene.moment(truth.utc_s)))
            comparison.add(looks)
    command = f"vivarium seen-errors --seed {seed} --animals {animals} --pairs {pairs}" + (
        "" if config is None else f" --config {config.name}"
    )
    found = comparison.errors(f"{segmenter.name}, {comparison.counts()}: {command}")
    try:
        output.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    typer.echo(found.model_dump_json(indent=2))
