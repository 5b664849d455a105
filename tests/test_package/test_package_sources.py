"""What the Debian package is made of agrees with the program: looked at without building it."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from daemon.settings import parse_settings

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "debian"
SCRIPTS = sorted(DEBIAN.glob("strong-vivarium.p*[mt]"))


def project() -> dict[str, str]:
    """The project as pyproject.toml describes it."""
    described: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
