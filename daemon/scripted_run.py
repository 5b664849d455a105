"""`vivarium simulate --script`: runs it, judges it by the truth, and says what it was made of."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from daemon.events import EventState
from daemon.illness_script import script_of
from daemon.moments import local_text
from daemon.rules_replay import read_truth, score
from daemon.scripted_days import CONFIG_NAME, TRUTH_NAME, ScriptedResult, ScriptedSimulation
from daemon.seen_errors import SHIPPED_ERRORS, read_errors
from daemon.seen_errors_cli import segmenter_of
from daemon.settings import Settings
from daemon.simulation_report import TABLE_NAME, Series, agreement, correlations, draw_plots, hours_around, write_table
from daemon.store.repository import attach_store
from daemon.vision.parts import Segmenter
from drivers.clock import NS_PER_S
from drivers.vivarium.incidents import Incident

_HOURS_OF_DAY = 24


def with_animals(settings: Settings, *, seed: int | None, animals: int | None) -> Settings:
    """The settings with another seed, or other animals, in the simulated box; what is None stays."""
    of_box: dict[str, int] = {} if seed is None else {"seed": seed}
    of_measure: dict[str, int] = {}
    if animals is not None:
        of_box["animals"] = of_measure["animals"] = animals
    camera = settings.camera
    simulated = camera.simulated.model_copy(update=of_box)
    return settings.model_copy(
        update={
            "measure": settings.measure.model_copy(update=of_measure),
            "camera": camera.model_copy(update={"simulated": simulated}),
        }
    )


def run_script(
    settings: Settings,
    script: str,
    *,
    first_day: date,
    days: int,
    every_s: int,
    pictures_day: int | None,
    pictures_hours: int,
    errors: Path | None,
    output: Path,
    version: str,
    on_progress: Callable[[int], None],
) -> list[str]:
    """Simulate, and give the lines that tell of it; `on_progress` is told the seconds that are done.

    Raises
    ------
    ConfigError
        If an option is wrong.
    StoreError
        If the database could not be written.
    """
    rate_hz = 1 / every_s
    settings = settings.model_copy(
        update={
            # Looked up once: the rules and measures ask for it each minute.
            "box": settings.box.model_copy(update={"time_zone": settings.zone.key}),
            "schedule": settings.schedule.model_copy(update={"rate_hz": rate_hz}),
            "measure": settings.measure.model_copy(update={"outside_rate_hz": rate_hz}),
        }
    )
    simulated = settings.camera.simulated
    incidents = script_of(
        script,
        first_day=first_day,
        days=days,
        animals=simulated.animals,
        lights_on_utc_s=simulated.lights_on_utc_s,
    )
    seen = SHIPPED_ERRORS if errors is None else read_errors(errors)
    segmenter = None if pictures_day is None else segmenter_of(settings)
    simulation = ScriptedSimulation(
        settings,
        script=incidents,
        errors=seen,
        first_day=first_day,
        days=days,
        pictures_day=pictures_day,
        pictures_hours=pictures_hours,
        segmenter=segmenter,
        output=output,
        version=version,
    )
    result = simulation.run(lambda utc_ns: on_progress((utc_ns - simulation.start_utc_ns) // NS_PER_S))
    lines = [
        f"{result.frames} observations, one in {every_s} s, drawn from the truth without pictures"
        + _pictured(pictures_day, pictures_hours, segmenter),
        f"errors by which they were drawn: {seen.source}",
        f"seen, resolved: {seen.seen_apart:.0%} apart, {seen.seen_touching:.0%} touching, {seen.seen_huddled:.0%} in a "
        "huddle; which animal is which was never wrong, and who touches another counts as there",
    ]
    if segmenter is not None and not seen.source.startswith(f"{segmenter.name},"):
        lines.append(f"these are not the errors of {segmenter.name}: pictures and drawing cannot agree")
    return [*lines, *_told(settings, simulation, result, incidents)]


def _pictured(day: int | None, hours: int, segmenter: Segmenter | None) -> str:
    if segmenter is None:
        return ""
    which = f"day {day}" if hours >= _HOURS_OF_DAY else f"the first {hours} h of day {day}"
    return f", but for {which}, seen through pictures by {segmenter.name}"


def _told(
    settings: Settings, simulation: ScriptedSimulation, result: ScriptedResult, incidents: tuple[Incident, ...]
) -> Iterator[str]:
    output, animals = simulation.output, range(1, settings.animal_count + 1)
    start_utc_ns, stop_utc_ns = simulation.start_utc_ns, simulation.stop_utc_ns
    with attach_store(f"sqlite:///{simulation.database}", outbox_limit=settings.mqtt.outbox_limit) as store:
        series = Series(store, result, start_utc_ns=start_utc_ns, stop_utc_ns=stop_utc_ns)
    write_table(output / TABLE_NAME, series, animals, settings)
    yield from correlations(series, animals)
    for incident in incidents:
        yield f"{incident.kind.value} of animal {incident.animal}:"
        yield from hours_around(series, incident, settings)
    if incidents:
        yield from (f"plot       {path}" for path in draw_plots(output, series, incidents[0], settings))
    if result.pictured:
        yield from agreement(result.pictured, result.drawn_beside)
    for event in result.events:
        if event.state is EventState.OPENED:
            shown = {name: event.data.get(name) for name in ("rule", "value", "threshold", "z", "coverage", "plot")}
            at = local_text(event.at_utc_ns, settings.zone)
            yield f"{event.severity.value}: {event.kind.value} of animal {event.animal} at {at} {json.dumps(shown)}"
    opened = Counter(event.kind.value for event in result.events if event.state is EventState.OPENED)
    yield "opened: " + (", ".join(f"{name} {count}" for name, count in sorted(opened.items())) or "nothing")
    found = score(
        result.events,
        read_truth(output / TRUTH_NAME),
        animals=settings.animal_count,
        start_utc_ns=start_utc_ns,
        end_utc_ns=stop_utc_ns,
    )
    rate = "-" if found.false_per_hundred is None else f"{found.false_per_hundred:.2f}"
    yield (
        f"{len(found.caught)} caught, {len(found.missed)} missed, {len(found.false)} false alerts in "
        f"{found.animal_days:.1f} animal-days: {rate} per 100; {len(found.notices)} notices besides"
    )
    yield f"database   {simulation.database}"
    yield f"table      {output / TABLE_NAME}"
    yield f"again      vivarium rules replay -c {output / CONFIG_NAME} --truth {output / TRUTH_NAME}"
