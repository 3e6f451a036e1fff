"""The documents name what is there: links, files, names, options."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from certbot_standalone_nfq.settings import OPTIONS, Option
from scripts.pictures import cost
from scripts.pictures.album import FOLDER, PICTURES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "certbot_standalone_nfq"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\n]+)`")
NAMES_A_FILE = re.compile(r"(?!/)[\w./-]+(?:/|\.(?:cfg|ini|md|py|svg|toml|txt))")
PLACEHOLDER = re.compile(r"\b[A-Z]+/|NNNN")
OPTION_ROW = re.compile(r"^\| `--standalone-nfq-([a-z0-9-]+)(?: [A-Z]+)?`([^|]*) \| ([^|]+) \|", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
RIDDLES = re.compile(
    r"tell whether|\bhas not\b(?! \w+ed\b)|all the same|as far as|\bgive back|be rid of|anybody|of no matter",
    re.IGNORECASE,
)
"""Turns of phrase that have a plain word."""
GLOSSARY_ROW = re.compile(r"^\| `(\w+)` \|.*\| `([\w/.]+)` \|$", re.MULTILINE)


def each_document() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(document: Path) -> set[str]:
    """Return what a document's headings are called in links, as GitHub derives it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for link in LINK.findall(document.read_text()):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if link.startswith(("http:", "https:")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def missing_files(document: Path) -> Iterator[str]:
    folders = (ROOT, PACKAGE, document.parent)
    for quoted in QUOTED.findall(document.read_text()):
        if not NAMES_A_FILE.fullmatch(quoted) or PLACEHOLDER.search(quoted):
            continue
        if not any((folder / quoted).exists() for folder in folders):
            yield quoted


@each_document()
def test_a_relative_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    assert list(broken_links(document)) == []


@each_document()
def test_a_file_that_a_document_names_exists(document: Path) -> None:
    assert list(missing_files(document)) == []


@each_document()
def test_a_document_is_in_plain_words(document: Path) -> None:
    assert RIDDLES.findall(" ".join(document.read_text().split())) == []


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_glossary_names_what_the_code_defines() -> None:
    rows = GLOSSARY_ROW.findall((ROOT / "docs/glossary.md").read_text())
    assert len(rows) > 20
    definition = r"^\s*(?:class |def )?{}\b(?:[(:]| =)"
    assert [
        name
        for name, file in rows
        if not re.search(definition.format(name), (PACKAGE / file).read_text(), re.MULTILINE)
    ] == []


def test_the_options_that_the_parser_takes_are_listed_with_their_choices_and_defaults() -> None:
    page = (ROOT / "docs/options.md").read_text()
    rows = {name: (set(QUOTED.findall(values)), default) for name, values, default in OPTION_ROW.findall(page)}
    assert rows == {option.name: (set(option.choices), default_of(option)) for option in OPTIONS}


def default_of(option: Option) -> str:
    """Return what the parser's help says of the default."""
    (default,) = re.findall(r"\(default: (.+?)\)", option.help)
    return str(default)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_source_draws(name: str) -> None:
    assert (FOLDER / name).read_text() == PICTURES[name]()


def test_no_picture_is_without_a_source() -> None:
    assert {path.name for path in FOLDER.glob("*.svg")} == PICTURES.keys()


@pytest.mark.parametrize("part", cost.parts(), ids=lambda part: part.name)
def test_the_plot_shows_ratios_of_the_tables(part: cost.Part) -> None:
    _, _, behind = (ROOT / "docs/performance.md").read_text().partition(f"\n### {part.section}\n")
    rows = behind.partition("\n### ")[0].splitlines()
    assert [bar for bar in part.bars if not shown(bar, rows)] == []


def shown(bar: cost.Bar, rows: list[str]) -> bool:
    return any(bar.row in row and f"| {bar.ratio:.2f} |" in row for row in rows)


def test_each_line_of_the_threats_names_tests_that_exist() -> None:
    _, _, threats = (ROOT / "SECURITY.md").read_text().partition("## Threats\n")
    rows = [row for row in threats.splitlines() if row.startswith("| ")][1:]
    named = [TEST.findall(row) for row in rows]
    assert all(named)
    assert [
        f"{file}::{name}"
        for file, name in itertools.chain(*named)
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    ] == []


@pytest.mark.parametrize("name", ["bug", "question"])
def test_a_form_for_issues_asks_for_something_that_is_required(name: str) -> None:
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_what_is_supported_begins_with_what_the_package_requires() -> None:
    page, project = (ROOT / "docs/support.md").read_text(), (ROOT / "pyproject.toml").read_text()
    for name in ("certbot", "dnspython", "scapy"):
        (least,) = re.findall(rf'"{name}>=([\d.]+)"', project)
        assert f"\n| {name.capitalize() if name == 'certbot' else name} | {least}" in page
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', project)
    assert f"\n| Python | {python} to " in page


@pytest.mark.parametrize("name", ["certbot.service", "certbot.timer"])
def test_a_unit_that_a_recipe_shows_is_the_one_that_is_there(name: str) -> None:
    recipe = (ROOT / "docs/recipes/renewal.md").read_text()
    shown = re.search(rf"^File `/etc/systemd/system/{name}`:\n\n```ini\n(.*?)```$", recipe, re.MULTILINE | re.DOTALL)
    assert shown
    assert (ROOT / "deploy/systemd" / name).read_text().endswith(f"\n{shown[1]}")
