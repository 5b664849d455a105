"""The virtual T2S+ on a real kernel: what arrives at a video node, with this project's driver and without it.

Run by `make test-hil`. VIVARIUM_HIL_UNPLUGS says how often the cable is pulled: 20 by default, 3 in a short run.
"""

import os
from typing import Any

import numpy as np
import pytest

from drivers.virtual.reel import shots
from tests.hil.conftest import SHORT, Boot
from tests.hil.guest.machine import Job, Results

pytestmark = pytest.mark.timeout(1800)

UNPLUGS = int(os.environ.get("VIVARIUM_HIL_UNPLUGS", "3" if SHORT else "20"))
COARSE = "--coarse-packets"
TOLERANCE_CELSIUS = 0.05
FREEZES = 3
CYCLE_S = 4.0
"""One unplugging and its recovery, with time to spare."""


def _service_job(kind: str, variant: str, cycles: int) -> Job:
    return Job(
        name=f"{kind}_service",
        module="recovery",
        variant=variant,
        options=COARSE,
        arguments=(kind, str(cycles)),
        limit_s=90 + CYCLE_S * cycles,
    )


@pytest.fixture(scope="module")
def v1(boot: Boot) -> Results:
    """Everything with a v1, in one boot."""
    names = ("identity", "smoke", "degrees", "shutter", "commands", "damage", "freeze", "hung_control", "driver")
    jobs = [Job(name=name, options=COARSE) for name in names]
    jobs.append(Job(name="small_packets", module="smoke", arguments=("normal", "1")))
    jobs.append(Job(name="unplug", options=COARSE, arguments=(str(UNPLUGS),), limit_s=60 + CYCLE_S * UNPLUGS))
    jobs += [
        Job(name="cold_start", options=f"{COARSE} --unplugged"),
        _service_job("unplug", "v1", UNPLUGS),
        _service_job("freeze", "v1", FREEZES),
        _service_job("hung_control", "v1", 1),
    ]
    return boot("v1", jobs)


@pytest.fixture(scope="module")
def v2(boot: Boot) -> Results:
    """Everything with a v2, in one boot."""
    return boot(
        "v2",
        [
            Job(name="identity", variant="v2"),
            Job(name="smoke", variant="v2", arguments=("raw",)),
            Job(name="gain_map", variant="v2"),
            Job(name="driver", variant="v2", arguments=("raw",)),
            _service_job("unplug", "v2", UNPLUGS),
        ],
    )


def test_the_driver_knows_a_v1_by_its_identity(v1: Results) -> None:
    assert v1["identity"] == {
        "vendor": 0x1514,
        "product_id": 0x0001,
        "manufacturer": "Infiray",
        "product": "T2S+",
        "variant": "v1",
        "transfer": "isochronous",
        "node_is_right": True,
    }


def test_the_driver_knows_a_v2_by_its_identity(v2: Results) -> None:
    assert v2["identity"] == {
        "vendor": 0x04B4,
        "product_id": 0x0100,
        "manufacturer": "Xinfrared",
        "product": "T2S+",
        "variant": "v2",
        "transfer": "bulk",
        "node_is_right": True,
    }


def test_a_v1_streams_25_frames_a_second_without_a_gap(v1: Results) -> None:
    _assert_gapless(v1["smoke"])


def test_a_v2_streams_25_frames_a_second_without_a_gap(v2: Results) -> None:
    _assert_gapless(v2["smoke"])


def test_nothing_is_lost_between_a_v1_with_its_true_packets_and_the_reader(v1: Results) -> None:
    # Eight packets a millisecond are too much for an emulated processor: the camera itself loses frames there.
    seen = v1["small_packets"]
    say(seen)
    assert seen["missing"] == seen["lost_by_device"]
    assert (seen["wrong_size"], seen["errors"], seen["unknown"], seen["sequence_gaps"]) == (0, 0, 0, 0)


def test_command_words_reach_the_camera_as_they_were_sent(v1: Results) -> None:
    assert v1["smoke"]["words"] == [0x8004, 0x0000, 0xFFFF, 0x1033, 0x8004]


def test_degrees_through_the_kernel_are_those_of_the_simulator(v1: Results) -> None:
    _assert_degrees(v1, "degrees", pixels=True)


def test_a_shutter_command_freezes_the_picture_for_a_second_and_a_quarter(v1: Results) -> None:
    seen = v1["shutter"]
    say(seen)
    assert 1.2 <= seen["frozen_s"] <= 1.3
    assert seen["frozen_frames"] == 31
    assert seen["flagged"]
    assert seen["settling_after"]
    assert seen["rejected"] == {}


def test_commands_act_and_show_in_the_stream(v1: Results) -> None:
    assert set(v1["commands"]) == {
        "yuv_at_first",
        "radiometric",
        "emissivity",
        "high_range",
        "zeros_after_high_range",
        "normal_range",
    }


@pytest.mark.parametrize("fault", ["short", "badhdr", "badlen", "errbit", "drop"])
def test_frames_damaged_on_the_wire_never_reach_the_reader(v1: Results, fault: str) -> None:
    seen = v1["damage"][fault]
    assert (seen["wrong_size"], seen["false_good"]) == (0, 0)


@pytest.mark.parametrize("fault", ["garbage", "zero", "yuv"])
def test_frames_of_wrong_content_pass_the_kernel_and_are_refused(v1: Results, fault: str) -> None:
    seen = v1["damage"][fault]
    assert seen["refused"] == 20
    assert seen["false_good"] == 0


def test_a_camera_that_falls_silent_is_noticed_within_three_seconds(v1: Results) -> None:
    seen = v1["freeze"]
    say(seen)
    assert max(seen["noticed_s"]) < 3
    assert max(seen["back_s"]) < 1


def test_a_hung_control_does_not_hold_up_frames(v1: Results) -> None:
    seen = v1["hung_control"]
    say(seen)
    assert seen["error"] == "Connection timed out"
    assert seen["control_s"] < 8
    assert (seen["missing"], seen["unknown"]) == (0, 0)
    assert seen["rate_hz"] > 24


def test_a_pulled_cable_is_noticed_and_frames_come_again(v1: Results) -> None:
    seen = v1["unplug"]
    say(f"{UNPLUGS} unplugs: noticed after {_spread(seen['noticed_s'])} s, frames after {_spread(seen['back_s'])} s")
    assert len(seen["back_s"]) == UNPLUGS
    assert max(seen["noticed_s"]) < 0.5
    assert max(seen["back_s"]) < 5
    before, after = seen["open_files"]
    assert before == after
    assert seen["threads"] == 1


def test_the_gain_map_comes_by_libusb_and_the_kernel_gets_its_camera_back(v2: Results) -> None:
    seen = v2["gain_map"]
    say(seen)
    assert seen["equal"]
    assert seen["frame_after"] == 100_352


def test_the_driver_starts_a_v1_and_loses_no_frame(v1: Results) -> None:
    seen = v1["driver"]
    _assert_streaming(seen)
    assert seen["variant"] == "v1"
    assert seen["shutter_frames"] == 30  # the first of the 31 is new
    assert seen["flags"] == [0]
    assert seen["words"] == [0x8004, 0x8004, 0x8020, 0x8004, 0x8000, 0x8004]


def test_the_driver_lets_a_cold_v1_calibrate_itself(v1: Results) -> None:
    seen = v1["cold_start"]
    say(seen)
    assert 2 <= seen["first_s"] < 4
    assert 9 <= seen["fresh_s"] < 12
    assert seen["ready_s"] < 13
    assert 0x8000 not in seen["words"]


def test_the_driver_starts_a_v2_with_gain_map_and_offset(v2: Results) -> None:
    seen = v2["driver"]
    _assert_streaming(seen)
    assert seen["variant"] == "v2"
    assert seen["notes"] == []
    assert seen["flags"] == [0]


def test_degrees_of_the_driver_are_those_of_the_simulator_v1(v1: Results) -> None:
    _assert_degrees(v1, "driver", pixels=True)


def test_degrees_of_the_driver_are_those_of_the_simulator_v2(v2: Results) -> None:
    _assert_degrees(v2, "driver", pixels=False)  # offset and gain leave a little noise of their own in each pixel


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_the_service_notices_a_pulled_cable_and_comes_back(variant: str, request: pytest.FixtureRequest) -> None:
    seen = request.getfixturevalue(variant)["unplug_service"]
    say(f"{variant}, {UNPLUGS} unplugs: lost after {_spread(seen['noticed_s'])} s, back {_spread(seen['back_s'])} s")
    say(f"then {seen['before']}, at the end {seen['after']}")
    assert len(seen["back_s"]) == UNPLUGS
    assert max(seen["noticed_s"]) < 0.5
    assert max(seen["back_s"]) < 5
    assert seen["after"]["open_files"] == seen["before"]["open_files"]
    assert seen["after"]["threads"] == seen["before"]["threads"]


def test_the_service_notices_silence_and_comes_back(v1: Results) -> None:
    seen = v1["freeze_service"]
    say(seen)
    assert max(seen["noticed_s"]) < 3
    assert max(seen["back_s"]) < 5


def test_a_hung_control_takes_nothing_from_the_service(v1: Results) -> None:
    seen = v1["hung_control_service"]
    say(seen)
    assert seen["rate_hz"] > 24
    assert seen["lost"] == 0


def say(figure: object) -> None:
    """Shown with `pytest -s`."""
    print(figure)  # noqa: T201 - the figure of the test


def _assert_gapless(seen: dict[str, Any]) -> None:
    say(seen)
    assert seen["rate_hz"] == pytest.approx(25, rel=0.01)
    assert (seen["missing"], seen["lost_by_device"], seen["sequence_gaps"]) == (0, 0, 0)
    assert (seen["wrong_size"], seen["errors"], seen["unknown"]) == (0, 0, 0)


def _assert_streaming(seen: dict[str, Any]) -> None:
    say(seen)
    assert seen["rate_hz"] == pytest.approx(25, rel=0.01)
    assert (seen["sequence_gaps"], seen["missing"], seen["unknown"], seen["lost_by_device"]) == (0, 0, 0, 0)
    assert seen["failed"] == 0
    assert seen["ready_s"] < 10


def _assert_degrees(results: Results, job: str, *, pixels: bool) -> None:
    """Degrees of each pixel as the simulator's own camera reads them, and of each body part as in the true scene."""
    simulated, numbers = list(shots()), results[job]["numbers"]
    with np.load(results.share / f"{job}.npz") as arrays:
        celsius = arrays["celsius"]
    worst = worst_of_parts = 0.0
    for number, seen in zip(numbers, celsius, strict=True):
        worst = max(worst, float(np.abs(seen - simulated[number].frame.celsius).max()))
        scene = simulated[number].truth
        for truth in scene.truths:
            part = (scene.parts == truth.part) & (scene.instances == truth.animal)
            worst_of_parts = max(worst_of_parts, abs(float(seen[part].mean()) - truth.radiometric_celsius))
    say(f"largest difference of a pixel {worst:.4f} °C, of a body part's mean from the truth {worst_of_parts:.4f} °C")
    assert worst_of_parts <= TOLERANCE_CELSIUS
    if pixels:
        assert worst <= TOLERANCE_CELSIUS


def _spread(values: list[float]) -> str:
    return f"{float(np.median(values)):.3f} (median) to {max(values):.3f}"
