"""The run that everything stored now belongs to: one config and the same models from its beginning to its end."""

import logging
import platform
import socket
from pathlib import Path

from daemon.settings import Settings
from daemon.store.repository import Store
from daemon.vision.segmenter import NetworkSegmenter
from drivers.clock import Clock
from drivers.errors import StoreError

logger = logging.getLogger(__name__)


class CurrentRun:
    """Begins, follows and ends it in the database.

    Parameters
    ----------
    store : Store
        Where it is noted.
    clock : Clock
        Wall time.
    version : str
        Of this program.
    fallback : str
        Name of what finds the animals without networks.
    """

    def __init__(self, store: Store, clock: Clock, *, version: str, fallback: str) -> None:
        self._store = store
        self._clock = clock
        self._version = version
        self._fallback = fallback
        self._id = 0

    @property
    def id(self) -> int:
        """Its number; 0 before the first has begun."""
        return self._id

    def begin(self, settings: Settings, *, at_utc_ns: int) -> None:
        """The first one; which networks it has is said by `name_networks`, or by the next.

        Raises
        ------
        StoreError
            If it cannot be stored.
        """
        self._id = self._start(settings, None, at_utc_ns, after=None)

    def name_networks(self, networks: NetworkSegmenter) -> None:
        """Say what measures in it, before anything was measured.

        Raises
        ------
        StoreError
            If that cannot be stored: then it must not measure.
        """
        self._store.name_segmenter(self._id, segmenter=networks.name, models=networks.hashes)

    def follow(self, settings: Settings, networks: NetworkSegmenter | None) -> None:
        """End it, and begin the next one with another config or other networks.

        Raises
        ------
        StoreError
            If that cannot be stored: then it goes on, and what would have changed must not.
        """
        self._id = self._start(settings, networks, self._clock.utc_ns(), after=self._id)

    def _start(
        self, settings: Settings, networks: NetworkSegmenter | None, at_utc_ns: int, *, after: int | None
    ) -> int:
        return self._store.start_run(
            version=self._version,
            config_hash=settings.config_hash(),
            config_json=settings.to_json(),
            segmenter=self._fallback if networks is None else networks.name,
            models={} if networks is None else networks.hashes,
            host=platform.node(),
            boot_id=boot_id(),
            started_utc_ns=at_utc_ns,
            after=after,
        )

    def end(self) -> None:
        """End it because the service stops."""
        try:
            self._store.end_run(self._id, ended_utc_ns=self._clock.utc_ns(), reason="stopped")
        except StoreError as error:
            logger.error("the end of this run is not in the database: %s", error)


def boot_id() -> str:
    """What the kernel calls this boot; the host's name where there is no such thing."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()
