"""The product's self-test on the virtual camera, from its command line; then a camera made from its report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from drivers.usb import UsbBus
from tests.hil.jobs.more_cameras import another_camera, await_cameras
from tests.hil.jobs.plain_reader import await_node

_COMMAND = "from daemon.camera_cli import camera_app; camera_app()"
_LIMIT_S = 200.0
_ATTEMPTS = 3
_OF_TIME = {"frame rate", "gaps", "lost frames", "shutter"}
"""What fails when the emulated processor has no time for camera and reader; see `tests.hil.jobs.smoke`."""


def run(name: str, *options: str) -> dict[str, Any]:
    """The checks of the report, the exit code, and whether the copy enumerates as the same camera."""
    await_node()
    report = Path(f"/share/{name}.report.json")
    command = [sys.executable, "-c", _COMMAND, "selftest", "--output", str(report), *options]
    for _ in range(_ATTEMPTS):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        sys.stderr.write(ran.stdout + ran.stderr)
        found = json.loads(report.read_text(encoding="utf-8"))
        failed = {check["name"] for check in found["checks"] if check["verdict"] == "fail"}
        if not failed & _OF_TIME:
            break
    with another_camera(Path("/run/copy.sock"), "--descriptors", str(report)):
        one, other = await_cameras(2)
        same = [getattr(one, name) == getattr(other, name) for name in ("vendor_id", "product_id", "product", "video")]
        bus = UsbBus()
        same.append(bus.dump(one).descriptors == bus.dump(other).descriptors)
    return {
        "exit_code": ran.returncode,
        "checks": {check["name"]: [check["verdict"], check["found"]] for check in found["checks"]},
        "transfers": len(found["transfers_zlib_base64"]),
        "report_bytes": report.stat().st_size,
        "host_controller": found["attachment"]["host_controller"],
        "kernel": found["machine"]["kernel"],
        "copy_is_the_same": all(same),
    }
