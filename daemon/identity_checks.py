"""What a person cannot say about who is who, and why."""

from dataclasses import dataclass

from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_replay import Stretch
from daemon.moments import local_text
from daemon.settings import Settings
from daemon.store.corrections import CorrectionRows, Moment, StoredCorrection, StoredRun
from drivers.clock import NS_PER_S
from drivers.errors import VivariumError


class CorrectionError(VivariumError):
    """What was said cannot be right; nothing was changed."""


class TooMuchError(CorrectionError):
    """More would have to be gone through than there is time for; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """What may be gone through while others wait."""

    frames: int
    samples: int
    """Frames that are measured from: one a second at most."""


class IdentityChecks:
    """Refuses what cannot be, with what would be right instead. Changes nothing.

    What is named `check_...` raises `CorrectionError` where it is not passed; the others give the error to raise.

    Parameters
    ----------
    settings : Settings
        Of the box: its time zone.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check_times(self, from_utc_ns: int, until_utc_ns: int | None, *, now_utc_ns: int) -> None:
        """Frames of the past are corrected, from a time up to a later one."""
        for option, utc_ns in (("--from", from_utc_ns), ("--until", until_utc_ns)):
            if utc_ns is not None and utc_ns > now_utc_ns:
                raise CorrectionError(
                    f"{option}: {self._text(utc_ns)} lies in the future, it is {self._text(now_utc_ns)}; give a time "
                    "that is over; without --until a correction holds as long as the tracks go on"
                )
        if until_utc_ns is not None and until_utc_ns <= from_utc_ns:
            raise CorrectionError(
                f"--until must lie after --from, got {self._text(until_utc_ns)} and {self._text(from_utc_ns)}"
            )

    def check_one_life(self, following: Moment | None, until_utc_ns: int | None) -> None:
        """Tracks are followed no further than up to the first frame of the service's next start."""
        if following is not None and until_utc_ns is not None and following.captured_utc_ns < until_utc_ns:
            at = self._text(following.captured_utc_ns)
            raise CorrectionError(
                f"--until: the service began anew before that, and gives numbers anew at each start: its first frame "
                f"is of {at}. Give at most that time, and correct what follows by itself"
            )

    def check_animals(self, correction: Correction, settings: Settings) -> None:
        """Animals are among those that lived in the box by the settings of then."""
        for animal in (correction.animal, correction.other):
            if animal is not None and animal > settings.animal_count:
                raise CorrectionError(
                    f"animal {animal}: {settings.animal_count} lived in the box then; expected 1 to "
                    f"{settings.animal_count}, or the name of one of the [[animal]] tables"
                )

    def check_not_too_much(self, rows: CorrectionRows, first_id: int, end_id: int, most: Most) -> None:
        """Frames that others wait for are few enough; raises `TooMuchError`."""
        frames, since_utc_ns = end_id - first_id + 1, rows.captured_utc_ns(first_id)
        samples = min(frames, (rows.captured_utc_ns(end_id) - since_utc_ns) // NS_PER_S + 1)
        if frames > most.frames or samples > most.samples:
            raise TooMuchError(
                f"{frames} frames have been stored since {self._text(since_utc_ns)}, when the present block began or "
                f"the correction was made: that is more than the service can go through between two frames. Tell it "
                "again when the present block is over"
            )

    def check_told(self, rows: CorrectionRows, life: tuple[StoredRun, ...]) -> None:
        """None goes on top of one that frames were stored without."""
        for each in rows.corrections():
            if each.undone_utc_ns is None and each.told_utc_ns is None and _goes_on_without(rows, each, life):
                raise CorrectionError(
                    f"correction {each.number} has not been told to the service, which has stored frames since "
                    f"without it: `vivarium identity tell {each.number}` or `vivarium identity undo {each.number}` "
                    "first"
                )

    def check_told_of_undoing(self, rows: CorrectionRows, life: tuple[StoredRun, ...]) -> None:
        """Nothing goes on top of one that is undone, while frames are still stored with it."""
        for each in rows.corrections():
            if each.undoing_not_told and _goes_on_without(rows, each, life):
                raise CorrectionError(
                    f"correction {each.number} is undone, but the service has not been told, and has stored frames "
                    f"since with it: `vivarium identity tell {each.number}` first"
                )

    def check_not_another(self, rows: CorrectionRows, correction: Correction, first_id: int, last_id: int) -> None:
        """No other track is said to be the assigned animal while the track is seen."""
        animal, track = correction.animal, correction.track
        if animal is None or track is None:
            return
        other = rows.also_named(animal, track, first_id, last_id)
        if other is not None:
            subject, first_ns, last_ns = other
            raise CorrectionError(
                f"track {subject} is said to be animal {animal} at the same time, between {self._text(first_ns)} and "
                f"{self._text(last_ns)}, and nothing is two animals at once: swap the two animals, assign track "
                f"{subject} first (to `unknown` if nobody knows), or keep out of that time with --from and --until"
            )

    def check_still_alone(self, rows: CorrectionRows, correction: Correction, stretch: Stretch, last_id: int) -> None:
        """An assigned animal is no other track in what came after a frame, while all was computed."""
        if correction.track is not None:
            found = rows.frames_of(correction.track, last_id, rows.last_frame_id())
            if found is not None and stretch.until_utc_ns is None:
                self.check_not_another(rows, correction, *found)

    def check_newest(self, made: StoredCorrection, known: list[StoredCorrection], life: tuple[StoredRun, ...]) -> None:
        """A correction that is to be undone is in effect, and none in effect rests on it."""
        if made.undone_utc_ns is not None:
            raise CorrectionError(
                f"correction {made.number} was undone on {self._text(made.undone_utc_ns)} by {made.undone_by}"
            )
        runs = {each.run_id for each in life}
        for each in reversed(known):
            if each.number <= made.number:
                break
            if each.undone_utc_ns is None and each.run_id in runs and _overlap(each, made):
                raise CorrectionError(
                    f"correction {each.number} was made on top of {made.number}: undo {each.number} first"
                )

    def no_frames(self, rows: CorrectionRows, from_utc_ns: int, until_utc_ns: int | None) -> CorrectionError:
        """No frame is stored of that time."""
        bounds = rows.bounds()
        if bounds is None:
            return CorrectionError("no frame is stored in this database: there is nothing to correct")
        there = f"stored frames reach from {self._text(bounds[0])} to {self._text(bounds[1])}; give a time among them"
        until = "" if until_utc_ns is None else f" before {self._text(until_utc_ns)}"
        return CorrectionError(f"no frame is stored from {self._text(from_utc_ns)} on{until}; {there}")

    def no_track(
        self, rows: CorrectionRows, track: int, stretch: Stretch, first_id: int, last_id: int
    ) -> CorrectionError:
        """No such track is seen in these frames."""
        listed = [
            f"{subject} ({'not known' if animal is None else f'animal {animal}'})"
            for subject, animal in rows.subjects(first_id, min(last_id, first_id + 500))[:12]
        ]
        return CorrectionError(
            f"track {track} is not seen from {self._text(stretch.from_utc_ns)} on; tracks seen then: "
            f"{', '.join(listed) or 'none'}"
        )

    def no_change(self, correction: Correction, from_utc_ns: int, until_utc_ns: int | None) -> CorrectionError:
        """Frames say nothing that the correction would change."""
        until = "the end of the tracks" if until_utc_ns is None else self._text(until_utc_ns)
        if correction.kind is CorrectionKind.SWAP:
            return CorrectionError(
                f"neither animal {correction.animal} nor {correction.other} is named from "
                f"{self._text(from_utc_ns)} to {until}: there is nothing to swap"
            )
        return CorrectionError(
            f"track {correction.track} is only seen as a group from {self._text(from_utc_ns)} to {until}: assign the "
            "tracks that come out of it"
        )

    def _text(self, utc_ns: int) -> str:
        return local_text(utc_ns, self._settings.zone, with_seconds=True)


def _goes_on_without(rows: CorrectionRows, made: StoredCorrection, life: tuple[StoredRun, ...]) -> bool:
    """Whether frames of this life were stored since a correction, or its undoing, was carried out in the database."""
    runs = {each.run_id for each in life}
    if made.until_utc_ns is not None or made.run_id not in runs:
        return False
    newer = rows.first_between(made.stored_until_utc_ns, None)
    return newer is not None and newer.run_id in runs


def _overlap(one: StoredCorrection, other: StoredCorrection) -> bool:
    """Whether two of one life rest on the same minutes."""
    both_from_utc_ns = max(one.minutes_from_utc_ns, other.minutes_from_utc_ns)
    return all(
        each.until_utc_ns is None or both_from_utc_ns < max(each.until_utc_ns, each.minutes_until_utc_ns)
        for each in (one, other)
    )
