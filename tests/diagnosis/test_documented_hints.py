"""The page about causes shows hints as they are worded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.hints import words
from certbot_standalone_nfq.diagnosis.rules import Diagnosis

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis.md"
SECTION = re.compile(r"(?m)^### (\w+)\n\n(?:(?!#).*\n)*?> (.+)$")
CA, SERVER = "198.51.100.1", "198.51.100.2"
FROM_CA: dict[str, Any] = {"count": 3, "peers": (CA,)}
OVER_IPV4 = {**FROM_CA, "families": (4,)}
QUERIES = {**FROM_CA, "port": 53, "asked": "_acme-challenge.example.com"}
FACTS: dict[Cause, dict[str, Any]] = {
    Cause.NAME_TROUBLE: {},
    Cause.UNACKNOWLEDGED: FROM_CA,
    Cause.BEHIND_PROXY: {**FROM_CA, "headers": ("x-forwarded-for", "via")},
    Cause.OTHER_PERSPECTIVE: {**FROM_CA, "count": 2},
    Cause.UNFINISHED: FROM_CA,
    Cause.ALTERED: FROM_CA,
    Cause.OTHER_PROGRAM: FROM_CA,
    Cause.REDIRECTED: {"addresses": ("198.51.100.4",)},
    Cause.TLS_TERMINATED: {"port": 443, "addresses": (SERVER,)},
    Cause.NOT_TLS: {"port": 443, "addresses": (SERVER,)},
    Cause.ANOTHER_ANSWERED: {"port": 443, "addresses": (SERVER,)},
    Cause.NOT_THIS_MACHINE: {"addresses": ("198.51.100.4",)},
    Cause.REFUSED: {**OVER_IPV4, "addresses": ("198.51.100.3",)},
    Cause.DROPPED: OVER_IPV4,
    Cause.RETURN_PATH: OVER_IPV4,
    Cause.NO_REQUEST: OVER_IPV4,
    Cause.ONE_FAMILY: {"families": (6,), "addresses": ("2001:db8:100::2",), "arrived": 1},
    Cause.NOTHING: {"addresses": (SERVER,)},
    Cause.FORBIDDEN: {"port": 53},
    Cause.NOT_BELIEVED: {**QUERIES, "count": 1},
    Cause.OTHER_NAME_SERVER: QUERIES,
    Cause.OTHER_RESOLVER: QUERIES,
    Cause.QUERY_TAKEN: {**QUERIES, "count": 6},
    Cause.NO_QUERY: {**QUERIES, "other_kinds": ("A",)},
}


@pytest.mark.parametrize("cause", Cause)
def test_the_section_of_a_cause_shows_what_its_hint_says(cause: Cause) -> None:
    shown = dict(SECTION.findall(PAGE.read_text().replace("\\_", "_")))
    assert shown[cause.name] == words(Diagnosis(cause, "example.com", **{"port": 80, **FACTS[cause]}))
