"""The guest's disk, kernel and initramfs, made from Debian's packages and the wheels of this project.

They are kept in `.hil/` of the checkout (VIVARIUM_HIL_CACHE names another folder) and made anew when what they are
made of changes: `python -m tests.hil.guest.image`. The code under test is not in the image; it comes at boot.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
_HERE = Path(__file__).parent

_SUITE = "bookworm"
_MIRROR = os.environ.get("VIVARIUM_HIL_MIRROR", "http://deb.debian.org/debian")
PYTHON = (3, 11)
"""Of the suite: wheels must fit it, not the Python that runs this."""
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)),
    "manylinux2014_x86_64",
)
_PACKAGES = (
    "systemd,systemd-sysv,udev,kmod,dbus,python3-minimal,python3,libusb-1.0-0,usbutils,v4l-utils,sqlite3,"
    "procps,iproute2,strace,mosquitto,ca-certificates"
)
_UNUSED_DRIVERS = ("gpu", "net/wireless", "infiniband", "scsi", "iio", "staging", "isdn", "hwmon", "mmc", "platform")
_DISK_MODULES = ("virtio_pci", "virtio_blk", "virtio_rng", "9pnet_virtio", "9p", "ext4")
_MASKED = (
    "getty.target",
    "apt-daily.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-timesyncd.service",
    "mosquitto.service",
)
_DISK_BYTES = 3 << 30  # sparse
_JOBS_UNIT = "hil-jobs.service"
"""Does the jobs where systemd was booted."""
_HEADLESS = {"opencv-python": "opencv-python-headless"}
"""The same module without the libraries of a desktop."""
_LEFT_OUT = frozenset({"onnxruntime-gpu"})
"""The guest has no GPU: it gets the same module for the CPU, as the Debian package does."""

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "modprobe": "kmod",
}
"""Programs and the Debian packages that have them."""

_SBIN = "/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initramfs: Path
    disk: Path


class CannotBuildError(Exception):
    """Something is missing on this machine."""


def cache() -> Path:
    """Where the image is kept."""
    return Path(os.environ.get("VIVARIUM_HIL_CACHE", ROOT / ".hil")).resolve()


def missing() -> str | None:
    """Why this machine can neither build nor boot the guest; None when it can."""
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None})
    if packages:
        return "missing for the guest: apt-get install --no-install-recommends " + " ".join(packages)
    if os.geteuid() != 0:
        return "the guest needs root: debootstrap makes device nodes"
    return None


def ready() -> Image | None:
    """The image, if it is there and what it is made of has not changed."""
    stamp = cache() / "built"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != _recipe():
        return None
    return _image()


def build() -> Image:
    """The image, made now if needed: two to four minutes. Who comes while another makes it waits for that.

    Raises
    ------
    CannotBuildError
        If this machine cannot.
    subprocess.CalledProcessError
        If a step fails, for instance without a network.
    """
    existing = ready()
    if existing is not None:
        return existing
    reason = missing()
    if reason:
        raise CannotBuildError(reason)
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ready() or _made(folder)


def _made(folder: Path) -> Image:
    (folder / "built").unlink(missing_ok=True)
    version = _kernel_version()
    kernel = _unpack_kernel(folder, version)
    root = _bootstrap(folder)
    _install_modules(kernel, root, version)
    _install_wheels(root)
    _set_up(root)
    _make_initramfs(folder, kernel, version)
    _make_disk(folder, root)
    image = _image()
    shutil.copyfile(kernel / "boot" / f"vmlinuz-{version}", image.kernel)
    (folder / "built").write_text(_recipe(), encoding="utf-8")
    return image


def _image() -> Image:
    folder = cache()
    return Image(kernel=folder / "vmlinuz", initramfs=folder / "initrd.img", disk=folder / "root.img")


def _recipe() -> str:
    """Changes with everything that the image is made of."""
    digest = hashlib.sha256("\n".join(_requirements()).encode())
    for name in ("image.py", "init.sh", "initramfs.sh", _JOBS_UNIT):
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()


def _requirements() -> list[str]:
    """What the service needs, in wheels; without conditions, since pip would ask them of this machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line.partition(";")[0].strip() for line in project["dependencies"]]
    named = {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]: line for line in lines}
    return sorted(
        line.replace(name, _HEADLESS.get(name, name), 1) for name, line in named.items() if name not in _LEFT_OUT
    )


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}", "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        logger.error("%s:\n%s%s", " ".join(map(str, command)), result.stdout[-2000:], result.stderr[-2000:])
        result.check_returncode()
    return result.stdout


def _kernel_version() -> str:
    dependencies = _run("apt-cache", "depends", "linux-image-amd64")
    found = re.search(r"Depends: linux-image-(\S+)", dependencies)
    if found is None:
        raise CannotBuildError("apt knows no linux-image-amd64: run apt-get update on a Debian system")
    return found[1]


def _unpack_kernel(folder: Path, version: str) -> Path:
    kernel = folder / f"kernel-{version}"
    if not (kernel / "boot").is_dir():
        logger.info("downloading the kernel %s", version)
        _run("apt-get", "download", f"linux-image-{version}", cwd=folder)
        (package,) = folder.glob(f"linux-image-{version}_*.deb")
        _run("dpkg-deb", "-x", package, kernel)
        package.unlink()
        _run("depmod", "-b", kernel, version)
    return kernel


def _bootstrap(folder: Path) -> Path:
    root = folder / f"root-{hashlib.sha256(_PACKAGES.encode()).hexdigest()[:12]}"
    if not (root / "usr" / "bin" / "strace").exists():
        logger.info("installing Debian %s", _SUITE)
        shutil.rmtree(root, ignore_errors=True)
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root, _MIRROR)
        shutil.rmtree(root / "var" / "cache" / "apt")
    return root


def _install_modules(kernel: Path, root: Path, version: str) -> None:
    modules = root / "lib" / "modules" / version
    shutil.rmtree(modules, ignore_errors=True)
    shutil.copytree(kernel / "lib" / "modules" / version, modules, symlinks=True)
    for folder in ("sound", *(f"drivers/{name}" for name in _UNUSED_DRIVERS)):
        shutil.rmtree(modules / "kernel" / folder, ignore_errors=True)
    _run("depmod", "-b", root, version)


def _install_wheels(root: Path) -> None:
    logger.info("installing the wheels of the service")
    site = root / "opt" / "site"
    shutil.rmtree(site, ignore_errors=True)
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    _run(
        *pip,
        "--target",
        site,
        "--python-version",
        "{}.{}".format(*PYTHON),
        "--implementation",
        "cp",
        *platforms,
        *_requirements(),
    )


def _set_up(root: Path) -> None:
    shutil.copyfile(_HERE / "init.sh", root / "hil-init")
    (root / "hil-init").chmod(0o755)
    units = root / "etc" / "systemd" / "system"
    shutil.copyfile(_HERE / _JOBS_UNIT, units / _JOBS_UNIT)
    wanted = units / "multi-user.target.wants" / _JOBS_UNIT
    wanted.unlink(missing_ok=True)
    wanted.symlink_to(f"../{_JOBS_UNIT}")
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")


def _make_initramfs(folder: Path, kernel: Path, version: str) -> None:
    tree = folder / "initramfs"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "mod", "proc", "sys", "dev", "root"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    shutil.copy(str(busybox), tree / "bin")
    order: dict[str, Path] = {}
    for module in _DISK_MODULES:
        listed = _run("modprobe", "-d", kernel, "-S", version, "--show-depends", module)
        for path in re.findall(r"^insmod (\S+)", listed, re.MULTILINE):
            order.setdefault(Path(path).name, Path(path))
    for path in order.values():
        shutil.copy(path, tree / "mod")
    (tree / "mod" / "order").write_text("\n".join(order) + "\n", encoding="utf-8")
    shutil.copyfile(_HERE / "initramfs.sh", tree / "init")
    (tree / "init").chmod(0o755)
    _run("sh", "-c", "find . | cpio -o -H newc 2>/dev/null | gzip -1 > ../initrd.img", cwd=tree)


def _make_disk(folder: Path, root: Path) -> None:
    logger.info("making the disk")
    disk = folder / "root.img"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(_DISK_BYTES)
    _run("mke2fs", "-q", "-t", "ext4", "-d", root, disk)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logger.info("ready: %s", build().disk)
