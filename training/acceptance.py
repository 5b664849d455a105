"""What models must reach before they are shipped or taken into service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.vivarium.truth import Contact
from training.metrics import ALL, GOOD_FROM_IOU, AnimalMeasures, GroupMeasures
from training.verdict import Figure

_Of = Callable[[GroupMeasures], Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """The least that one measure must be."""

    measure: str
    group: str
    """Of `training.metrics.GROUPS`."""
    least: float
    of: _Of
    for_animals: bool = False
    """Asked only of what tells touching animals apart: not of a U-Net alone, nor of the path without a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A requirement and what was measured."""

    requirement: Requirement
    figure: Figure
    """None where nothing was measured, which is not enough."""

    @property
    def held(self) -> bool:
        """Whether it is reached."""
        return self.figure is not None and self.figure >= self.requirement.least


def _animals(of: Callable[[AnimalMeasures], Figure]) -> _Of:
    return lambda group: None if group.animals is None else of(group.animals)


def _mean_iou(group: str, least: float) -> Requirement:
    return Requirement(
        measure="mean IoU head, body, tail", group=group, least=least, of=lambda one: one.pixels.mean_iou_parts
    )


def _quality(group: str, least: float) -> Requirement:
    return Requirement(
        measure="PQ animals", group=group, least=least, of=_animals(lambda one: one.pq), for_animals=True
    )


def _count(group: str, least: float) -> Requirement:
    return Requirement(
        measure="count right",
        group=group,
        least=least,
        of=_animals(lambda one: one.count_right_share),
        for_animals=True,
    )


ON_SCENES = (
    _mean_iou(Contact.APART, 0.90),
    _mean_iou(ALL, 0.84),
    _quality(Contact.APART, 0.90),
    _quality(Contact.TOUCHING, 0.75),
    _quality(Contact.HUDDLE, 0.55),
    _count(Contact.APART, 0.95),
)
"""On scenes that nothing was trained on."""

ON_PICTURES = (
    Requirement(measure="IoU animal", group=ALL, least=0.88, of=lambda one: one.pixels.animal_iou),
    _mean_iou(ALL, 0.75),
    Requirement(
        measure="head and tail at the right ends",
        group=ALL,
        least=1.0,
        of=_animals(lambda one: one.ends_right_share),
    ),
    _count(ALL, 1.0),
    Requirement(
        measure=f"animals with IoU from {GOOD_FROM_IOU:g}",
        group=ALL,
        least=1.0,
        of=_animals(lambda one: one.good_share),
        for_animals=True,
    ),
)
"""On pictures of real cameras."""


def accepted(measures: Mapping[str, GroupMeasures], *, tells_apart: bool) -> list[Outcome]:
    """What is asked of a candidate, and what it reached.

    Parameters
    ----------
    measures : mapping of str to GroupMeasures
        By group. Where how close the animals are is known these are scenes, and otherwise pictures.
    tells_apart : bool
        Whether the candidate can tell touching animals apart.
    """
    requirements = ON_SCENES if measures.keys() - {ALL} else ON_PICTURES
    return [
        Outcome(requirement=one, figure=one.of(measures[one.group]) if one.group in measures else None)
        for one in requirements
        if tells_apart or not one.for_animals
    ]
