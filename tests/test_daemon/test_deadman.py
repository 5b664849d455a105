"""The dead-man script, run by a real shell over files as the service leaves them."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.heartbeat import Heartbeat
from drivers.clock import NS_PER_S

SCRIPT = Path(__file__).parents[2] / "systemd" / "strong-vivarium-deadman.sh"
SILENT_AFTER_S, NO_FRAME_AFTER_S, REPEAT_AFTER_S = 120, 600, 3600
ALERT, NOTICE = "<1>", "<5>"


class Box:
    """A machine as the script sees it: a folder with files, whose time is told by the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uptime_s = 10_000.0
        self.beats = root / "run" / "strong-vivarium"
        self.state = root / "var" / "lib" / "strong-vivarium-deadman"
        self.units = root / "etc" / "systemd" / "system"
        self.hooks = root / "etc" / "strong-vivarium" / "deadman.d"
        for folder in (self.beats, self.units / "multi-user.target.wants", self.hooks, root / "proc/sys/kernel/random"):
            folder.mkdir(parents=True)
        self.boot("11111111-2222-3333-4444-555555555555")

    def boot(self, boot_id: str) -> None:
        """The machine starts."""
        (self.root / "proc/sys/kernel/random/boot_id").write_text(boot_id + "\n")

    def enable(self, unit: str = "strong-vivarium.service") -> None:
        """The service is to start with the machine."""
        (self.units / "multi-user.target.wants" / unit).symlink_to(self.units / unit)

    def beat(self, name: str = "config", *, frame_age_s: float | None = 0.1, stalled: tuple[str, ...] = ()) -> None:
        """The service gives a sign of life, by its own code."""
        now_ns = round(self.uptime_s * NS_PER_S)
        Heartbeat(self.beats / f"{name}.heartbeat", version="1", uptime=lambda: self.uptime_s).write(
            now_monotonic_ns=now_ns,
            last_good_monotonic_ns=None if frame_age_s is None else now_ns - round(frame_age_s * NS_PER_S),
            stalled=stalled,
        )

    def look(self, after_s: float = 0) -> list[str]:
        """What the script says so much later."""
        self.uptime_s += after_s
        (self.root / "proc" / "uptime").write_text(f"{self.uptime_s:.2f} 1.00\n")
        done = subprocess.run(
            ["sh", SCRIPT], capture_output=True, text=True, timeout=60, env={"DEADMAN_ROOT": str(self.root)}
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_service_that_is_well_gives_no_word(box: Box) -> None:
    box.enable()
    for _ in range(3):
        box.beat()
        assert box.look(60) == []


def test_a_box_without_the_service_gives_no_word(box: Box) -> None:
    assert box.look() == []


def test_silence_is_an_alert_told_again_each_hour_and_then_its_end(box: Box) -> None:
    box.enable()
    box.beat()
    said = {minute: lines for minute in range(1, 131) if (lines := box.look(60))}
    assert sorted(said) == [2, 62, 122]
    assert said[2][0].startswith(f"{ALERT}strong-vivarium.service has given no sign of life for 2 min")
    assert said[62][0].startswith(f"{ALERT}strong-vivarium.service has given no sign of life for 62 min")
    box.beat()
    assert box.look(1) == [f"{NOTICE}strong-vivarium.service is well again after 128 min"]
    box.beat()
    assert box.look(60) == []
    print(f"dead-man: silence told after {60 * min(said)} s, allowed {SILENT_AFTER_S + 60} s")  # noqa: T201
    assert 60 * min(said) <= SILENT_AFTER_S + 60


def test_a_service_that_lives_without_frames_is_an_alert(box: Box) -> None:
    box.enable()
    box.beat(frame_age_s=NO_FRAME_AFTER_S - 1)
    assert box.look() == []
    box.beat(frame_age_s=NO_FRAME_AFTER_S)
    assert box.look() == [f"{ALERT}strong-vivarium.service has had no good frame of its camera for 10 min"]


def test_a_camera_that_never_came_is_counted_from_the_start_of_the_service(box: Box) -> None:
    box.enable()
    box.beat(frame_age_s=None)
    assert box.look() == []
    text = (box.beats / "config.heartbeat").read_text()
    box.uptime_s += NO_FRAME_AFTER_S
    lively = re.sub(r"(?m)^uptime_s=.*$", f"uptime_s={box.uptime_s:.3f}", text)
    (box.beats / "config.heartbeat").write_text(lively)
    assert box.look() == [f"{ALERT}strong-vivarium.service has had no good frame of its camera for 10 min"]


def test_a_part_that_hangs_is_an_alert(box: Box) -> None:
    box.beat(stalled=("capture", "storing"))
    assert box.look() == [f"{ALERT}strong-vivarium.service makes no progress: capture, storing"]


def test_another_kind_of_trouble_within_an_alarm_is_told(box: Box) -> None:
    box.beat(frame_age_s=NO_FRAME_AFTER_S)
    assert len(box.look()) == 1
    box.beat(frame_age_s=NO_FRAME_AFTER_S + 60)
    assert box.look(60) == []
    (line,) = box.look(SILENT_AFTER_S)
    assert line.startswith(f"{ALERT}strong-vivarium.service has given no sign of life for 3 min")
    box.beat()
    assert box.look() == [f"{NOTICE}strong-vivarium.service is well again after 3 min"]


def test_an_enabled_service_that_never_starts_is_missed_after_two_minutes(box: Box) -> None:
    box.enable()
    assert box.look() == []
    assert box.look(SILENT_AFTER_S - 1) == []
    (line,) = box.look(1)
    assert line.startswith(f"{ALERT}strong-vivarium.service has given no sign of life for 2 min")


def test_a_service_that_was_disabled_by_mistake_is_missed_even_after_a_start_of_the_machine(box: Box) -> None:
    box.beat()
    assert box.look() == []
    shutil.rmtree(box.beats)  # the machine starts, and nobody starts the service
    box.boot("99999999-2222-3333-4444-555555555555")
    box.uptime_s = 120.0
    assert box.look() == []
    (line,) = box.look(SILENT_AFTER_S)
    assert line.startswith(f"{ALERT}strong-vivarium.service has given no sign of life")


def test_a_masked_service_is_silent_on_purpose(box: Box) -> None:
    box.beat()
    assert box.look() == []
    (box.units / "strong-vivarium.service").symlink_to("/dev/null")
    assert box.look(SILENT_AFTER_S) == []


def test_a_pause_keeps_quiet_until_it_is_over(box: Box) -> None:
    box.beat()
    assert box.look() == []
    (box.state / "config.pause").write_text(f"until_utc_s={int(time.time()) + 3600}\n")
    assert box.look(SILENT_AFTER_S) == []
    (box.state / "config.pause").write_text(f"until_utc_s={int(time.time()) - 1}\n")
    (line,) = box.look(60)
    assert line.startswith(ALERT)


def test_a_start_of_the_machine_within_an_alarm_tells_it_again(box: Box) -> None:
    box.beat()
    assert box.look() == []
    assert len(box.look(SILENT_AFTER_S)) == 1
    (box.beats / "config.heartbeat").unlink()
    box.boot("99999999-2222-3333-4444-555555555555")
    box.uptime_s = 120.0
    assert box.look() == []
    assert len(box.look(SILENT_AFTER_S)) == 1


def test_each_service_of_a_box_is_watched_for_itself(box: Box) -> None:
    box.enable()
    box.enable("strong-vivarium@rack2.service")
    box.beat()
    box.beat("rack2")
    assert box.look() == []
    box.uptime_s += SILENT_AFTER_S
    box.beat()
    (line,) = box.look()
    assert line.startswith(f"{ALERT}strong-vivarium@rack2.service has given no sign of life")


def test_every_hook_is_told_and_one_that_fails_stops_no_other(box: Box, tmp_path: Path) -> None:
    def hook(name: str, text: str, mode: int = 0o755) -> None:
        (box.hooks / name).write_text(f"#!/bin/sh\n{text}\n")
        (box.hooks / name).chmod(mode)

    heard = tmp_path / "heard"
    hook("10-fails", "exit 3")
    hook("20-writes", f'printf "%s|" "$@" >>{heard}')
    hook("30-no-program", f"echo never >>{heard}", 0o644)
    box.beat(frame_age_s=700)
    assert box.look()[1:] == [f"<4>the hook {box.hooks}/10-fails has failed (status 3)"]
    box.beat()
    box.look(60)
    assert heard.read_text() == (
        "alarm|config|strong-vivarium.service has had no good frame of its camera for 11 min|"
        "over|config|strong-vivarium.service is well again after 1 min|"
    )


NASTY: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("stalled=", "stalled=$(touch PWNED)"),
    lambda text: text.replace("stalled=", "stalled=`touch PWNED`;\n<0>panic"),
    lambda text: re.sub(r"uptime_s=.*", "uptime_s=1+1", text),
    lambda _text: "uptime_s=99999999999999999999999999\n",
    lambda _text: "uptime_s=999999999\n",
    lambda _text: "\0\0\0",
    lambda _text: "",
)


@pytest.mark.parametrize("spoil", NASTY)
def test_a_sign_of_life_that_makes_no_sense_runs_nothing_and_is_silence(
    box: Box, spoil: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(box.root)
    box.beat()
    path = box.beats / "config.heartbeat"
    path.write_text(spoil(path.read_text()))
    box.look()
    lines = box.look(SILENT_AFTER_S)
    assert len(lines) == 1
    assert lines[0].startswith(f"{ALERT}strong-vivarium.service has given no sign of life")
    assert not (box.root / "PWNED").exists()


def test_the_limits_can_be_set(box: Box) -> None:
    box.beat()
    assert box.look() == []
    box.uptime_s += 30
    (box.root / "proc" / "uptime").write_text(f"{box.uptime_s:.2f} 1.00\n")
    done = subprocess.run(
        ["sh", SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        env={"DEADMAN_ROOT": str(box.root), "SILENT_AFTER_S": "30"},
    )
    assert done.stdout.startswith(ALERT)
