"""Several cameras on one machine, one that warms up, and the self-test: on a real kernel. Run by `make test-hil`."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from drivers.virtual.reel import SEED
from tests.hil.conftest import Boot
from tests.hil.guest.machine import Job, Results
from tests.hil.jobs.two_cameras import RATE_HZ, SECOND

pytestmark = pytest.mark.timeout(1800)

COARSE = "--coarse-packets"
DRIFT_LIMIT_CELSIUS, MIN_INTERVAL_S, AGE_S = 0.25, 15.0, 15.0
SEEN_WITHIN_S = 0.15
"""An age is counted from frame to frame, 8 a second; the camera dates a cycle by its command."""
POWERED_UP_S = 15.0
"""A cold v1 shows its shutter at first, and calibrates itself twice by then."""
STEADY_AFTER_S = 3.0
TOLERANCE_CELSIUS = 0.15
"""Half of what a reading may be off by when the detector has moved as far as it may."""


@pytest.fixture(scope="module")
def cameras(boot: Boot) -> Results:
    """Everything with several cameras, or one that is not warm, in one boot."""
    return boot(
        "cameras",
        [
            Job(name="two_v2", module="two_cameras", options=COARSE, arguments=("v2",), limit_s=240),
            Job(name="two_v1", module="two_cameras", options=COARSE, arguments=("v1",), limit_s=240),
            Job(name="cold", module="warm_up", options=f"{COARSE} --unplugged", arguments=("cold", "380", "75")),
            Job(name="aged", module="warm_up", options=f"{COARSE} --unplugged", arguments=("warm", f"{AGE_S:g}", "50")),
            Job(name="cold_v2", module="warm_up", variant="v2", options="--unplugged", arguments=("cold", "380", "60")),
        ],
    )


@pytest.fixture(scope="module")
def reports(boot: Boot) -> Results:
    """The self-test on both variants, in one boot; what it says of a stream holds on a busy host, too."""
    unplug = ("--unplug", "sysfs", "--times", "3", "--seconds", "20")
    return boot(
        "reports",
        [
            Job(name="v1", module="selftest", arguments=("v1", "--range", *unplug), limit_s=600),
            Job(name="v2", module="selftest", variant="v2", arguments=("v2", *unplug), limit_s=600),
        ],
        exact=True,
    )


@pytest.mark.parametrize("second", ["v2", "v1"])
def test_two_cameras_stream_at_once_each_to_its_own_reader(cameras: Results, second: str) -> None:
    seen = cameras[f"two_{second}"]
    say({name: seen[name] for name in ("first", "second", "lost_by_device")})
    assert (seen["first"]["serial"], seen["first"]["variant"]) == (f"SIM{SEED:05}", "v1")
    assert (seen["second"]["serial"], seen["second"]["variant"]) == (SECOND, second)
    for name in ("first", "second"):
        if seen["lost_by_device"][name] == 0:  # the emulated processor had time for it
            assert seen[name]["rate_hz"] == pytest.approx(RATE_HZ, rel=0.1)
        assert seen[name]["frames"] >= 20
        assert seen[name]["refused"] == 0
        assert seen[name]["sequence_gaps"] == 0
        assert seen[name]["flags"] == 0
        assert seen["words"][name] >= 5  # the commands of a start-up


@pytest.mark.parametrize("second", ["v2", "v1"])
def test_unplugging_one_camera_is_not_noticed_by_the_other(cameras: Results, second: str) -> None:
    seen = cameras[f"two_{second}"]
    assert seen["first"]["lost"]
    assert not seen["second"]["lost"]
    assert seen["second"]["frames"] > seen["first"]["frames"]


@pytest.mark.parametrize("second", ["v2", "v1"])
def test_which_of_two_cameras_is_meant_must_be_said(cameras: Results, second: str) -> None:
    seen = cameras[f"two_{second}"]
    ports = seen["ports"]
    assert seen["ambiguous"].startswith("CameraRefusedError: expected one T2S+ camera, 2 fit: set camera.t2s_plus.port")
    assert f"{ports['']} (no serial)" in seen["ambiguous"]
    assert f"{ports[SECOND]} ({SECOND})" in seen["ambiguous"]


@pytest.mark.parametrize("second", ["v2", "v1"])
def test_another_webcam_is_neither_opened_nor_commanded(cameras: Results, second: str) -> None:
    seen = cameras[f"two_{second}"]
    assert seen["nodes"] == 3  # the kernel has made a video node of it like of the others
    assert seen["webcam"] == {"frames": 0, "words": [], "plugged": True}


@pytest.mark.parametrize("job", ["cold", "cold_v2"])
def test_a_camera_that_warms_up_is_recalibrated_by_the_drift_of_its_detector(cameras: Results, job: str) -> None:
    seen = cameras[job]
    rows, cycles_s = seen["rows"], seen["cycles_s"]
    detector = [row["fpa_celsius"] for row in rows]
    powered_up = [row for row in rows if row["at_s"] - rows[0]["at_s"] > POWERED_UP_S]
    steady = steady_celsius(powered_up)
    errors = [abs(row["celsius"] - steady) for row in powered_up if is_steady(row, cycles_s)]
    say(
        f"{job}: detector {detector[0]} to {detector[-1]} °C, host's cycles at "
        f"{[round(cycle - rows[0]['at_s'], 1) for cycle in cycles_s]} s, reading within {max(errors):.2f} °C"
    )
    assert detector[-1] - detector[0] > 0.8
    assert len(cycles_s) >= 2
    assert all(after - before >= MIN_INTERVAL_S - 1 for before, after in pairwise(cycles_s[1:]))
    assert max(errors) < 1.2 * DRIFT_LIMIT_CELSIUS + TOLERANCE_CELSIUS
    assert seen["rejected"] == {}


def test_without_recalibration_it_would_have_drifted_away(cameras: Results) -> None:
    rows = cameras["cold"]["rows"]
    moved = rows[-1]["fpa_celsius"] - rows[0]["fpa_celsius"]
    assert 1.2 * moved > 1.2 * DRIFT_LIMIT_CELSIUS + 2 * TOLERANCE_CELSIUS


def test_a_warm_camera_is_recalibrated_by_age(cameras: Results) -> None:
    seen = cameras["aged"]
    cycles_s = seen["cycles_s"][1:]  # the first belongs to the start-up
    say(f"cycles {[round(after - before, 1) for before, after in pairwise(cycles_s)]} s apart")
    assert len(cycles_s) >= 2
    assert all(AGE_S - SEEN_WITHIN_S <= after - before < AGE_S + 2 for before, after in pairwise(cycles_s))


@pytest.mark.parametrize(
    ("variant", "untested"), [("v1", {"drift"}), ("v2", {"drift", "row-0 statistics", "range switch"})]
)
def test_the_self_test_passes_on_a_good_camera(reports: Results, variant: str, untested: set[str]) -> None:
    seen = reports[variant]
    say({name: found for name, (_, found) in seen["checks"].items()})
    verdicts = {name: verdict for name, (verdict, _) in seen["checks"].items()}
    assert {name for name, verdict in verdicts.items() if verdict == "fail"} == set()
    assert {name for name, verdict in verdicts.items() if verdict == "not tested"} == untested
    assert seen["exit_code"] == 0
    assert seen["transfers"] == 3
    assert seen["host_controller"] == "vhci_hcd.0"


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_a_camera_made_from_a_report_is_the_same_for_the_kernel(reports: Results, variant: str) -> None:
    seen = reports[variant]
    say(f"{variant}: report of {seen['report_bytes']} bytes, kernel {seen['kernel']}")
    assert seen["copy_is_the_same"]


def steady_celsius(rows: list[dict[str, Any]]) -> float:
    """What is read of the scene when the detector stands where it was calibrated."""
    fresh = [row["celsius"] for row in rows if abs(row["fpa_celsius"] - row["calibrated_at_fpa_celsius"]) < 0.04]
    return float(np.median(fresh))


def is_steady(row: dict[str, Any], cycles_s: list[float]) -> bool:
    """Whether no shutter cycle was just before."""
    return all(not 0 <= row["at_s"] - cycle < STEADY_AFTER_S for cycle in cycles_s)


def say(figure: object) -> None:
    """Shown with `pytest -s`."""
    print(figure)  # noqa: T201 - the figure of the test
