"""The built package in a Debian 12: installed, run, upgraded, removed, purged. systemd itself is not booted here."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.settings import load_settings
from daemon.store.upgrade import head_revision
from tests.test_package.conftest import Box

pytestmark = pytest.mark.timeout(1800)

MAX_PACKAGE_MB = 200
MAX_INSTALLED_MB = 700
PROGRAM = Path("/opt/strong-vivarium/bin/vivarium")
DATA = Path("var/lib/strong-vivarium")
DATABASE = DATA / "vivarium.db"
CONFIG = Path("etc/strong-vivarium/config.toml")
OURS = re.compile(
    r"/(opt(/strong-vivarium(/.*)?)?|usr/bin/vivarium|usr/share/doc/strong-vivarium(/.*)?|etc/strong-vivarium(/.*)?"
    r"|usr/share/lintian/overrides/strong-vivarium|usr/lib/(sysusers|tmpfiles)\.d/strong-vivarium\.conf"
    r"|(usr/)?lib/systemd/system/strong-vivarium[@\w-]*\.(service|timer)|(usr/)?lib/udev/rules\.d/60-strong-vivarium\.rules"
    r"|(usr|usr/bin|usr/lib|usr/share|usr/share/(doc|lintian|lintian/overrides)|usr/lib/(sysusers|tmpfiles)\.d"
    r"|(usr/)?lib|(usr/)?lib/systemd|(usr/)?lib/systemd/system|(usr/)?lib/udev|(usr/)?lib/udev/rules\.d|etc)?)/?"
)


def listed(package: Path) -> list[str]:
    """Paths in the package, without the leading point."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True)
    names = subprocess.run(["tar", "-t"], input=done.stdout, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [name.removeprefix(".") for name in names.splitlines()]


def field(package: Path, name: str) -> str:
    """One field of the package's control file."""
    return subprocess.run(["dpkg-deb", "-f", package, name], capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_is_no_larger_than_it_must_be(package: Path) -> None:
    size, installed = package.stat().st_size / 1e6, int(field(package, "Installed-Size")) / 1000
    print(f"{package.name}: {size:.0f} MB, installed {installed:.0f} MB")  # noqa: T201  # the figures
    assert size <= MAX_PACKAGE_MB
    assert installed <= MAX_INSTALLED_MB


def test_the_package_has_nothing_where_it_has_no_business(package: Path) -> None:
    names = listed(package)
    assert [name for name in names if OURS.fullmatch(name) is None] == []
    site = "/opt/strong-vivarium/lib/python3.11/site-packages"
    for needed in (
        "/opt/strong-vivarium/bin/vivarium",
        "/opt/strong-vivarium/libexec/strong-vivarium-deadman",
        f"{site}/daemon/web/status.html",
        f"{site}/daemon/store/migrations/versions/r0001_first_tables.py",
        f"{site}/daemon/__pycache__/cli.cpython-311.pyc",
        "/usr/bin/vivarium",
    ):
        assert needed in names


def test_lintian_finds_no_error(package: Path) -> None:
    lintian = shutil.which("lintian")
    if lintian is None:
        pytest.skip("lintian is not installed")
    done = subprocess.run([lintian, "--allow-root", "--fail-on", "error", package], capture_output=True, text=True)
    print(done.stdout)  # noqa: T201  # the warnings
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def before(box: Box) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Files and users before anything was installed."""
    return box.files(), box.users()


@pytest.fixture(scope="module")
def installed(box: Box, before: object, package: Path) -> Box:
    """The box with the package, and a config for a rat without a camera, without the network."""
    done = box.install(package)
    assert done.code == 0, done.out
    config = box.root / CONFIG
    assert load_settings(config).camera.kind == "t2s_plus"
    text = config.read_text().replace('kind = "t2s_plus"', 'kind = "simulated"')
    text = re.sub(r"(?m)^port = 8080$", "port = 0", text).replace("[mqtt]", "[mqtt]\nenabled = false")
    text = text.replace("outside_rate_hz = 0.2", "outside_rate_hz = 5.0").replace("# time_zone", "time_zone")
    config.write_text(text)
    return box


def measure(box: Box, *, frames: int = 10) -> int:
    """Run the service as its user until it has stored some more frames, and stop it: how many there are."""
    first = stored_frames(box)
    program = (str(PROGRAM), "run", "--config", f"/{CONFIG}")
    service = subprocess.Popen(
        ["chroot", "--userspec=strong-vivarium:strong-vivarium", str(box.root), *program],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while stored_frames(box) < first + frames and time.monotonic() < deadline and service.poll() is None:
            time.sleep(0.2)  # another process is waited for
    finally:
        service.send_signal(signal.SIGTERM)
        _, log = service.communicate(timeout=30)
    assert service.returncode == 0, log
    assert stored_frames(box) >= first + frames, log
    return stored_frames(box)


def stored_frames(box: Box) -> int:
    """How many frames are in the database."""
    found = query(box, "SELECT count(*) FROM frame") if (box.root / DATABASE).exists() else [(0,)]
    return int(str(found[0][0]))


def query(box: Box, statement: str) -> list[tuple[object, ...]]:
    """What a plain connection reads from the box's database."""
    try:
        with closing(sqlite3.connect(f"file:{box.root / DATABASE}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(statement).fetchall()
    except sqlite3.OperationalError:  # being made at this moment
        return [(0,)]


def revision(box: Box) -> object:
    """Of the database's schema."""
    return query(box, "SELECT version_num FROM alembic_version")[0][0]


def owner(box: Box, path: Path | str) -> str:
    """Rights, owner and group as `stat` prints them in the box."""
    return box.run("stat", "-c", "%a %U:%G", f"/{path}").out.strip()


def test_installing_makes_user_directories_and_an_enabled_service(installed: Box) -> None:
    assert owner(installed, DATA) == "750 strong-vivarium:strong-vivarium"
    assert owner(installed, "etc/strong-vivarium") == "750 root:strong-vivarium"
    assert owner(installed, "etc/strong-vivarium/credentials") == "700 root:root"
    assert "video" in installed.run("id", "-nG", "strong-vivarium").out.split()
    wants = installed.root / "etc/systemd/system"
    assert (wants / "multi-user.target.wants/strong-vivarium.service").is_symlink()
    assert (wants / "timers.target.wants/strong-vivarium-deadman.timer").is_symlink()
    assert installed.run("dpkg", "--verify", "strong-vivarium").out.split() in ([], ["??5??????", "c", f"/{CONFIG}"])


def test_the_command_is_on_everybodys_path_and_has_all_it_needs(installed: Box, package: Path) -> None:
    assert installed.run("vivarium", "version").out.strip() == field(package, "Version")
    modules = (
        "import cv2, av, scipy.optimize, scipy.ndimage, usb.core, usb.backend.libusb1 as b; print(b.get_backend())"
    )
    done = installed.run("/opt/strong-vivarium/bin/python3", "-c", modules)
    assert (done.code, "libusb1" in done.out) == (0, True), done.out
    done = installed.run("vivarium", "config", "--config", f"/{CONFIG}")
    assert done.code == 0, done.out


def test_every_module_of_the_package_finds_what_it_links_to(installed: Box) -> None:
    modules = "find /opt/strong-vivarium -name '*.so' -not -path '*.libs/*'"
    count = int(installed.run("sh", "-c", f"{modules} | wc -l").out)
    missing = installed.run("sh", "-c", f"{modules} | xargs ldd 2>&1 | grep 'not found' | sort | uniq -c").out
    print(f"{count} modules in machine code")  # noqa: T201  # the figure
    assert count > 100
    assert missing == ""


def test_the_compiled_files_are_used_as_they_are(installed: Box) -> None:
    probe = "import sys, daemon.cli; print(daemon.cli.__cached__, daemon.cli.main.__code__.co_filename)"
    cached, source = installed.run("/opt/strong-vivarium/bin/python3", "-c", probe).out.split()
    site = "/opt/strong-vivarium/lib/python3.11/site-packages"
    assert (cached, source) == (f"{site}/daemon/__pycache__/cli.cpython-311.pyc", f"{site}/daemon/cli.py")


def test_the_service_measures_as_its_own_user(installed: Box) -> None:
    frames = measure(installed)
    assert owner(installed, DATABASE).endswith("strong-vivarium:strong-vivarium")
    print(f"{frames} frames stored by the installed service")  # noqa: T201  # the figure


def test_an_upgrade_brings_the_database_up_to_date_after_a_verified_copy(
    installed: Box, newer: Callable[..., Path]
) -> None:
    frames, old = stored_frames(installed), revision(installed)
    config = (installed.root / CONFIG).read_text()
    done = installed.install(newer("0.2.0"))
    assert done.code == 0, done.out
    assert f"the database was brought from revision {old} to 9999" in done.out
    assert (revision(installed), stored_frames(installed)) == ("9999", frames)
    [copy] = (installed.root / DATA).glob("vivarium.db.before-0.2.0-*Z")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (old,)
        assert connection.execute("SELECT count(*) FROM frame").fetchone() == (frames,)
    inside = f"/{copy.relative_to(installed.root)}"
    assert owner(installed, inside) == owner(installed, DATABASE)
    done = installed.run("vivarium", "db", "verify", inside)
    assert (done.code, "the copy is good" in done.out) == (0, True)
    assert (installed.root / CONFIG).read_text() == config


def test_an_upgrade_whose_migration_fails_leaves_the_database_and_says_why(
    installed: Box, newer: Callable[..., Path]
) -> None:
    frames, copies = stored_frames(installed), set((installed.root / DATA).glob("vivarium.db.before-*"))
    with closing(sqlite3.connect(installed.root / DATABASE)) as connection:
        connection.execute("ALTER TABLE run DROP COLUMN note")
        connection.execute("UPDATE alembic_version SET version_num = ?", (head_revision(),))
        connection.commit()
    failing = newer("0.3.0", then="op.execute('INSERT INTO absent VALUES (1)')")
    done = installed.install(failing)
    assert done.code != 0
    assert "no such table: absent" in done.out
    assert "the database of /etc/strong-vivarium/config.toml is as it was" in done.out
    assert (revision(installed), stored_frames(installed)) == (head_revision(), frames)
    assert set((installed.root / DATA).glob("vivarium.db.before-*")) == copies
    done = installed.install(newer("0.3.1"))
    assert done.code == 0, done.out
    assert (revision(installed), stored_frames(installed)) == ("9999", frames)


def test_an_older_package_refuses_a_newer_database(installed: Box, package: Path) -> None:
    done = installed.install(package)
    assert done.code != 0
    assert "install the newer version again" in done.out
    assert revision(installed) == "9999"


def test_removing_keeps_config_and_measurements(installed: Box, newer: Callable[..., Path]) -> None:
    assert installed.install(newer("0.3.1")).code == 0
    frames = stored_frames(installed)
    done = installed.run("dpkg", "--remove", "strong-vivarium")
    assert done.code == 0, done.out
    assert not (installed.root / "opt/strong-vivarium").exists()
    assert not (installed.root / "usr/bin/vivarium").is_symlink()
    assert (installed.root / CONFIG).exists()
    assert stored_frames(installed) == frames


def test_purging_spares_what_somebody_else_has_put_beside_the_measurements(installed: Box) -> None:
    theirs = installed.root / DATA / "notes" / "cage 3.txt"
    theirs.parent.mkdir()
    theirs.write_text("female, 240 g")
    done = installed.run("dpkg", "--purge", "strong-vivarium")
    assert done.code == 0, done.out
    assert "files in /var/lib/strong-vivarium that are not the service's are left there" in done.out
    assert [path.name for path in (installed.root / DATA).rglob("*")] == ["notes", "cage 3.txt"]
    shutil.rmtree(installed.root / DATA)


def test_purging_leaves_nothing(
    installed: Box, before: tuple[dict[str, str], dict[str, list[str]]], package: Path
) -> None:
    assert installed.install(package).code == 0
    config = installed.root / CONFIG
    config.write_text(config.read_text().replace('kind = "t2s_plus"', 'kind = "simulated"').replace("8080", "0"))
    config.write_text(config.read_text().replace("[mqtt]", "[mqtt]\nenabled = false").replace("# time_z", "time_z"))
    measure(installed, frames=1)
    done = installed.run("dpkg", "--purge", "strong-vivarium")
    assert done.code == 0, done.out
    files, users = before
    after = installed.files()
    left = sorted(set(after) - set(files))
    gone = sorted(set(files) - set(after) - {"/opt"})  # dpkg removes a folder of its own that is empty
    print(f"{len(files)} files before, {len(after)} after; left {left}, gone {gone}", file=sys.stderr)  # noqa: T201
    assert (left, gone) == ([], [])
    assert {path: (files[path], rights) for path, rights in after.items() if files[path] != rights} == {}
    assert installed.users() == users
