"""One line an event, for people or for machines."""

import logging
import sys
import time

from pythonjsonlogger.json import JsonFormatter

from daemon.settings import LogSettings

_QUIET = {"alembic": logging.WARNING, "apscheduler": logging.WARNING, "uvicorn": logging.WARNING}
"""Libraries that tell at length what their users know."""


def configure_logging(settings: LogSettings) -> None:
    """Send the log to standard error in the configured form; replaces what was configured before."""
    formatter: logging.Formatter
    if settings.format == "json":
        formatter = JsonFormatter("%(asctime)s %(levelname)s %(name)s %(threadName)s %(message)s")
    else:
        formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s")
        formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
