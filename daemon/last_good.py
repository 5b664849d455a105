"""The last config that the service has started with, for a start after a power cut has damaged the one in place.

The config belongs to its administrator and stays where it is; what is kept is a copy of the text. Only a start that is
told so uses it (`vivarium run --last-good FILE`, as the unit file does): who mistypes a key in a terminal is to see it.
"""

import logging
from pathlib import Path

from daemon.settings import Settings, load_settings, parse_settings
from drivers.durable import write_durably
from drivers.errors import ConfigError

logger = logging.getLogger(__name__)


class LastGoodConfig:
    """The copy of one config.

    Parameters
    ----------
    config : Path
        The config itself; relative paths in the copy count from its directory, too.
    copy : Path or None
        Where the copy is kept; None for nowhere.
    """

    def __init__(self, config: Path, copy: Path | None) -> None:
        self._config = config
        self._copy = copy

    def load(self) -> tuple[Settings, str | None]:
        """The settings of the config, or those of the copy and what is wrong with the config.

        Raises
        ------
        ConfigError
            If the config is wrong and there is no copy, or that is none either.
        """
        try:
            return load_settings(self._config), None
        except ConfigError as error:
            settings = self.settings()
            if settings is None:
                raise
            return settings, str(error)

    def settings(self) -> Settings | None:
        """The settings of the copy; None when there is no good one."""
        if self._copy is None:
            return None
        try:
            text = self._copy.read_text(encoding="utf-8")
            return parse_settings(text, origin=str(self._copy)).resolved(self._config.resolve().parent)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            logger.error("the copy of the last good config is of no use: %s", error)
            return None

    def keep(self) -> None:
        """The service runs with the config: keep its text. What keeps it from being kept is logged."""
        if self._copy is None:
            return
        try:
            content = self._config.read_bytes()
            parse_settings(content.decode(), origin=str(self._config))  # it may have changed since it was loaded
            if not self._copy.exists() or self._copy.read_bytes() != content:
                write_durably(self._copy, content)
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            logger.warning("no copy of the config is kept in %s: %s", self._copy, error)
