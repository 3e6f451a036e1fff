"""A machine that qemu emulates, with another kernel and a copy of this machine's files that is forgotten afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run, running
from scripts.kernels.debian import Kernel

PROJECT = Path(__file__).resolve().parent.parent.parent
_BIN = Path(sys.executable).parent
_READ_MOST = {  # with what is not read, in these
    PROJECT: (".git", ".tox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"),
    Path(sysconfig.get_path("stdlib")): ("site-packages", "test"),
}
_KERNEL_OPTIONS = (  # not mitigations=off, which would have the kernel check BPF programs less
    "init_on_alloc=0",  # before 6.1, each request to the share allocates a megabyte: to clear that takes a millisecond
    "no5lvl",  # a further level of page tables is slow to emulate
    "norandmaps",  # code is translated again wherever it lies; at the same place in each process, once
)
_RUN_MOST = (
    "conntrack",
    "env",
    "ip",
    "iptables",
    "iptables-legacy",
    "nft",
    "nginx",
    "nstat",
    "pebble",
    "sh",
    "ss",
    "tcpdump",
)


def make_disk(folder: Path) -> Path:
    """Write a disk with what the tests read most, the project, Python's library, and programs; return its image.

    Read through the share that the rest comes by, these would take longer than the tests themselves.
    """
    content, image = folder / "content", folder / "disk.ext4"
    for tree, needless in _READ_MOST.items():
        place = _make_place(content, tree)
        shutil.copytree(tree, place, symlinks=True, ignore=shutil.ignore_patterns(*needless))
    _import_by_path(_make_place(content, Path(sysconfig.get_path("purelib"))))
    for program in (sys.executable, *_RUN_MOST):
        for file in _files_of(program):
            shutil.copy2(file, _make_place(content, file))
    mebibytes = int(run(["du", "--summarize", "--block-size=1M", str(content)]).split()[0])
    size = f"{mebibytes * 5 // 4 + 64}M"
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(content), str(image), size])
    shutil.rmtree(content)
    return image


def _import_by_path(packages: Path) -> None:
    """Have the project found by its folder's name: setuptools' finder takes longer than the rest of Python's start."""
    for finder in packages.glob("__editable__*.pth"):
        finder.write_text(f"{PROJECT}\n")


def _make_place(content: Path, path: Path) -> Path:
    """Make the folders that a path is in, with the modes that they have here; return where the path itself goes."""
    for folder in reversed(path.parents):
        made = content / folder.relative_to("/")
        made.mkdir(exist_ok=True)
        shutil.copystat(folder, made)
    return content / path.relative_to("/")


def _files_of(program: str) -> set[Path]:
    """Return the files that a program is made of: its own, and the libraries it is linked to."""
    path = shutil.which(program)
    if not path:
        raise FileNotFoundError(program)
    linked = subprocess.run(["ldd", path], check=False, capture_output=True, text=True).stdout  # fails for a static one
    return {Path(name).resolve() for name in (path, *re.findall(r"=> (/\S+)", linked))}


@dataclass(frozen=True)
class Machine:
    """An emulated machine. Its folder is shared with it; it has `output.txt` and `console.txt` afterwards."""

    kernel: Kernel
    disk: Path
    folder: Path

    def run(self, commands: Sequence[Sequence[str]], seconds: float) -> None:
        """Boot, run commands in the project's folder to their ends, stop; raise TimeoutError if that takes longer."""
        self.folder.mkdir()
        # These would not fit on the kernel's command line, which virtme-ng hands over by.
        self._commands.write_text("\n".join(map(shlex.join, commands)))
        # virtme-ng wants a terminal, which `script` is.
        terminal = ["script", "--quiet", "--return", "--command", shlex.join(self._boot())]
        environment = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}", "TMPDIR": str(self.folder)}
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with running([*terminal, str(self.folder / "console.txt")], env=environment, **silent) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"not finished after {seconds:.0f} seconds") from None
            finally:
                self.stop()

    def stop(self) -> None:
        """End the emulator, if it has not ended; `run` ends with it."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._process_id.read_text()), signal.SIGKILL)

    @property
    def _process_id(self) -> Path:
        """The file that qemu keeps while it runs."""
        return self.folder / "qemu.pid"

    @property
    def _commands(self) -> Path:
        return self.folder / "commands"

    def _boot(self) -> list[str]:
        inside = [str(Path(__file__).with_name("inside")), str(PROJECT), str(self.folder), "sh", str(self._commands)]
        return [
            *(str(_BIN / "vng"), "--run", str(self.kernel.image), "--user", "root", "--rwdir", str(self.folder)),
            *("--disable-kvm", "--disable-microvm", "--force-9p"),  # what every machine can do
            *("--cpus", "1", "--memory", "4G"),  # emulated processors wait for each other more than they do
            *(argument for option in _KERNEL_OPTIONS for argument in ("--append", option)),
            f"--qemu-opts={' '.join(self._qemu_options())}",
            *("--", shlex.join(inside)),
        ]

    def _qemu_options(self) -> list[str]:
        return [
            *("-pidfile", str(self._process_id)),
            *("-fsdev", "local,id=share,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=share,mount_tag=share"),
            *("-drive", f"if=virtio,format=raw,readonly=on,file={self.disk}"),
            *("-global", "virtio-serial-pci.ioeventfd=off"),  # else 64 descriptors are polled at each event
            *("-cpu", "max,-erms"),  # else kernels clear and copy by the byte, which is emulated byte by byte
            # Its clock counts instructions, not the time that they take to emulate. So to tests, this is a machine of
            # ordinary speed, on which nothing is late because this one is slow or busy.
            *("-icount", "shift=0"),
        ]
