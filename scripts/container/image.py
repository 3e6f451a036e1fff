"""An image, built by the steps of its Dockerfile, but by other means."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run
from scripts.distros.rootfs import Root, Workshop

_PIP = ("global.cert", "global.index-url", "global.trusted-host")
_BASE = re.compile(r"debian:(\w+)-slim")


@dataclass(frozen=True)
class Step:
    """An instruction and what it is to be done with."""

    instruction: str
    argument: str


@dataclass(frozen=True)
class Image:
    """A root file system, and the command that its containers run."""

    root: Root
    entry_point: tuple[str, ...]


def read(dockerfile: Path) -> list[Step]:
    """Read the steps; lines that end in a backslash go on, those with a number sign are comments."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Step(*line.split(maxsplit=1)) for line in joined if line.strip()]


def build(dockerfile: Path, made: Workshop, folder: Path) -> Image:
    """Do the steps, in a folder that is not there yet. An instruction that is not known here is an error."""
    base, *steps = read(dockerfile)
    release = _BASE.fullmatch(base.argument)
    if base.instruction != "FROM" or not release:
        raise ValueError(f"not a base that debootstrap can make: {base}")
    root = made.make(release[1], folder)
    entry_point: tuple[str, ...] = ()
    for step in steps:
        print(f"  {step.instruction} {step.argument}", flush=True)
        if step.instruction == "RUN":
            root.run("env", *_pip_settings(), "/bin/sh", "-c", step.argument)
        elif step.instruction == "COPY":
            _copy(dockerfile.parent, root.folder, *step.argument.split())
        elif step.instruction == "ENTRYPOINT":
            entry_point = tuple(json.loads(step.argument))
        else:
            raise ValueError(f"no way to do this is known: {step}")
    return Image(root, entry_point)


def _copy(context: Path, root: Path, *places: str) -> None:
    *sources, destination = places
    target = root / destination.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        place = context / source
        if place.is_dir():  # Docker copies what is in it, not the folder itself
            shutil.copytree(place, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, target)


def _pip_settings() -> list[str]:
    """Return, as variables, how pip on this machine reaches its index."""
    lines = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    return [f"{_variable(name)}={ast.literal_eval(settings[name])}" for name in _PIP if name in settings]


def _variable(name: str) -> str:
    return name.replace("global.", "pip-").upper().replace("-", "_")
