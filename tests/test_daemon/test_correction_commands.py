"""A running service goes on with a correction, and without one that was undone: its rows and minutes are right."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from daemon.correction_commands import CorrectionCommands, CorrectionPayload
from daemon.identity_checks import CorrectionError
from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector
from daemon.messaging.announcer import Silence
from daemon.minute_value import MinuteValue
from daemon.minute_values import collector_of
from daemon.observation import FrameObservation
from daemon.order import Order, Outcome
from daemon.pipeline import Measured, Pipeline
from daemon.rules import AlertRules
from daemon.sampling import CameraFound, Sample
from daemon.settings import parse_settings
from daemon.store.repository import Store, open_store
from daemon.vision.parts import Segmentation
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.clock import SimulatedClock
from drivers.errors import StoreError
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera
from tests.databases import ON_BOTH
from tests.followed import DOUBTED, film
from tests.observations import SECOND_NS, START_UTC_NS

CONFIG = """
[box]
time_zone = "UTC"
[measure]
animals = 3
outside_rate_hz = 1
[schedule.strata]
night = ["20:00"]
"""
SWAP = Correction(kind=CorrectionKind.SWAP, animal=1, other=2)
ASSIGNED = Correction(kind=CorrectionKind.ASSIGN, track=1, animal=None)


class Projector:
    """Finds in each frame what a film shows."""

    def __init__(self, shown: Sequence[FrameObservation]) -> None:
        self._shown = shown

    def process(self, frame: ThermalFrame, **_of_block: object) -> Measured:
        """As `Pipeline.process`."""
        empty = np.zeros((192, 256), np.uint8)
        return Measured(
            observation=self._shown[frame.sequence], segmentation=Segmentation(parts=empty, instances=empty)
        )


class Running:
    """What of the service a correction concerns, and time that passes."""

    def __init__(self, store: Store, folder: Path, shown: Sequence[FrameObservation]) -> None:
        self.store, self.shown = store, shown
        self.beats: list[int] = []
        self.settings = parse_settings(CONFIG, origin="test").resolved(folder)
        self.clock = SimulatedClock(START_UTC_NS)
        run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json=self.settings.to_json(),
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=START_UTC_NS,
        )
        self.watching = watching = Watching(self.settings)
        self.worker = Worker(
            pipeline=cast(Pipeline, Projector(shown)),
            rules=AlertRules(self.settings.frame_alerts, animals=3),
            minutes=collector_of(lambda: self.settings),
            store=store,
            run_id=run_id,
            clock=self.clock,
            announcer=Silence(),
            commit_interval_s=0.2,
            on_measured=lambda _frame, _measured: None,
            beat=lambda: self.beats.append(self.clock.utc_ns()),
            watching=watching,
        )
        self.commands = CorrectionCommands(
            worker=self.worker,
            watching=watching,
            store=store,
            settings=lambda: self.settings,
            run_id=lambda: run_id,
            told=lambda: None,
            clock=self.clock,
        )
        with SimulatedCamera.create(clock=self.clock) as camera:
            self._frame = camera.read(timeout_s=1)
            self.worker.handle(CameraFound(info=camera.info, variant="v1", at_utc_ns=START_UTC_NS, away_s=0.0))
        self.corrector = IdentityCorrector(store, self.settings, self.clock)
        self._next = 0

    def go_on(self, until_s: int) -> None:
        """Measure and store frames up to a second."""
        while self._next < until_s:
            shown = self.shown[self._next]
            self.clock.advance((shown.captured_utc_ns - self.clock.utc_ns()) / SECOND_NS)
            frame = replace(
                self._frame,
                sequence=self._next,
                captured_utc_ns=shown.captured_utc_ns,
                captured_monotonic_ns=shown.captured_monotonic_ns,
            )
            self.worker.handle(Sample(frame=frame, block_key=None, planned_utc_ns=None))
            self._next += 1
        self.worker.write()

    def stop(self) -> None:
        """Nothing more comes."""
        self.worker.finish_minutes()
        self.worker.write()

    def correct(self, correction: Correction, since_s: int) -> int:
        """Have the database corrected; the service does not know."""
        since_utc_ns = START_UTC_NS + since_s * SECOND_NS
        made = self.corrector.correct(correction, from_utc_ns=since_utc_ns, until_utc_ns=None, by="Ana", reason="")
        return made.number

    def tell(self, number: int) -> Outcome | None:
        """What becomes of the command."""
        order = Order()
        self.commands.take_over(CorrectionPayload(correction=number), order)
        assert order.outcome is None
        self.worker.tick()
        self.worker.write()
        return order.outcome

    def right(self, correction: Correction, since_s: int) -> list[FrameObservation]:
        """All frames as if it had been right from the start, without who says so."""
        return bare([each if n < since_s else correction.corrected(each) for n, each in enumerate(self.shown)])

    def minutes_of(self, frames: Sequence[FrameObservation]) -> set[MinuteValue]:
        """As they are collected by somebody who sees these from the start."""
        collector = collector_of(lambda: self.settings)
        return {value for each in frames for value in collector.add(each)} | set(collector.finish())

    def minutes(self) -> set[MinuteValue]:
        """All that are stored."""
        return set(self.store.minute_values(since_utc_ns=0, until_utc_ns=2**62))

    def stored(self) -> list[FrameObservation]:
        """All frames."""
        with self.store.correction_rows() as rows:
            return list(rows.observations(range(1, rows.last_frame_id() + 1)).values())


def bare(frames: Sequence[FrameObservation]) -> list[FrameObservation]:
    """Without who says so, and without what was said before."""
    return [
        replace(each, animals=tuple(replace(animal, correction=None, before=()) for animal in each.animals))
        for each in frames
    ]


@pytest.fixture
def running(database_url: str, tmp_path: Path) -> Iterator[Running]:
    with open_store(database_url, outbox_limit=100) as store:
        yield Running(store, tmp_path, list(film(190)))


@ON_BOTH
@pytest.mark.parametrize("correction", [pytest.param(SWAP, id="swap"), pytest.param(ASSIGNED, id="assign")])
def test_a_service_that_is_told_goes_on_and_one_that_is_told_to_forget_it_leaves_no_trace(
    running: Running, correction: Correction
) -> None:
    running.go_on(55)
    number = running.correct(correction, 30)
    running.go_on(66)
    assert {animal.correction for animal in running.stored()[60].animals} == {None}
    told = running.tell(number)
    assert told == Outcome("done", data={"correction": number, "goes_on": True})
    running.go_on(130)
    running.stop()
    right = running.right(correction, 30)[:130]
    assert bare(running.stored()) == right
    assert running.minutes() == running.minutes_of(right)
    assert (running.stored()[120].animals[0].probability is None) == (correction == SWAP)
    running.corrector.undo(number, by="Ana")
    running.go_on(140)
    assert running.tell(number) == Outcome("done", data={"correction": number, "goes_on": False})
    running.go_on(190)
    running.stop()
    assert running.stored() == running.shown
    assert running.minutes() == running.minutes_of(running.shown)


def test_a_service_names_a_track_as_it_was_told_until_it_is_doubted(running: Running) -> None:
    running.go_on(70)
    named = Correction(kind=CorrectionKind.ASSIGN, track=4, animal=1)
    assert running.tell(running.correct(named, 62)) == Outcome("done", data={"correction": 1, "goes_on": True})
    running.go_on(130)
    running.stop()
    right = running.right(replace(named, doubts=0), 62)[:130]
    said = [next((one.animal for one in each.animals if one.track == 4), 0) for each in right]
    assert said[61 : DOUBTED + 1] == [None, *[1] * (DOUBTED - 62), None]
    assert bare(running.stored()) == right
    assert running.minutes() == running.minutes_of(right)
    running.go_on(190)
    assert running.store.corrected_minutes(0, running.clock.utc_ns()) == {(START_UTC_NS + 60 * SECOND_NS, 1): {1}}


@pytest.mark.parametrize("correction", [pytest.param(SWAP, id="swap"), pytest.param(ASSIGNED, id="assign")])
def test_to_be_told_again_changes_nothing_and_leaves_all_that_undoing_needs(
    running: Running, correction: Correction
) -> None:
    running.go_on(55)
    number = running.correct(correction, 30)
    running.tell(number)
    running.go_on(125)
    running.corrector.catch_up(number)  # as `vivarium identity tell` does before it tells
    assert running.tell(number) == Outcome("done", data={"correction": number, "goes_on": True})
    running.go_on(150)
    running.corrector.undo(number, by="Ana")
    assert running.stored() == running.shown[:150]
    assert running.minutes() == running.minutes_of(running.shown[:120])  # the present minute is not over


def test_the_last_minute_of_frames_that_have_stopped_is_corrected_when_the_service_is_told(running: Running) -> None:
    running.go_on(55)
    number = running.correct(SWAP, 30)
    running.go_on(100)
    running.stop()
    running.clock.advance(60)
    running.tell(number)
    right = running.right(SWAP, 30)[:100]
    assert bare(running.stored()) == right
    assert running.minutes() == running.minutes_of(right)
    running.corrector.undo(number, by="Ana")
    assert running.minutes() == running.minutes_of(running.shown[:100])


def test_nothing_goes_on_top_of_a_correction_that_frames_were_stored_without(running: Running) -> None:
    running.go_on(20)
    number = running.correct(SWAP, 10)
    running.go_on(30)
    with pytest.raises(CorrectionError, match=f"correction {number} has not been told to the service"):
        running.correct(SWAP, 15)
    running.corrector.catch_up(number)
    assert bare(running.stored()) == running.right(SWAP, 10)[:30]
    assert running.correct(SWAP, 15) == number + 1


def test_a_track_is_not_assigned_an_animal_that_another_track_has_been_found_to_be_since(
    database_url: str, tmp_path: Path
) -> None:
    nobody = Correction(kind=CorrectionKind.ASSIGN, track=2, animal=None)
    shown = [nobody.corrected(each) if n < 20 else each for n, each in enumerate(film(30))]
    with open_store(database_url, outbox_limit=100) as store:
        running = Running(store, tmp_path, bare(shown))
        running.go_on(20)
        number = running.correct(Correction(kind=CorrectionKind.ASSIGN, track=1, animal=2), 10)
        running.go_on(30)
        before = running.stored()
        outcome = running.tell(number)
        assert outcome is not None
        assert (outcome.state, outcome.reason) == ("refused", "unknown")
        assert "track 2 is said to be animal 2 at the same time, between 20" in outcome.message
        assert (running.stored(), running.worker.corrections.numbers) == (before, ())
        assert store.corrections()[0].told_utc_ns is None


def test_nothing_goes_on_top_of_an_undoing_that_frames_were_stored_without(running: Running) -> None:
    running.go_on(20)
    first = running.correct(SWAP, 10)
    running.tell(first)
    second = running.correct(Correction(kind=CorrectionKind.SWAP, animal=2, other=3), 15)
    running.tell(second)
    running.go_on(30)
    running.corrector.undo(second, by="Ana")
    running.go_on(40)
    for correct in (lambda: running.correct(SWAP, 15), lambda: running.corrector.undo(first, by="Ana")):
        with pytest.raises(CorrectionError, match=f"correction {second} is undone, but the service has not been told"):
            correct()
    running.corrector.catch_up(second)  # no service runs any more
    assert bare(running.stored()) == running.right(SWAP, 10)[:40]
    assert running.correct(SWAP, 15) == second + 1


@ON_BOTH
def test_two_corrections_in_force_are_undone_one_after_the_other(running: Running) -> None:
    running.go_on(20)
    first = running.correct(SWAP, 10)
    running.tell(first)
    second = running.correct(Correction(kind=CorrectionKind.SWAP, animal=2, other=3), 15)
    running.tell(second)
    running.go_on(40)
    for number in (second, first):
        running.corrector.undo(number, by="Ana")
        running.tell(number)
    running.go_on(50)
    assert running.stored() == running.shown[:50]


def test_a_number_that_is_no_correction_is_refused(running: Running) -> None:
    running.go_on(5)
    outcome = running.tell(7)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("refused", "unknown")
    assert "there is no correction 7" in outcome.message


def test_a_full_disk_is_answered_and_the_service_goes_on_without(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.go_on(20)
    number = running.correct(SWAP, 10)
    running.go_on(30)
    with monkeypatch.context() as patched:
        patched.setattr("daemon.spool.tempfile.TemporaryFile", lambda: Path("/dev/full").open("r+b"))  # noqa: SIM115 - the spool closes it
        outcome = running.tell(number)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("failed", "not_stored")
    assert "No space left on device" in outcome.message
    assert running.worker.corrections.numbers == ()
    assert running.store.corrections()[0].told_utc_ns is None
    assert running.tell(number) == Outcome("done", data={"correction": number, "goes_on": True})


def test_what_the_database_says_is_told_is_what_the_service_goes_on_with(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_of: object) -> None:
        raise StoreError("cannot be read at present")

    running.go_on(20)
    number = running.correct(SWAP, 10)
    with monkeypatch.context() as patched:
        patched.setattr(running.store, "corrections", fail)
        patched.setattr(running.watching, "begin_anew", fail)
        outcome = running.tell(number)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("failed", "not_stored")
    assert f"goes on with correction {number}" in outcome.message
    assert running.store.corrections()[0].told_utc_ns is not None
    assert running.worker.corrections.numbers == (number,)
    assert running.tell(number) == Outcome("done", data={"correction": number, "goes_on": True})


@pytest.mark.parametrize("limit", ["MOST_FRAMES", "MOST_SAMPLES"])
def test_more_than_can_be_gone_through_between_two_frames_is_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    running.go_on(40)
    number = running.correct(SWAP, 10)
    before = running.stored()
    with monkeypatch.context() as patched:
        patched.setattr(f"daemon.correction_commands.{limit}", 39)
        outcome = running.tell(number)
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("refused", "busy")
    assert "40 frames have been stored since" in outcome.message
    assert "when the present block is over" in outcome.message
    assert (running.stored(), running.worker.corrections.numbers) == (before, ())
    assert running.store.corrections()[0].told_utc_ns is None


@ON_BOTH
def test_what_was_put_back_while_the_service_could_not_be_told_is_not_gone_through_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.identity_plan._UNDONE_MINUTES", 0)
    monkeypatch.setattr("daemon.correction_commands.LEAD_MINUTES", 0)
    monkeypatch.setattr("daemon.correction_commands.MOST_FRAMES", 155)  # an immobility reaches back to 20 s
    running.go_on(20)
    number = running.correct(SWAP, 10)
    running.tell(number)
    running.go_on(30)
    running.corrector.undo(number, by="Ana")
    running.go_on(145)
    running.corrector.catch_up(number)  # as `vivarium identity tell` does before it tells
    running.go_on(170)
    assert running.tell(number) == Outcome("done", data={"correction": number, "goes_on": False})
    assert running.stored() == running.shown[:170]


def test_a_worker_that_goes_through_stored_frames_gives_signs_of_life(running: Running) -> None:
    running.go_on(40)
    number = running.correct(SWAP, 10)
    running.beats.clear()
    order = Order()
    running.commands.take_over(CorrectionPayload(correction=number), order)
    running.worker.tick()
    assert running.beats
