"""The status page and the JSON behind it."""

from collections.abc import Callable
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from daemon.status import Status, Verdict
from drivers.errors import VivariumError


def create_api(read_status: Callable[[], Status], live_picture: Callable[[], bytes | None]) -> FastAPI:
    """The web application.

    Parameters
    ----------
    read_status : callable
        The state of the service now; called for each request, from any thread.
    live_picture : callable
        The newest frame as a PNG file; None before the first.
    """
    page = files("daemon.web").joinpath("status.html").read_text(encoding="utf-8")
    api = FastAPI(title="Strong Vivarium", docs_url=None, redoc_url=None)

    @api.exception_handler(VivariumError)
    def unavailable(_request: Request, error: VivariumError) -> JSONResponse:
        """The state cannot be said at present, for instance because the database cannot be read."""
        return JSONResponse({"error": str(error)}, status_code=503)

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    def status_page() -> str:
        return page

    @api.get("/api/status")
    def status() -> Status:
        """Everything the page shows."""
        return read_status()

    @api.get("/api/live.png", responses={200: {"content": {"image/png": {}}}, 204: {}}, response_class=Response)
    def live() -> Response:
        """The newest measured frame with its parts."""
        picture = live_picture()
        if picture is None:
            return Response(status_code=204)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    @api.get("/healthz", responses={503: {}})
    def healthz(response: Response) -> dict[str, str]:
        """For monitors: 200 while nobody has to act, else 503."""
        verdict = read_status().verdict
        response.status_code = 503 if verdict is Verdict.ACT else 200
        return {"verdict": verdict}

    return api
