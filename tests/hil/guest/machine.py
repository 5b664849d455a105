"""Runs the guest: hands it the code under test and a list of jobs, boots it, and brings back what the jobs found.

A job is a module of `tests.hil.jobs`; see `tests.hil.guest.inside`. The guest has no network and no way out.
"""

import compileall
import json
import logging
import py_compile
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hil.guest.image import PYTHON, ROOT, Image

logger = logging.getLogger(__name__)

_CODE = ("drivers", "daemon", "export", "training", "systemd", "tests/hil", "config.toml")
_MEMORY_MB = 2048
_PROCESSORS = 2
_QUICK = ("-cpu", "Nehalem", "-accel", "tcg,thread=multi", "-smp", str(_PROCESSORS))
"""The simplest that runs the wheels of numpy: its instructions are quicker to emulate than the wide ones of others."""
_EXACT = ("-cpu", "max", "-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=on")
"""One processor that does an instruction a nanosecond, by the guest's clock."""
_EXACT_TAKES = 4.0
"""So much longer than by the guest's own clock it may take on a busy host."""
_BOOT_S = 60.0
_SHOWN_CHARACTERS = 4000
_KERNEL_LINE = "console=ttyS0 quiet panic=-1 mitigations=off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing to do in the guest, with a virtual camera."""

    name: str
    """Of its result."""
    module: str = ""
    """In `tests.hil.jobs`; empty for one of the same name."""
    variant: str = "v1"
    options: str = ""
    """For the virtual camera, as on its command line."""
    arguments: tuple[str, ...] = ()
    limit_s: float = 120.0


class GuestError(Exception):
    """The guest did not do what it should; the message holds the end of its console and of the jobs' output."""


class NotDoneError(Exception):
    """The job was left out, as in a short run."""


class Results:
    """What the jobs of one boot found.

    Parameters
    ----------
    share : Path
        The folder that the guest shared; jobs may have left files there.
    found : dict
        Results by the names of the jobs.
    """

    def __init__(self, share: Path, found: dict[str, dict[str, Any]]) -> None:
        self.share = share
        self._found = found

    def with_others(self, others: "Results") -> "Results":
        """Both together."""
        return Results(self.share, self._found | others._found)  # noqa: SLF001 - one of us

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The result of one job.

        Raises
        ------
        NotDoneError
            If it was not on the list.
        GuestError
            If it failed.
        """
        if name not in self._found:
            raise NotDoneError(f"the job {name} is not part of this run")
        result = self._found[name]
        if "failure" in result:
            raise GuestError(f"job {name}: {result['failure']}")
        return result


class Machine:
    """The guest; each run is a boot of its own, without systemd.

    Parameters
    ----------
    image : Image
        What to boot; it is not changed.
    share : Path
        Folder that the guest sees as /share; what jobs write there stays.
    exact : bool
        The guest's time is that of its instructions: a processor as fast as a small real one, however slow the host
        is. It takes several times as long.
    """

    def __init__(self, image: Image, share: Path, *, exact: bool = False) -> None:
        self._image = image
        self._exact = exact
        self.boot_s = _BOOT_S
        """How long it may take to come up and to go down."""
        self.share = share

    def run(self, jobs: Sequence[Job]) -> Results:
        """Boot, do the jobs one after the other, power off.

        Raises
        ------
        GuestError
            If the guest does not come up, or takes too long.
        """
        self.hand_over(jobs)
        limit_s = self.boot_s + sum(job.limit_s for job in jobs)
        if self._exact:
            limit_s *= _EXACT_TAKES
        started_s = time.monotonic()
        try:
            console = subprocess.run(self.command(), capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"the guest was not done within {limit_s:g} s\n{self._output()}") from error
        (self.share / "console.log").write_text(console.stdout + console.stderr, encoding="utf-8")
        if "JOB-END" not in console.stdout:
            raise GuestError(
                f"the guest did not come up:\n{(console.stdout + console.stderr)[-3000:]}\n{self._output()}"
            )
        logger.info("boot to power-off took %.0f s", time.monotonic() - started_s)
        return self.results(jobs)

    def results(self, jobs: Sequence[Job]) -> Results:
        """What jobs have left in the last boot."""
        return Results(self.share, {job.name: self._result(job) for job in jobs})

    def hand_over(self, jobs: Sequence[Job]) -> None:
        """Put the code under test and the list of jobs where the guest finds them; earlier results go."""
        for job in jobs:
            (self.share / f"{job.name}.json").unlink(missing_ok=True)
        self.share.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder, tarfile.open(self.share / "code.tar", "w") as archive:
            _copy_compiled(Path(folder))
            archive.add(folder, ".")
        list_of_jobs = [
            {
                "name": job.name,
                "module": job.module or job.name,
                "variant": job.variant,
                "options": job.options.split(),
                "arguments": list(job.arguments),
                "limit_s": job.limit_s,
            }
            for job in jobs
        ]
        (self.share / "jobs.json").write_text(json.dumps(list_of_jobs), encoding="utf-8")
        (self.share / "job.sh").write_text("exec python3 -m tests.hil.guest.inside\n", encoding="utf-8")

    def command(self) -> list[str]:
        """The one that boots it."""
        return [
            shutil.which("qemu-system-x86_64") or "qemu-system-x86_64",
            *("-m", str(_MEMORY_MB), *self._processors()),
            *("-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
            *(
                "-kernel",
                str(self._image.kernel),
                "-initrd",
                str(self._image.initramfs),
                "-append",
                self._kernel_line(),
            ),
            *("-drive", self._drive()),
            *("-device", "virtio-rng-pci"),
            *("-virtfs", f"local,path={self.share},mount_tag=share,security_model=none"),
        ]

    def _processors(self) -> tuple[str, ...]:
        return _EXACT if self._exact else _QUICK

    def _kernel_line(self) -> str:
        return f"{_KERNEL_LINE} vinit=/hil-init"

    def _drive(self) -> str:
        return f"file={self._image.disk},format=raw,if=virtio,snapshot=on"

    def _result(self, job: Job) -> dict[str, Any]:
        path = self.share / f"{job.name}.json"
        if not path.exists():
            return {"failure": f"the job {job.name} left no result\n{self._output()}"}
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result

    def _output(self) -> str:
        path = self.share / "job.out"
        return (
            path.read_text(encoding="utf-8", errors="replace")[-_SHOWN_CHARACTERS:] if path.exists() else "(no output)"
        )


def _copy_compiled(folder: Path) -> None:
    """The code with its byte code, if this is the guest's Python: it would compile for a quarter of a minute."""
    for name in _CODE:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    if sys.version_info[:2] == PYTHON:
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(folder, quiet=1, stripdir=folder, prependdir="/code", invalidation_mode=unchecked)
