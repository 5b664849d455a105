"""Installing the service: everything in its place, nothing the second time, and nothing left afterwards."""

import os
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.credentials import mqtt_password
from daemon.heartbeat import Heartbeat
from daemon.installation import (
    FIRST,
    TIMER,
    UNIT,
    Manifest,
    checked_instance,
    default_config,
    first_config,
    planned_files,
    program_fingerprint,
    sha256_of,
)
from daemon.installer import InstallationError, Installer, why_not_installable
from daemon.service_status import ServiceState, read_heartbeat
from daemon.settings import load_settings, parse_settings
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

INSTANCE = "strong-vivarium@rack2.service"


class Systemd:
    """What the commands of systemd would answer: units that are enabled and active, and what was asked of it."""

    def __init__(self, root: Path) -> None:
        self._wants = root / "etc" / "systemd" / "system" / "multi-user.target.wants"
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.did: list[str] = []
        self.broken = ""
        """Verb that fails."""

    def __call__(self, command: Sequence[str], _timeout_s: float) -> "subprocess.CompletedProcess[str]":
        """Answer, as `daemon.installer.run_command` does."""
        code, answer = 0, ""
        match list(command):
            case ["systemctl" | "systemd-tmpfiles", verb, *_] if verb == self.broken:
                code, answer = 1, "out of order"
            case ["systemctl", "is-enabled", unit]:
                answer = "enabled" if unit in self.enabled else "disabled"
            case ["systemctl", "is-active", unit]:
                answer = "active" if unit in self.active else "inactive"
            case ["systemctl", "list-units", *_]:
                answer = "\n".join(f"{unit} loaded active running" for unit in self.active if "@" in unit)
            case ["systemctl", "reset-failed", _]:
                pass
            case ["getent", *_]:
                pass
            case [*words]:
                self._change(words)
        return subprocess.CompletedProcess(command, code, stdout=answer, stderr="")

    def _change(self, words: list[str]) -> None:
        self.did.append(" ".join(words))
        verb, unit = words[-2:] if len(words) > 2 else ("", "")
        changes: dict[str, Callable[[], None]] = {
            "enable": lambda: self.enabled.add(unit),
            "disable": lambda: self.enabled.discard(unit),
            "start": lambda: self.active.add(unit),
            "stop": lambda: self.active.discard(unit),
        }
        changes.get(verb, lambda: None)()
        if verb in ("enable", "disable") and unit != TIMER:
            self._wants.mkdir(parents=True, exist_ok=True)
            link = self._wants / unit
            link.unlink(missing_ok=True)
            if verb == "enable":
                link.symlink_to(f"/etc/systemd/system/{unit}")

    def took(self) -> list[str]:
        """What was asked of it since the last time, without what only looks."""
        did, self.did = self.did, []
        return did


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def installer(tmp_path: Path, systemd: Systemd, told: list[str], monkeypatch: pytest.MonkeyPatch) -> Installer:
    monkeypatch.setattr("daemon.installer.shutil.which", lambda _name: "/usr/bin/udevadm")
    return Installer(told.append, root=tmp_path, run=systemd)


def install(installer: Installer, name: str = FIRST, *, program: str = "1", start: bool = True) -> bool:
    return installer.install(name, files=planned_files(), program=program, host="lab box", start=start)


def everything_below(root: Path) -> dict[str, str | None]:
    """Files with their content, and folders."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def test_installing_puts_files_user_directories_rules_and_units_in_place(
    installer: Installer, systemd: Systemd, tmp_path: Path
) -> None:
    assert install(installer)
    files = everything_below(tmp_path)
    for path in (
        "etc/systemd/system/strong-vivarium.service",
        "etc/systemd/system/strong-vivarium@.service",
        "etc/systemd/system/strong-vivarium-deadman.service",
        "etc/systemd/system/strong-vivarium-deadman.timer",
        "etc/udev/rules.d/60-strong-vivarium.rules",
        "etc/sysusers.d/strong-vivarium.conf",
        "etc/tmpfiles.d/strong-vivarium.conf",
        "etc/strong-vivarium/config.toml",
    ):
        assert files[path]
    script = tmp_path / "opt" / "strong-vivarium" / "libexec" / "strong-vivarium-deadman"
    assert os.access(script, os.X_OK)
    assert systemd.took() == [
        "systemd-sysusers strong-vivarium.conf",
        "systemd-tmpfiles --create strong-vivarium.conf",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=usb --subsystem-match=video4linux",
        "systemctl daemon-reload",
        f"systemctl enable {UNIT}",
        f"systemctl start {UNIT}",
        f"systemctl enable {TIMER}",
        f"systemctl start {TIMER}",
        "sync",
    ]


def test_a_second_installation_changes_nothing(
    installer: Installer, systemd: Systemd, told: list[str], tmp_path: Path
) -> None:
    install(installer)
    systemd.took()
    told.clear()
    before = everything_below(tmp_path)
    assert not install(installer)
    assert told == []
    assert everything_below(tmp_path) == before
    assert systemd.took() == ["systemd-sysusers strong-vivarium.conf"]  # which makes what is missing


def test_uninstalling_leaves_config_and_data_and_nothing_else(
    installer: Installer, systemd: Systemd, tmp_path: Path
) -> None:
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    before = everything_below(tmp_path)
    install(installer)
    install(installer, "rack2")
    data = tmp_path / "var" / "lib" / "strong-vivarium" / "vivarium.db"
    data.parent.mkdir(parents=True)
    data.write_text("measured")
    assert installer.names() == [FIRST, "rack2"]
    assert installer.uninstall([FIRST, "rack2"], everything=True, purge=False)
    assert systemd.enabled == systemd.active == set()
    left = {path: content for path, content in everything_below(tmp_path).items() if path not in before}
    assert {path for path, content in left.items() if content is not None} == {
        "etc/strong-vivarium/config.toml",
        "etc/strong-vivarium/rack2.toml",
        "var/lib/strong-vivarium/vivarium.db",
    }
    assert {path for path, content in left.items() if content is None} == {
        "etc/strong-vivarium",
        "var",
        "var/lib",
        "var/lib/strong-vivarium",
        "etc/systemd/system/multi-user.target.wants",  # of systemd itself
    }
    systemd.took()
    assert not installer.uninstall([FIRST], everything=True, purge=False)
    assert systemd.took() == []


def test_purging_removes_config_data_and_user(installer: Installer, systemd: Systemd, tmp_path: Path) -> None:
    install(installer)
    (tmp_path / "var" / "lib" / "strong-vivarium").mkdir(parents=True)
    assert installer.uninstall([FIRST], everything=True, purge=True)
    assert [path for path, content in everything_below(tmp_path).items() if content is not None] == []
    assert systemd.took()[-1] == "userdel strong-vivarium"


def test_an_upgrade_starts_running_services_anew_and_takes_away_what_the_old_version_had(
    installer: Installer, systemd: Systemd, told: list[str], tmp_path: Path
) -> None:
    install(installer)
    install(installer, "rack2")
    old = tmp_path / "etc" / "systemd" / "system" / "strong-vivarium-old.service"
    old.write_text("of an old version")
    manifest = installer.files.manifest()
    files = {**manifest.files, "/etc/systemd/system/strong-vivarium-old.service": sha256_of(old.read_bytes())}
    path = tmp_path / "opt" / "strong-vivarium" / "installed.json"
    path.write_text(Manifest("1", files, manifest.directories).to_json())
    systemd.took()
    assert install(installer, program="2")
    assert [path.name for path in old.parent.glob("*old*")] == []
    assert [what for what in systemd.took() if "restart" in what] == [
        f"systemctl restart {UNIT}",
        f"systemctl restart {INSTANCE}",
        f"systemctl restart {TIMER}",
    ]
    assert not install(installer, program="2")


def test_a_further_service_leaves_the_first_one_running(installer: Installer, systemd: Systemd) -> None:
    install(installer)
    systemd.took()
    assert install(installer, "rack2")
    assert systemd.took() == [
        "systemd-sysusers strong-vivarium.conf",
        "systemd-tmpfiles --create strong-vivarium.conf",
        f"systemctl enable {INSTANCE}",
        f"systemctl start {INSTANCE}",
        "sync",
    ]


def test_one_of_two_services_can_go(installer: Installer, systemd: Systemd, tmp_path: Path) -> None:
    install(installer)
    install(installer, "rack2")
    state = tmp_path / "var" / "lib" / "strong-vivarium-deadman"
    state.mkdir(parents=True)
    for name in ("config.state", "rack2.state", "rack2.pause"):
        (state / name).write_text("")
    assert installer.uninstall(["rack2"], everything=False, purge=True)
    assert systemd.enabled == {UNIT, TIMER}
    assert [path.name for path in state.iterdir()] == ["config.state"]
    assert not (tmp_path / "etc" / "strong-vivarium" / "rack2.toml").exists()
    assert (tmp_path / "etc" / "strong-vivarium" / "config.toml").exists()


def test_a_config_is_never_overwritten(installer: Installer, tmp_path: Path) -> None:
    config = tmp_path / "etc" / "strong-vivarium" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("# mine")
    install(installer)
    install(installer, program="2")
    assert config.read_text() == "# mine"


def test_a_unit_that_was_changed_by_hand_is_kept_aside(installer: Installer, told: list[str], tmp_path: Path) -> None:
    install(installer)
    unit = tmp_path / "etc" / "systemd" / "system" / UNIT
    ours = unit.read_text()
    unit.write_text("# changed by hand")
    told.clear()
    assert install(installer)
    assert unit.read_text() == ours
    assert (unit.parent / f"{UNIT}.old").read_text() == "# changed by hand"
    assert told[0] == f"/etc/systemd/system/{UNIT} was not as we left it: kept as {UNIT}.old"


def test_without_start_nothing_starts_and_nobody_misses_it(installer: Installer, systemd: Systemd) -> None:
    install(installer, start=False)
    assert systemd.active == set()
    assert systemd.enabled == {UNIT, TIMER}


def test_a_step_that_fails_is_named_and_the_next_try_goes_on(installer: Installer, systemd: Systemd) -> None:
    systemd.broken = "start"
    with pytest.raises(InstallationError, match=rf"systemctl start {UNIT} failed with 1: out of order"):
        install(installer)
    systemd.broken = ""
    assert install(installer)
    assert systemd.active == {UNIT, TIMER}


@pytest.mark.parametrize("verb", ["--create", "daemon-reload", "restart"])
def test_an_upgrade_that_stopped_half_way_is_taken_up_again(
    verb: str, installer: Installer, systemd: Systemd, tmp_path: Path
) -> None:
    install(installer)
    (tmp_path / "etc" / "systemd" / "system" / UNIT).write_text("of the old version")
    systemd.took()
    systemd.broken = verb
    with pytest.raises(InstallationError, match=f"{verb}.* failed with 1: out of order"):
        install(installer, program="2")
    systemd.took()
    systemd.broken = ""
    assert install(installer, program="2")
    did = systemd.took()
    assert "systemd-tmpfiles --create strong-vivarium.conf" in did
    assert "systemctl daemon-reload" in did
    assert f"systemctl restart {UNIT}" in did
    assert not install(installer, program="2")
    assert installer.files.manifest().program == "2"


def test_a_pause_has_an_end_and_can_be_ended(installer: Installer, tmp_path: Path) -> None:
    installer.pause(FIRST, hours=2)
    path = tmp_path / "var" / "lib" / "strong-vivarium-deadman" / "config.pause"
    assert path.read_text().startswith("until_utc_s=")
    assert installer.resume(FIRST)
    assert not path.exists()
    assert not installer.resume(FIRST)


# The command


def staged(root: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["service", "install", "--root", str(root), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_files_can_be_staged_for_an_image_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    assert f"wrote /etc/systemd/system/{UNIT}" in staged(tmp_path)
    before = everything_below(tmp_path)
    assert staged(tmp_path).strip() == f"{tmp_path}: all files are there: nothing changed"
    assert everything_below(tmp_path) == before


def test_a_package_gets_the_files_where_packages_have_them(tmp_path: Path) -> None:
    staged(tmp_path, "--package")
    files = {path for path, content in everything_below(tmp_path).items() if content is not None}
    assert files == {
        "etc/strong-vivarium/config.toml",
        "opt/strong-vivarium/libexec/strong-vivarium-deadman",
        "usr/lib/systemd/system/strong-vivarium-deadman.service",
        "usr/lib/systemd/system/strong-vivarium-deadman.timer",
        "usr/lib/systemd/system/strong-vivarium.service",
        "usr/lib/systemd/system/strong-vivarium@.service",
        "usr/lib/sysusers.d/strong-vivarium.conf",
        "usr/lib/tmpfiles.d/strong-vivarium.conf",
        "usr/lib/udev/rules.d/60-strong-vivarium.rules",
    }


FIT = {
    "prefix": Path("/opt/strong-vivarium"),
    "base_prefix": Path("/usr"),
    "root_user": True,
    "runs_systemd": True,
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"runs_systemd": False}, "systemd does not run on this machine", id="no systemd"),
        pytest.param({"root_user": False}, "put sudo before the command", id="no root"),
        pytest.param({"prefix": Path("/srv/venv")}, "the program is in /srv/venv", id="elsewhere"),
        pytest.param(
            {"base_prefix": Path("/root/.pyenv/versions/3.11")}, "cannot look into /root", id="Python at home"
        ),
    ],
)
def test_what_stands_in_the_way_is_said_with_the_way_out(change: dict[str, object], why: str) -> None:
    found = why_not_installable(**{**FIT, **change})  # type: ignore[arg-type]  # a table of cases
    assert found is not None
    assert why in found


def test_nothing_stands_in_the_way_of_a_program_in_its_place() -> None:
    assert why_not_installable(**FIT) is None  # type: ignore[arg-type]  # a table of cases


@pytest.mark.parametrize("name", ["config", "", "Rack", "a b", "../x", "-x", "x" * 32])
def test_a_name_that_cannot_be_an_instance_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--instance: expected a short name"):
        checked_instance(name)


def test_the_first_config_is_valid_and_names_the_box_after_the_machine() -> None:
    file = first_config(FIRST, host="lab box.local", others=())
    settings = parse_settings(file.content, origin="config.toml")
    assert settings.box.name == "lab-box-local"
    assert settings.box.data_dir == Path("/var/lib/strong-vivarium")
    assert settings.camera.kind == "t2s_plus"
    assert settings.web.port == 8080
    assert file.mode == 0o640


def test_a_further_config_has_a_name_a_folder_and_a_port_of_its_own() -> None:
    taken = [first_config(FIRST, host="lab", others=()).content, "[web]\nport = 8090", "no toml at all ["]
    settings = parse_settings(first_config("rack2", host="lab", others=taken).content, origin="rack2.toml")
    assert settings.box.name == "rack2"
    assert settings.box.data_dir == Path("/var/lib/strong-vivarium/rack2")
    assert settings.web.port == 8091


def test_the_fingerprint_of_the_program_stays_while_nothing_changes() -> None:
    assert program_fingerprint() == program_fingerprint()
    assert len(program_fingerprint()) == 64


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"program": "1", "files": [], "directories": 1}'])
def test_a_manifest_that_cannot_be_read_counts_as_none(text: str) -> None:
    assert Manifest.from_json(text) == Manifest()


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = Manifest("1", {"/etc/x": "abc"}, ("/etc/y",))
    assert Manifest.from_json(manifest.to_json()) == manifest


# The state


def test_the_state_of_a_service_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "config.heartbeat"
    Heartbeat(path, version="1.2.3", uptime=lambda: 1000.0).write(
        now_monotonic_ns=50 * NS_PER_S, last_good_monotonic_ns=47 * NS_PER_S, stalled=("storing",)
    )
    unit = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "enabled",
        "Result": "success",
        "NRestarts": "2",
        "MemoryCurrent": str(112 * 1024**2),
        "MemoryMax": str(700 * 1024**2),
        "WatchdogUSec": "30s",
        "StatusText": "fine",
    }
    state = ServiceState(FIRST, unit, read_heartbeat(path))
    assert state.runs
    assert dict(state.rows(now_uptime_s=1002.0)) == {
        UNIT: "active (running), enabled",
        "says": "fine",
        "watchdog": "30s; sign of life 2 s ago, no progress: storing",
        "restarts": "2",
        "memory": "112 MiB of 700 MiB",
        "last good frame": "5.0 s ago",
        "version": "1.2.3",
    }


def test_a_service_that_is_not_there_is_said_to_be_not_installed() -> None:
    state = ServiceState(FIRST, {"LoadState": "not-found", "ActiveState": "inactive"}, {})
    assert not state.runs
    assert dict(state.rows(now_uptime_s=1.0)) == {UNIT: "not installed: make install, then vivarium service status"}


def test_a_failed_service_without_any_sign_of_life_is_told_without_a_number() -> None:
    unit = {"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "watchdog"}
    rows = dict(ServiceState(FIRST, {**unit, "MemoryCurrent": "[not set]"}, {}).rows(now_uptime_s=1.0))
    assert rows[UNIT] == "failed (failed), not enabled, last result: watchdog"
    assert (rows["memory"], rows["last good frame"]) == ("not known", "none since the start")


@pytest.mark.parametrize("text", ["", "uptime_s=x\n", "stalled=\n", "uptime_s=1\nlast_good_frame_uptime_s=x\n"])
def test_a_sign_of_life_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.heartbeat"
    path.write_text(text)
    assert read_heartbeat(path) == {}


def test_a_sign_of_life_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    beat = Heartbeat(tmp_path / "away" / "config.heartbeat", version="1")
    for _ in range(3):
        beat.write(now_monotonic_ns=0, last_good_monotonic_ns=None, stalled=())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (tmp_path / "away").mkdir()
    beat.write(now_monotonic_ns=0, last_good_monotonic_ns=None, stalled=())
    assert read_heartbeat(tmp_path / "away" / "config.heartbeat")["version"] == "1"


# The password


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("")
    return path


def secret(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mqtt_password").write_bytes(content)
    return folder


def test_the_password_comes_from_the_environment_first(config: Path, tmp_path: Path) -> None:
    given = secret(tmp_path / "given", b"systemd\n")
    environment = {"VIVARIUM_MQTT_PASSWORD": "terminal", "CREDENTIALS_DIRECTORY": str(given)}
    assert mqtt_password(environment, config) == "terminal"


def test_the_password_comes_from_the_credentials_of_systemd(config: Path, tmp_path: Path) -> None:
    given = secret(tmp_path / "given", "caf\u00e9 = 1\r\nsecond line".encode())
    secret(tmp_path / "credentials", b"beside")
    assert mqtt_password({"CREDENTIALS_DIRECTORY": str(given)}, config) == "caf\u00e9 = 1"


def test_the_empty_default_of_the_unit_is_no_password(config: Path, tmp_path: Path) -> None:
    given = secret(tmp_path / "given", b"\n")
    assert mqtt_password({"CREDENTIALS_DIRECTORY": str(given)}, config) is None


def test_a_terminal_finds_the_password_beside_the_config(config: Path, tmp_path: Path) -> None:
    assert mqtt_password({}, config) is None
    secret(tmp_path / "credentials", b"beside\n")
    assert mqtt_password({}, config) == "beside"


def test_a_password_that_is_no_text_is_an_error_that_names_the_file(config: Path, tmp_path: Path) -> None:
    secret(tmp_path / "credentials", b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"mqtt_password: expected a password as one line of UTF-8 text"):
        mqtt_password({}, config)


def test_the_config_of_an_installed_service_can_be_loaded_from_its_place(tmp_path: Path) -> None:
    staged(tmp_path)
    path = tmp_path / "etc" / "strong-vivarium" / "config.toml"
    assert tomllib.loads(path.read_text())["box"]["name"] == "box1"
    assert load_settings(path).database_url == "sqlite:////var/lib/strong-vivarium/vivarium.db"


def test_a_command_takes_the_config_here_and_otherwise_that_of_the_installed_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "etc"
    monkeypatch.setattr("daemon.installation.CONFIG", installed)
    monkeypatch.chdir(tmp_path)
    assert default_config() == Path("config.toml")
    installed.mkdir()
    (installed / "config.toml").touch()
    assert default_config() == installed / "config.toml"
    (tmp_path / "config.toml").touch()
    assert default_config() == Path("config.toml")
