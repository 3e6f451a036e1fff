"""What is put into the distributions, and what becomes of the wheel where it is installed."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from lab.certbot import CERTBOT
from lab.processes import run

ROOT = Path(__file__).parent.parent
PACKAGE = "certbot_standalone_nfq"
PROGRAM = "certbot-standalone-nfq"
TESTED_WITH = (".github", "benchmarks", "debian", "deploy", "docs", "lab", "scripts", "share", "tests", PACKAGE)
TESTED_WITH_FILES = {
    ".ci/run",
    ".dockerignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "mkdocs.yml",
    "pyproject.toml",
    "setup.py",
    "tox.ini",
}
LINK = re.compile(r"\]\(([^)\s]+)\)")
FIND = """
import importlib.metadata, sys
entries = importlib.metadata.distribution("certbot-standalone-nfq").entry_points
(entry,) = {each for each in entries if each.group == "certbot.plugins"}
print(sys.modules[entry.load().__module__].__file__)
"""


def files_below(folder: str) -> set[str]:
    """Return the names of a folder's files, but for what Python makes of them."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in paths}


def build(checkout: Path, folder: Path) -> Path:
    """Build the source distribution and the wheel as for a release; return the folder that they are in."""
    command = [str(checkout / "scripts" / "build-release"), str(folder), "--no-isolation"]
    run(command, env={**os.environ, "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1700000000"})
    return folder


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel, which is built from the former."""
    return build(ROOT, tmp_path_factory.mktemp("dist") / "built")


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def source(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    (path,) = distributions.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("source")
    run(["tar", "-xf", str(path), "-C", str(folder)])
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp("target")
    run([sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(folder), str(wheel)])
    return folder


def test_the_wheel_is_for_every_python_and_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_holds_the_package_its_manual_its_completions_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition(".data/data/")[2] or name for name in held} == files_below(PACKAGE) | files_below("share")


def test_the_manual_is_installed_where_man_looks_beside_the_program(target: Path) -> None:
    environment = {"PATH": f"{target / 'bin'}:/usr/bin:/bin"}
    assert run(["man", "--where", PROGRAM], env=environment).strip() == str(target / "share/man/man1" / f"{PROGRAM}.1")


def test_package_indexes_show_a_readme_whose_links_lead_into_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode()
    (repository,) = re.findall(r"^Project-URL: Source, (.+)$", metadata, re.MULTILINE)
    places = [re.fullmatch(rf"{repository}/(?:raw|blob)/main/([^#]+)(?:#.*)?", link) for link in LINK.findall(metadata)]
    assert len(places) > 10
    assert [place for place in places if not (place and (ROOT / place[1]).is_file())] == []


def test_the_source_distribution_holds_what_it_takes_to_test_it(source: Path) -> None:
    held = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    missing = (TESTED_WITH_FILES | {name for folder in TESTED_WITH for name in files_below(folder)}) - held
    assert not missing
    assert os.access(source / "scripts" / "test", os.X_OK)


def test_what_is_built_at_another_time_in_another_folder_is_the_same_to_the_byte(
    distributions: Path, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns(".git", ".venv", ".tox", ".*_cache", ".hypothesis", "*.egg-info", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=ignored, copy_function=shutil.copy)  # as new files
    again = build(copy, tmp_path / "again")
    names = [path.name for path in again.iterdir()]
    assert filecmp.cmpfiles(again, distributions, names, shallow=False) == (names, [], [])


def test_tests_pass_in_the_unpacked_source_distribution(source: Path) -> None:
    environment = {**os.environ, "NFQ_FUZZ": "10"}
    some = ("tests/test_architecture.py", "tests/engine/test_fuzz.py", "tests/challenges/http01/test_solver.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run([*command, "--collect-only"], cwd=source, env=environment)
    run([*command, *some], cwd=source, env=environment)


def test_certbot_finds_the_plugin_in_a_folder_beside_it(target: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(target)}
    found = run([sys.executable, "-c", FIND], env=environment, cwd=target)
    assert Path(found.strip()) == target / PACKAGE / "authenticator.py"
    folders = [f"--{kind}-dir={target / 'state'}" for kind in ("config", "work", "logs")]
    listed = run([str(CERTBOT), "plugins", *folders], env=environment)
    assert listed.count("\n* standalone-nfq\n") == 1


def test_the_program_comes_with_it(target: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [str(target / "bin" / "certbot-standalone-nfq"), "--help"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert "doctor" in finished.stdout


def test_the_debian_package_has_the_version_of_the_wheel(wheel: Path) -> None:
    newest = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    assert newest.startswith(f"python-certbot-standalone-nfq ({wheel.name.split('-')[1]}-")


def test_the_patch_for_the_setuptools_of_debian_12_fits() -> None:
    hunk = (
        (ROOT / "debian" / "setuptools-before-77.patch").read_text().partition("\n@@")[2].splitlines(keepends=True)[1:]
    )
    patched = "".join(line[1:] for line in hunk if line[0] in " -")
    assert 'license = "MIT"' in patched
    assert patched in (ROOT / "pyproject.toml").read_text()


def test_the_image_has_labels_that_say_what_the_package_says() -> None:
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', (ROOT / "deploy/docker/Dockerfile").read_text())
    )
    project = (ROOT / "pyproject.toml").read_text()
    for label, key in (("title", "name"), ("version", "version"), ("licenses", "license")):
        assert f'\n{key} = "{labels[label]}"\n' in project
    for label, key in (("source", "Source"), ("url", "Documentation")):
        assert f'\n{key} = "{labels[label]}"\n' in project


def test_the_service_for_compose_has_the_capabilities_that_the_page_explains() -> None:
    service = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text())["services"]["renewal"]
    page = (ROOT / "docs/container.md").read_text()
    assert service["cap_drop"] == ["ALL"]
    assert [name for name in service["cap_add"] if f"**{name}" not in page] == []
