"""Corrections of who is who: rows, minutes and events are what they would be had it been right from the start."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from daemon.events import IDENTITY_CORRECTION, Event, EventKind, EventState, Severity
from daemon.identity_checks import CorrectionError
from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector, Made
from daemon.minute_value import MinuteValue
from daemon.minute_values import collector_of
from daemon.observation import FrameObservation, GroupObservation
from daemon.settings import parse_settings
from daemon.store.corrections import CorrectionRows
from daemon.store.repository import Store, open_store
from drivers.camera import CameraInfo
from drivers.clock import SimulatedClock
from drivers.errors import StoreError, StoreRejectedError
from tests.databases import ON_BOTH, Server, change, rows_of
from tests.followed import DOUBTED, GROUPED, film, followed
from tests.observations import SECOND_NS, START_UTC_NS, frame, rat

CONFIG = """
[box]
time_zone = "UTC"
[measure]
animals = 3
outside_rate_hz = {rate}
[schedule.strata]
night = ["20:00"]
[[zone]]
name = "nest"
kind = "nest"
polygon = [[10, 10], [120, 10], [120, 100], [10, 100]]
"""
CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S", firmware="", location="", frame_rate_hz=25.0)
SWAP = Correction(kind=CorrectionKind.SWAP, animal=1, other=2)


def assign(track: int, animal: int | None) -> Correction:
    return Correction(kind=CorrectionKind.ASSIGN, track=track, animal=animal)


class Box:
    """A database, and what a service would have stored in it."""

    def __init__(self, store: Store, url: str, frames: Sequence[FrameObservation], *, rate: float = 1) -> None:
        self.store, self.url, self.frames = store, url, frames
        self.settings = parse_settings(CONFIG.format(rate=rate), origin="test")
        self.clock = SimulatedClock(frames[-1].captured_utc_ns + SECOND_NS)
        self.corrector = IdentityCorrector(store, self.settings, self.clock)

    def begin(self, utc_ns: int) -> tuple[int, int]:
        """A start of the service: its run and its camera."""
        run_id = self.store.start_run(
            version="1",
            config_hash="h",
            config_json=self.settings.to_json(),
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=utc_ns,
        )
        return run_id, self.store.register_camera(CAMERA, "v1")

    def keep(self) -> None:
        """Store all frames, with their minutes, as of one start of the service."""
        run_id, camera_id = self.begin(self.frames[0].captured_utc_ns)
        minutes = self.minutes_of(self.frames)
        self.store.add(self.frames, run_id=run_id, camera_id=camera_id, minute_values=minutes)

    def minutes_of(self, frames: Sequence[FrameObservation], *, last: bool = True) -> list[MinuteValue]:
        """As the service collects them; of one that goes on without the last minute."""
        collector = collector_of(lambda: self.settings)
        over = [value for each in frames for value in collector.add(each)]
        return over + collector.finish() if last else over

    def correct(self, correction: Correction, since_s: float, until_s: float | None = None) -> Made:
        """Have it corrected by Ana."""
        return self.corrector.correct(
            correction,
            from_utc_ns=at(since_s),
            until_utc_ns=None if until_s is None else at(until_s),
            by="Ana",
            reason="the ear mark",
        )

    def right(self, correction: Correction, since_s: float, until_s: float | None = None) -> list[FrameObservation]:
        """The frames as they would be had it been right from the start."""
        end_s = 1e6 if until_s is None else until_s
        return [
            correction.corrected(each) if at(since_s) <= each.captured_utc_ns < at(end_s) else each
            for each in self.frames
        ]

    def minutes(self) -> set[MinuteValue]:
        """All that are stored."""
        return set(self.store.minute_values(since_utc_ns=0, until_utc_ns=2**62))

    def stored(self) -> list[FrameObservation]:
        """All frames."""
        with self.store.correction_rows() as rows:
            return list(rows.observations(range(1, rows.last_frame_id() + 1)).values())

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows of what a correction changes."""
        tables = ("part_observation", "identity_observation", "shape_observation", "minute_value", "frame")
        return {name: rows_of(self.url, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in tables}


def at(second: float) -> int:
    """UTC ns of a second of the film."""
    return START_UTC_NS + round(second * SECOND_NS)


@contextmanager
def opened(url: str, frames: Sequence[FrameObservation], *, rate: float = 1) -> Iterator[Box]:
    """The box of a database."""
    with open_store(url, outbox_limit=100) as store:
        yield Box(store, url, frames, rate=rate)


@pytest.fixture(scope="module")
def five_minutes() -> list[FrameObservation]:
    """At one frame a second."""
    return list(film(290))


@pytest.fixture(scope="module")
def kept(five_minutes: list[FrameObservation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with them, closed."""
    path = tmp_path_factory.mktemp("kept") / "vivarium.db"
    with opened(f"sqlite:///{path}", five_minutes) as box:
        box.keep()
    return path


@pytest.fixture(scope="module")
def kept_in_server(five_minutes: list[FrameObservation], postgresql: Server) -> Iterator[str]:
    """The same in a server."""
    with postgresql.database() as url:
        with opened(url, five_minutes) as box:
            box.keep()
        yield url


@pytest.fixture
def box(
    kind_of_database: str,
    request: pytest.FixtureRequest,
    kept: Path,
    five_minutes: list[FrameObservation],
    tmp_path: Path,
) -> Iterator[Box]:
    """A copy of it."""
    with ExitStack() as stack:
        if kind_of_database == "sqlite":
            url = f"sqlite:///{shutil.copy(kept, tmp_path)}"
        else:
            server: Server = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database(like=request.getfixturevalue("kept_in_server")))
        yield stack.enter_context(opened(url, five_minutes))


def bare(frames: Sequence[FrameObservation]) -> list[FrameObservation]:
    """Without who changed it, and without what it was."""
    return [
        replace(each, animals=tuple(replace(animal, correction=None, before=()) for animal in each.animals))
        for each in frames
    ]


@ON_BOTH
@pytest.mark.parametrize(
    ("correction", "since_s", "until_s"),
    [
        pytest.param(SWAP, 30.5, None, id="swap to the end"),
        pytest.param(Correction(kind=CorrectionKind.SWAP, animal=3, other=2), 30, 215.2, id="swap for a while"),
        pytest.param(assign(4, 1), 50, 260, id="a track that was not known"),
        pytest.param(assign(3, None), 10, None, id="a track that nobody knows any more"),
        pytest.param(assign(2, 2), 100, 140, id="a person agrees"),
    ],
)
def test_rows_and_minutes_are_as_if_it_had_been_right_from_the_start_and_undoing_restores_them_bit_by_bit(
    box: Box, correction: Correction, since_s: float, until_s: float | None
) -> None:
    before = box.dump()
    made = box.correct(correction, since_s, until_s)
    right = box.right(correction, since_s, until_s)
    assert bare(box.stored()) == bare(right)
    assert box.minutes() == set(box.minutes_of(right))
    assert box.minutes() != set(box.minutes_of(box.frames)) or correction == assign(2, 2)
    box.corrector.undo(made.number, by="Ana")
    assert box.dump() == before


def test_to_swap_twice_is_to_swap_not_at_all(box: Box) -> None:
    def named() -> list[list[tuple[int, int | None, tuple[int, ...]]]]:
        return [[(each.key, each.animal, each.candidates) for each in shown.animals] for shown in box.stored()]

    before, minutes = named(), box.minutes()
    box.correct(SWAP, 100)
    assert named() != before
    box.correct(SWAP, 100)
    assert named() == before
    assert box.minutes() == minutes


def test_a_corrected_name_is_a_persons_word_and_has_no_posterior(box: Box) -> None:
    made = box.correct(SWAP, 120, 180)
    for each in box.stored():
        within = at(120) <= each.captured_utc_ns < at(180)
        for animal in each.animals:
            if animal.animal in (1, 2) and within:
                assert (animal.probability, animal.correction) == (None, made.number)
            elif animal.animal is not None:
                assert (animal.probability, animal.correction) == (0.99, None)


def test_who_is_assigned_is_nobody_else_at_the_same_time() -> None:
    shown = frame(0, followed(rat(1), 1), followed(rat(2), 2), followed(rat(3), 3))
    corrected = assign(2, 1).corrected(shown, 5)
    assert {each.track: (each.animal, each.correction) for each in corrected.animals} == {
        1: (None, 5), 2: (1, 5), 3: (3, None),
    }  # fmt: skip


@ON_BOTH
def test_an_assignment_without_an_end_holds_until_its_track_may_have_changed_places(box: Box) -> None:
    before = box.dump()
    made = box.correct(assign(4, 1), 65)
    right = box.right(replace(assign(4, 1), doubts=0), 65)
    named = [each.captured_utc_ns for each in right if any(one.track == 4 and one.animal == 1 for one in each.animals)]
    assert (named[0], named[-1]) == (at(65), at(DOUBTED - 1))
    assert made.doubted_utc_ns == at(DOUBTED)
    assert bare(box.stored()) == bare(right)
    assert box.minutes() == set(box.minutes_of(right))
    box.corrector.undo(made.number, by="Ana")
    assert box.dump() == before
    longer = box.correct(assign(4, 1), 65, 100)
    assert longer.doubted_utc_ns is None, "a person says up to when"
    assert bare(box.stored()) == bare(box.right(assign(4, 1), 65, 100))


@pytest.mark.parametrize(
    ("doubts", "said", "expected"),
    [
        pytest.param(3, (None, (1, 2)), (2, ()), id="as sure as it was"),
        pytest.param(3, (1, ()), (2, ()), id="as sure, under another name"),
        pytest.param(4, (None, (1, 2)), (None, (1, 2)), id="doubted"),
        pytest.param(4, (2, ()), (2, ()), id="doubted, and found to be the same"),
        pytest.param(4, (1, ()), (None, (1, 2)), id="doubted, and named as it was not before"),
    ],
)
def test_after_a_doubt_no_name_but_the_assigned_one_stays(
    doubts: int, said: tuple[int | None, tuple[int, ...]], expected: tuple[int | None, tuple[int, ...]]
) -> None:
    known = {"animal": said[0], "candidates": said[1], "doubts": doubts}
    shown = frame(0, followed(rat(1), 1, **known), followed(rat(3), 3))
    corrected = replace(assign(1, 2), doubts=3).corrected(shown, 5)
    assert {each.track: (each.animal, each.candidates) for each in corrected.animals} == {1: expected, 3: (3, ())}


@pytest.mark.parametrize("said", [1, 2, 3])
def test_where_the_tracker_had_another_name_its_agreeing_after_a_doubt_is_no_proof(said: int) -> None:
    """It had 1 and 2 exchanged: when it calls the track 2 at last, that may be because it has become 1."""
    shown = frame(0, followed(rat(1), 1, animal=said, doubts=4), followed(rat(3), 4))
    corrected = replace(assign(1, 2), doubts=3, said=1).corrected(shown, 5)
    (one,) = [each for each in corrected.animals if each.track == 1]
    assert (one.animal, one.candidates) == (None, tuple(sorted({1, 2, said})))


def test_as_long_as_the_track_is_seen_nobody_else_is_called_so_also_after_the_doubt(tmp_path: Path) -> None:
    def shown(second: int) -> FrameObservation:
        doubted = second >= 20
        other = {} if doubted else {"animal": None, "candidates": (1, 2)}
        one = followed(rat(2), 4, animal=None, candidates=(1, 2), doubts=int(doubted))
        return frame(second, one, followed(rat(1), 7, **other))

    live = replace(assign(4, 1), doubts=0).corrected(shown(30), 9)
    assert {each.track: each.animal for each in live.animals} == {4: None, 7: None}
    with opened(f"sqlite:///{tmp_path / 'v.db'}", [shown(second) for second in range(40)]) as box:
        box.keep()
        with pytest.raises(CorrectionError, match="track 7 is said to be animal 1 at the same time"):
            box.correct(assign(4, 1), 5)
        box.correct(assign(4, 1), 5, 20)
        said = [{one.track: one.animal for one in each.animals} for each in box.stored()]
    assert said[5:20] == [{4: 1, 7: None}] * 15
    assert said[20:] == [{4: None, 7: 1}] * 20


def test_an_assignment_that_begins_while_the_track_is_still_a_group_holds_from_the_parting_on(tmp_path: Path) -> None:
    def shown(second: int) -> FrameObservation:
        if second < 10:
            group = {"probability": None, "candidates": (1, 2), "group": 4, "posture": None}
            members = GroupObservation(
                number=4, members=(1, 2), size=2, area_px=490, mean_celsius=31.0, max_celsius=38.0
            )
            return replace(frame(second, followed(rat(1), 4, animal=None, **group)), groups=(members,))
        return frame(second, followed(rat(1), 4, animal=None, candidates=(1, 2), doubts=2))

    with opened(f"sqlite:///{tmp_path / 'v.db'}", [shown(second) for second in range(30)]) as box:
        box.keep()
        box.correct(assign(4, 1), 5)
        said = [each.animals[0].animal for each in box.stored()]
    assert said == [None] * 10 + [1] * 20


def test_a_collector_begins_early_enough_to_be_as_one_that_never_stopped(tmp_path: Path) -> None:
    hours = list(film(4 * 3600, every_s=15, seed=2))
    with opened(f"sqlite:///{tmp_path / 'vivarium.db'}", hours, rate=1 / 15) as box:
        box.keep()
        box.correct(SWAP, 3.5 * 3600, 3.7 * 3600)
        assert box.minutes() == set(box.minutes_of(box.right(SWAP, 3.5 * 3600, 3.7 * 3600)))


@ON_BOTH
def test_frames_in_which_nothing_was_followed_are_corrected_by_the_numbers_they_had(database_url: str) -> None:
    drawn = [frame(second, rat(1), rat(2, at=(40, 40))) for second in range(70)]
    with opened(database_url, drawn) as box:
        box.keep()
        before = box.dump()
        swapped = box.correct(SWAP, 20)
        assert {each.correction for each in box.stored()[30].animals} == {swapped.number}
        assert box.minutes() == set(box.minutes_of(box.right(SWAP, 20)))
        box.corrector.undo(swapped.number, by="Ana")
        assert box.dump() == before
        assigned = box.correct(assign(2, 3), 20)
        assert [[each.animal for each in shown.animals] for shown in box.stored()[19:21]] == [[1, 2], [1, 3]]
        box.corrector.undo(assigned.number, by="Ana")
        assert box.dump() == before


@pytest.mark.parametrize(
    ("correction", "since_s", "until_s", "message"),
    [
        pytest.param(SWAP, 1000, None, "--from: .* lies in the future", id="from in the future"),
        pytest.param(SWAP, 10, 1000, "--until: .* lies in the future", id="until in the future"),
        pytest.param(SWAP, 20, 10, "--until must lie after --from", id="until before from"),
        pytest.param(SWAP, -100, -10, "no frame is stored .* stored frames reach from", id="no frames"),
        pytest.param(SWAP, 10.1, 10.2, "no frame is stored", id="between two frames"),
        pytest.param(Correction(kind=CorrectionKind.SWAP, animal=1, other=4), 10, None, "3 lived in the box", id="4"),
        pytest.param(assign(9, 1), 10, None, r"track 9 is not seen .* 1 \(animal 1\)", id="no such track"),
        pytest.param(assign(1, 2), 10, None, "track 2 is said to be animal 2 at the same time", id="two at once"),
        pytest.param(assign(6, 2), 190, None, "track 6 is only seen as a group", id="a group"),
        pytest.param(
            Correction(kind=CorrectionKind.SWAP, animal=2, other=3), GROUPED[0], GROUPED[1], "nothing to swap",
            id="nobody named",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_reason_and_changes_nothing(
    box: Box, correction: Correction, since_s: float, until_s: float | None, message: str
) -> None:
    before = box.dump()
    with pytest.raises(CorrectionError, match=message):
        box.correct(correction, since_s, until_s)
    assert box.dump() == before
    assert box.store.corrections() == []


def test_the_same_animals_cannot_be_swapped_and_a_correction_that_is_not_there_cannot_be_undone(box: Box) -> None:
    with pytest.raises(ValueError, match="two different animals"):
        Correction(kind=CorrectionKind.SWAP, animal=1, other=1)
    with pytest.raises(CorrectionError, match="there is no correction 1; those made: none"):
        box.corrector.undo(1, by="Ana")


def test_each_start_of_the_service_is_corrected_by_itself(box: Box) -> None:
    run_id, camera_id = box.begin(at(300))
    later = [replace(each, captured_utc_ns=each.captured_utc_ns + 300 * SECOND_NS) for each in film(20)]
    box.store.add(later, run_id=run_id, camera_id=camera_id)
    box.clock.advance(600)
    with pytest.raises(CorrectionError, match="the service began anew before that"):
        box.correct(SWAP, 250, 310)
    made = box.correct(SWAP, 250)
    assert made.until_utc_ns == at(289) + 1
    assert bare(box.stored())[290:] == bare(later)


def test_a_reload_is_no_new_start(box: Box) -> None:
    run_id, camera_id = box.begin(at(300))
    change(box.url, f"UPDATE run SET ended_utc_ns = {at(300)}, end_reason = 'reloaded' WHERE id = 1")
    later = [replace(each, captured_utc_ns=each.captured_utc_ns + 300 * SECOND_NS) for each in film(20)]
    box.store.add(later, run_id=run_id, camera_id=camera_id)
    box.clock.advance(600)
    assert box.correct(SWAP, 250).until_utc_ns == at(319) + 1


def opens(animal: int, second: float, *, since_s: float, opened: str | None = None) -> Event:
    """A fever; with the event that opened it its end."""
    return Event(
        kind=EventKind.FEVER,
        state=EventState.OPENED if opened is None else EventState.CLOSED,
        severity=Severity.ALERT,
        at_utc_ns=at(second),
        animal=animal,
        data={"rule": "fever", "since_utc_ns": at(since_s)} if opened is None else {},
        opened_event_id=opened,
    )


def test_events_that_rest_on_what_was_wrong_say_so_until_it_is_undone(box: Box) -> None:
    early, of_another = opens(1, 50, since_s=40), opens(3, 150, since_s=120)
    wrong, late = opens(2, 150, since_s=90), opens(1, 8000, since_s=7950)
    end = opens(2, 9000, since_s=0, opened=wrong.event_id)
    events = [early, of_another, wrong, late, end]
    box.store.add([], run_id=1, camera_id=None, events=events)

    def marked() -> set[str]:
        return {each.event_id for each in box.store.recent_events(100) if IDENTITY_CORRECTION in each.data}

    made = box.correct(SWAP, 100, 200)
    assert marked() == {wrong.event_id, end.event_id}
    assert made.events == 2
    told = box.store.recent_events(1)[0]
    assert (told.kind, told.data["correction"], told.data["events"]) == (EventKind.IDENTITY_CORRECTED, made.number, 2)
    assert "identity_corrected" in box.store.queued_messages(after_id=0, limit=10)[-1].topic
    box.corrector.undo(made.number, by="Ana")
    assert marked() == set()
    assert [each for each in box.store.recent_events(100) if each.kind is EventKind.FEVER] == events[::-1]


@ON_BOTH
def test_what_another_correction_rests_on_is_undone_after_it(box: Box) -> None:
    before = box.dump()
    first = box.correct(SWAP, 30, 150).number
    second = box.correct(assign(4, 3), 50).number
    with pytest.raises(CorrectionError, match=f"correction {second} was made on top of {first}"):
        box.corrector.undo(first, by="Ana")
    box.corrector.undo(second, by="Ana")
    box.corrector.undo(first, by="Ana")
    assert box.dump() == before
    with pytest.raises(CorrectionError, match=r"was undone on .* by Ana"):
        box.corrector.undo(first, by="Ana")


def test_a_correction_of_a_time_long_past_is_undone_bit_by_bit_after_the_service_was_told(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'vivarium.db'}", list(film(5 * 3600, every_s=30)), rate=1 / 30) as box:
        box.keep()
        before = box.dump()
        made = box.correct(SWAP, 300, 700)
        corrected = box.dump()
        box.corrector.catch_up(made.number, told_utc_ns=box.clock.utc_ns())
        assert box.dump() == corrected
        box.corrector.undo(made.number, by="Ana")
        assert box.dump() == before


@ON_BOTH
def test_what_fails_at_its_very_end_leaves_everything_as_it_was(box: Box) -> None:
    before = box.dump()
    if box.url.startswith("sqlite"):
        change(box.url, "CREATE TRIGGER no BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'no room'); END")
    else:
        body = "BEGIN RAISE EXCEPTION 'no room'; END"
        change(
            box.url,
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
            "CREATE TRIGGER no BEFORE INSERT ON event EXECUTE FUNCTION refuse()",
        )
    with pytest.raises(StoreError, match="no room"):
        box.correct(SWAP, 30)
    assert box.dump() == before
    assert box.store.corrections() == []


def test_an_interrupted_process_leaves_everything_as_it_was(box: Box) -> None:
    before = box.dump()
    with pytest.raises(KeyboardInterrupt), box.store.correcting(run_id=1) as rows:
        rows.restore_minutes(1)
        rows.clear_minutes(since_utc_ns=0, until_utc_ns=2**62, animals=[1, 2], run_ids=[1])
        raise KeyboardInterrupt
    assert box.dump() == before


def test_a_server_that_goes_in_the_midst_leaves_everything_as_it_was(
    postgresql: Server, kept_in_server: str, five_minutes: list[FrameObservation], monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql.database(like=kept_in_server) as url, opened(url, five_minutes) as box:
        before, insert_minutes = box.dump(), CorrectionRows.insert_minutes

        def cut(rows: CorrectionRows, values: Sequence[MinuteValue], *, run_id: int) -> None:
            with postgresql.connected() as other:
                other.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE xact_start IS NOT NULL"
                    f" AND pid <> pg_backend_pid() AND datname = '{make_url(url).database}'"
                )
            insert_minutes(rows, values, run_id=run_id)

        with monkeypatch.context() as patched:
            patched.setattr(CorrectionRows, "insert_minutes", cut)
            with pytest.raises(StoreError) as told:
                box.correct(SWAP, 30)
            assert not isinstance(told.value, StoreRejectedError)
        assert box.dump() == before
        assert box.store.corrections() == []
        box.correct(SWAP, 30)
        assert box.minutes() == set(box.minutes_of(box.right(SWAP, 30)))
