"""The built package, and a Debian 12 of its own to install it in. Run by `make test-deb`."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hil.guest.image import cache

ROOT = Path(__file__).parents[2]
_LEFT_OUT = ("opt/site", "lib/modules", "usr/lib/modules", "var/cache", "hil-init")
_BOOTSTRAP = "systemd,systemd-sysv,udev,python3,libusb-1.0-0"
DEADLINE_S = 600

NOTE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{head}"


def upgrade():
    op.add_column("run", sa.Column("note", sa.Text()))
    {then}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a command in the box."""

    code: int
    out: str


class Box:
    """A Debian 12 in a folder, without a running systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, user: str = "root") -> Done:
        """Run a command in it; output and errors together."""
        done = subprocess.run(
            ["chroot", f"--userspec={user}", self.root, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        return Done(code=done.returncode, out=done.stdout)

    def install(self, package: Path) -> Done:
        """`dpkg --install` of a package that lies outside."""
        inside = self.root / "tmp" / package.name
        shutil.copyfile(package, inside)
        try:
            return self.run("dpkg", "--install", "--force-confold", f"/tmp/{package.name}")
        finally:
            inside.unlink()

    def files(self) -> dict[str, str]:
        """Everything in it that is not bookkeeping of dpkg: kind and rights by path."""
        ignored = re.compile(r"/(tmp|proc|sys|dev|run|var/(lib/dpkg|log|cache))(/.*)?|/etc/(\w+-|\.pwd\.lock)")
        found = {}
        for folder, names, files in os.walk(self.root):
            for name in names + files:
                path = Path(folder, name)
                inside = f"/{path.relative_to(self.root)}"
                if ignored.fullmatch(inside) is None:
                    status = path.lstat()
                    found[inside] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
        return found

    def users(self) -> dict[str, list[str]]:
        """The lines of the files that know users and groups."""
        return {
            name: sorted((self.root / "etc" / name).read_text().splitlines())
            for name in ("passwd", "group", "shadow", "gshadow")
        }


@pytest.fixture(scope="session")
def package() -> Path:
    """The package that `make deb` has built."""
    if os.environ.get("VIVARIUM_DEB") != "1":
        pytest.skip("takes minutes and builds a package: run `make test-deb`")
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    built = list((ROOT / "dist").glob("strong-vivarium_*.deb"))
    if len(built) != 1:
        pytest.fail(f"expected one package in dist/, found {built}: run `make deb`")
    return built[0]


@pytest.fixture(scope="module")
def box(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A fresh Debian 12."""
    root = tmp_path_factory.mktemp("box") / "root"
    cached = sorted(cache().glob("root-*"))
    if cached:
        excludes = [f"--exclude=./{name}" for name in _LEFT_OUT]
        root.mkdir()
        with subprocess.Popen(["tar", "-C", cached[0], "-c", *excludes, "."], stdout=subprocess.PIPE) as pack:
            subprocess.run(["tar", "-C", root, "-xp"], stdin=pack.stdout, check=True)
        assert pack.returncode == 0
    else:
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_BOOTSTRAP}", "bookworm", root], check=True, timeout=900
        )
    mounted = subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"/proc cannot be mounted, which systemd-tmpfiles needs: {mounted.stderr.strip()}")
    yield Box(root)
    subprocess.run(["umount", root / "proc"], check=True)
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the package of a later version, whose schema has one more revision."""

    def make(version: str, *, then: str = "") -> Path:
        folder = tmp_path_factory.mktemp("newer")
        tree = folder / "tree"
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        [site] = tree.glob("opt/strong-vivarium/lib/python3.*/site-packages")
        revisions = sorted((site / "daemon/store/migrations/versions").glob("r*.py"))
        head = re.search(r'(?m)^revision = "(\w+)"', revisions[-1].read_text())
        assert head is not None
        revisions[-1].with_name("r9999_note.py").write_text(NOTE.format(head=head[1], then=then))
        control = tree / "DEBIAN" / "control"
        control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
        built = folder / f"strong-vivarium_{version}_any.deb"
        subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, built], check=True)
        shutil.rmtree(tree)
        return built

    return make
