"""Several sources as one: one after the other, or mixed with weights."""

from collections.abc import Sequence

import numpy as np

from training.samples import Moment, Sample, Source


class MixedSource:
    """Draws from several sources in given proportions; fulfils `training.samples.Source`.

    Which picture has which number depends on the seed alone: any order and any number of processes give the same.

    Parameters
    ----------
    sources : sequence of Source
        What is mixed.
    weights : sequence of float
        Share of each; only their proportions count.
    length : int
        How many pictures make one round; those of small sources come more than once.
    seed : int
        Of the draws; another one gives another round.

    Raises
    ------
    ValueError
        If weights are not positive, or not one per source, or there is no picture.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], *, length: int, seed: int) -> None:
        if len(sources) != len(weights) or not sources or min(weights) <= 0 or length < 1:
            raise ValueError(
                f"expected a positive weight for each of {len(sources)} sources and at least one picture, got weights "
                f"{list(weights)} and {length} pictures"
            )
        self._sources = tuple(sources)
        self._weights = tuple(weights)
        rng = np.random.Generator(np.random.PCG64(seed))
        shares = np.array(weights, np.float64)
        self._which = rng.choice(len(sources), size=length, p=shares / shares.sum())
        self._places = np.zeros(length, np.int64)
        for number, source in enumerate(sources):
            drawn = np.flatnonzero(self._which == number)
            rounds = -(-len(drawn) // len(source))
            order = [rng.permutation(len(source)) for _ in range(rounds)]  # all come once before one comes twice
            self._places[drawn] = np.concatenate(order)[: len(drawn)] if order else 0

    @property
    def name(self) -> str:
        """See `Source`."""
        return " + ".join(f"{weight:g} x {one.name}" for weight, one in zip(self._weights, self._sources, strict=True))

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        return self._sources[int(self._which[index])][int(self._places[index])]

    def moment(self, index: int) -> Moment:
        """See `Source`; the sessions of different sources are different ones."""
        number = int(self._which[index])
        return _of_source(number, self._sources[number].moment(int(self._places[index])))


class JoinedSource:
    """Several sources one after the other; fulfils `training.samples.Source`.

    Parameters
    ----------
    sources : sequence of Source
        What is joined.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    @property
    def name(self) -> str:
        """See `Source`."""
        return " + ".join(source.name for source in self._sources)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        number, place = self._find(index)
        return self._sources[number][place]

    def moment(self, index: int) -> Moment:
        """See `Source`; the sessions of different sources are different ones."""
        number, place = self._find(index)
        return _of_source(number, self._sources[number].moment(place))

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} pictures, got number {index}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)


def _of_source(number: int, moment: Moment) -> Moment:
    return Moment(session=f"{number}/{moment.session}", position_s=moment.position_s)


class PartOfSource:
    """Some pictures of a source, for instance one side of a split; fulfils `training.samples.Source`.

    Parameters
    ----------
    source : Source
        The whole.
    indices : sequence of int
        Which, in which order.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = tuple(indices)

    @property
    def name(self) -> str:
        """See `Source`."""
        return f"{len(self)} of {len(self._source)} of {self._source.name}"

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        return self._source[self._indices[index]]

    def moment(self, index: int) -> Moment:
        """See `Source`."""
        return self._source.moment(self._indices[index])
