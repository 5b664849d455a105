"""What a person says about who is who, and what it makes of what was said before. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from daemon.observation import AnimalObservation, FrameObservation, Identity


class CorrectionKind(StrEnum):
    """What is corrected."""

    SWAP = "swap"
    """Two animals have each other's number."""
    ASSIGN = "assign"
    """A track is one animal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A person's word about who is who. What it changes is no posterior of the tracker any more."""

    kind: CorrectionKind
    animal: int | None
    """Of a swap the first animal; of an assignment who the track is, None for nobody who is known."""
    other: int | None = None
    """Of a swap the second animal."""
    track: int | None = None
    """Of an assignment what is followed, or the animal's number where nothing was followed."""
    doubts: int | None = None
    """Of an assignment that holds as long as the track stays the same animal: how many doubts the track has had when it
    begins. None where it holds whatever the tracker thinks."""
    said: int | None = None
    """Of such an assignment who the track was said to be when it begins; None for nobody who is known."""

    def __post_init__(self) -> None:
        swap = self.kind is CorrectionKind.SWAP
        if swap and (self.animal is None or self.other is None or self.animal == self.other or self.track is not None):
            raise ValueError(f"a swap is of two different animals, got {self.animal} and {self.other}")
        if not swap and (self.track is None or self.other is not None):
            raise ValueError("an assignment is of one track")
        if self.doubts is not None and (swap or self.animal is None):
            raise ValueError("only that a track is an animal can come to be doubted")

    @property
    def words(self) -> str:
        """The same as a sentence."""
        if self.kind is CorrectionKind.SWAP:
            return f"animals {self.animal} and {self.other} change numbers"
        return f"track {self.track} is {'not known' if self.animal is None else f'animal {self.animal}'}"

    def after(self, subject: int, said: Identity, *, group: bool, doubts: int, number: int | None) -> Identity | None:
        """Who it is after this correction.

        Parameters
        ----------
        subject : int
            The track, or the animal's number where nothing was followed.
        said : Identity
            Who it is without.
        group : bool
            Whether it is several animals that cannot be told apart.
        doubts : int
            How often the track may have changed places with another since it began.
        number : int or None
            Of this correction, where it has one.

        Returns
        -------
        Identity or None
            None where it says nothing about it. A name has no probability: it is a person's word. Where nobody is
            named, the candidates change their numbers and the tracker's probability stays.
        """
        if self.kind is CorrectionKind.ASSIGN:
            if subject != self.track or group:
                return None
            if self.doubts is not None and doubts > self.doubts:
                return self._doubted(said, number)
            return Identity(animal=self.animal, probability=None, candidates=(), correction=number)
        if said.animal in (self.animal, self.other):
            return Identity(animal=self._swapped(said.animal), probability=None, candidates=(), correction=number)
        candidates = tuple(sorted(self._swapped(each) or each for each in said.candidates))
        if candidates == tuple(sorted(said.candidates)):
            return None
        return replace(said, candidates=candidates, correction=number)

    def _doubted(self, said: Identity, number: int | None) -> Identity | None:
        """Who a track is that was assigned and may have changed places since: only the assigned name may stay.

        The tracker has not learnt from the correction: what it calls by another name may be what was corrected. And
        where it had another name for the track before, that it now agrees may be the change itself.
        """
        agreed = self.said in (None, self.animal)
        if said.animal is None or (agreed and said.animal == self.animal):
            return None
        candidates = {self.animal, said.animal, self.said}
        return Identity(
            animal=None,
            probability=None,
            candidates=tuple(sorted(each for each in candidates if each is not None)),
            correction=number,
        )

    def _swapped(self, animal: int | None) -> int | None:
        return self.other if animal == self.animal else self.animal if animal == self.other else animal

    def corrected(self, observation: FrameObservation, number: int | None = None) -> FrameObservation:
        """The same frame after this correction; what it changes remembers what was said before.

        Nothing is two animals at once: as long as the track is seen another one that was said to be the animal assigned
        is not known, also after a doubt: the tracker may call it so because of what was corrected.
        """
        changed = {
            each.key: after
            for each in observation.animals
            if (
                after := self.after(
                    each.key, each.identity, group=each.group is not None, doubts=each.doubts, number=number
                )
            )
        }
        there = any(each.key == self.track and each.group is None for each in observation.animals)
        if self.kind is CorrectionKind.ASSIGN and self.animal is not None and there:
            nobody = Identity(animal=None, probability=None, correction=number)
            others = [each.key for each in observation.animals if each.animal == self.animal and each.key != self.track]
            changed |= dict.fromkeys(others, nobody)
        return with_identities(observation, changed)


def with_identities(observation: FrameObservation, changed: Mapping[int, Identity]) -> FrameObservation:
    """The same frame with other identities, by `AnimalObservation.key`; groups have the members that follow."""
    if not changed:
        return observation
    animals = [_changed(each, changed.get(each.key)) for each in observation.animals]
    animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
    groups = tuple(
        replace(group, members=changed[group.number].candidates) if group.number in changed else group
        for group in observation.groups
    )
    return replace(observation, animals=tuple(animals), groups=groups)


def _changed(animal: AnimalObservation, after: Identity | None) -> AnimalObservation:
    if after is None:
        return animal
    return replace(
        animal,
        track=animal.key,
        animal=after.animal,
        probability=after.probability,
        candidates=after.candidates,
        correction=after.correction,
        before=(*animal.before, animal.identity),
    )


class CorrectionsInForce:
    """What goes on being said of each new frame; belongs to one thread."""

    def __init__(self) -> None:
        self._corrections: dict[int, Correction] = {}

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of those in force, in the order in which they apply."""
        return tuple(self._corrections)

    def set(self, corrections: Iterable[tuple[int, Correction]]) -> None:
        """Have these in force, with their numbers, in the order in which they were made."""
        self._corrections = dict(corrections)

    def corrected(self, observation: FrameObservation) -> FrameObservation:
        """A frame as the tracker saw it, after all corrections."""
        for number, correction in self._corrections.items():
            observation = correction.corrected(observation, number)
        return observation
