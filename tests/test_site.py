"""The documents as a site: what MkDocs makes of them, and whether it is where the program says it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from certbot_standalone_nfq.diagnosis.cause import PAGE, Cause

ROOT = Path(__file__).parent.parent
ADDRESS = re.compile(r'(?m)^(site_url: |Documentation = ")(https://[^"\s]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built."""
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder))
    built = subprocess.run(command, check=False, cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    assert built.returncode == 0, built.stdout
    return folder


def published_at(file: str) -> str:
    """Return the address of the site that a file names."""
    (found,) = ADDRESS.findall((ROOT / file).read_text())
    return str(found[1])


def test_each_cause_has_a_heading_where_its_hints_lead_to(site: Path) -> None:
    headings = re.findall(r'<h3 id="([^"]+)"', (site / "diagnosis" / "index.html").read_text())
    assert sorted(f"{PAGE}#{heading}" for heading in headings) == sorted(cause.address for cause in Cause)


def test_hints_lead_to_where_the_site_is_published() -> None:
    assert published_at("mkdocs.yml") == published_at("pyproject.toml")
    assert published_at("mkdocs.yml") + "diagnosis/" == PAGE
