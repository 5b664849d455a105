"""The report of a self-test: one JSON file, whose first lines are text to be read, with all that is needed to tell why.

It holds the camera's descriptors and a few of its transfers as they came. It names serial numbers and the computer's
model and kernel, no user and no network.
"""

import base64
import json
import platform
import zlib
from collections import Counter
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from daemon.selftest import Check, Verdict
from daemon.selftest_run import Findings
from drivers.usb_dump import SECTION

FORMAT = 1
_SOFTWARE = ("strong-vivarium", "numpy", "opencv-python", "pyusb")
_MODEL_FILES = ("device-tree/model", "class/dmi/id/product_name")
_VIDEO_DRIVER = "module/uvcvideo"


def summary_lines(checks: list[Check]) -> list[str]:
    """Everything that was found, for people."""
    counts = Counter(check.verdict for check in checks)
    lines = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict]
    width = max((len(check.name) for check in checks), default=0)
    return [
        "self-test of a T2S+: " + ", ".join(lines),
        *(
            f"{check.verdict.value.upper():<10} {check.name:<{width}}  {check.found}"
            + (f"  (expected: {check.expected})" if check.expected else "")
            for check in checks
        ),
    ]


def as_report(findings: Findings, *, started_utc: str, machine: dict[str, Any]) -> dict[str, Any]:
    """The whole report, ready for JSON."""
    return {
        "report": summary_lines(findings.checks),
        "format": FORMAT,
        "started_utc": started_utc,
        "software": _versions(),
        "machine": machine,
        "attachment": findings.attachment,
        "camera": findings.camera,
        "checks": [asdict(check) for check in findings.checks],
        SECTION: None if findings.usb is None else findings.usb.as_json(),
        "series": findings.series,
        "shutter": findings.shutter,
        "unplugs": findings.unplugs,
        "transfers_zlib_base64": [
            base64.b64encode(zlib.compress(transfer, 9)).decode("ascii") for transfer in findings.transfers
        ],
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write it as a file that people can read from the top."""
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def transfers_of(report: dict[str, Any]) -> list[bytes]:
    """The raw transfers of a report."""
    return [zlib.decompress(base64.b64decode(text)) for text in report["transfers_zlib_base64"]]


def machine(sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> dict[str, Any]:
    """The computer, its kernel, and how its video driver is set."""
    models = (_text(root / name) for root, name in zip((proc, sysfs), _MODEL_FILES, strict=True))
    parameters = sysfs / _VIDEO_DRIVER / "parameters"
    return {
        "model": next((model for model in models if model), ""),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "python": platform.python_version(),
        "uvcvideo": {path.name: _text(path) for path in sorted(parameters.glob("*"))} if parameters.is_dir() else {},
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    versions = {}
    for name in _SOFTWARE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0")
    except OSError:
        return ""
