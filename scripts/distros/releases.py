"""What is installed: this version of the plugin, and one before it that an upgrade begins from."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.processes import run

FORMER_MODULE = "former.py"
"""A module that only the version before has."""
_SOURCE = Path(__file__).parents[2]
_PACKAGE = "certbot_standalone_nfq"
_NO_SOURCE = shutil.ignore_patterns(
    ".git", ".tox", ".venv", ".*_cache", ".hypothesis", "*.egg-info", "__pycache__", "build", "dist"
)
_FORMER = "0.9"


@dataclass(frozen=True)
class Release:
    """A version, as it is published."""

    version: str
    source: Path
    """The source distribution."""
    wheel: Path


def releases(folder: Path) -> tuple[Release, Release]:
    """Build the version before and this one, in a folder."""
    sources = [Path(shutil.copytree(_SOURCE, folder / name, ignore=_NO_SOURCE)) for name in ("former", "current")]
    _age(sources[0])
    former, current = map(_build, sources)
    return former, current


def _age(source: Path) -> None:
    """Make the sources those of a version before."""
    _replace(source / "pyproject.toml", r'(?m)^version = ".*"', f'version = "{_FORMER}"')
    _replace(source / "debian" / "changelog", r"\(.*\)", f"({_FORMER}-1~upstream1)")
    (source / _PACKAGE / FORMER_MODULE).write_text('"""What was needed once."""\n')


def _replace(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text(), count=1)
    if not count:
        raise RuntimeError(f"{file} has nothing like {pattern}")
    file.write_text(text)


def _build(source: Path) -> Release:
    built = source.with_name(f"{source.name}-built")
    run([str(source / "scripts" / "build-release"), str(built)], env={**os.environ, "PYTHON": sys.executable})
    (archive,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    return Release(wheel.name.split("-")[1], archive, wheel)
