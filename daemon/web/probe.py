"""One look at a status page, to see whose it is."""

import json
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 3.0


def box_served(host: str, port: int) -> str | None:
    """Name of the box whose page answers there; None when nothing answers, or something else."""
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/api/status")
        return str(json.loads(connection.getresponse().read())["box"])
    except (OSError, HTTPException, ValueError, TypeError, KeyError):
        return None
    finally:
        connection.close()
