"""What a session makes of where challenges lead."""

from __future__ import annotations

import logging
import sys

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.engine.protocols import ChallengeId
from certbot_standalone_nfq.host.dns import lead
from certbot_standalone_nfq.host.dns.judgement import Lead
from certbot_standalone_nfq.session.leads import Leads

pytestmark = pytest.mark.anywhere

HTTP = ChallengeId("http-01", "token")
PLAIN, ALIAS = (ChallengeId("dns-01", f"_acme-challenge.{name}.example") for name in ("plain", "alias"))
TARGET = ChallengeId("dns-01", "target.example")
NO_LUCK = errors.Error("No such luck.", "Try again.")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Lead]:
    """What is found of each name; all names are looked up at once."""
    leads = {"plain.example": Lead(PLAIN.key, seen="Here."), "alias.example": Lead(TARGET.key, warnings=("Beware.",))}
    monkeypatch.setattr(lead, "leads", lambda names: {name: leads[name] for name in names})
    return leads


def test_an_alias_is_answered_at_its_target_and_others_at_their_own_names(
    found: dict[str, Lead], caplog: pytest.LogCaptureFixture
) -> None:
    leads = Leads()
    with caplog.at_level(logging.INFO):
        leads.follow([HTTP, PLAIN, ALIAS])
    assert list(map(leads.owner, (HTTP, PLAIN, ALIAS))) == [HTTP, PLAIN, TARGET]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "Here."),
        ("WARNING", "Beware."),
    ]


def test_a_challenge_that_cannot_succeed_is_an_error_and_what_else_is_known_is_said(
    found: dict[str, Lead], caplog: pytest.LogCaptureFixture
) -> None:
    found["plain.example"] = Lead(PLAIN.key, error=NO_LUCK)
    with pytest.raises(errors.Error) as caught:
        Leads().follow([PLAIN, ALIAS])
    assert caught.value is NO_LUCK
    assert "Beware." in caplog.text


def test_without_challenges_of_dns01_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certbot_standalone_nfq.host.dns.lead", None)
    Leads().follow([HTTP])


def test_without_dnspython_it_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "certbot_standalone_nfq.host.dns.lead", None)
    leads = Leads()
    leads.follow([PLAIN])
    assert leads.owner(PLAIN) == PLAIN
    assert "Where challenges are looked up is not checked, as dnspython cannot be loaded: " in caplog.text
