"""In the guest: does the jobs of /share/jobs.json one after the other, each with a virtual camera of its own.

The result of a job is what its `run(*arguments)` returns, written as JSON; a failure is written in its place.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drivers.virtual.control_socket import DEFAULT_SOCKET, Operator

logger = logging.getLogger(__name__)

SHARE = Path("/share")
_START_S = 60.0
_RUN = (
    "import importlib, json, sys; "
    "print(json.dumps(importlib.import_module('tests.hil.jobs.' + sys.argv[1]).run(*sys.argv[2:])))"
)


@contextmanager
def virtual_camera(variant: str, options: list[str]) -> Iterator[None]:
    """A virtual camera that is plugged in, until the end of the block."""
    command = [sys.executable, "-m", "drivers.virtual", "--variant", variant, "--reel", str(SHARE / "reel.npz")]
    DEFAULT_SOCKET.unlink(missing_ok=True)
    with subprocess.Popen([*command, *options]) as process:
        try:
            _await_socket(process)
            yield
            Operator()("state")
        finally:
            try:
                Operator()("quit")
            except OSError:
                process.kill()


def _await_socket(process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + _START_S
    while not DEFAULT_SOCKET.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"the virtual camera did not start within {_START_S:g} s (status {process.poll()})")
        time.sleep(0.1)


def _do(job: dict[str, Any]) -> dict[str, Any]:
    started_s = time.monotonic()
    try:
        with virtual_camera(job["variant"], job["options"]):
            ran = subprocess.run(
                [sys.executable, "-c", _RUN, job["module"], *job["arguments"]],
                stdout=subprocess.PIPE,
                timeout=job["limit_s"],
                check=True,
            )
        result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, RuntimeError, OSError, ValueError, IndexError) as error:
        logger.exception("job %s", job["name"])
        _keep_journal(job["name"])
        return {"failure": f"{error!r}; see job.out beside the results"}
    logger.info("job %s took %.1f s: %s", job["name"], time.monotonic() - started_s, result)
    return result


def _keep_journal(name: str) -> None:
    """What the whole system has said, for whoever asks why a job failed."""
    if Path("/run/systemd/system").is_dir():
        with (SHARE / f"{name}.journal").open("wb") as file:
            subprocess.run(["journalctl", "--boot", "--output=short-monotonic"], stdout=file, check=False)


def main() -> None:
    """Do all jobs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for job in json.loads((SHARE / "jobs.json").read_text(encoding="utf-8")):
        (SHARE / f"{job['name']}.json").write_text(json.dumps(_do(job)), encoding="utf-8")


if __name__ == "__main__":
    main()
