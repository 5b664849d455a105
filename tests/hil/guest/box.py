"""The guest as a box in a lab: the whole systemd, a disk that outlives its boots, and a plug that can be pulled.

Pulling it kills QEMU. What the guest's kernel had not yet given to its disk is gone; what a real disk would have held
in a cache of its own is not.
"""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.hil.guest.image import Image
from tests.hil.guest.machine import GuestError, Job, Machine

_BOOT_S = 300.0
_LOOK_S = 0.01
_GONE_S = 10.0
_SHOWN_CHARACTERS = 3000

SAYS = "HIL"
"""First word of what a job says on the serial line."""


class Box(Machine):
    """A guest that keeps what is written to its disk.

    Parameters
    ----------
    image : Image
        What to begin with; it is not changed.
    share : Path
        Folder that the guest sees as /share.
    disk : Path
        Where its disk is made; one that is there goes on.
    exact : bool
        See `Machine`.
    """

    def __init__(self, image: Image, share: Path, disk: Path, *, exact: bool = False) -> None:
        super().__init__(image, share, exact=exact)
        self.boot_s = _BOOT_S
        self._disk = disk
        if not disk.exists():
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", image.disk, disk], check=True)

    @contextlib.contextmanager
    def switched_on(self, jobs: Sequence[Job]) -> Iterator["Powered"]:
        """Boot and do the jobs; the plug is pulled at the end of the block."""
        self.hand_over(jobs)
        with subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            powered = Powered(process)
            try:
                yield powered
            finally:
                powered.pull_the_plug()
                (self.share / "console.log").write_text(powered.console, encoding="utf-8")

    def _kernel_line(self) -> str:
        return super()._kernel_line().replace(" vinit=/hil-init", "")

    def _drive(self) -> str:
        return f"file={self._disk},format=raw,if=virtio,cache=writeback"


class Powered:
    """A guest that runs, and what it says on its serial line.

    Parameters
    ----------
    process : Popen
        QEMU, with the serial line on its standard output.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._heard = bytearray()
        self._started_s = time.monotonic()
        self._first_s: dict[str, float] = {}
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def console(self) -> str:
        """Everything up to now."""
        return bytes(self._heard).decode(errors="replace")

    def said(self, word: str) -> list[str]:
        """What was said with this word, the rest of each line; one that was cut short does not count."""
        return re.findall(rf"^{SAYS} {word} ?(.*?)\r?\n", self.console, re.MULTILINE)

    def when(self, word: str) -> float:
        """Seconds from the power's coming until it was first said; raises KeyError when it was not."""
        return round(self._first_s[word], 1)

    def await_end(self, timeout_s: float) -> None:
        """Wait until the guest has powered itself off.

        Raises
        ------
        GuestError
            If it does not within this time, or not all jobs were done.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"not done within {timeout_s:g} s:\n{self.console[-_SHOWN_CHARACTERS:]}") from error
        if "JOB-END" not in self.console:
            raise GuestError(f"the jobs did not come to their end:\n{self.console[-_SHOWN_CHARACTERS:]}")

    def await_word(self, word: str, timeout_s: float) -> str:
        """Wait until it is said.

        Raises
        ------
        GuestError
            If it is not, within this time.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (said := self.said(word)):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise GuestError(f"{word} was not said in {timeout_s:g} s:\n{self.console[-_SHOWN_CHARACTERS:]}")
            time.sleep(_LOOK_S)
        return said[-1]

    def pull_the_plug(self) -> None:
        """A power cut; may be done twice."""
        self._process.kill()
        self._process.wait()
        self._listener.join(_GONE_S)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._heard += line
            said = re.match(rf"{SAYS} (\w+)", line.decode(errors="replace"))
            if said:
                self._first_s.setdefault(said[1], time.monotonic() - self._started_s)
