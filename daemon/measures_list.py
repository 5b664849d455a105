"""The one list of measures: name, unit, formula, source and rule of validity; docs/measures.md is printed from it.

A sample is the first measured frame of a whole second of UTC, so that 25 frames a second and one give the same values.
Lengths are in millimetres with `measure.mm_per_px` in the config, and in pixels without: a box has one of the two, and
`in_units_of_box` turns the one name into the other.
"""

from collections.abc import Iterable, Iterator, Mapping

from daemon.minute_value import Measure, Scope
from daemon.physiology import HEAD_SHARES

OWN = "own"
VINNE = "van der Vinne et al. 2020, Sci Rep 10:20680 (mice), doi 10.1038/s41598-020-77786-5"
ROMANOVSKY = "Romanovsky et al. 2002, J Appl Physiol 92:2667 (rats), doi 10.1152/japplphysiol.01173.2001"
BROWN = "Brown et al. 2017, Wellcome Open Res 1:2 (mice), doi 10.12688/wellcomeopenres.9892.2"
NOLDUS = "minimal distance moved, direct, of EthoVision XT (Noldus)"

LEAST_COVERAGE = 0.5
"""Share of the samples due below which extremes, sums and shares of a minute say nothing."""

LEAST_TEMPERATURE_COVERAGE = 0.2
"""The same for means of temperatures: they change slowly, and a tail is often out of sight."""

_LOW, _HIGH = HEAD_SHARES
_HALF = f"at least {LEAST_COVERAGE:.0%} of the samples due show the animal, resolved"
_FIFTH = f"at least {LEAST_TEMPERATURE_COVERAGE:.0%} of the samples due show it, resolved, not settling after a shutter"
_MOVING = f"{_HALF}, not more than 2.5 s apart: where one frame in 5 s is measured there is no value"
_HEAD = f"{_HALF}, not settling after a shutter, with its head (by networks: {_LOW:.0%} to {_HIGH:.0%} of its pixels)"


def _animal(name: str, unit: str, formula: str, source: str, valid_when: str) -> Measure:
    return Measure(
        name=name, scope=Scope.ANIMAL, unit=unit, formula=formula, source=source, valid_when=f"{valid_when}."
    )


def _cage(name: str, unit: str, formula: str, source: str, valid_when: str) -> Measure:
    return Measure(name=name, scope=Scope.CAGE, unit=unit, formula=formula, source=source, valid_when=f"{valid_when}.")


def _lengths(name: str, unit: str, formula: str, source: str, valid_when: str) -> tuple[Measure, Measure]:
    """A length or speed in millimetres, and the same in pixels; `mm` in name and unit is exchanged."""
    return tuple(  # type: ignore[return-value]  # two of two
        _animal(
            name.replace("mm", length),
            unit.replace("mm", symbol),
            formula,
            source,
            f"{valid_when}; {'with' if length == 'mm' else 'without'} measure.mm_per_px",
        )
        for length, symbol in (("mm", "mm"), ("px", "{pixel}"))
    )


_LIST: tuple[Measure, ...] = (
    # Thermal physiology
    _animal(
        "skin_max_celsius", "Cel", "greatest temperature of head, body or tail over the samples", VINNE, _HEAD
    ),
    _animal(
        "skin_max_30min_celsius",
        "Cel",
        "mean of skin_max_celsius over the last 30 minutes, this one included",
        f"{VINNE}: follows the rhythm of core temperature within an animal; it is no core temperature",
        "at least 20 of the 30 minutes have a skin_max_celsius",
    ),
    _animal(
        "head_max_celsius",
        "Cel",
        "greatest temperature of the head over the samples: eye or inner ear where they are seen",
        OWN,
        _HEAD,
    ),
    _animal(
        "head_mean_celsius",
        "Cel",
        "mean over the samples of the head's mean",
        OWN,
        f"{_FIFTH}, in which the head is 5 to 30 % of the animal's pixels",
    ),
    _animal("body_mean_celsius", "Cel", "mean over the samples of the body's mean", OWN, _FIFTH),
    _animal("tail_mean_celsius", "Cel", "mean over the samples of the tail's mean", OWN, f"{_FIFTH}, at least 12 px"),
    _animal(
        "tail_minus_ambient_celsius",
        "Cel",
        "mean over the samples of (tail's mean - background)",
        ROMANOVSKY,
        f"{_FIFTH}, at least 12 px of the tail",
    ),
    _animal(
        "body_minus_tail_celsius",
        "Cel",
        "mean over the samples of (body's mean - tail's mean)",
        OWN,
        f"{_FIFTH}, body and at least 12 px of the tail",
    ),
    _animal(
        "heat_loss_index",
        "1",
        "mean over the samples of (tail - background) / (body - background), with the surface of the body in place of "
        "the core: 0 constricted, towards 1 dilated, above 1 where the tail is warmer than the coat",
        f"{ROMANOVSKY}, adapted",
        f"{_FIFTH}, body and at least 12 px of the tail; body at least 2 Cel above the background",
    ),
    _animal(
        "vasodilation_onset",
        "1",
        "1 in the minute in which the median of tail_minus_ambient_celsius over 3 minutes comes to lie 1.5 Cel above "
        "that of 10 minutes before, otherwise 0; the next one after it fell below 0.75 Cel",
        "own; the tail acts as an on/off controller: Dawson and Keber 1979, Clin Exp Pharmacol Physiol 6:69 (rats)",
        "both medians rest on at least 2 minutes with a value",
    ),
    _animal(
        "vasoconstriction_onset",
        "1",
        "as vasodilation_onset, for a fall",
        OWN,
        "both medians rest on at least 2 minutes with a value",
    ),
    _animal(
        "fever_signature_celsius",
        "Cel",
        "rise of skin_max_30min_celsius over 60 minutes, where the mean of tail_minus_ambient_celsius over 30 minutes "
        "did not rise meanwhile; otherwise 0. Exercise and a warm room open the tail, a rising fever closes it",
        "own; tail vasomotion in fever: Szekely and Szelenyi 1979, Acta Physiol Acad Sci Hung 53:265 (rats)",
        "both proxies have a value, and both means of the tail rest on at least 10 minutes",
    ),
    _animal(
        "cooling_celsius",
        "Cel",
        "fall of body_mean_celsius: median of the 5 minutes that end 3 minutes before, less this minute; 0 if it rose. "
        "A coat that got wet cools by 1.5 Cel and more",
        OWN,
        "this minute and at least 3 of the 5 have a body_mean_celsius",
    ),
    # Behaviour
    *_lengths(
        "distance_mm",
        "mm",
        "way of the trunk's centre (head and body by area); a step counts once the centre is 1.5 px or more away "
        "from where the last one ended. Not scaled up to the whole minute",
        NOLDUS,
        _MOVING,
    ),
    *_lengths(
        "activity_mm_per_s", "mm/s", "distance divided by the seconds over which it was followed", NOLDUS, _MOVING
    ),
    *_lengths("speed_max_mm_per_s", "mm/s", "greatest way of the trunk's centre between two samples per second", OWN,
              _MOVING),
    *_lengths(
        "reach_mm",
        "mm",
        "diagonal of the box around all places of the trunk's centre: says whether it moved at all, also where frames "
        "are rare",
        OWN,
        _HALF,
    ),
    _animal(
        "immobile_share",
        "1",
        "share of the time followed in which the trunk's centre moves less than 1.5 px/s",
        OWN,
        _MOVING,
    ),
    _animal(
        "rest_share",
        "1",
        "share of the time followed that is immobile and has been for 40 s; the first 40 s of a bout do not count",
        f"{BROWN}: immobile for more than 40 s is asleep",
        _MOVING,
    ),
    _animal("immobile_bout_s", "s", "longest stretch without movement, up to now, that touches the minute", BROWN,
            _MOVING),
    _animal("rest_endings", "1", "how often an immobility of 40 s or more ended by movement", BROWN, _MOVING),
    *_lengths("length_mm", "mm", "median of the way nose - head's centre - body's centre - base of the tail", OWN,
              f"{_FIFTH}, head and body"),
    _animal(
        "curl",
        "1",
        "median of 1 - (straight line nose to base of the tail) / (way nose - head - body - base of the tail): "
        "0 stretched, towards 1 curled up",
        OWN,
        f"{_FIFTH}, head and body",
    ),
    _animal(
        "huddling_share",
        "1",
        "share of the samples in which it is a member (also a possible one) of a group that cannot be told apart, or "
        "another's trunk centre is nearer than half the mean length of the two",
        OWN,
        "at least 50% of the samples due show it, resolved or in a group",
    ),
    *_lengths("nearest_mm", "mm", "median of the distance of its trunk's centre to the nearest other animal's", OWN,
              f"{_HALF}, with another"),
    _animal("seen_share", "1", "share of the samples that show the animal, resolved", OWN,
            "at least 50% of the samples due were measured"),
    # The cage
    _cage("ambient_celsius", "Cel", "median over the samples of the median of all that is no animal", OWN,
          "at least 20% of the samples due, not settling after a shutter"),
    _cage("nest_celsius", "Cel", "median over the samples of the mean of the pixels of all zones of the kind nest "
          "that no animal covers", OWN, "as ambient_celsius; at least 20 px of a nest are free"),
    _cage("nest_minus_ambient_celsius", "Cel", "mean over the samples of (nest - background): warmth kept in the nest",
          OWN, "as nest_celsius"),
    _cage("reference_offset_celsius", "Cel", "median over the samples of what was added to each reading so that the "
          "reference patches have their known temperature", "own; comparison with a reference in the scene",
          "at least 20% of the samples due have a reference in sight"),
    _cage("animals_seen", "1", "mean over the samples of the number of animals told apart", OWN,
          "at least 50% of the samples due were measured"),
    _cage("frames_coverage", "1", "share of the samples due that were measured", OWN, "always, but for maintenance"),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _LIST}
"""All but those of zones, by name."""

_PX_OF_MM = {
    name: name.replace("mm", "px")
    for name in MEASURES
    if name.replace("mm", "px") != name and name.replace("mm", "px") in MEASURES
}


def in_units_of_box(name: str, mm_per_px: float | None) -> str:
    """The name under which a box has this measure: a length in millimetres is one in pixels where no scale is known."""
    if mm_per_px is None:
        return _PX_OF_MM.get(name, name)
    return next((mm for mm, px in _PX_OF_MM.items() if px == name), name)


def zone_measure(zone: str, what: str) -> str:
    """Name of a measure of a zone; `what` is `share`, `entries`, `dwell_s` or `latency_s`."""
    return f"zone_{zone}_{what}"


def measures_of(zones: Iterable[str], mm_per_px: float | None) -> Mapping[str, Measure]:
    """What a box with these zones and this scale measures, by name."""
    left_out = set(_PX_OF_MM if mm_per_px is None else _PX_OF_MM.values())
    listed = {name: measure for name, measure in MEASURES.items() if name not in left_out}
    return listed | {measure.name: measure for zone in zones for measure in _zone(zone)}


def _zone(zone: str) -> Iterator[Measure]:
    inside = "the nose for zones of the kinds food and water (where it is known), otherwise the trunk's centre"
    yield _animal(
        zone_measure(zone, "share"), "1", f"share of the samples in which it is in the zone: {inside}", OWN, _HALF
    )
    yield _animal(
        zone_measure(zone, "entries"),
        "1",
        "how often it came to be in the zone after at least one sample outside; a gap of more than 2.5 s ends a visit "
        "and is no entry",
        OWN,
        _MOVING,
    )
    yield _animal(
        zone_measure(zone, "dwell_s"),
        "s",
        "sum of the times between a sample in the zone and the next one",
        OWN,
        _MOVING,
    )
    yield _animal(
        zone_measure(zone, "latency_s"),
        "s",
        "in the minute of the first sample of a block in the zone: time since the block's first sample",
        OWN,
        "within a block, once, if at least half of the block's samples until then have shown the animal, resolved; "
        "not after a restart of the service within it if the numbers of the animals began anew",
    )


def markdown(measures: Iterable[Measure]) -> str:
    """A table of measures for docs/measures.md."""
    rows = ["| Name | Of | Unit | Formula | Source | Valid when |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{each.name}` | {each.scope.value} | {each.unit} | {each.formula} | {each.source} | {each.valid_when} |"
        for each in measures
    ]
    return "\n".join(rows) + "\n"
