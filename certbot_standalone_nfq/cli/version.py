"""The versions that a bug report needs: of the plugin, of what it works with, and of what it runs on."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

_PLUGIN = "certbot-standalone-nfq"
_PACKAGES = {"certbot": "Certbot", "scapy": "scapy"}
"""Distributions that it works with, and how they are called."""


class ShowVersion(argparse.Action):
    """Prints the versions and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: Any) -> None:
        """Do so."""
        sys.stdout.write("".join(f"{line}\n" for line in lines()))
        parser.exit()


def lines() -> Iterator[str]:
    """Yield the versions, one a line. Nothing is loaded to find them out."""
    yield f"{_PLUGIN} {_version_of(_PLUGIN)}"
    for distribution, name in _PACKAGES.items():
        yield f"{name} {_version_of(distribution)}"
    yield f"Python {platform.python_version()}"
    yield f"{platform.system()} {platform.release()}"


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not found"
