"""A radiometric scene that moves: rats or mice in a box seen from above, in degrees, with the truth beside it.

A scene is a pure function of time: any moment can be asked for, in any order, and always looks the same. It knows
nothing of counts, sensors and frames; `drivers.simulated` makes a camera's bytes of it.
"""

from collections.abc import Sequence

import numpy as np

from drivers.vivarium.anatomy import Species
from drivers.vivarium.clutter import dropping
from drivers.vivarium.composition import Touch, compose
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.housing import plain_housing
from drivers.vivarium.incidents import Incident
from drivers.vivarium.itinerary import Doing, Itinerary, doing
from drivers.vivarium.lens import BLUR_SIGMA_PX, Lens
from drivers.vivarium.moment import AnimalMoment, Moment, contacts
from drivers.vivarium.posture import Pose
from drivers.vivarium.reflections import Mirror, wall_mirror
from drivers.vivarium.resident import Resident
from drivers.vivarium.rhythm import CYCLE_S, LIGHTS_ON_UTC_S, MAX_RESIDENTS, Rhythm, circadian, zeitgeber_s
from drivers.vivarium.traces import Traces
from drivers.vivarium.truth import SceneFrame

_FLOOR_CELSIUS = 23.0
_ROOM_CIRCADIAN_CELSIUS = -0.2
"""The room is a little cooler by night."""
_LENGTH_PX = (110.0, 110.0, 92.0, 80.0, 70.0, 62.0, 56.0)
"""By the number of animals: those that share a box are younger, or the box is larger."""
_MOUSE_SHARE = 0.7
"""A mouse is that much of a rat's size, the camera being nearer."""
_OLD_DROPPINGS = 9
_DROPPING_LENGTH = 0.045
_MIRROR_SHARE = 0.08
_FLOOR_MIRROR = Mirror(flip_axis=None, offset_px=(5.0, 9.0), share=_MIRROR_SHARE, blur_px=1.5)
_TOUCH = Touch(given_back=0.75, seam_celsius=0.5)


class Scene:
    """A box with animals that live in it.

    They sleep in a nest, in a huddle, and are out in bouts, by night more than by day: they walk, rest, groom, rear,
    meet nose to nose, and climb over one another where their ways cross. Temperatures follow the time of day, activity
    and incidents.

    Parameters
    ----------
    seed : int
        The same seed gives the same animals, ways and bedding.
    animals : int
        How many, 0..6.
    species : Species
        Of which kind.
    script : sequence of Incident
        What happens to them.
    lights_on_utc_s : float
        Seconds after midnight UTC at which the lights go on; they stay on for twelve hours.
    blur_sigma_px : float
        Gaussian blur of the lens; 0 for none.

    Raises
    ------
    ValueError
        If the number of animals or the blur is out of range, or the script has an animal that is not there.
    """

    def __init__(
        self,
        seed: int,
        animals: int = 1,
        *,
        species: Species = Species.RAT,
        script: Sequence[Incident] = (),
        lights_on_utc_s: float = LIGHTS_ON_UTC_S,
        blur_sigma_px: float = BLUR_SIGMA_PX,
    ) -> None:
        if not 0 <= animals <= MAX_RESIDENTS:
            raise ValueError(f"a scene has 0..{MAX_RESIDENTS} animals, got {animals}")
        if not 0 <= blur_sigma_px <= 5:
            raise ValueError(f"blur_sigma_px must be in 0..5, got {blur_sigma_px}")
        for incident in script:
            if not 1 <= incident.animal <= animals:
                raise ValueError(f"{incident.kind}: expected an animal 1..{animals}, got {incident.animal}")
        self._lens, self._lights_on_utc_s = Lens(blur_sigma_px=blur_sigma_px), lights_on_utc_s
        length_px = _LENGTH_PX[animals] * (_MOUSE_SHARE if species is Species.MOUSE else 1.0)
        numbers = range(1, animals + 1)
        scripts = {number: [one for one in script if one.animal == number] for number in numbers}
        rhythms = [
            Rhythm(seed, number, lights_on_utc_s=lights_on_utc_s, incidents=scripts[number]) for number in numbers
        ]
        self._itinerary = Itinerary(seed, rhythms, length_px=length_px)
        self._residents = [
            Resident(
                seed, number, species=species, length_px=length_px, floor_celsius=_FLOOR_CELSIUS, rhythm=rhythm,
                incidents=scripts[number],
            )
            for number, rhythm in enumerate(rhythms, start=1)
        ]  # fmt: skip
        self._traces = [self._traces_of(seed, resident) for resident in self._residents]
        # Who is on top where two overlap never changes: it would be seen as a jump.
        self._layers = generator(seed, Axis.ARRANGEMENT).permutation(animals).tolist()
        box = generator(seed, Axis.BOX)
        self._housing = plain_housing(box, _FLOOR_CELSIUS, nests=self._itinerary.nests)
        for _ in range(_OLD_DROPPINGS):
            place = float(box.uniform(16, 240)), float(box.uniform(16, 176))
            dropping(self._housing.celsius, box, place, _DROPPING_LENGTH * length_px, float(box.uniform(20.0, 21.5)))
        self._housing.celsius.setflags(write=False)
        self._mirrors = (
            _FLOOR_MIRROR,
            *(wall_mirror(axis, foot, share=_MIRROR_SHARE, blur_px=1.0) for axis, foot in self._housing.mirrors),
        )

    def at(self, utc_s: float) -> SceneFrame:
        """The picture at a moment, seconds since the Unix epoch, with its truth for each pixel and animal."""
        room = np.float32(_ROOM_CIRCADIAN_CELSIUS * circadian(utc_s, self._lights_on_utc_s))
        under, actors = self._housing.celsius + room, []
        for layer in self._layers:
            resident = self._residents[layer]
            if not resident.absent(utc_s):
                self._traces[layer].onto(under, utc_s)
                actors.append(resident.actor(self._doing(resident, utc_s), utc_s))
        return compose(under, actors, lens=self._lens, mirrors=self._mirrors, touch=_TOUCH, utc_s=utc_s).frame

    def moment(self, utc_s: float) -> Moment:
        """What is true of the animals at a moment, as `at` shows it, without making a picture.

        No pixel is looked at: a simulated week of three animals takes about a minute at one moment a minute.
        """
        done = {
            resident.number: (resident, self._doing(resident, utc_s))
            for resident in self._residents
            if not resident.absent(utc_s)
        }
        poses = {number: resident.pose(did, utc_s) for number, (resident, did) in done.items()}
        touching, huddle = contacts(poses)
        return Moment(
            utc_s=utc_s,
            zeitgeber_s=zeitgeber_s(utc_s, self._lights_on_utc_s),
            animals=tuple(
                _animal(resident, did.speed_px_s, poses[number], utc_s, touching[number], huddle[number])
                for number, (resident, did) in done.items()
            ),
        )

    def _doing(self, resident: Resident, utc_s: float) -> Doing:
        return doing(self._itinerary.plan(resident.number, int(utc_s // CYCLE_S)), utc_s)

    def _traces_of(self, seed: int, resident: Resident) -> Traces:
        return Traces(
            seed, resident.number, length_px=resident.rodent.length_px,
            plan=lambda cycle: self._itinerary.plan(resident.number, cycle),
        )  # fmt: skip


def _animal(
    resident: Resident, speed_px_s: float, pose: Pose, utc_s: float, touching: tuple[int, ...], huddle: tuple[int, ...]
) -> AnimalMoment:
    warmth = resident.warmth(utc_s)
    skin = resident.skin(pose, warmth)
    return AnimalMoment(
        animal=resident.number,
        species=resident.rodent.species,
        stance=pose.posture.stance,
        speed_px_s=speed_px_s,
        middle=pose.body.point(0.5),
        heading_rad=pose.body.heading_rad(0.5),
        snout=pose.body.at(0.0),
        neck=pose.body.point(resident.rodent.head),
        tail_base=pose.body.at(1.0),
        tail_tip=pose.tail.at(2.0),
        core_celsius=warmth.core_celsius,
        skin_celsius=skin.hottest_celsius,
        surface_celsius=skin.surface_celsius,
        tail_dilation=resident.dilation(utc_s),
        touching=touching,
        huddle=huddle,
    )
