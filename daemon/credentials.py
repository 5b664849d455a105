"""Secrets: where the password of the broker comes from."""

from collections.abc import Mapping
from pathlib import Path

from daemon.settings import MQTT_PASSWORD_VARIABLE
from drivers.errors import ConfigError

CREDENTIALS_DIRECTORY_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd has put what LoadCredential= names, for this service alone."""

CREDENTIALS_FOLDER = "credentials"
"""Beside the config file; root may read it, for a terminal beside the service."""

MQTT_PASSWORD_FILE = "mqtt_password"


def mqtt_password(environment: Mapping[str, str], config: Path) -> str | None:
    """The password of `mqtt.username`: of the environment, else of systemd's credentials, else beside the config.

    Parameters
    ----------
    environment : mapping of str to str
        Of the process.
    config : Path
        The config file.

    Returns
    -------
    str or None
        None when there is none; a file that may not be read is none, and an empty one neither.

    Raises
    ------
    ConfigError
        If a file is no text.
    """
    if MQTT_PASSWORD_VARIABLE in environment:
        return environment[MQTT_PASSWORD_VARIABLE]
    given = environment.get(CREDENTIALS_DIRECTORY_VARIABLE)
    folders = [Path(given)] if given else [config.resolve().parent / CREDENTIALS_FOLDER]
    for folder in folders:
        password = _first_line(folder / MQTT_PASSWORD_FILE)
        if password:
            return password
    return None


def _first_line(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a password as one line of UTF-8 text") from None
    except OSError:
        return ""
    return text.partition("\n")[0].removesuffix("\r")
