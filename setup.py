"""What package indexes show of the README, whose links lead to the repository there. All else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/certbot-standalone-nfq/certbot-standalone-nfq"
LINK = re.compile(r"(!?)(\[[^]]*\]\()(?!https?:|#)")


def absolute(link: "re.Match[str]") -> str:
    """Return the beginning of a link, up to its path, which is relative to the repository."""
    picture, words = link.groups()
    return f"{picture}{words}{REPOSITORY}/{'raw' if picture else 'blob'}/main/"


setup(
    long_description=LINK.sub(absolute, Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
