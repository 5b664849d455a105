"""Free space by the minute, and what an event about it shows. Belongs to one thread."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from daemon.events import Event, EventKind, EventState, Severity, evidence, since_of
from daemon.evidence import EvidenceFolder
from daemon.evidence_plot import plot
from daemon.minute_series import MINUTE_NS, MinuteSeries
from daemon.overlay import to_png
from daemon.plot_data import PlotData
from daemon.status import DiskStatus
from daemon.store.retention import GB, Limits
from drivers.clock import NS_PER_S

MINUTES = 360
"""So many are kept, and shown."""


class DiskEvidence:
    """Free space of the last hours.

    Parameters
    ----------
    zone : ZoneInfo
        Of the housing room.
    folder : EvidenceFolder, optional
        Keeps the plots; without it there are numbers only.
    """

    def __init__(self, zone: ZoneInfo, folder: EvidenceFolder | None = None) -> None:
        self._zone = zone
        self._folder = folder
        self._free_gb = MinuteSeries(MINUTES)

    def note(self, utc_ns: int, free_bytes: int) -> None:
        """The disk was looked at; of a minute the lowest counts."""
        minute = utc_ns // MINUTE_NS
        before, _ = self._free_gb.get(minute)
        free_gb = free_bytes / GB
        self._free_gb.put(minute, free_gb if before is None else min(before, free_gb), 1.0)

    def event(
        self,
        kind: EventKind,
        state: EventState,
        at_utc_ns: int,
        *,
        free_bytes: int,
        limits: Limits,
        status: DiskStatus,
        opened: Event | None = None,
        **more: str,
    ) -> Event:
        """That the disk is low, still and more so, or well again.

        Parameters
        ----------
        kind, state
            `DISK_LOW` opened or updated, or `DISK_OK` closed.
        at_utc_ns : int
            Now.
        free_bytes, limits, status
            The disk, and what is known of the time it lasts for.
        opened : Event, optional
            What opened it; None for this very event.
        **more
            Other facts.
        """
        since_utc_ns = at_utc_ns if opened is None else since_of(opened)
        shown = self._shown(kind, since_utc_ns, at_utc_ns, limits)
        event = Event(
            kind=kind,
            state=state,
            severity=Severity.ALERT if kind is EventKind.DISK_LOW else Severity.NOTICE,
            at_utc_ns=at_utc_ns,
            data={
                **evidence(
                    EventKind.DISK_LOW,
                    measure="free_bytes",
                    comparison="below",
                    value=free_bytes,
                    threshold=limits.min_free_bytes,
                    coverage=round(float(shown.coverage.mean()), 3),
                    since_utc_ns=since_utc_ns,
                    free_bytes=free_bytes,
                    min_free_bytes=limits.min_free_bytes,
                    recordings_bytes=status.recordings_bytes,
                    pinned_bytes=status.pinned_bytes,
                    bytes_per_day=status.bytes_per_day,
                    full_in_days=status.full_in_days,
                    ballast=status.ballast,
                ),
                **more,
            },
            opened_event_id=None if opened is None else opened.event_id,
        )
        return event if self._folder is None else self._folder.attach(event, plot=to_png(plot(shown)), frames=[])

    def _shown(self, kind: EventKind, since_utc_ns: int, at_utc_ns: int, limits: Limits) -> PlotData:
        last = at_utc_ns // MINUTE_NS
        minutes = np.arange(last - MINUTES + 1, last + 1)
        values, coverage = self._free_gb.at(minutes)
        offset = datetime.fromtimestamp(at_utc_ns / NS_PER_S, self._zone).utcoffset()
        nothing = np.full(MINUTES, np.nan)
        return PlotData(
            title=kind.value,
            measure="free GB",
            steps=minutes,
            step_s=60,
            values=values,
            coverage=coverage,
            low=nothing,
            high=nothing,
            thresholds=np.full(MINUTES, limits.min_free_bytes / GB),
            at_work=np.zeros(MINUTES, np.bool_),
            since=None if kind is EventKind.DISK_OK else since_utc_ns // MINUTE_NS,
            local_s=minutes * 60 + (0 if offset is None else round(offset.total_seconds())),
        )
