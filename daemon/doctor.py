"""What is wrong with this box, and how to repair it."""

import grp
import math
import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daemon.cameras import camera_opener
from daemon.caretaker import limits_of, look_at_disk
from daemon.credentials import mqtt_password
from daemon.installation import CONFIG, TIMER, USER, unit_of
from daemon.lock import DataDirectoryLock
from daemon.messaging.probe import probe_broker
from daemon.networks import both_runtimes_installed, open_networks, running_on
from daemon.schedule import StratifiedDay, check_plan
from daemon.service_status import ServiceState, deadman_watches, read_state
from daemon.settings import Settings, load_settings
from daemon.store.engine import checked_url, sqlite_path
from daemon.store.repository import attach_store
from daemon.store.retention import GB
from daemon.store.server import look_at
from daemon.store.sqlite_file import why_damaged
from daemon.store.upgrade import current_revision, head_revision, is_known
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import missing_gpu
from daemon.web.probe import box_served
from daemon.web.server import RETRY_S, why_not
from daemon.writable import nearest_existing, obstacle_to
from drivers.clock import SystemClock
from drivers.errors import CameraError, CameraLostError, ConfigError, MaterialError, VivariumError
from drivers.frame import ThermalFrame
from drivers.usb import UsbBus, UsbCamera

_SYNCHRONISED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"))
_SYSTEMD = Path("/run/systemd/system")
"""There where systemd is the service manager."""
_VIDEO_GROUP = "video"
_EARLIEST_YEAR = 2026
_LOCK_NAME = "vivarium.lock"
"""What `DataDirectoryLock` makes in the data directory."""
_READ_TIMEOUT_S = 2.0
_READ_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    good: bool | None
    """None for what is worth knowing and needs no repair."""
    found: str
    remedy: str | None = None


def examine(config: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything the service needs; a config that cannot be read is the only finding."""
    try:
        settings = load_settings(config)
    except ConfigError as error:
        return [
            Finding(subject="config", good=False, found=str(error), remedy="mend the file; vivarium config --explain")
        ]
    findings = [Finding(subject="config", good=True, found=str(config))]
    findings += _installed(config)
    with ExitStack() as stack:
        running = not _lock(settings, stack)
        for check in (_schedule, _clock, _disk, _usb, _models, _database):
            findings += check(settings)
        if running:
            findings.append(
                Finding(subject="service", good=None, found="running: camera and ports are its own, not examined")
            )
            findings += _page(settings)
        else:
            findings += _camera(settings)
            findings += _ports(settings)
        findings += _broker(settings, mqtt_password(environment, config))
    return findings


def _lock(settings: Settings, stack: ExitStack) -> bool:
    """Take the place of the service, so that it does not start meanwhile; False when it runs.

    A lock file is not made here: as root's, it would keep the service's user from starting.
    """
    if not (settings.box.data_dir / _LOCK_NAME).exists():
        return True
    try:
        stack.enter_context(DataDirectoryLock(settings.box.data_dir))
    except ConfigError as error:
        return error.__cause__ is not None  # the file may not be written: the finding about the disk says so
    return True


def _installed(config: Path) -> Iterator[Finding]:
    """The service that runs with this config, where it is one that was installed."""
    if config.resolve().parent != Path(CONFIG) or not _SYSTEMD.is_dir():
        return
    yield from installed_findings(read_state(config.stem), deadman_watches=deadman_watches(), groups=_groups())


def installed_findings(
    state: ServiceState, *, deadman_watches: bool, groups: frozenset[str] | None
) -> Iterator[Finding]:
    """What there is to say about an installed service.

    Parameters
    ----------
    state : ServiceState
        What systemd knows of it.
    deadman_watches : bool
        Whether the dead-man script is run.
    groups : frozenset of str, optional
        Of the service's user; None when there is no such user.
    """
    unit = unit_of(state.name)
    if state.unit.get("LoadState") != "loaded":
        yield Finding(subject="unit", good=False, found=f"{unit} is not installed", remedy="vivarium service install")
        return
    active = f"{state.unit.get('ActiveState')}, {state.unit.get('NRestarts', '?')} restarts"
    if state.unit.get("UnitFileState") != "enabled":
        yield Finding(
            subject="unit",
            good=False,
            found=f"{unit}: {active}, does not start with the machine",
            remedy=f"systemctl enable --now {unit}",
        )
    else:
        yield Finding(
            subject="unit",
            good=state.runs,
            found=f"{unit}: {active}, starts with the machine",
            remedy=None if state.runs else f"systemctl start {unit}; journalctl -u {unit}",
        )
    yield Finding(
        subject="dead-man",
        good=deadman_watches,
        found="watches" if deadman_watches else f"{TIMER} does not run: nobody tells of a service that is silent",
        remedy=None if deadman_watches else f"systemctl enable --now {TIMER}",
    )
    if groups is None:
        yield Finding(
            subject="user", good=False, found=f"no user {USER}", remedy="systemd-sysusers strong-vivarium.conf"
        )
    elif _VIDEO_GROUP not in groups:
        yield Finding(
            subject="user",
            good=False,
            found=f"{USER} is not in the group {_VIDEO_GROUP}",
            remedy=f"usermod -aG {_VIDEO_GROUP} {USER}; systemctl restart {unit}",
        )
    else:
        yield Finding(subject="user", good=True, found=f"{USER}, in the group {_VIDEO_GROUP}")


def _groups() -> frozenset[str] | None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return None
    return frozenset(group.gr_name for group in grp.getgrall() if USER in group.gr_mem)


def _schedule(settings: Settings) -> Iterator[Finding]:
    today = datetime.now(settings.zone).date()
    try:
        check_plan(settings.schedule)
        plan = StratifiedDay.of(today, settings.schedule, settings.zone)
    except ConfigError as error:
        yield Finding(subject="schedule", good=False, found=str(error), remedy="change [schedule]")
        return
    yield Finding(subject="schedule", good=True, found=f"{len(plan)} blocks, {plan.frames} frames today")


def _clock(settings: Settings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now.year < _EARLIEST_YEAR:
        yield Finding(
            subject="clock", good=False, found=f"{now:%Y-%m-%d %H:%M} UTC", remedy="set the clock: timedatectl set-time"
        )
    elif any(path.exists() for path in _SYNCHRONISED):
        yield Finding(subject="clock", good=True, found=f"synchronised, zone {settings.zone.key}")
    else:
        yield Finding(
            subject="clock",
            good=None,
            found=f"not known to be synchronised, zone {settings.zone.key}",
            remedy="apt install systemd-timesyncd, or chrony",
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    directory = settings.box.data_dir
    if (obstacle := obstacle_to(directory)) is not None:
        yield Finding(
            subject="disk",
            good=False,
            found=obstacle.found,
            remedy=f"{obstacle.remedy}, or change box.data_dir ({directory})",
        )
        return
    usage = shutil.disk_usage(nearest_existing(directory))
    enough = usage.free >= limits_of(settings, usage.total).min_free_bytes
    yield Finding(
        subject="disk",
        good=enough,
        found=f"{usage.free / GB:.1f} GB free for {directory}{_forecast(settings)}",
        remedy=None if enough else "free some, or unpin studies: a day of recordings takes about 0.4 GB",
    )


def _forecast(settings: Settings) -> str:
    """When the disk will be full, as far as a database of this version tells; the database has a finding of its own."""
    try:
        with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
            disk = look_at_disk(settings, store, now_ns=SystemClock().utc_ns(), ballast=False)
    except (VivariumError, OSError):
        return ""
    return "" if disk.full_in_days is None else f", full in {disk.full_in_days:.0f} days"


def _usb(_settings: Settings) -> Iterator[Finding]:
    """T2S+ cameras on the bus, and whether this user may open their video nodes."""
    bus = UsbBus()
    cameras = bus.cameras()
    if not cameras:
        yield Finding(subject="usb", good=None, found="no T2S+ camera is attached")
    for camera in cameras:
        if camera.fault is not None:
            yield Finding(subject="usb", good=None, found=f"{camera}: {camera.fault}")
            continue
        yield Finding(subject="usb", good=True, found=f"{camera}, expected to be a {camera.expected_variant}")
        yield from _node(bus, camera)


def _node(bus: UsbBus, camera: UsbCamera) -> Iterator[Finding]:
    try:
        path = bus.video_node(camera).path
    except CameraLostError as error:
        yield Finding(subject="video", good=False, found=str(error), remedy="modprobe uvcvideo; see dmesg")
        return
    if not path.exists():
        yield Finding(subject="video", good=False, found=f"{path} is not there", remedy="in a container: pass it in")
    elif not os.access(path, os.R_OK | os.W_OK):
        group = grp.getgrgid(path.stat().st_gid).gr_name
        yield Finding(
            subject="permissions",
            good=False,
            found=f"{path} belongs to group {group}",
            remedy=f"usermod -aG {group} USER, then log in again",
        )
    else:
        yield Finding(subject="video", good=True, found=f"{path} is the camera's")


def _models(settings: Settings) -> Iterator[Finding]:
    if both_runtimes_installed():
        yield Finding(
            subject="models",
            good=False,
            found="onnxruntime and onnxruntime-gpu are both installed, and one has overwritten files of the other",
            remedy="pip uninstall both, then install strong-vivarium again",
        )
    try:
        networks = open_networks(settings.vision, most=settings.animal_count)
    except ModelError as error:
        yield Finding(subject="models", good=False, found=str(error), remedy="vivarium model check FILE says more")
        return
    if networks.segmenter is None:
        yield Finding(
            subject="models", good=None, found=f"animals are found by their warmth alone: {networks.why_none}"
        )
        return
    for model in networks.segmenter.models:
        yield Finding(subject="models", good=True, found=f"{model.card.title} on {running_on(model)}")
    missing = missing_gpu()
    if settings.vision.provider == "cuda" and networks.segmenter.provider != "cuda":
        yield Finding(
            subject="models", good=None, found=f"no GPU: {missing or 'CUDA does not start'}", remedy="docs/models.md"
        )


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        path = sqlite_path(checked_url(settings.database_url))
        problem = None if path is None else why_damaged(path, head_revision(), budget_s=math.inf)
    except VivariumError as error:
        yield Finding(subject="database", good=False, found=str(error), remedy="see database.url")
        return
    if path is None:
        yield from _server(settings)
    elif problem is not None:
        yield Finding(
            subject="database",
            good=False,
            found=f"{path}: {problem}",
            remedy="the next start sets the file aside and begins a new one; restore a backup to keep the history",
        )
    elif not path.exists() and (obstacle := obstacle_to(path.parent)) is not None:
        yield Finding(
            subject="database",
            good=False,
            found=f"{path} cannot be made: {obstacle.found}",
            remedy=f"{obstacle.remedy}, or change database.url",
        )
    else:
        size = f"{path.stat().st_size / 1024**2:.1f} MiB, sound" if path.exists() else "will be made"
        yield Finding(subject="database", good=True, found=f"{path}: {size}")


def _server(settings: Settings) -> Iterator[Finding]:
    """A database on a server: whether it answers and may be used, not whether its pages are sound."""
    url = checked_url(settings.database_url)
    where, head = url.render_as_string(), head_revision()
    try:
        found, revision = look_at(url, count_rows=False), current_revision(url)
    except VivariumError as error:
        yield Finding(subject="database", good=False, found=str(error), remedy="start the server, or mend database.url")
        return
    if found.why_not_written is not None:
        yield Finding(
            subject="database",
            good=False,
            found=f"{where}: {found.why_not_written}",
            remedy="let the user of database.url own the database: ALTER DATABASE ... OWNER TO ...",
        )
        return
    if revision is not None and not is_known(revision):
        yield Finding(
            subject="database",
            good=False,
            found=f"{where}: revision {revision}, this program knows revisions up to {head}",
            remedy="install the newer version again, or give another database",
        )
        return
    state = {head: f"revision {head}", None: "without tables, they will be made"}.get(
        revision, f"revision {revision}, this program works with {head}: the next start brings it up to date"
    )
    size, answer_ms = found.size_bytes / 1024**2, 1000 * found.answer_s
    yield Finding(
        subject="database",
        good=True,
        found=f"{where}: PostgreSQL {found.version}, {state}, {size:.1f} MiB, answers in {answer_ms:.1f} ms",
    )
    if found.not_durable:
        yield Finding(
            subject="database",
            good=None,
            found=f"{', '.join(found.not_durable)} is off: a power cut can take what the server said it had stored",
            remedy="switch it on in postgresql.conf",
        )


def _camera(settings: Settings) -> Iterator[Finding]:
    kind = settings.camera.kind
    try:
        with camera_opener(settings.camera, SystemClock(), state_dir=settings.camera_dir)() as camera:
            frame = _first_good(lambda: camera.read(_READ_TIMEOUT_S))
            found = (
                f"{kind}: {camera.info.product} {camera.info.serial}, "
                f"centre {frame.celsius[frame.celsius.shape[0] // 2, frame.celsius.shape[1] // 2]:.1f} °C"
            )
    except (CameraError, MaterialError, ConfigError) as error:
        yield Finding(subject="camera", good=False, found=f"{kind}: {error}", remedy="check cable, path and [camera]")
        return
    yield Finding(subject="camera", good=True, found=found)


def _first_good(read: Callable[[], ThermalFrame]) -> ThermalFrame:
    for attempt in range(_READ_ATTEMPTS):
        try:
            return read()
        except CameraLostError:
            raise
        except CameraError:
            if attempt == _READ_ATTEMPTS - 1:
                raise
    raise AssertionError("the loop returns or raises")


def _ports(settings: Settings) -> Iterator[Finding]:
    wanted = []
    if settings.web.enabled and settings.web.port:
        wanted.append(("web.port", settings.web.host, settings.web.port))
    if settings.mqtt.enabled and settings.mqtt.broker == "embedded":
        wanted.append(("mqtt.port", settings.mqtt.host, settings.mqtt.port))
    with ExitStack() as held:  # together: two of ours on one port are found too
        for key, host, port in wanted:
            try:
                held.enter_context(socket.create_server((host, port)))
            except OSError as error:
                yield Finding(
                    subject=key,
                    good=False,
                    found=f"{host}:{port}: {why_not(error)}",
                    remedy="stop the program that listens there, or choose another port",
                )
            else:
                yield Finding(subject=key, good=True, found=f"{host}:{port} is free")


def _page(settings: Settings) -> Iterator[Finding]:
    """Whether the service that runs has its page, or waits for a port that another program has."""
    web = settings.web
    if not web.enabled or not web.port:
        return
    where = f"{web.host}:{web.port}"
    if box_served(web.host, web.port) == settings.box.name:
        yield Finding(subject="page", good=True, found=f"http://{where}/ answers")
    else:
        yield Finding(
            subject="page",
            good=False,
            found=f"{where} does not answer as the page of {settings.box.name}",
            remedy="the log says why; stop what else listens there, and the page is there "
            f"{RETRY_S:g} s later, or choose another web.port",
        )


def _broker(settings: Settings, password: str | None) -> Iterator[Finding]:
    mqtt = settings.mqtt
    if not mqtt.enabled:
        yield Finding(subject="broker", good=None, found="MQTT is switched off")
    elif mqtt.broker == "embedded":
        yield Finding(
            subject="broker", good=None, found="embedded, for trials", remedy="apt install mosquitto for real use"
        )
    else:
        try:
            version = probe_broker(mqtt, password=password, box=settings.box.name)
        except VivariumError as error:
            yield Finding(
                subject="broker",
                good=False,
                found=f"{mqtt.host}:{mqtt.port}: {error}",
                remedy="check [mqtt] and the broker",
            )
        else:
            yield Finding(subject="broker", good=True, found=f"{mqtt.host}:{mqtt.port} speaks MQTT {version}")
