"""What the Debian package is made of agrees with the program: looked at without building it."""

import os
import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from daemon.settings import parse_settings

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "debian"
SCRIPTS = sorted(DEBIAN.glob("strong-vivarium.p*[mt]"))


def project() -> dict[str, Any]:
    """The project as pyproject.toml describes it."""
    described: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return described


def test_the_package_has_the_version_of_the_program() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"strong-vivarium ({project()['version']}) ")


@pytest.fixture(scope="module")
def config() -> str:
    """The config file of a new box."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        [DEBIAN / "rules", "show-config"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_config_of_a_new_box_is_understood_and_meant_for_a_real_camera(config: str) -> None:
    settings = parse_settings(config, origin="config.toml")
    assert settings.camera.kind == "t2s_plus"
    assert settings.box.data_dir == Path("/var/lib/strong-vivarium")
    assert settings.mqtt.broker == "external"
    assert "{" not in re.sub(r"#.*", "", config)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.suffix)
def test_the_scripts_are_shell(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "#DEBHELPER#" in script.read_text()


def test_there_are_scripts_for_install_upgrade_removal_and_purge() -> None:
    assert [script.suffix for script in SCRIPTS] == [".postinst", ".postrm", ".preinst", ".prerm"]


def test_the_units_find_the_program_where_the_package_puts_it() -> None:
    launcher = re.search(r'PREFIX = Path\("(.*)"\)', (DEBIAN / "stage.py").read_text())
    assert launcher is not None
    for unit in sorted((ROOT / "systemd").glob("strong-vivarium*.service")):
        [start] = re.findall(r"(?m)^ExecStart=(.*)$", unit.read_text())
        assert f"{launcher[1]}/" in start, unit.name


def runtimes(platform: str, machine: str) -> list[str]:
    """Which packages of onnxruntime a machine gets from pip."""
    environment = {"sys_platform": platform, "platform_machine": machine}
    required = [Requirement(line) for line in project()["dependencies"]]
    return [
        each.name
        for each in required
        if each.name.startswith("onnxruntime") and (each.marker is None or each.marker.evaluate(environment))
    ]


@pytest.mark.parametrize(
    ("platform", "machine", "runtime"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
        ("win32", "AMD64", "onnxruntime"),
    ],
)
def test_every_machine_gets_one_onnxruntime_and_never_both(platform: str, machine: str, runtime: str) -> None:
    assert runtimes(platform, machine) == [runtime]


def test_the_package_brings_the_onnxruntime_of_the_cpu_and_no_conditions_of_the_machine_that_builds() -> None:
    stage = runpy.run_path(str(DEBIAN / "stage.py"))
    requirements = stage["_requirements"](project()["dependencies"])
    names = [Requirement(line).name for line in requirements]
    assert "onnxruntime" in names
    assert "onnxruntime-gpu" not in names
    assert "opencv-python-headless" in names
    assert not any(";" in line for line in requirements)
