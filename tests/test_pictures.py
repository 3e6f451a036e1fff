"""Recordings for the documents are made by the program as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.pictures import terminal
from scripts.pictures.recordings import RECORDINGS

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("doctor-narrow", ("\x1b[32mpass\x1b[0m", " 0 fail. Nothing was found that")),
        ("watch", ("asks www.example.com for", "404 Not Found", "connections: refused")),
    ],
)
def test_a_run_is_recorded_as_a_terminal_shows_it(name: str, shown: tuple[str, ...], tmp_path: Path) -> None:
    recorded = RECORDINGS[name](tmp_path)
    assert recorded.startswith("# certbot-standalone-nfq ")
    for words in shown:
        assert words in recorded


def test_each_recording_is_in_the_documents() -> None:
    assert set(terminal.names()) == RECORDINGS.keys()
