"""Scenes of the synthetic vivarium as a source of labelled pictures."""

from drivers.vivarium.snapshot import random_scene
from training.samples import Moment, Sample


class SceneSource:
    """Random scenes with consecutive seeds, drawn when they are asked for; fulfils `training.samples.Source`.

    Parameters
    ----------
    first_seed : int
        Of the first picture; from `drivers.vivarium.dice.FIRST_TEST_SEED` on they are for judging only.
    count : int
        How many.

    Raises
    ------
    ValueError
        If the seed is negative or there is no picture.
    """

    def __init__(self, first_seed: int, count: int) -> None:
        if first_seed < 0 or count < 1:
            raise ValueError(f"expected a seed from 0 and at least one scene, got seed {first_seed} and {count}")
        self.first_seed = first_seed
        self._count = count

    @property
    def name(self) -> str:
        """See `Source`."""
        return f"scenes {self.first_seed} to {self.first_seed + self._count - 1}"

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        if not 0 <= index < self._count:
            raise IndexError(f"there are {self._count} scenes, got number {index}")
        scene = random_scene(self.first_seed + index)
        frame = scene.frame
        return Sample(
            name=str(scene.seed),
            celsius=scene.celsius,
            parts=frame.parts,
            instances=frame.instances,
            surface_celsius=frame.surface_celsius,
            contact=frame.contact(),
            animals=frame.animals,
        )

    def moment(self, index: int) -> Moment:
        """See `Source`; each scene is a session of its own: it has no neighbours."""
        return Moment(session=str(self.first_seed + index), position_s=0.0)
