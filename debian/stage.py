#!/usr/bin/python3
"""Fill /opt/strong-vivarium of the package: this program and its libraries, laid out as a virtual environment.

Called by debian/rules: stage.py PREFIX ARCHITECTURE. Wheels are chosen for Debian 12's Python 3.11 and C library, not
for the machine that builds. Nothing in the result names the folder it was built in, and it is compiled already: its
files cannot be written where it runs.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PYTHON = "3.11"
INTERPRETER = f"/usr/bin/python{PYTHON}"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINORS = range(36, 16, -1)
"""From that of Debian 12 down to that of manylinux2014."""

HEADLESS = {"opencv-python": "opencv-python-headless"}
"""The same module without the libraries of a desktop, which a box has no use for."""

LEFT_OUT = frozenset({"onnxruntime-gpu"})
"""A box beside a cage has no GPU: it gets the same module for the CPU, a quarter of the size. One for both machines."""

UNUSED = ("*.pyi", "py.typed", "numpy/**/tests", "scipy/**/tests", "numpy/**/include", "bin")
"""What nobody needs to run the service."""

PREFIX = Path("/opt/strong-vivarium")
LAUNCHER = f"""#!{PREFIX}/bin/python3
import sys

from daemon.cli import main

sys.exit(main())
"""


def stage(root: Path, architecture: str) -> None:
    """Fill the folder."""
    source = Path(__file__).resolve().parents[1]
    site = root / "lib" / f"python{PYTHON}" / "site-packages"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    _install(source, site, MACHINES[architecture])
    for pattern in UNUSED:
        for path in sorted(site.rglob(pattern) if "/" not in pattern and pattern != "bin" else site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n", encoding="ascii"
    )
    (root / "bin" / "python3").symlink_to(INTERPRETER)
    (root / "bin" / "vivarium").write_text(LAUNCHER, encoding="ascii")
    (root / "bin" / "vivarium").chmod(0o755)
    _compile(site)


def _install(source: Path, site: Path, machine: str) -> None:
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = _requirements(project["dependencies"] + project["optional-dependencies"]["postgresql"])
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        tags += ["manylinux_2_12_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64"]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    with tempfile.TemporaryDirectory() as folder:
        _pip("wheel", "--no-deps", "--wheel-dir", folder, str(source))
        fitting = ("--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms)
        _pip("install", "--no-compile", "--target", str(site), *fitting, *requirements)
        # By its name, so that pip does not note where the wheel lay; without its requirements: those are there.
        ours = ("--no-deps", "--no-index", "--find-links", folder, f"{project['name']}=={project['version']}")
        _pip("install", "--no-compile", "--target", str(site), *ours)


def _requirements(wanted: list[str]) -> list[str]:
    """What is installed; without conditions, since pip would ask them of the machine that builds."""
    lines = [line.partition(";")[0].strip() for line in wanted]
    names = {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]: line for line in lines}
    return [line.replace(name, HEADLESS.get(name, name), 1) for name, line in names.items() if name not in LEFT_OUT]


def _pip(*arguments: str) -> None:
    # Debian's Python, its modules only: what the builder's environment has installed must not be mistaken for ours.
    subprocess.run([INTERPRETER, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def _compile(site: Path) -> None:
    """Compile everything; checked by nobody later, since the package's files do not change."""
    good = compileall.compile_dir(
        site,
        maxlevels=50,
        quiet=1,
        workers=os.cpu_count() or 1,
        stripdir=str(site.parents[2]),
        prependdir=str(PREFIX),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not good:
        sys.exit("some modules do not compile")


if __name__ == "__main__":
    if sys.version_info[:2] != tuple(map(int, PYTHON.split("."))):
        sys.exit(f"compiles for Python {PYTHON}, and so must be run by it")
    stage(Path(sys.argv[1]), sys.argv[2])
