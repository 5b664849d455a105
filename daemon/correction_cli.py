"""`vivarium identity swap`, `assign`, `undo`, `tell` and `corrections`: what a person says about who is who."""

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.credentials import mqtt_password
from daemon.event_commands import NOTE_PATTERN, PERSON_PATTERN
from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector, Made
from daemon.installation import default_config
from daemon.lock import is_held
from daemon.messaging.ask import CommandError, give_command
from daemon.moments import local_text, moment_of
from daemon.settings import NOBODY, Settings, load_settings
from daemon.store.corrections import StoredCorrection
from daemon.store.repository import Store, attach_store
from drivers.clock import NS_PER_S, SystemClock
from drivers.errors import ConfigError

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file.")]
AnimalArgument = Annotated[str, typer.Argument(metavar="ANIMAL", help="Its number, or the name of its [[animal]].")]
FromOption = Annotated[
    str, typer.Option("--from", metavar="TIME", help="2026-11-26T07:00:10, of the box's time zone, or with a zone.")
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Up to this, not included; as long as the tracks go on."),
]
ByOption = Annotated[str | None, typer.Option("--by", help="Who says so; your login name when left out.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="What it was seen by.")]

MOST_BESIDE = 5000
"""More frames are not changed beside a running service without a word: it cannot store for 4 s, and measures in only
one second of three while it tries."""

_DEFAULT_CONFIG = default_config()
_TIMEOUT_S = 30.0
_HELD_S = 2.8 / 3600
"""For each frame that is changed the database is held so long: measured with three rats, see docs/identity.md."""
_WIDTH = 10_000
_DAY_NS = 86_400 * NS_PER_S


def add_corrections(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (swap, assign, undo, tell):
        app.command()(command)
    app.command(name="corrections")(list_corrections)


def swap(
    first: AnimalArgument,
    second: AnimalArgument,
    since: FromOption,
    until: UntilOption = None,
    by: ByOption = None,
    reason: ReasonOption = "",
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Say that two animals have had each other's number from a time on: stored frames, minutes and events follow."""
    settings = load_settings(config)
    one, other = _animal(first, settings), _animal(second, settings)
    if one == other:
        raise ConfigError(f"expected two different animals, got {first} and {second}, which are both animal {one}")
    _correct(Correction(kind=CorrectionKind.SWAP, animal=one, other=other), since, until, by, reason, settings, config)


def assign(
    track: Annotated[
        int, typer.Argument(min=1, help="The track, or the number that an animal had where nothing was followed.")
    ],
    animal: Annotated[str, typer.Argument(help=f"Who it is: number or name, or {NOBODY!r} if nobody knows.")],
    since: FromOption,
    until: UntilOption = None,
    by: ByOption = None,
    reason: ReasonOption = "",
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Say who a track is from a time on: stored frames, minutes and events follow."""
    settings = load_settings(config)
    who = None if animal == NOBODY else _animal(animal, settings)
    _correct(
        Correction(kind=CorrectionKind.ASSIGN, track=track, animal=who), since, until, by, reason, settings, config
    )


def undo(
    number: Annotated[int, typer.Argument(min=1, help="Of the correction; `corrections` lists them.")],
    by: ByOption = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Put back what a correction has changed, as it was."""
    settings = load_settings(config)
    person = _person(by)
    with _corrector(settings) as (store, corrector):
        for each in store.corrections():
            if each.number == number:
                _warn(corrector, each.from_utc_ns, each.until_utc_ns, settings)
        made = corrector.undo(number, by=person, on_progress=_progress(settings))
    _say(f"correction {number} is undone: {made.minute_values} values of minutes are put back")
    _tell(number, settings, config)


def tell(
    number: Annotated[int, typer.Argument(min=1, help="Of the correction; `corrections` lists them.")],
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Tell the running service of a correction that it has not been told of, and correct what it stored meanwhile."""
    settings = load_settings(config)
    with _corrector(settings) as (_, corrector):
        corrector.catch_up(number)
    _tell(number, settings, config)


def list_corrections(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print all corrections: what was said, by whom, why, from when to when, and what became of it."""
    settings = load_settings(config)
    table = Table("correction", "what", "from", "until", "made", "by", "reason", "state", box=None, pad_edge=False)
    with _corrector(settings) as (store, _), store.correction_rows() as rows:
        for each in rows.corrections():
            until = "" if each.until_utc_ns is None else _text(each.until_utc_ns, settings)
            table.add_row(
                str(each.number),
                each.correction.words,
                _text(each.from_utc_ns, settings),
                until,
                _text(each.made_utc_ns, settings),
                escape(each.by),
                escape(each.reason),
                escape(_state(each, settings) + _doubted(rows.doubted_utc_ns(each), settings)),
            )
    if not table.row_count:
        _say("nothing has been corrected")
        return
    Console(width=_WIDTH, highlight=False).print(table)


def _state(made: StoredCorrection, settings: Settings) -> str:
    if made.undone_utc_ns is not None:
        untold = ", but the service was not told of that" if made.undoing_not_told else ""
        return f"undone {_text(made.undone_utc_ns, settings)} by {made.undone_by}{untold}"
    if made.told_utc_ns is not None:
        return f"in effect, the service was told {_text(made.told_utc_ns, settings)}"
    if made.until_utc_ns is not None:
        return "in effect"
    return f"in effect up to {_text(made.stored_until_utc_ns, settings)}, no service was told"


def _doubted(utc_ns: int | None, settings: Settings) -> str:
    return "" if utc_ns is None else f"; no name from {_text(utc_ns, settings)} on, when the track came to be doubted"


def _correct(
    correction: Correction,
    since: str,
    until: str | None,
    by: str | None,
    reason: str,
    settings: Settings,
    config: Path,
) -> None:
    if not NOTE_PATTERN.fullmatch(reason):
        raise ConfigError("--reason: expected at most 200 characters in one line")
    from_utc_ns = moment_of("--from", since, settings.zone)
    until_utc_ns = None if until is None else moment_of("--until", until, settings.zone)
    person = _person(by)
    with _corrector(settings) as (_, corrector):
        _warn(corrector, from_utc_ns, until_utc_ns, settings)
        made = corrector.correct(
            correction,
            from_utc_ns=from_utc_ns,
            until_utc_ns=until_utc_ns,
            by=person,
            reason=reason,
            on_progress=_progress(settings),
        )
    _say_made(made, correction, settings)
    _tell(made.number, settings, config)


def _warn(corrector: IdentityCorrector, from_utc_ns: int, until_utc_ns: int | None, settings: Settings) -> None:
    """Say before a long change what it does to a service that runs."""
    if not is_held(settings.box.data_dir):
        return
    frames = corrector.frames_between(from_utc_ns, until_utc_ns)
    if frames > MOST_BESIDE:
        held_s = frames * _HELD_S
        _say(
            f"{frames} frames are changed beside a running service, which can store nothing for about {held_s:.0f} s "
            "at the end. It tries again and again and measures in between: at 25 frames a second it may lose some. "
            "With --until the time can be corrected part by part"
        )


def _say_made(made: Made, correction: Correction, settings: Settings) -> None:
    _say(
        f"correction {made.number}: {correction.words} from {_text(made.from_utc_ns, settings)} to "
        f"{_text(made.until_utc_ns, settings)}"
    )
    if made.doubted_utc_ns is not None:
        _say(
            f"from {_text(made.doubted_utc_ns, settings)} on track {correction.track} may have changed places with "
            "another: it is not named after this correction from there on. Look at the film; --until names it up to "
            "a time, whatever the tracker thinks"
        )
    _say(
        f"{made.stretches} stretches of tracks are changed, {made.minute_values} values of minutes computed anew, "
        f"{made.events} events marked; `vivarium identity undo {made.number}` takes it back"
    )


def _tell(number: int, settings: Settings, config: Path) -> None:
    """Tell the running service, or say clearly that it has not been told.

    Raises
    ------
    typer.Exit
        With code 1, if one runs and does not know.
    """
    if not is_held(settings.box.data_dir):
        _say("no service runs on this data directory: there is nobody to tell")
        return
    why = _told(number, settings, config)
    if why is None:
        _say("the running service goes on accordingly")
        return
    _say(f"THE RUNNING SERVICE HAS NOT BEEN TOLD: {why}")
    _say(
        "What is stored is changed, but frames from now on, and rules that look back, still go by what was before. "
        f"Give `vivarium identity tell {number}` when that is mended; a restart of the service begins with new numbers"
    )
    raise typer.Exit(1)


def _told(number: int, settings: Settings, config: Path) -> str | None:
    """Why the service does not know; None where it does."""
    mqtt = settings.mqtt
    if not (mqtt.enabled and mqtt.commands):
        return "it takes no commands: mqtt.enabled and mqtt.commands must be true in the config"
    why: str | None = "it gave no answer"
    try:
        for result in give_command(
            mqtt,
            "correction",
            password=mqtt_password(os.environ, config),
            box=settings.box.name,
            timeout_s=_TIMEOUT_S,
            values={"correction": number},
        ):
            why = None if result.state == "done" else (result.message or result.state)
    except CommandError as error:
        return str(error)
    return why


def _animal(text: str, settings: Settings) -> int:
    """Number of an animal that is named by number or name."""
    names = {each.name: number for number, each in enumerate(settings.animal, start=1)}
    number = names.get(text) or (int(text) if text.isdecimal() else 0)
    if not 1 <= number <= settings.animal_count:
        known = f"1 to {settings.animal_count}" + (f", or {', '.join(names)}" if names else "")
        raise ConfigError(f"there is no animal {text!r}; expected {known}")
    return number


def _person(by: str | None) -> str:
    try:
        person = getpass.getuser() if by is None else by
    except (OSError, KeyError):  # a user without a name
        person = ""
    if not PERSON_PATTERN.fullmatch(person):
        raise ConfigError(f"--by: expected a name of 1 to 64 characters, got {person!r}")
    return person


@contextmanager
def _corrector(settings: Settings) -> Iterator[tuple[Store, IdentityCorrector]]:
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        yield store, IdentityCorrector(store, settings, SystemClock())


def _progress(settings: Settings) -> Callable[[int], None]:
    """Prints, once for each day of frames, how far it has come."""
    days: set[int] = set()

    def told(utc_ns: int) -> None:
        day = utc_ns // _DAY_NS
        if day not in days and days:
            _say(f"computed anew up to {_text(utc_ns, settings)}")
        days.add(day)

    return told


def _text(utc_ns: int, settings: Settings) -> str:
    return local_text(utc_ns, settings.zone, with_seconds=True)


def _say(line: str) -> None:
    typer.echo(line)
