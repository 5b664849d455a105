"""Simulated days with a script of illness: the same collector, rules and store as in the field, drawn observations.

Observations are drawn from the truth by stated errors (`daemon.drawn_eyes`); one day can be seen through real pictures
instead (`daemon.picture_eyes`), and is then compared with what would have been drawn.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

from daemon.drawn_eyes import DRAWN, DrawnEyes
from daemon.events import Event, EventKind
from daemon.illness_script import truth_json
from daemon.messaging.payloads import event_message
from daemon.minute_value import MinuteValue
from daemon.minute_values import MinuteCollector, collector_of
from daemon.observation import AnimalObservation, FrameObservation
from daemon.picture_eyes import PictureEyes, RememberedScene
from daemon.rules import AlertRules
from daemon.schedule import PlannedBlock, blocks_between
from daemon.seen_errors import SeenErrors
from daemon.settings import Settings
from daemon.store.repository import Store, open_store
from daemon.vision.parts import Segmenter
from daemon.watching import Watching
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError
from drivers.t2s_protocol import FRAME_RATE_HZ, Variant
from drivers.vivarium.incidents import Incident
from drivers.vivarium.moment import Moment

DATABASE_NAME = "vivarium.db"
CONFIG_NAME = "config.toml"
TRUTH_NAME = "truth.json"

_NOTHING_LEFT = "simulated"
_DRAWING = CameraInfo(
    kind="simulated", product=DRAWN, serial="DRAWN", firmware="", location="", frame_rate_hz=FRAME_RATE_HZ
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueWarmth:
    """Of one animal in one minute."""

    minute_utc_ns: int
    animal: int
    core_celsius: float
    tail_minus_body_celsius: float


@dataclass(slots=True, kw_only=True)
class ScriptedResult:
    """What was made."""

    events: list[Event] = field(default_factory=list)
    truth: list[TrueWarmth] = field(default_factory=list)
    """One for each minute and animal that is in the box."""
    frames: int = 0
    pictured: list[MinuteValue] = field(default_factory=list)
    """Of the day that was seen through pictures."""
    drawn_beside: list[MinuteValue] = field(default_factory=list)
    """What would have been drawn of the same day."""


class ScriptedSimulation:
    """A box whose animals fall ill by a script.

    Parameters
    ----------
    settings : Settings
        With the sampling wanted: rates in blocks and outside are taken as one, that of the blocks.
    script : sequence of Incident
        What happens.
    errors : SeenErrors
        Of what is drawn.
    first_day : date
        Begins at its local midnight.
    pictures_day : int, optional
        This day, from 1, is seen through pictures.
    pictures_hours : int
        Only so many hours of it, from its midnight.
    segmenter : Segmenter, optional
        Finds the animals in them.
    output : Path
        Gets database, evidence, config and truth; must not hold an earlier simulation.

    Raises
    ------
    ConfigError
        If the rate of the blocks does not divide a minute, there is no such day, or `output` cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        script: Sequence[Incident],
        errors: SeenErrors,
        first_day: date,
        days: int,
        pictures_day: int | None,
        segmenter: Segmenter | None,
        output: Path,
        version: str,
        pictures_hours: int = 24,
    ) -> None:
        if (pictures_day is None) is not (segmenter is None):
            raise ValueError("a day seen through pictures needs a segmenter, and no other does")
        if pictures_day is not None and not 1 <= pictures_day <= days:
            raise ConfigError(f"--pictures-day: expected 1 to {days}, got {pictures_day}")
        self.output, self.database = output, output / DATABASE_NAME
        if self.database.exists():
            raise ConfigError(f"{output} holds an earlier simulation: choose another directory")
        try:
            output.mkdir(parents=True, exist_ok=True)
            (output / TRUTH_NAME).write_text(truth_json(script) + "\n", encoding="utf-8")
            (output / CONFIG_NAME).write_text(_config(settings), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
        self._settings = settings.model_copy(update={"box": settings.box.model_copy(update={"data_dir": output})})
        simulated = settings.camera.simulated
        self._scene = RememberedScene(
            simulated.seed,
            simulated.animals,
            species=simulated.species,
            script=script,
            lights_on_utc_s=simulated.lights_on_utc_s,
        )
        self._drawn = DrawnEyes(errors, seed=simulated.seed, mm_per_px=settings.measure.mm_per_px)
        self._segmenter = segmenter
        self._version = version
        self.step_ns = round(NS_PER_S / settings.schedule.rate_hz)
        self.start_utc_ns = self._midnight(first_day)
        self.stop_utc_ns = self._midnight(first_day + timedelta(days=days))
        self._pictured = (0, 0)
        if pictures_day is not None:
            day = first_day + timedelta(days=pictures_day - 1)
            begin_utc_ns, end_utc_ns = self._midnight(day), self._midnight(day + timedelta(days=1))
            self._pictured = begin_utc_ns, min(end_utc_ns, begin_utc_ns + pictures_hours * 3600 * NS_PER_S)

    def _midnight(self, day: date) -> int:
        return round(datetime.combine(day, time(), self._settings.zone).timestamp()) * NS_PER_S

    def run(self, on_progress: Callable[[int], None]) -> ScriptedResult:
        """Simulate; `on_progress` is told the wall time (UTC ns) once an hour of it.

        Raises
        ------
        StoreError
            If the database could not be written.
        """
        settings, result = self._settings, ScriptedResult()
        with (
            open_store(f"sqlite:///{self.database}", outbox_limit=settings.mqtt.outbox_limit) as store,
            ExitStack() as on,
        ):
            eyes = self._picture_eyes()
            if eyes is not None:
                on.enter_context(eyes.camera)
            keeper = _Keeper(
                store,
                settings,
                _DRAWING if eyes is None else eyes.camera.info,
                version=self._version,
                start_utc_ns=self.start_utc_ns,
            )
            collector, beside = collector_of(lambda: settings), collector_of(lambda: settings)
            watching = Watching(settings)
            rules = self._rules(watching.severities.cools)
            for number, (utc_ns, block) in enumerate(self._moments()):
                keeper.turn_to(block, utc_ns)
                moment = self._scene.moment(utc_ns / NS_PER_S)
                observation = self._look(eyes, moment, utc_ns, number, block, beside, result)
                self._note_truth(moment, utc_ns, result)
                keeper.observations.append(observation)
                events = self._collected(collector.add(observation), watching, keeper, utc_ns, result)
                shown = there(observation, moment)
                watching.note(shown)
                events += rules.update(shown)
                events = [watching.as_told(event) for event in events]
                events += [watching.with_evidence(rules.renewed(each)) for each in watching.severities.tick(utc_ns)]
                keeper.events += events
                result.events += events
                if utc_ns % (3600 * NS_PER_S) == 0:
                    keeper.write()
                    on_progress(utc_ns)
            keeper.turn_to(None, self.stop_utc_ns)
            last = self._collected(collector.finish(), watching, keeper, utc_ns, result)
            last += watching.tick(self.stop_utc_ns)
            keeper.events += last
            result.events += last
            result.frames = number + 1
            keeper.end(self.stop_utc_ns)
            on_progress(self.stop_utc_ns)
        return result

    def _picture_eyes(self) -> PictureEyes | None:
        if self._segmenter is None:
            return None
        return PictureEyes(
            self._scene,
            self._segmenter,
            start_utc_ns=self._pictured[0],
            seed=self._settings.camera.simulated.seed,
            mm_per_px=self._settings.measure.mm_per_px,
        )

    def _rules(self, cools: Callable[[EventKind, int, int], bool]) -> AlertRules:
        return AlertRules(
            self._settings.frame_alerts,
            animals=self._settings.animal_count,
            sample_interval_s=self.step_ns / NS_PER_S,
            cools=cools,
        )

    def _moments(self) -> Iterator[tuple[int, PlannedBlock | None]]:
        """Evenly spaced moments, each with the block it lies in."""
        settings = self._settings
        blocks = list(blocks_between(self.start_utc_ns, self.stop_utc_ns, settings.schedule, settings.zone))
        for utc_ns in range(self.start_utc_ns, self.stop_utc_ns, self.step_ns):
            while blocks and blocks[0].end_utc_ns <= utc_ns:
                blocks.pop(0)
            yield utc_ns, blocks[0] if blocks and blocks[0].start_utc_ns <= utc_ns else None

    def _look(
        self,
        eyes: PictureEyes | None,
        moment: Moment,
        utc_ns: int,
        number: int,
        block: PlannedBlock | None,
        beside: MinuteCollector,
        result: ScriptedResult,
    ) -> FrameObservation:
        key = None if block is None else block.key
        planned = None if block is None else utc_ns
        drawn = self._drawn.look(moment, utc_ns, number, block_key=key, planned_utc_ns=planned)
        if eyes is None or not self._pictured[0] <= utc_ns < self._pictured[1]:
            return drawn
        result.drawn_beside += beside.add(drawn)
        observation, _ = eyes.look(utc_ns, block_key=key, planned_utc_ns=planned)
        return observation

    def _collected(
        self, values: Sequence[MinuteValue], watching: Watching, keeper: "_Keeper", utc_ns: int, result: ScriptedResult
    ) -> list[Event]:
        keeper.minutes += values
        if self._pictured[0] < utc_ns <= self._pictured[1]:
            result.pictured += values
        return watching.rules.update(values)

    def _note_truth(self, moment: Moment, utc_ns: int, result: ScriptedResult) -> None:
        if utc_ns % (60 * NS_PER_S):
            return
        for each in moment.animals:
            of = {part.name: celsius for part, celsius in each.surface_celsius.items()}
            result.truth.append(
                TrueWarmth(
                    minute_utc_ns=utc_ns,
                    animal=each.animal,
                    core_celsius=each.core_celsius,
                    tail_minus_body_celsius=of["TAIL"] - of["BODY"],
                )
            )


def there(observation: FrameObservation, moment: Moment) -> FrameObservation:
    """The same for rules that ask who is there: whoever touches another and is not told apart is, without any number.

    What finds animals sees the warm area that they share; only which part of it is whose cannot be told.
    """
    seen = {each.animal for each in observation.animals}
    hidden = [
        AnimalObservation(animal=each.animal, parts=())
        for each in moment.animals
        if each.touching and each.animal not in seen
    ]
    return replace(observation, animals=(*observation.animals, *hidden)) if hidden else observation


class _Keeper:
    """Stores in batches what comes about."""

    def __init__(
        self, store: Store, settings: Settings, camera: CameraInfo, *, version: str, start_utc_ns: int
    ) -> None:
        self._store = store
        self._run_id = store.start_run(
            version=version,
            config_hash=settings.config_hash(),
            config_json=settings.to_json(),
            segmenter=DRAWN,
            host=platform.node(),
            boot_id="simulated",
            started_utc_ns=start_utc_ns,
        )
        self._camera_id = store.register_camera(camera, Variant.V1)
        self._block: PlannedBlock | None = None
        self.observations: list[FrameObservation] = []
        self.minutes: list[MinuteValue] = []
        self.events: list[Event] = []

    def turn_to(self, block: PlannedBlock | None, utc_ns: int) -> None:
        """End the block before and begin this one, where they differ."""
        if block == self._block:
            return
        self.write()
        if self._block is not None:
            self._store.finish_block(self._block.key, at_utc_ns=utc_ns, reason_for_unaccounted=_NOTHING_LEFT)
        if block is not None:
            self._store.open_block(block, run_id=self._run_id, at_utc_ns=utc_ns)
        self._block = block

    def write(self) -> None:
        """Store what waits."""
        self._store.add(
            self.observations,
            run_id=self._run_id,
            camera_id=self._camera_id,
            events=self.events,
            minute_values=self.minutes,
            tell=event_message,
        )
        self.observations, self.minutes, self.events = [], [], []

    def end(self, utc_ns: int) -> None:
        """Store the rest, and that it is over."""
        self.write()
        self._store.end_run(self._run_id, ended_utc_ns=utc_ns, reason="simulated")


def _config(settings: Settings) -> str:
    """What `vivarium rules replay` and `vivarium measures` need to know of the box."""
    measure, schedule = settings.measure, settings.schedule
    scale = "" if measure.mm_per_px is None else f"mm_per_px = {measure.mm_per_px}\n"
    strata = "".join(f"{name} = {list(times)}\n".replace("'", '"') for name, times in schedule.strata.items())
    return (
        f'[box]\nname = "{settings.box.name}"\ndata_dir = "."\ntime_zone = "{settings.zone.key}"\n\n'
        f'[schedule]\ntimes = "{schedule.times}"\nlights_on = "{schedule.lights_on}"\n'
        f"block_minutes = {schedule.block_minutes}\nrate_hz = {schedule.rate_hz!r}\n\n[schedule.strata]\n{strata}\n"
        f"[measure]\nanimals = {settings.animal_count}\noutside_rate_hz = {measure.outside_rate_hz!r}\n{scale}"
    )
