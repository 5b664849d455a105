"""The self-test on the fake bus and kernel of the driver's tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.selftest import Verdict
from daemon.selftest_cable import HandCable, SysfsCable
from daemon.selftest_report import as_report, machine, transfers_of, write_report
from daemon.selftest_run import Findings, Plan, SelfTest
from drivers.errors import CameraAbsentError, CameraError
from drivers.simulated import Fault
from drivers.usb_dump import UsbDump
from drivers.virtual.personality import Personality

if TYPE_CHECKING:
    from tests.test_drivers.conftest import Bench, FakeSysfs

PLAN = Plan(watch_s=10)


@dataclass(slots=True)
class FakeCable:
    """Pulls the plug of the fake kernel and bus."""

    bench: Bench
    by_hand: bool = False
    pulls: int = 0

    def pull(self) -> None:
        """See `daemon.selftest_cable.Cable`."""
        self.pulls += 1
        self.bench.kernel.gone = True

    def put(self) -> None:
        """See `daemon.selftest_cable.Cable`."""
        self.bench.kernel.gone = False


def self_test(bench: Bench, said: list[str] | None = None, cable: FakeCable | None = None) -> SelfTest:
    return SelfTest(
        bench.usb,
        open_camera=bench.camera,
        clock=bench.clock,
        io=bench.kernel,
        say=(said if said is not None else []).append,
        cable=cable,
    )


def verdicts(findings: Findings) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in findings.checks}


def test_a_good_v1_passes_and_what_was_not_tested_is_said(bench: Bench) -> None:
    bench.v1()
    findings = self_test(bench).run(PLAN)
    untested = {"drift", "range switch", "unplugging noticed", "frames after plug-in"}
    assert {name for name, verdict in verdicts(findings).items() if verdict is Verdict.NOT_TESTED} == untested
    assert [check for check in findings.checks if check.verdict is Verdict.FAIL] == []
    found = {check.name: check.found for check in findings.checks}
    assert found["shutter"] == "freeze of 1.24 s (31 frames), 0.12 s after the command"
    assert found["frame rate"] == "25.00 frames/s over 10.0 s"
    assert len(findings.transfers) == 3


def test_a_cold_v1_shows_its_drift(bench: Bench) -> None:
    bench.v1(warm=False)
    bench.clock.advance(66)  # its own shutter cycles are over
    findings = self_test(bench).run(PLAN)
    (drift,) = [check for check in findings.checks if check.name == "drift"]
    assert drift.verdict is Verdict.PASS, drift.found


def test_a_v1_that_is_unplugged_three_times_comes_back(bench: Bench) -> None:
    bench.v1()
    said: list[str] = []
    cable = FakeCable(bench)
    findings = self_test(bench, said, cable).run(Plan(watch_s=5, unplugs=3))
    assert cable.pulls == 3
    assert verdicts(findings)["unplugging noticed"] is Verdict.PASS
    assert verdicts(findings)["frames after plug-in"] is Verdict.PASS
    assert len(findings.unplugs["back_s"]) == 3
    assert said[-1] == "unplugging 3 of 3"


def test_torn_frames_are_a_failed_check(bench: Bench) -> None:
    bench.v1()
    test = self_test(bench)
    device = bench.device
    test_say = test._say  # noqa: SLF001 - the moment at which the watch begins

    def disturb(what: str) -> None:
        test_say(what)
        if what.startswith("watching"):
            device.inject(Fault.TORN, frames=4)

    test._say = disturb  # noqa: SLF001
    found = verdicts(test.run(PLAN))
    assert found["row-0 statistics"] is Verdict.FAIL
    assert found["refused frames"] is Verdict.FAIL
    assert found["lost frames"] is Verdict.PASS


def test_a_camera_lost_in_the_middle_is_a_finding_and_no_traceback(bench: Bench) -> None:
    bench.v1()
    test = self_test(bench)

    def cut(what: str) -> None:
        if what.startswith("watching"):
            bench.kernel.gone = True

    test._say = cut  # noqa: SLF001 - the moment at which the watch begins
    findings = test.run(PLAN)
    (check,) = [check for check in findings.checks if check.name == "stream"]
    assert check.verdict is Verdict.FAIL
    assert check.found.startswith("CameraLostError")


def test_a_control_that_clamps_fails_with_its_range(bench: Bench) -> None:
    bench.v1()
    bench.kernel.zoom_range = (0, 100, 1)
    findings = self_test(bench).run(Plan(watch_s=5))
    (check,) = [check for check in findings.checks if check.name == "control range"]
    assert (check.verdict, check.found) == (Verdict.FAIL, "0 to 0x64 in steps of 1, default 0")


def test_a_camera_without_zoom_is_not_opened(bench: Bench, sysfs: FakeSysfs) -> None:
    blob = (sysfs.plug().joinpath("descriptors").read_bytes()).replace(bytes.fromhex("200200"), bytes(3))
    sysfs.unplug()
    sysfs.plug(blob=blob)
    findings = self_test(bench).run(PLAN)
    assert verdicts(findings)["USB identity"] is Verdict.FAIL
    assert bench.kernel.words == []


def test_no_camera_at_all_is_an_error(bench: Bench) -> None:
    with pytest.raises(CameraAbsentError):
        self_test(bench).run(PLAN)


def test_the_report_is_read_from_the_top_and_can_be_emulated(bench: Bench, tmp_path: Path) -> None:
    bench.v1()
    findings = self_test(bench).run(Plan(watch_s=5))
    path = tmp_path / "report.json"
    write_report(path, as_report(findings, started_utc="2026-11-26T12:00:00+00:00", machine=machine()))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1] == ' "report": ['
    assert lines[2].startswith('  "self-test of a T2S+: ')
    report = json.loads(path.read_text(encoding="utf-8"))
    assert transfers_of(report) == findings.transfers
    assert report["machine"]["kernel"]
    assert report["attachment"]["port"] == "1-2"
    emulated = Personality.of_dump(UsbDump.load(path))
    assert (emulated.vendor_id, emulated.product_id, emulated.serial) == (0x1514, 0x0001, "KA1213")
    assert emulated.descriptors == findings.usb.descriptors if findings.usb else False


def test_the_sysfs_cable_lets_go_and_takes_again(bench: Bench, sysfs: FakeSysfs) -> None:
    authorized = sysfs.plug() / "authorized"
    cable = SysfsCable(bench.usb)
    cable.pull()
    assert authorized.read_text() == "0"
    cable.put()
    assert authorized.read_text() == "1"


def test_a_hand_is_asked_and_waited_for(bench: Bench, sysfs: FakeSysfs) -> None:
    said: list[str] = []
    cable = HandCable(bench.usb, bench.clock, said.append)
    cable.pull()
    with pytest.raises(CameraError, match="not plugged in again within 120 s"):
        cable.put()
    sysfs.plug()
    cable.put()
    assert [words.split()[0] for words in said] == ["Unplug", "Plug", "Plug"]
