"""`vivarium rules`, `acknowledge` and `maintenance`: what is watched, what it would have said, and what people say."""

import os
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.credentials import mqtt_password
from daemon.default_rules import FRAME_RULES, SERVICE_EVENTS
from daemon.event_rules import KEYS, EventRule
from daemon.events import Event, EventKind, EventState, correction_of
from daemon.installation import default_config
from daemon.messaging.ask import give_command
from daemon.moments import local_text
from daemon.open_events import open_now
from daemon.rule import Condition, Rule
from daemon.rule_settings import MaintenanceReason
from daemon.rules_replay import Score, as_json, maintenance_minutes, read_truth, replay, score
from daemon.settings import Settings, load_settings
from daemon.store.repository import attach_store
from daemon.watching import minute_rules_of
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

rules_app = typer.Typer(help="What is watched, and what it would have said.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file.")]
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]

_DEFAULT_CONFIG = default_config()
_WIDTH = 10_000
_TIMEOUT_S = 15.0


@rules_app.command(name="list")
def list_command(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print the rules that are in force, those that are judged on each frame, and what the service says of itself."""
    settings = load_settings(config)
    table = Table("rule", "of", "severity", "opens", "for", "closes after", "escalates", box=None, pad_edge=False)
    for rule in settings.minute_rules():
        table.add_row(*described(rule))
    others = settings.event_rules
    for other in (*FRAME_RULES, *SERVICE_EVENTS):
        of = "animal" if other in FRAME_RULES else "service"
        where = f" ({other.config})" if other.config else ""
        manner = others[other.kind]
        severity = other.severity if manner.severity is None else manner.severity.value
        escalates = "" if "escalate_after_minutes" not in KEYS[other.kind] else _escalates(manner)
        table.add_row(other.kind.value, of, severity, escape(other.when + where), "", "", escalates)
    _print(table)


@rules_app.command(name="replay")
def replay_command(
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=_FORMATS, help="Begin, local time; seven days before the end."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=_FORMATS, help="End, local time; now when left out, and at the latest."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="JSON list of true illnesses: kind, animal, start, end. Prints caught, missed and false."),
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One line of JSON for each event, and no more.")] = False,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Judge stored minutes by the rules that are in force, and print what they would have said. Nothing is stored.

    Acknowledgements are not replayed: what nobody acknowledged escalates. Exit code 1 when a true illness is missed.
    """
    settings = load_settings(config)
    now_ns = round(datetime.now(settings.zone).timestamp()) * NS_PER_S
    end_ns = _moment(end, settings) if end else now_ns
    start_ns = _moment(start, settings) if start else end_ns - 7 * 86_400 * NS_PER_S
    if start_ns >= end_ns:
        raise ConfigError("--from must lie before --to")
    illnesses = None if truth is None else read_truth(truth)
    rules = settings.minute_rules()
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        if start_ns < now_ns < end_ns and not any(store.minute_values(since_utc_ns=now_ns, until_utc_ns=end_ns)):
            end_ns = now_ns  # minutes that are still to come are not minutes without frames; simulated days have them
        events = list(replay(minute_rules_of(settings, rules), store, start_ns, end_ns))
        stretches = store.maintenance_between(start_ns, end_ns)
    if json_lines:
        for line in as_json(events):
            typer.echo(line)
    else:
        _print(_told(events, settings))
        counts = Counter(event.data.get("rule") for event in events if event.state is EventState.OPENED)
        opened = ", ".join(f"{rule.name} {counts[rule.name]}" for rule in rules)
        typer.echo(f"opened: {opened}; maintenance of {maintenance_minutes(stretches):.0f} min was left out")
    if illnesses is not None:
        found = score(events, illnesses, animals=settings.animal_count, start_utc_ns=start_ns, end_utc_ns=end_ns)
        if not json_lines:
            _print_score(found, settings)
        if found.missed:
            raise typer.Exit(1)


def acknowledge(
    event: Annotated[
        str | None, typer.Argument(help="Id of the event, or its first characters; lists what is open.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who has seen it.")] = None,
    note: Annotated[str, typer.Option(help="What is to be remembered.")] = "",
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Say that somebody has seen an event, to the running service by MQTT; without an event: print what is open."""
    settings = load_settings(config)
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        known = [each for each in open_now(store.event_histories()) if each.opened.kind is not EventKind.MAINTENANCE]
    if event is None:
        table = Table(
            "event", "what", "animal", "severity", "since", "acknowledged by", "corrected", box=None, pad_edge=False
        )
        for each in known:
            opened = each.opened
            since = local_text(opened.at_utc_ns, settings.zone)
            animal = _animal(opened, settings)
            seen_by = escape(each.acknowledged_by or "")
            number = correction_of(opened)
            corrected = "" if number is None else f"identities since, by correction {number}"
            table.add_row(opened.event_id, _what(opened), animal, each.severity.value, since, seen_by, corrected)
        _print(table)
        return
    if by is None:
        raise ConfigError("--by: say who has seen it")
    matching = [each.opened.event_id for each in known if each.opened.event_id.startswith(event)]
    if len(matching) != 1:
        raise ConfigError(f"{event}: expected the begin of one open event's id, {len(matching)} have it")
    _give(settings, config, "acknowledge", {"event_id": matching[0], "by": by, "note": note})


maintenance_app = typer.Typer(
    help="Work at the cage: its minutes count for no rule and no measure.", no_args_is_help=True
)


@maintenance_app.command()
def begin(
    reason: Annotated[MaintenanceReason, typer.Argument(help="What is done.")],
    by: Annotated[str, typer.Option(help="Who does it.")],
    minutes: Annotated[int, typer.Option(min=1, max=480, help="After so long it ends by itself.")] = 30,
    note: Annotated[str, typer.Option(help="What is to be remembered.")] = "",
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Tell the running service by MQTT that people work at the cage."""
    content = {"action": "begin", "reason": reason, "by": by, "minutes": minutes, "note": note}
    _give(load_settings(config), config, "maintenance", content)


@maintenance_app.command()
def end(by: Annotated[str, typer.Option(help="Who says so.")], config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Tell the running service by MQTT that the work is done before its time."""
    _give(load_settings(config), config, "maintenance", {"action": "end", "by": by})


@maintenance_app.command(name="list")
def list_maintenance(
    days: Annotated[int, typer.Option(min=1, help="So many days back.")] = 30, config: ConfigOption = _DEFAULT_CONFIG
) -> None:
    """Print what was done at the cage, and when."""
    settings = load_settings(config)
    now_ns = round(datetime.now(settings.zone).timestamp()) * NS_PER_S
    table = Table("from", "to", "what", "by", "note", box=None, pad_edge=False)
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        for each in store.maintenance_between(now_ns - days * 86_400 * NS_PER_S, now_ns):
            times = (local_text(each.start_utc_ns, settings.zone), local_text(each.end_utc_ns, settings.zone))
            table.add_row(*times, each.reason.value, escape(each.by), escape(each.note))
    _print(table)


def described(rule: Rule) -> tuple[str, str, str, str, str, str, str]:
    """A rule as a row: name, subject, severity, when it opens, for how long, when it closes, escalation."""
    return (
        rule.name,
        rule.subject.value,
        rule.severity.value,
        " and ".join(map(_words, rule.conditions)),
        f"{rule.for_minutes:g} min",
        f"{rule.clear_minutes:g} min",
        _escalates(rule),
    )


def _escalates(rule: Rule | EventRule) -> str:
    return f"{rule.escalate_after_minutes} min" if rule.escalate_after_minutes else "never"


def _words(condition: Condition) -> str:
    mean = f"mean of {condition.over_minutes} min of " if condition.over_minutes > 1 else ""
    baseline = condition.baseline
    if baseline is None:
        return f"{mean}{condition.measure} {condition.comparison} {condition.value:g}"
    by = [f"{baseline.z:g} spreads"] if baseline.z else []
    by += [f"{baseline.least_change:g}"] if baseline.least_change else []
    by += [f"{100 * baseline.least_share:g} %"] if baseline.least_share else []
    return f"{mean}{condition.measure} {condition.comparison} its own {baseline.days} days by {' and '.join(by)}"


def _told(events: list[Event], settings: Settings) -> Table:
    table = Table("when", "rule", "animal", "state", "severity", "value", "threshold", "why", box=None, pad_edge=False)
    for event in events:
        numbers = [event.data.get(name) for name in ("value", "threshold")]
        table.add_row(
            local_text(event.at_utc_ns, settings.zone),
            str(event.data.get("rule")),
            _animal(event, settings),
            event.state.value,
            event.severity.value,
            *("" if number is None else f"{number:.2f}" for number in numbers),
            str(event.data.get("reason", "")),
        )
    return table


def _what(event: Event) -> str:
    """The rule that opened it, or its kind: rules of the config are all of one kind."""
    rule = event.data.get("rule")
    return rule if isinstance(rule, str) else event.kind.value


def _animal(event: Event, settings: Settings) -> str:
    """Number and name of the animal that it is about."""
    if event.animal is None:
        return ""
    name = settings.animal_names.get(event.animal)
    return str(event.animal) if name is None else f"{event.animal} {name}"


def _print_score(found: Score, settings: Settings) -> None:
    for illness, event in found.caught:
        late = (event.at_utc_ns / NS_PER_S - illness.start.timestamp()) / 60
        typer.echo(
            f"caught: {illness.kind} of animal {illness.animal} by {event.data.get('rule')} after {late:.0f} min"
        )
    for illness in found.missed:
        typer.echo(f"missed: {illness.kind} of animal {illness.animal} from {illness.start.isoformat()}")
    for event in found.false:
        at = local_text(event.at_utc_ns, settings.zone)
        typer.echo(f"false: {event.data.get('rule')} of animal {event.animal} at {at}")
    rate = "-" if found.false_per_hundred is None else f"{found.false_per_hundred:.2f}"
    typer.echo(
        f"{len(found.caught)} caught, {len(found.missed)} missed, {len(found.false)} false alerts in "
        f"{found.animal_days:.1f} animal-days: {rate} per 100; {len(found.notices)} notices besides"
    )


def _give(settings: Settings, config: Path, verb: str, content: Mapping[str, object]) -> None:
    state = "refused"
    for result in give_command(
        settings.mqtt,
        verb,
        password=mqtt_password(os.environ, config),
        box=settings.box.name,
        timeout_s=_TIMEOUT_S,
        values=content,
    ):
        state = result.state
        why = f": {result.message}" if result.message else ""
        typer.echo(f"{result.verb} {result.state}{why}")
    if state != "done":
        raise typer.Exit(1)


def _moment(local: datetime, settings: Settings) -> int:
    return round(local.replace(tzinfo=settings.zone).timestamp()) * NS_PER_S


def _print(table: Table) -> None:
    Console(width=_WIDTH, highlight=False).print(table)
